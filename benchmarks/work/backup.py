# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verified backup to disk by the engine: DATABASE STORAGE_PATH. Prints what it did as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, config
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import Clock

database, storage = sys.argv[1:]
block = {"source": "database", "database_path": database, "storage_path": storage}
base_dir = str(Path(storage).parent)
outcome = backup.run(
    config.parse(block, environment="development", host="benchmark", base_dir=base_dir), clock=Clock()
)
assert outcome.manifest is not None
print(
    json.dumps(
        {
            "bytes": outcome.bytes,
            "pinned_seconds": outcome.pinned_seconds,
            "verified": asdict(outcome.manifest.verified),
            "digest": outcome.manifest.content.digest.algorithm,
        }
    )
)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verified backup by the engine, to disk and with an ENDPOINT to S3: DATABASE STORAGE_PATH [ENDPOINT [COMPRESSION]].

Without an endpoint, and with a compression, the endpoint is "-". Prints what it did as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from ansible_collections.eternia.backup.plugins.module_utils.engine import backup
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import Clock

from .configured import configured

outcome = backup.run(configured(*sys.argv[1:]), clock=Clock())
assert outcome.manifest is not None
print(
    json.dumps(
        {
            "name": outcome.manifest.name,
            "bytes": outcome.bytes,
            "pinned_seconds": outcome.pinned_seconds,
            "steps": outcome.steps,
            "sent": sum(one.bytes_sent for one in outcome.transfers.values()),
            "copied": sum(one.bytes_copied for one in outcome.transfers.values()),
            "verified": asdict(outcome.manifest.verified),
            "digest": outcome.manifest.content.digest.algorithm,
            "parts": outcome.manifest.content.parts.digests,
        }
    )
)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator of one host asks: FOLDER VERB [ENDPOINT PREFIX]. Prints what came of it, as JSON.

VERB is `status`, `manifests` (the status, with every manifest read) or `prune` (the plan). Without ENDPOINT the disk
alone is looked at.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from ansible_collections.eternia.backup.plugins.module_utils.engine import prune, status

from ..scale import NOW
from .configured import configured

folder, verb, *away = Path(sys.argv[1]), *sys.argv[2:]
config = configured(str(folder / "eternia.db"), str(folder / "backups"), away[0] if away else None)
if away:
    config = replace(config, cloud=replace(config.cloud, prefix=away[1]))

began = time.monotonic()
if verb == "prune":
    planned = prune.plan(config, now=NOW)
    found = {"listed": len(planned.verdicts), "removed": len(planned.removed), "troubles": planned.warnings}
else:
    read = status.read(config, now=NOW, verify="manifest" if verb == "manifests" else "newest")
    copies = [copy for one in read.backups for copy in one.copies]
    troubles = [*read.unlisted.values(), *(copy.problem for copy in copies if copy.problem)]
    found = {"listed": len(copies), "removed": 0, "troubles": troubles}
print(json.dumps({**found, "seconds": time.monotonic() - began}))

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore by the engine, the first half of it, or the rest: run|stage BACKUP and what `backup` is given.

Prints what it did as JSON.
"""

from __future__ import annotations

import json
import sys

from ansible_collections.eternia.backup.plugins.module_utils.engine import restore
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import Clock
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request

from .configured import configured

verb, backup, *host = sys.argv[1:]
act = {"run": restore.run, "stage": restore.stage}[verb]
outcome = act(configured(*host), Request(backup=backup), clock=Clock())
assert outcome.changed, "The target had the content already."
print(
    json.dumps(
        {
            "location": outcome.location,
            "safety": outcome.safety,
            "steps": outcome.steps,
            "fetched": outcome.bytes_fetched,
        }
    )
)

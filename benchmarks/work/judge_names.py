# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse COUNT names, then judge that many backups. Prints the seconds of both as JSON."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timedelta, timezone

from ansible_collections.eternia.backup.plugins.module_utils.engine import names
from ansible_collections.eternia.backup.plugins.module_utils.engine.retention import Policy, apply_policy
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Copy

count = int(sys.argv[1])
now = datetime(2026, 11, 22, 22, 0, 0, tzinfo=timezone.utc)
# One every ten minutes, in the order of a listing, oldest first.
texts = [str(names.BackupName(now - timedelta(minutes=10 * age), names.DATABASE)) for age in range(count, 0, -1)]
every_rule = Policy(30, keep_last=10, keep_hourly=48, keep_daily=60, keep_weekly=26, keep_monthly=24, keep_yearly=20)

began = time.monotonic()
parsed = [names.parse(text) for text in texts]
parsing = time.monotonic() - began

copies = [Copy(name, 1 << 20, has_manifest=True) for name in parsed if name is not None]
began = time.monotonic()
decisions = apply_policy(copies, every_rule, now)
judging = time.monotonic() - began

kept = sum(decision.keep for decision in decisions)
print(json.dumps({"parsing": parsing, "judging": judging, "kept": kept, "removed": len(decisions) - kept}))

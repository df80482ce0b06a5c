# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application that commits at a steady rate until SIGTERM: DATABASE RATE LOG.

LOG gets two doubles for each transaction: when it began (the machine's monotonic clock) and how long it took, in
seconds, from BEGIN to the end of COMMIT.
"""

from __future__ import annotations

import gc
import signal
import sqlite3
import sys
import time
from array import array

CATCH_UP = 0.05

database, rate, log = sys.argv[1], float(sys.argv[2]), sys.argv[3]
asked_to_stop: list[bool] = []
signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(True))
# Our own pauses are not SQLite's.
gc.disable()

# However long it waits, it waits: a transaction that gives up would hide the longest wait.
connection = sqlite3.connect(database, isolation_level=None, timeout=600)
connection.execute("PRAGMA synchronous = NORMAL")
memory = (0, "a door painted on the rain " * 12, "wonder", 0.5, "2026-11-22T22:00:00Z", '{"zone": "Salt"}')
found = array("d")
due = time.monotonic()
while not asked_to_stop:
    due += 1 / rate
    wait = due - time.monotonic()
    if wait > 0:
        time.sleep(wait)
    began = time.monotonic()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO memories VALUES (?, ?, ?, ?, ?, ?)", memory)
    connection.execute("COMMIT")
    found.append(began)
    found.append(time.monotonic() - began)
    # A late wake-up is made up for, a long wait is not: it would be followed by a burst.
    due = max(due, began - CATCH_UP)
with open(log, "wb") as stream:
    found.tofile(stream)

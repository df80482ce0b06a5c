# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application that commits at a steady rate until SIGTERM: DATABASE WHO RATE LOG MOST."""

from __future__ import annotations

import gc
import signal
import sqlite3
import sys
import time
from pathlib import Path

from .rows import Log, transaction

# A late wake-up is made up for, a long wait is not: it would be followed by a burst.
_CATCH_UP = 0.05


def main() -> None:
    database, who, rate, log, most = (
        sys.argv[1],
        int(sys.argv[2]),
        float(sys.argv[3]),
        Path(sys.argv[4]),
        int(sys.argv[5]),
    )
    asked_to_stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(True))
    # Our own pauses are not SQLite's.
    gc.disable()
    times = Log(log, most)
    # However long it waits, it waits: a transaction that gives up would hide the longest wait.
    connection = sqlite3.connect(database, isolation_level=None, timeout=600)
    # Nobody pulls the plug here, and in rollback mode no disk syncs a thousand times a second.
    connection.execute("PRAGMA synchronous = OFF")
    due = time.monotonic()
    for n in range(1, most + 1):
        due += 1 / rate
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        if asked_to_stop:
            return
        began = time.monotonic()
        times.begin(n, began)
        connection.execute("BEGIN IMMEDIATE")
        for sql, values in transaction(who, n):
            connection.execute(sql, values)
        connection.execute("COMMIT")
        times.end(n, time.monotonic())
        due = max(due, began - _CATCH_UP)


if __name__ == "__main__":
    main()

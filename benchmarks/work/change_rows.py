# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Go on working with a database after its backup; its size stays: PATH SEED [range|random [log]].

`range` changes 1 % of the rows, one behind the other, `random` 0.1 % of them, anywhere. With `log` the write-ahead log
stays, as it does under litestream; otherwise it is emptied into the database.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys

path, seed, how = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["range"])[0]
keep_log = "log" in sys.argv[4:]
rng = random.Random(seed)
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA synchronous = OFF")
connection.execute("PRAGMA wal_autocheckpoint = 0")
rows = connection.execute("SELECT max(rowid) FROM memories").fetchone()[0]
connection.execute("BEGIN")
if how == "range":
    first = rng.randint(1, rows - rows // 100)
    connection.execute(
        "UPDATE memories SET clarity = ? WHERE rowid BETWEEN ? AND ?", (rng.random(), first, first + rows // 100)
    )
else:
    some = ((rng.random(), row) for row in rng.sample(range(1, rows + 1), rows // 1000))
    connection.executemany("UPDATE memories SET clarity = ? WHERE rowid = ?", some)
connection.execute("COMMIT")
if keep_log:
    # Closing the connection would empty the log.
    os._exit(0)
connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
connection.close()

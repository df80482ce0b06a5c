# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Go on working with a database after its backup; its size stays: PATH SEED [range|random].

changes 1 % of the rows, one behind the other, `random` 0.1 % of them, anywhere.
"""

from __future__ import annotations

import random
import sqlite3
import sys
from contextlib import closing

path, seed, how = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["range"])[0]
rng = random.Random(seed)
with closing(sqlite3.connect(path, isolation_level=None)) as connection:
    connection.execute("PRAGMA synchronous = OFF")
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
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

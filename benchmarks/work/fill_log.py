# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leave MIB of changed pages in a database's write-ahead log, as an application that was killed does: PATH MIB."""

from __future__ import annotations

import os
import random
import sqlite3
import sys

path, mib = sys.argv[1], int(sys.argv[2])
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA synchronous = OFF")
connection.execute("PRAGMA wal_autocheckpoint = 0")
rows = connection.execute("SELECT max(rowid) FROM memories").fetchone()[0]
rng = random.Random(2)
while not os.path.exists(f"{path}-wal") or os.stat(f"{path}-wal").st_size < mib << 20:
    connection.execute("BEGIN")
    changes = [(rng.random(), rng.randint(1, rows)) for _ in range(64)]
    connection.executemany("UPDATE memories SET clarity = ? WHERE rowid = ?", changes)
    connection.execute("COMMIT")
# Closing the connection would empty the log.
os._exit(0)

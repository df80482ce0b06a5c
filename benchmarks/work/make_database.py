# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a database like Eternia's: PATH MIB."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections.abc import Iterator

SCHEMA = """
CREATE TABLE state (id INTEGER PRIMARY KEY, version TEXT NOT NULL, timestamp TEXT NOT NULL, last_emotion TEXT,
  last_intensity REAL, last_dominance REAL, last_zone TEXT, evolution_stats TEXT);
CREATE TABLE memories (state_id INTEGER, description TEXT, emotional_quality TEXT, clarity REAL, timestamp TEXT,
  data TEXT);
"""
WORDS = ["amber", "archive", "basalt", "door", "drowned", "fog", "garden", "glass", "harbour", "lamp", "rain", "salt"]
SEEDS = 20_000
PAGE = 4096


def main() -> None:
    path, mib = sys.argv[1], int(sys.argv[2])
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(SCHEMA)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?)", states())
    connection.executemany("INSERT INTO memories VALUES (?, ?, ?, ?, ?, ?)", memories())
    connection.execute("COMMIT")
    # More of the same, made inside SQLite: far faster than bringing each row there.
    wanted, step = mib << 20, SEEDS
    while (size := pages(connection) * PAGE) < wanted:
        rows = min(step, (wanted - size) // 500 + 1)
        connection.execute(
            "INSERT INTO memories SELECT state_id + ?, description, emotional_quality, clarity, timestamp, data"
            " FROM memories WHERE rowid <= ?",
            (step, rows),
        )
        step *= 2
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


def states() -> Iterator[tuple[object, ...]]:
    for number in range(SEEDS):
        stats = json.dumps({"intellect": number, "senses": number / 3})
        yield number, "1.0.0", "2026-11-22T22:00:00Z", '{"name": "calm"}', 0.5, 0.5, "Amber Archive", stats


def memories() -> Iterator[tuple[object, ...]]:
    rng = random.Random(1)
    for number in range(SEEDS):
        text = " ".join(rng.choices(WORDS, k=rng.randint(20, 100)))
        yield number, text, rng.choice(WORDS), rng.random(), "2026-11-22T22:00:00Z", json.dumps({"zone": "Salt"})


main()

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host with nothing of ours: SQLite as Python has it, systemctl, stat. Prints JSON.

look.py             the live data, the service, what a restore may have left; and the newest backup on the disk
look.py UP_TO       the digests of the live rows end at these row numbers: {"state": 1950, ...}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

DATABASE = Path("/opt/eternia/data/eternia.db")
BACKUPS = Path("/backups")
UNIT = ["ActiveState", "MainPID", "ExecMainStartTimestampMonotonic"]


def main(arguments: list[str]) -> None:
    up_to = json.loads(arguments[0]) if arguments else {}
    newest = max((path.name for path in BACKUPS.glob("eternia_backup_*.db")), default=None)
    seen = {
        "health": health(),
        "unit": unit(),
        "file": file(DATABASE),
        "live": rows(f"{DATABASE.as_uri()}?mode=ro", up_to),
        "newest": newest,
        "backup": rows(f"{(BACKUPS / newest).as_uri()}?immutable=1", {}) if newest else {},
        "hold": (BACKUPS / "hold.json").exists(),
        "leftovers": sorted(path.name for path in DATABASE.parent.glob(".*")) + names(BACKUPS / ".staging"),
        "safety": names(BACKUPS / "safety"),
    }
    print(json.dumps(seen))


def rows(uri: str, up_to: dict[str, int]) -> dict[str, Any]:
    """By table: how many rows, the last one's number, and a digest of all up to that number."""
    count, last, digests = {}, {}, {}
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("BEGIN")
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
            for (table,) in tables:
                found = connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall()
                count[table] = len(found)
                last[table] = found[-1][0] if found else 0
                known = [row for row in found if row[0] <= up_to.get(table, last[table])]
                digests[table] = hashlib.sha256(repr(known).encode()).hexdigest()
    except sqlite3.Error as error:
        return {"problem": str(error)}
    return {"rows": count, "last": last, "digests": digests}


def unit() -> dict[str, str]:
    command = ["systemctl", "show", "eternia", f"--property={','.join(UNIT)}"]
    shown = subprocess.run(command, text=True, capture_output=True, check=True)
    return dict(line.split("=", 1) for line in shown.stdout.splitlines())


def health() -> str:
    try:
        with urllib.request.urlopen("http://127.0.0.1:8000/health", timeout=5) as answer:
            return json.load(answer)["status"]
    except (OSError, ValueError, KeyError) as error:
        return str(error)


def file(path: Path) -> dict[str, Any]:
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return {}
    return {"owner": pwd.getpwuid(facts.st_uid).pw_name, "mode": f"{facts.st_mode & 0o7777:04o}", "inode": facts.st_ino}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


if __name__ == "__main__":
    main(sys.argv[1:])

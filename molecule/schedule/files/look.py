# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""look.py STORAGE METRICS: how a host's backups stand, with nothing of ours but the formats. Prints JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any


def main(storage: Path, metrics: Path) -> None:
    backups = sorted(storage.glob("eternia_backup_*.db"))
    seen = {
        # Only with a manifest it is one.
        "backups": {path.name: digest(path) for path in backups if Path(f"{path}.manifest.json").exists()},
        "nameless": [path.name for path in backups if not Path(f"{path}.manifest.json").exists()],
        "saves": {path.name: saves(path) for path in backups[-1:]},
        "staged": sorted(path.name for path in storage.glob(".staging/*")),
        "last_run": content(storage / "last-run.json"),
        "metrics": metrics.read_text() if metrics.exists() else "",
        "calls": [call for call in map(json.loads, lines(Path("/var/lib/page/calls"))) if not is_of_status(call)],
    }
    print(json.dumps(seen))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saves(path: Path) -> int:
    """How many there are, -1 where SQLite finds a fault or a gap."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        count, last = connection.execute("SELECT count(*), max(id) FROM state").fetchone()
        (checked,) = connection.execute("PRAGMA integrity_check").fetchone()
    return count if checked == "ok" and count == last else -1


def is_of_status(call: dict[str, Any]) -> bool:
    """Whether it tells how things stood at a real minute 30, which comes in the middle of a case once in a while."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return bool(json.loads(call["what"])["command"] == "status")
    return False


def content(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

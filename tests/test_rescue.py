# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was deleted under a process comes back by the lines of docs/disaster-recovery.md, with what was in its log."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import restore
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request
from ansible_collections.eternia.backup.tests.unit.builders import clock, configuration, database, process, query
from development import CHECKOUT

WRITER = """
import sqlite3, sys
application = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    application.execute(statement).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""
INSERT = "INSERT INTO memories (description) VALUES ('PRECIOUS')"
# The companion, what the application does in that journal mode, and how many rows its data has then.
WRITERS = [
    ("wal", "-wal", ["PRAGMA wal_autocheckpoint = 0", INSERT], 51),
    ("delete", "-journal", [INSERT, "PRAGMA cache_size = 2", "BEGIN", "UPDATE memories SET description = ''"], 51),
]


def number_of(pid: int, name: str) -> str:
    """The descriptor of a deleted file, as `ls -l /proc/PID/fd` shows it."""
    shown = subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], text=True, capture_output=True, check=True).stdout
    (number,) = re.findall(rf" (\d+) -> \S*/{name} \(deleted\)$", shown, re.M)
    return number


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 command is not installed")
@pytest.mark.parametrize(("mode", "suffix", "statements", "rows"), WRITERS)
def test_what_was_deleted_comes_back_as_it_is_written(
    tmp_path: Path, mode: str, suffix: str, statements: list[str], rows: int
) -> None:
    config = configuration(tmp_path)
    live, rescued = database(config.database_path, mode=mode), tmp_path / "rescued"
    document = (CHECKOUT / "docs/disaster-recovery.md").read_text()
    (script,) = re.findall(r"```sh\n(mkdir -m 700 /rescued.*?)```", document, re.S)
    with process(WRITER, live, *statements) as application:
        for path in live.parent.glob("eternia.db*"):
            path.unlink()
        script = script.replace("fd/N", f"fd/{number_of(application.pid, 'eternia.db')}")
        script = script.replace("fd/M", f"fd/{number_of(application.pid, f'eternia.db{suffix}')}")
        script = script.replace("PID", str(application.pid)).replace("/rescued", str(rescued))
        script = script.replace("eternia.db-wal", f"eternia.db{suffix}")
        done = subprocess.run(["bash", "-euc", script], text=True, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "ok"
    restore.run(config, Request(str(rescued / "one/eternia.db"), allow_unverified=True), clock=clock())
    assert query(live, "SELECT count(*) FROM memories") == [(rows,)]
    assert query(live, "SELECT count(*) FROM memories WHERE description = ''") == [(0,)]
    assert os.stat(rescued / f"eternia.db{suffix}").st_size > 0

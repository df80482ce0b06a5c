# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make soak` judges by: it sees every row that is missing, too many, or another one; and one short scene."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from development import CHECKOUT

from soak import __main__ as soak
from soak import rows
from soak.scene import Scene

# Two writers, who have committed so many transactions, one a second.
DONE = {1: 20, 2: 7}


@pytest.fixture
def few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "KEPT", 5)


@pytest.fixture
def written(tmp_path: Path, few_kept: None) -> tuple[Path, dict[int, rows.Log]]:
    path, logs = tmp_path / "copy.db", {}
    rows.make(path, "wal")
    with closing(sqlite3.connect(path)) as connection:
        for who, most in DONE.items():
            logs[who] = rows.Log(tmp_path / f"log-{who}", 100)
            for n in range(1, most + 1):
                logs[who].begin(n, 100.0 + n)
                for sql, values in rows.transaction(who, n):
                    connection.execute(sql, values)
                logs[who].end(n, 100.5 + n)
        connection.commit()
    return path, logs


@pytest.mark.parametrize(
    ("sql", "lost", "extra", "wrong"),
    [
        ("SELECT 1", 0, 0, 0),
        ("DELETE FROM counted WHERE who = 1 AND n = 18", 1, 0, 1),
        ("DELETE FROM counted WHERE who = 1 AND n = 20", 2, 0, 1),
        ("INSERT INTO counted VALUES (1, 21, 'x')", 0, 2, 2),
        ("INSERT INTO counted VALUES (1, 3, 'x')", 0, 1, 2),
        ("INSERT INTO counted VALUES (3, 1, 'x')", 0, 1, 1),
        ("UPDATE counted SET words = 'x' WHERE who = 2 AND n = 7", 0, 0, 1),
        ("UPDATE totals SET sum = sum + 1 WHERE who = 2", 0, 0, 1),
    ],
)
def test_every_row_counts(
    written: tuple[Path, dict[int, rows.Log]], sql: str, lost: int, extra: int, wrong: int
) -> None:
    path, logs = written
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
        connection.commit()
    found = rows.compare(path, logs, began=120.5, ended=120.5)
    assert (found.lost, found.extra, len(found.wrong)) == (lost, extra, wrong), found


def test_when_it_was_taken_counts(written: tuple[Path, dict[int, rows.Log]]) -> None:
    path, logs = written
    assert rows.compare(path, logs, began=100.0, ended=200.0).extra == 0
    # Of a backup that had ended before the last rows were begun.
    assert rows.compare(path, logs, began=100.0, ended=118.0).extra == 2
    logs[2].begin(8, 130.0)
    logs[2].end(8, 131.0)
    assert rows.compare(path, logs, began=130.5, ended=200.0).lost == 0
    assert rows.compare(path, logs, began=131.5, ended=200.0).lost == 1


def test_a_short_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("PYTHONPATH", "collections")
    results = Scene(tmp_path / "scene", "wal", 100, 2).play()
    assert results.violations == []
    assert results.taken == len(results.compared) == len(results.restores) > 0
    assert results.commits > 50
    summed = soak.summed([results], 2)
    assert [row.label for row in summed.rows if row.met is False] == []
    assert {row.label: row.value for row in soak.figure(results, is_long=False).rows}["transactions a second, achieved"]

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the writers write, and whether a copy holds exactly what was committed.

Each writer counts: its n-th transaction inserts row n, removes row n - KEPT, and brings its totals up to date. So a
copy of any instant holds the last KEPT rows of each writer without a gap, and totals that agree with them; and how far
it got has to lie between what was committed when the backup began, and what was begun when it ended.
"""

from __future__ import annotations

import mmap
import sqlite3
import zlib
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

KEPT = 50_000
SCHEMA = """
CREATE TABLE counted (who INTEGER, n INTEGER, words TEXT, PRIMARY KEY (who, n)) WITHOUT ROWID;
CREATE TABLE totals (who INTEGER PRIMARY KEY, n INTEGER, kept INTEGER, sum INTEGER);
"""
# A transaction's two times in seconds on the machine's monotonic clock, 0 until it has come so far.
_TIMES = 16


def words(who: int, n: int) -> str:
    """What row `n` of a writer holds: nothing that another row does."""
    return f"{zlib.crc32(b'%d:%d' % (who, n)):08x} a door painted on the rain {n}"


class Log:
    """When each transaction of a writer began and was committed: written by the writer, read by whoever judges."""

    def __init__(self, path: Path, most: int) -> None:
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(most * _TIMES)
            self._map = mmap.mmap(file.fileno(), 0)
        self._times = memoryview(self._map).cast("d")

    def begin(self, n: int, moment: float) -> None:
        self._times[2 * n - 2] = moment

    def end(self, n: int, moment: float) -> None:
        self._times[2 * n - 1] = moment

    def committed_before(self, moment: float) -> int:
        """How many were surely committed at that moment."""
        return self._last(1, moment)

    def begun_before(self, moment: float) -> int:
        """How many may have been committed at that moment."""
        return self._last(0, moment)

    def waits(self) -> array[float]:
        """Seconds from BEGIN to the end of COMMIT, for each that is over."""
        most = self._last(1, float("inf"))
        times = self._times[: 2 * most]
        return array("d", (times[at + 1] - times[at] for at in range(0, 2 * most, 2)))

    def _last(self, which: int, moment: float) -> int:
        # The times grow, and behind the last there are none.
        low, high = 0, len(self._times) // 2
        while low < high:
            middle = (low + high) // 2
            if 0 < self._times[2 * middle + which] <= moment:
                low = middle + 1
            else:
                high = middle
        return low


@dataclass(frozen=True)
class Compared:
    """How a copy stands beside what was committed: `rows` were compared, and each of `wrong` is a sentence."""

    rows: int
    lost: int
    extra: int
    wrong: tuple[str, ...]


def compare(path: Path, logs: dict[int, Log], *, began: float, ended: float) -> Compared:
    """Compare a copy that was taken between two moments, row by row."""
    with closing(sqlite3.connect(path)) as connection:
        found: dict[int, list[int]] = {who: [] for who in logs}
        wrong = [f"{path}: {check}" for (check,) in connection.execute("PRAGMA integrity_check") if check != "ok"]
        rows = 0
        for who, n, its in connection.execute("SELECT who, n, words FROM counted ORDER BY who, n"):
            rows += 1
            found.setdefault(who, []).append(n)
            if its != words(who, n):
                wrong.append(f"row {n} of writer {who} holds {its!r}")
        totals = {who: (n, kept, total) for who, n, kept, total in connection.execute("SELECT * FROM totals")}
    lost = extra = 0
    for who, log in logs.items():
        numbers = found.pop(who)
        last = numbers[-1] if numbers else 0
        expected = range(max(1, last - KEPT + 1), last + 1)
        lost += len(set(expected) - set(numbers)) + max(0, log.committed_before(began) - last)
        extra += len(set(numbers) - set(expected)) + max(0, last - log.begun_before(ended))
        if totals.get(who, (0, 0, 0)) != (last, len(numbers), sum(numbers)):
            wrong.append(f"the totals of writer {who} are {totals.get(who)}, its rows say otherwise")
    extra += sum(map(len, found.values()))
    return Compared(rows, lost, extra, tuple(wrong))


def make(path: Path, mode: str) -> None:
    """An empty database in a journal mode."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.executescript(SCHEMA)


def transaction(who: int, n: int) -> Iterator[tuple[str, tuple[object, ...]]]:
    """The statements of a writer's n-th transaction."""
    yield "INSERT INTO counted VALUES (?, ?, ?)", (who, n, words(who, n))
    gone = max(0, n - KEPT)
    if gone:
        yield "DELETE FROM counted WHERE who = ? AND n = ?", (who, gone)
    if n == 1:
        yield "INSERT INTO totals VALUES (?, 1, 1, 1)", (who,)
    else:
        kept = 0 if gone else 1
        yield "UPDATE totals SET n = ?, kept = kept + ?, sum = sum + ? WHERE who = ?", (n, kept, n - gone, who)

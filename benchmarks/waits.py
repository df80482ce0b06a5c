# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an application waits for its commits while it is backed up."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

from .options import Options
from .processes import Ratio, TooSlowError, Usage, python, spread
from .report import Figure
from .scene import Scene, has_sqlite3

RATE = 1000


def measure_wal(scene: Scene, options: Options) -> Figure:
    """Write-ahead log: nobody should notice."""
    figure = _figure("WAL mode", "With us minus without us is taken round by round.")
    ours, theirs = _watch(scene, options, "wal", figure)
    _add_ended(figure, ours, options)
    extra = [with_us - quiet for with_us, quiet in zip(ours.longest, ours.longest_quiet)]
    worst = max(extra)
    figure.add("longest commit with us minus without us", spread(extra, "ms"), "≤ 100 ms", options.judge(worst <= 100))
    _add_waits(figure, ours, theirs)
    return figure


def measure_rollback(scene: Scene, options: Options) -> Figure:
    """Rollback journal: SQLite lets nobody write while somebody reads."""
    figure = _figure("rollback-journal mode", "")
    ours, theirs = _watch(scene, options, "delete", figure)
    _add_ended(figure, ours, options)
    ratio = Ratio.of(ours.longest, theirs.longest)
    figure.add(
        "longest wait with us ÷ with `Connection.backup()`", str(ratio), "≤ 0.5", options.judge(ratio.value <= 0.5)
    )
    _add_waits(figure, ours, theirs)
    return figure


class _Waits:
    """What a writer saw in the rounds of one contender: milliseconds, and transactions per second."""

    def __init__(self) -> None:
        self.longest: list[float] = []
        self.longest_quiet: list[float] = []
        self.p50: list[float] = []
        self.p99: list[float] = []
        self.rate: list[float] = []

    def add(self, during: list[float], quiet: list[float], seconds: float) -> None:
        """Take the latencies, in milliseconds, of one round of `seconds` each."""
        self.longest.append(max(during))
        self.longest_quiet.append(max(quiet, default=0.0))
        self.p50.append(median(during))
        self.p99.append(sorted(during)[int(len(during) * 0.99)])
        self.rate.append(len(during) / seconds)


def _figure(mode: str, more: str) -> Figure:
    return Figure(
        f"Waits of a writer in {mode}",
        f"One process commits one row at up to {RATE:,} transactions a second (`synchronous = NORMAL`; a wait is from "
        "BEGIN IMMEDIATE to the end of COMMIT) while backups run, and for as long again while none does. "
        f"`Connection.backup()` copies all pages in one step. {more}".strip(),
    )


def _watch(scene: Scene, options: Options, mode: str, figure: Figure) -> tuple[_Waits, _Waits]:
    with closing(sqlite3.connect(scene.database)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    contenders: dict[str, Callable[[], Usage]] = {"ours": scene.ours, "connection": scene.connection_backup}
    rounds: dict[str, list[tuple[Usage, float]]] = {name: [] for name in contenders}
    # For the checkpoint of what the log gathered, and for the disk.
    settle, shortest = (1.5, 1.0) if options.full else (0.2, 0.5)
    with _writing(scene.database) as log:
        time.sleep(settle)
        for _ in range(options.runs):
            for name, contender in contenders.items():
                try:
                    usage = contender()
                except RuntimeError as exc:
                    figure.add(f"a round of {name} failed", str(exc).splitlines()[-1])
                    continue
                scene.tidy()
                time.sleep(settle)
                quiet = time.monotonic()
                rounds[name].append((usage, quiet))
                time.sleep(max(usage.seconds, shortest))
        stepped = _in_steps(scene, options)
    commits = _Commits(log)
    waits = {name: _Waits() for name in contenders}
    for name, its in rounds.items():
        for usage, quiet in its:
            long = max(usage.seconds, shortest)
            waits[name].add(
                commits.within(usage.started, usage.ended), commits.within(quiet, quiet + long), usage.seconds
            )
    figure.raw = {name: vars(one) for name, one in waits.items()}
    figure.raw["sqlite3_command"] = stepped
    return waits["ours"], waits["connection"]


def _add_ended(figure: Figure, ours: _Waits, options: Options) -> None:
    ended = len(ours.longest)
    figure.add("our backups that ended", f"{ended} of {options.runs}", "all", options.judge(ended == options.runs))


def _add_waits(figure: Figure, ours: _Waits, theirs: _Waits) -> None:
    for label, waits in (("ours", ours), ("`Connection.backup()`", theirs)):
        figure.add(f"longest wait, {label}", spread(waits.longest, "ms"))
        figure.add("— without it", spread(waits.longest_quiet, "ms"))
        figure.add("— half of the commits took up to", spread(waits.p50, "ms", 2))
        figure.add("— 99 of 100 commits took up to", spread(waits.p99, "ms", 2))
        figure.add("— commits a second", spread(waits.rate, "", 0))
    figure.add('`sqlite3 SRC ".backup DST"`, 100 pages a step', figure.raw["sqlite3_command"])


def _in_steps(scene: Scene, options: Options) -> str:
    """Whether the command ends at all: it begins anew whenever somebody has written between two steps."""
    if not has_sqlite3():
        return "not measured: there is no sqlite3 command here"
    try:
        return f"ended after {scene.sqlite(limit=60 if options.full else 3).seconds:.1f} s"
    except TooSlowError as exc:
        return f"does not end: {exc}"
    except RuntimeError as exc:
        return f"fails: {str(exc).splitlines()[-1]}"
    finally:
        scene.tidy()


@contextmanager
def _writing(database: Path) -> Iterator[Path]:
    log = database.with_name("commits")
    process = subprocess.Popen(python("writer", database, RATE, log))
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"The writer ended with {process.returncode}.")


class _Commits:
    """When each commit began, and how long it took."""

    def __init__(self, log: Path) -> None:
        found = array("d")
        found.frombytes(log.read_bytes())
        self._began, self._took = found[0::2], found[1::2]

    def within(self, start: float, end: float) -> list[float]:
        """Milliseconds of the commits that were under way at any time between two moments."""
        first = bisect_left(self._began, start)
        # One before it may have begun earlier and reach into the time.
        if first and self._began[first - 1] + self._took[first - 1] > start:
            first -= 1
        return [took * 1000 for took in self._took[first : bisect_left(self._began, end)]]

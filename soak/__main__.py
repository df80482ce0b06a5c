# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let everything go on at once for a long time, and compare every backup row by row: `make soak`.

SOAK_SECONDS says how long (7200), SOAK_DIR where the databases lie (build/soak). Ends with an error where a promise was
broken.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import reliability, report
from benchmarks.report import Figure

from .rows import KEPT
from .scene import AT_ONCE, WRITERS, Results, Scene

SCENES = tuple((mode, rate) for rate in (100, 1000) for mode in ("wal", "delete"))
_MODES = {"wal": "WAL", "delete": "rollback"}
# How many backups in a row a soak that is long enough has to take, and from how many seconds on it is.
LEAST, _LONG = 200, 1800
# What is published takes so long.
_WHOLE = 7200.0
# The share of the rate that the writers have to come to: what they are slowed down by is measured beside it.
_RATE = 0.8
_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    # Whoever ends us ends the writers, too.
    signal.signal(signal.SIGTERM, lambda *_unused: sys.exit(128 + signal.SIGTERM))
    seconds = float(os.environ.get("SOAK_SECONDS", _WHOLE))
    place = Path(os.environ.get("SOAK_DIR", _ROOT / "build" / "soak"))
    found = []
    for mode, rate in SCENES:
        folder = place / f"{mode}-{rate}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        print(f"{_MODES[mode]} mode, {rate} transactions a second ...", flush=True)
        try:
            found.append(Scene(folder, mode, rate, seconds / len(SCENES)).play())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    figures = [summed(found, seconds), *(figure(one, is_long=seconds >= _LONG) for one in found)]
    for one in figures:
        print(report.text(asdict(one)))
    print(f"\nWritten to {reliability.keep('soak', figures, place, whole=seconds >= _WHOLE)}")
    violations = [violation for results in found for violation in results.violations]
    if violations:
        sys.exit(f"{len(violations)} promises were broken, the first: {violations[0]}")
    if missed := [f"{one.title}: {row.label}: {row.value}" for one in figures for row in one.rows if row.met is False]:
        sys.exit(f"Not met: {'; '.join(missed)}")


def summed(found: list[Results], seconds: float) -> Figure:
    """All scenes together."""
    made = Figure(
        f"Soak, {seconds / 60:.0f} minutes",
        f"{len(SCENES)} soaks of {seconds / 60 / len(SCENES):.1f} minutes. {WRITERS} processes commit to one database "
        f"of at most {WRITERS * KEPT:,} rows while backups are taken one after the other, with prune and restore "
        f"beside them, each a process of its own. {min(AT_ONCE)} to {max(AT_ONCE)} runs begin at the same moment: the "
        "lock lets one go on and refuses the others, as it should. Every backup is restored and compared row by row: "
        "each writer counts, so a row that is missing shows, and how far it counted has to lie between what was "
        "committed when the backup began and what was begun when it ended. The writers' `synchronous` is OFF: in "
        "rollback mode no disk syncs a thousand times a second.",
    )
    taken, compared = sum(one.taken for one in found), [one for results in found for one in results.compared]
    lost, extra = sum(one.lost for one in compared), sum(one.extra for one in compared)
    violations = sum(len(one.violations) for one in found)
    is_long = seconds >= _LONG
    target = (f"≥ {LEAST}", taken >= LEAST) if is_long else ()
    made.add("backups in a row, of all soaks together", f"{taken:,}", *target)
    made.add("restored and compared", f"{len(compared):,}", "all", met=len(compared) == taken)
    made.add("rows compared", f"{sum(one.rows for one in compared):,}")
    made.add("rows lost, rows too many", f"{lost}, {extra}", "0, 0", met=not lost and not extra)
    made.add("broken promises", str(violations), "0", met=not violations)
    made.raw = {"seconds": seconds, "violations": [one for results in found for one in results.violations]}
    return made


def figure(results: Results, *, is_long: bool) -> Figure:
    """One scene."""
    made = Figure(f"Soak in {_MODES[results.mode]} mode, {results.rate:,} transactions a second", "")
    least, enough = LEAST // len(SCENES), results.rate * _RATE
    target = (f"≥ {least}", results.taken >= least) if is_long else ()
    made.add("backups, restores", f"{results.taken:,}, {len(results.restores):,}", *target)
    target = (f"≥ {enough:,.0f}", results.achieved >= enough) if is_long else ()
    made.add("transactions a second, achieved", f"{results.achieved:,.0f} of {results.rate:,}", *target)
    longest, usual = results.longest_wait * 1000, results.p99_wait * 1000
    made.add("a writer's wait, longest and 99 of 100", f"{longest:,.0f} ms, {usual:,.1f} ms")
    half, most = _at(results.seconds, 0.5), _at(results.seconds, 0.99)
    made.add("seconds of a backup, half and 99 of 100", f"{half:.2f}, {most:.2f}")
    made.add("runs that the lock refused", f"{results.refused:,}")
    made.add("restores that waited for it", f"{results.refused_restores:,} times")
    made.add("prunes alone, copies removed behind runs", f"{results.prunes:,}, {results.removed:,}")
    made.raw = {**asdict(results), "compared": len(results.compared)}
    return made


def _at(found: list[float], share: float) -> float:
    return sorted(found)[min(len(found) - 1, int(len(found) * share))] if found else 0.0


if __name__ == "__main__":
    main()

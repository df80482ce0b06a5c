# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything fails once: `make faults`. Prints how many points, faults and violations there are; with any, it fails."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import reliability, report
from benchmarks.object_store import BUCKET, running

from . import answers, harness, installs, lies, loading, mutations, scenes
from .harness import Breakable, Tally
from .line import Certificates
from .options import ANSWERS, CALLS, MUTATIONS, Options, from_environment
from .scenes import Bucket, Host, Scene

# So many faults go to a worker at once.
_AT_ONCE = 10
# How many violations of one piece are printed.
_MOST = 20
# So many lies of different kinds each verb that speaks to S3 has to be told.
_KINDS = 25


def main() -> int:
    options, started = from_environment(), time.monotonic()
    loading.load_everything()
    figures, violations = [], []
    with _world(options) as world:
        for figure, tallies in _looked_at(world):
            figures.append(figure)
            violations += [one for tally in tallies for one in tally.violations]
            print(report.text(asdict(figure)), flush=True)
    if MUTATIONS in options.at:
        figures.append(mutations.figure())
        violations += [f"not found out: {name}" for name in figures[-1].raw["survived"]]
        print(report.text(asdict(figures[-1])), flush=True)
    print(f"\n{options.form} form, {time.monotonic() - started:.0f} s, {len(violations)} violations")
    print(f"Written to {reliability.keep('faults', figures, options.place, whole=options.whole)}")
    if not any(figure.rows for figure in figures):
        sys.exit("Nothing was looked at: FAULTS_ONLY and FAULTS_SCENE together name nothing. Name less.")
    return 1 if violations or any(row.met is False for figure in figures for row in figure.rows) else 0


class World:
    """A place for hosts, a store, and certificates; and those who break the hosts."""

    def __init__(self, options: Options, place: Path, endpoint: str, pool: ProcessPoolExecutor) -> None:
        self.options, self.place, self.endpoint, self.pool = options, place, endpoint, pool

    def submit(self, work: Any, *arguments: Any) -> Future[Any]:
        return self.pool.submit(work, str(self.place), self.endpoint, *arguments)


@contextmanager
def _world(options: Options) -> Iterator[World]:
    options.place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="eternia-faults-", dir=options.place) as folder:
        place = Path(folder)
        Certificates(place / "certificates").make()
        fork = multiprocessing.get_context("fork")
        with running(place / "store") as endpoint, ProcessPoolExecutor(options.jobs, fork, _ends_at_once) as pool:
            # Whoever ends us ends the store and the hosts, too.
            scenes.Bucket.make_locked(endpoint)
            signal.signal(signal.SIGTERM, lambda *_unused: sys.exit(128 + signal.SIGTERM))
            try:
                yield World(options, place, endpoint, pool)
            finally:
                pool.shutdown(cancel_futures=True)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _ends_at_once() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _looked_at(world: World) -> Iterator[tuple[report.Figure, list[Tally]]]:
    options = world.options
    if CALLS in options.at:
        tallies = list(_calls(world))
        words = f"{_CALLS_WORDS} {_form(options, 0)}"
        yield _figure("Calls that fail", words, tallies), tallies
    if ANSWERS in options.at:
        tallies = list(_answers(world))
        figure = _figure("Answers that lie", f"{_ANSWERS_WORDS} {_form(options, 1)}", tallies)
        for verb in dict.fromkeys(tally.verb for tally in tallies):
            kinds = len(set().union(*(tally.kinds for tally in tallies if tally.verb == verb)))
            met = kinds >= _KINDS if options.whole else None
            figure.add(f"different lies told to {verb}", str(kinds), f"≥ {_KINDS}", met)
        yield figure, tallies


_CALLS_WORDS = (
    "Calls of a command to the system, to SQLite and to S3 meet EIO, ENOSPC, EDQUOT, EACCES, EROFS, a short write, "
    "SIGKILL or SIGTERM, once or for ever; and after any of them the power may fail, so that what was not put onto the "
    "disk is lost. Then the command is given again. A point is one call, found by running the command once without a "
    "fault; a fault is what really happened to one run, power cuts included, and the run that recovers may meet one "
    "more. What never came was drawn, and the call did not come that time. A scene has few faults where a line of the "
    "product that it has in common with another was tried there. Not seen are what SQLite itself does, what is asked "
    "of the kernel through ctypes (the gate), and what pip does while it installs."
)
_ANSWERS_WORDS = (
    f"Between the command and a real store one of {len(lies.LIES)} things goes wrong with an answer, or with all from "
    "then on, over plain HTTP or TLS. Then the command is given again, over a good line. A point is one request."
)
# What of it happens: to calls, and to answers.
_FORM_WORDS = {
    "every": (
        "Everything that can go wrong with every call, and once more with another fault in the run that recovers; of "
        "what installs, and of what travels in parts, the first and the last call from each line.",
        "Every answer, over both.",
    ),
    "full": (
        "Each line of the product that calls meets everything that can go wrong with it, once for each command, at a "
        "call drawn by a seed and in the simplest scene that comes there, and once more with another fault in the run "
        "that recovers; in every scene some more and some power cuts.",
        "Of every lie the first answer, the last and one that is drawn.",
    ),
    "short": (
        "Of each line of the product one call meets one thing that can go wrong with it, once for each command, drawn "
        "by a seed, and in every scene some more and some power cuts; every third is followed by another in the run "
        "that recovers.",
        "Of every lie one answer.",
    ),
    "tiny": ("A few.", "A few."),
}


def _calls(world: World) -> Iterator[Tally]:
    """Every call of every command fails once."""
    wanted = list(filter(world.options.wants, (*scenes.SCENES, *installs.SCENES)))
    if set(installs.SCENES) & set(wanted):
        installs.fetch_wheels(world.place)
    recorded = {scene: future.result() for scene, future in [(one, world.submit(_record, one)) for one in wanted]}
    # Which of several scenes a line of the product is tried in is drawn, too; where all happens to it, it is the
    # simplest, which is the fastest.
    known: set[tuple[str, ...]] = set()
    drawn = wanted if world.options.full else random.Random(world.options.seed).sample(wanted, len(wanted))
    faults = {scene: harness.chosen(scene, recorded[scene], world.options, known) for scene in drawn}
    jobs = []
    for scene in wanted:
        points = len(set(recorded[scene].points))
        tally = Tally(str(scene), scene.verb, points=points)
        jobs.append((tally, _in_pieces(world, _work, scene, faults[scene], points, world.options)))
    yield from _added(jobs, world.options)


def _answers(world: World) -> Iterator[Tally]:
    """Every answer of the store lies once."""
    wanted = list(filter(world.options.wants, answers.SCENES))
    if world.options.form == "tiny":
        wanted = [scene for scene in wanted if scene.rows < 1000]
    jobs = []
    for scene, counted in [(scene, world.submit(_count, scene)) for scene in wanted]:
        requests = counted.result()
        told = answers.chosen(scene, requests, world.options)
        tally = Tally(f"{scene}", scene.verb, points=max(requests.values()))
        jobs.append((tally, _in_pieces(world, _lie, scene, told)))
    yield from _added(jobs, world.options)


def _in_pieces(world: World, work: Any, scene: Scene, faults: Sequence[Any], *more: Any) -> list[Future[Tally]]:
    return [world.submit(work, scene, faults[at : at + _AT_ONCE], *more) for at in range(0, len(faults), _AT_ONCE)]


def _added(jobs: Sequence[tuple[Tally, list[Future[Tally]]]], options: Options) -> Iterator[Tally]:
    for tally, futures in jobs:
        for one in futures:
            found = one.result()
            tally.add(found)
            for violation in found.violations[:_MOST]:
                print(f"VIOLATION {violation}", flush=True)
            if options.stops and any(re.search(options.stops, one) for one in tally.violations):
                for waiting in itertools.chain.from_iterable(others for _tally, others in jobs):
                    waiting.cancel()
                yield tally
                return
        if not tally.faults:
            tally.violations.append(f"{tally.scene}: nothing was tried, since no fault came")
        print(f"{tally}", flush=True)
        yield tally


def _breakable(place: str, endpoint: str, scene: Scene) -> Breakable:
    return _installed(place, scene) if scene in installs.SCENES else _host(place, endpoint, scene)


@cache
def _host(place: str, endpoint: str, scene: Scene) -> Host:
    return Host(scene, _folder(place, scene), Bucket(endpoint, scenes.LOCKED if scene.locked else BUCKET))


@cache
def _installed(place: str, scene: Scene) -> installs.Installed:
    return installs.Installed(scene, _folder(place, scene), Path(place))


def _folder(place: str, scene: Scene) -> Path:
    return Path(place, f"worker-{os.getpid()}", str(abs(hash(scene))))


def _record(place: str, endpoint: str, scene: Scene) -> Any:
    return harness.record(_breakable(place, endpoint, scene))


def _work(place: str, endpoint: str, scene: Scene, *more: Any) -> Tally:
    return harness.work(_breakable(place, endpoint, scene), *more)


def _count(place: str, endpoint: str, scene: Scene) -> dict[str, int]:
    return answers.count(_host(place, endpoint, scene), Certificates(Path(place, "certificates")))


def _lie(place: str, endpoint: str, scene: Scene, told: Any) -> Tally:
    return answers.work(_host(place, endpoint, scene), told, Certificates(Path(place, "certificates")))


def _form(options: Options, to: int) -> str:
    return f"The {options.form} form: {_FORM_WORDS[options.form][to]}"


def _figure(title: str, how: str, tallies: Sequence[Tally]) -> report.Figure:
    figure = report.Figure(title, how)
    total = Tally("all", "", points=sum(tally.points for tally in tallies))
    for tally in tallies:
        total.add(tally)
    for tally in (*tallies, total):
        more = f" and {tally.seconds_faults:,} more in the run that recovers" if tally.seconds_faults else ""
        missed = f"; {tally.missed:,} never came" if tally.missed else ""
        measured = f"{tally.points:,} points; {tally.faults:,} faults{more}{missed}; {len(tally.violations)} violations"
        figure.add(tally.scene, measured, "0 violations", not tally.violations)
    for tally in tallies:
        figure.raw[tally.scene] = {**asdict(tally), "kinds": sorted(tally.kinds), "violations": len(tally.violations)}
    return figure


if __name__ == "__main__":
    sys.exit(main())

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
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.object_store import BUCKET, running

from . import answers, harness, installs, loading, mutations, scenes
from .findings import Findings
from .harness import Breakable, Tally
from .line import Certificates
from .options import ANSWERS, CALLS, MUTATIONS, Options, from_environment
from .scenes import Bucket, Host, Scene

# So many faults go to a worker at once.
_AT_ONCE = 10
# How many violations of one piece are printed.
_MOST = 20


def main() -> int:
    # Whoever ends us ends the store and the hosts, too.
    signal.signal(signal.SIGTERM, lambda *_unused: sys.exit(128 + signal.SIGTERM))
    options, started = from_environment(), time.monotonic()
    loading.load_everything()
    findings, is_empty = Findings(options), True
    with _world(options) as world:
        for at, tally in _tried(world):
            findings.add(at, tally)
            is_empty = False
    for figure in findings.figures():
        print(report.text(figure), flush=True)
    if MUTATIONS in options.at:
        findings.add_mutations(mutations.figure())
        print(report.text(findings.figures()[-1]))
    elif is_empty:
        sys.exit("Nothing was looked at: FAULTS_ONLY and FAULTS_SCENE together name nothing. Name less.")
    violations = findings.violations()
    print(f"\n{options.form} form, {time.monotonic() - started:.0f} s, {len(violations)} violations")
    lacking = any(row["met"] is False for figure in findings.figures() for row in figure["rows"])
    return 1 if violations or lacking else 0


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
            scenes.Bucket.make_locked(endpoint)
            try:
                yield World(options, place, endpoint, pool)
            finally:
                pool.shutdown(cancel_futures=True)


def _ends_at_once() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _tried(world: World) -> Iterator[tuple[str, Tally]]:
    """Each scene as it is done, and which of AT it belongs to."""
    for at, tallies in ((CALLS, _calls), (ANSWERS, _answers)):
        if at in world.options.at:
            yield from ((at, tally) for tally in tallies(world))


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
    # Kept once more, with what comes of it.
    jobs = [
        (tally, _in_pieces(world, _work, scene, again, tally.points, world.options))
        for scene, (tally, _futures) in zip(wanted, jobs)
        if world.options.full and (again := harness.once_more(recorded[scene], tally))
    ]
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
        nothing = f"{tally.scene}: nothing was tried, since no fault came"
        tally.violations = [one for one in tally.violations if one != nothing]
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
            tally.violations.append(nothing)
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


if __name__ == "__main__":
    sys.exit(main())

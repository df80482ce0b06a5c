# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the points of a command by running it, then lets each of them fail, and looks at what became of the host."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from . import child, kinds
from .calls import Point
from .child import Ended, PowerCut
from .kinds import FOR_EVER, KILL, ONCE, Fault
from .options import Options
from .promises import Stores
from .scenes import FIRST_HOUR, Scene

# How many faults a scene has at least, and how often the power fails, in a form that does not have every one.
_LEAST = {"full": 24, "short": 12, "tiny": 4}
_CUTS = {"full": 48, "short": 12, "tiny": 4}
# Of how many faults one is followed by another, in the run that recovers from it; in a full one each is, once more.
_SECOND = {"short": 3, "tiny": 4}
# What that is; a kill more often: it leaves the most.
_SECONDS = (*kinds.ERRORS, kinds.SHORT, kinds.TERM, KILL, KILL)


# A call, and the line of the product that makes it.
Place = tuple[str, str]


class Breakable(Protocol):
    """A host that a command is given to: made anew as often as it is broken, below `root`, with `place` around it."""

    scene: Scene
    place: Path
    root: Path

    def renew(self) -> None: ...

    def stores(self) -> Stores: ...

    def command(self, hour: float) -> Callable[[], int]: ...

    def a_day_later(self, hour: float) -> Callable[[], int] | None: ...

    def broken(
        self, ended: Ended, before: Stores, after: Stores, *, nth: int = 0, recovers: bool = False, lasts: bool = False
    ) -> Iterable[str]: ...


@dataclass
class Tally:
    """What was done to one scene, and what came of it.

    `different` are those of the `faults` that happened to several runs, counted once. `kinds` are the names of the
    lies that were told. `missed` are no faults: they never came, because what goes on side by side comes in another
    order each time; `lost` are the points where one did not come, `came` the places where some did.
    """

    scene: str
    verb: str
    points: int = 0
    faults: int = 0
    different: int = 0
    seconds_faults: int = 0
    missed: int = 0
    kinds: set[str] = field(default_factory=set)
    lost: set[Point] = field(default_factory=set)
    came: set[Place] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.scene}: {self.points} points, {self.faults} faults, {self.seconds_faults} in the run that "
            f"recovers, {self.missed} more never came, {len(self.untried)} places where none came, "
            f"{len(self.violations)} violations, {self.seconds:.0f} s"
        )

    @property
    def untried(self) -> set[Place]:
        """The places where something was to go wrong, and nothing did."""
        return {point[:2] for point in self.lost} - self.came

    def add(self, other: Tally) -> None:
        self.faults += other.faults
        self.different += other.different
        self.lost |= other.lost
        self.came |= other.came
        self.seconds_faults += other.seconds_faults
        self.missed += other.missed
        self.kinds |= other.kinds
        self.violations += other.violations
        self.seconds += other.seconds


def record(host: Breakable) -> Ended:
    """What the command does when nothing goes wrong. Raises AssertionError where it does not even do that."""
    host.renew()
    before = host.stores()
    ended = child.run(host.command(FIRST_HOUR), None, host.place, host.root)
    found = list(host.broken(ended, before, host.stores(), recovers=True))
    assert not found, f"{host.scene}, without a fault: {found} {ended.said}"
    return ended


def chosen(scene: Scene, ended: Ended, options: Options, known: set[tuple[str, ...]]) -> list[Fault | PowerCut]:
    """The faults that happen: all; or at every place that was not `known`, one or in the full form each, and some more.

    A place is a line of the product, as one of the commands comes there.

    Of a slow scene's calls from the same place only the first and the last one fail.
    """
    drawn = random.Random(options.seed)
    points = list(dict.fromkeys(ended.points))
    if scene.slow:
        first, last = ({point[:2]: point for point in some} for some in (reversed(points), points))
        points = list(dict.fromkeys((*first.values(), *last.values())))
    cuts = [PowerCut(way, point) for point in (*points, None) for way in ended.ways.get(point, ())]
    if options.every:
        return [*_all_at(points), *cuts]
    # In any order, so that it is not always the first call of a place.
    drawn.shuffle(points)
    new = []
    for point in points:
        if (place := (scene.verb, *point[:2])) not in known and options.form != "tiny":
            known.add(place)
            new.append(point)
    fewer = 3 if scene.slow else 1
    least, most_cuts = _LEAST[options.form] // fewer, _CUTS[options.form] // fewer
    more = points[: max(0, least - len(new))]
    faults = [
        Fault(*drawn.choice(list(kinds.possible(point))), point) for point in (more if options.full else [*new, *more])
    ]
    if options.full:
        faults += _all_at(new)
    # What the store refuses once must never be taken for done.
    faults = [*(Fault("EACCES", ONCE, point) for point in points if point.call.startswith("s3 P")), *faults]
    if options.stops:
        # One that is there is to be found whatever the seed.
        others = [*(Fault(KILL, ONCE, point) for point in points), *cuts]
        return [*faults, *drawn.sample(others, len(others))]
    # Of many the last are few: what it said when it ended has to be true even then.
    last = [cut for cut in cuts if cut.point is None]
    return list(dict.fromkeys([*faults, *last, *drawn.sample(cuts, min(len(cuts), most_cuts))]))


def once_more(ended: Ended, tally: Tally) -> list[Fault | PowerCut]:
    """The faults for the places where none came: at another call from there, the first that was not tried."""
    again: dict[Place, Point] = {}
    for point in ended.points:
        if point[:2] in tally.untried and point not in tally.lost:
            again.setdefault(point[:2], point)
    return _all_at(again.values())


def _all_at(points: Iterable[Point]) -> list[Fault | PowerCut]:
    return [Fault(what, times, point) for point in points for what, times in kinds.possible(point)]


def work(host: Breakable, faults: Sequence[Fault | PowerCut], points: int, options: Options) -> Tally:
    """Let these happen, one after the other, each on a host of its own."""
    tally = Tally(str(host.scene), host.scene.verb)
    started = time.monotonic()
    for fault in faults:
        drawn = random.Random(f"{options.seed} {fault}")
        second = Fault(drawn.choice(_SECONDS), drawn.choice((ONCE, FOR_EVER)), number=drawn.randrange(points))
        seconds = (None, second) if options.full else (None if drawn.randrange(_SECOND[options.form]) else second,)
        times = sum(_happen(host, fault, one, tally) for one in seconds)
        tally.different += times > 0
        if isinstance(fault, Fault) and fault.point is not None:
            if times:
                tally.came.add(fault.point[:2])
            else:
                tally.lost.add(fault.point)
    tally.seconds = time.monotonic() - started
    return tally


def _happen(host: Breakable, fault: Fault | PowerCut, second: Fault | None, tally: Tally) -> bool:
    """A fault, then the run that recovers from it; where there is a `second`, that one fails too, and the next must.

    Whether it came.
    """
    host.renew()
    what = str(fault)
    stores = host.stores()

    def run(nth: int, fault: Fault | PowerCut | None) -> Ended:
        nonlocal stores
        ended = child.run(host.command(FIRST_HOUR + nth), fault or NOTHING, host.place, host.root)
        # A fault that never came disturbs nobody.
        recovers = not ended.met
        found = tidied(host, FIRST_HOUR + nth) if recovers else []
        before, stores = stores, host.stores()
        lasts = isinstance(fault, Fault) and fault.times == FOR_EVER
        found += host.broken(ended, before, stores, nth=nth, recovers=recovers, lasts=lasts)
        tally.violations += [f"{host.scene}: {what}: {one}" for one in found]
        return ended

    # Where a fault never came, that run has been judged as one that recovers.
    if not run(0, fault).met:
        tally.missed += 1
        return False
    tally.faults += 1
    if second is not None:
        what = f"{fault}, then {second}"
        if not run(1, second).met:
            return True
        tally.seconds_faults += 1
    run(2, None)
    return True


def tidied(host: Breakable, hour: float) -> list[str]:
    """Let the backup of the next day tidy what a restore may leave until then; says how it failed, where it did."""
    command = host.a_day_later(hour)
    if command is None:
        return []
    ended = child.run(command, NOTHING, host.place, host.root)
    return [] if ended.code == 0 else [f"the next day's backup ended with {ended.code}: {ended.said.strip()[-300:]}"]


# Comes to no call.
NOTHING = Fault("EIO", ONCE, Point("", "", 0))

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command in a process of its own, which has loaded everything already and in which one thing goes wrong."""

from __future__ import annotations

import mmap
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .calls import Point, Watch
from .kinds import Fault, Misfortune
from .power import Power

# A process that takes longer hangs.
PATIENCE_SECONDS = 120
# The exit code of a command that ended with an exception that nobody expected.
TRACE = 70


@dataclass(frozen=True)
class Ended:
    """How it ended: `code` is the exit code, None where it was killed; `met` whether the fault came.

    `points` are those that were seen; `ways` has, by a point, how the power could fail after it; at the end for None.
    """

    code: int | None
    said: str
    met: bool
    points: list[Point] = field(default_factory=list)
    ways: dict[Point | None, list[str]] = field(default_factory=dict)
    hung: bool = False


@dataclass(frozen=True)
class PowerCut:
    """The power fails after a call, or where it is None after the command has said how it ended."""

    way: str
    point: Point | None

    def __str__(self) -> str:
        return f"{self.way}, after {'it had ended' if self.point is None else self.point}"


def run(command: Callable[[], int], what: Fault | PowerCut | None, place: Path, root: Path) -> Ended:
    """Run it in a child; `place` is for what it says, `root` is the host's disk."""
    met = mmap.mmap(-1, 1)
    said, seen = place / "said", place / "seen"
    graveyard = place / "graveyard"
    graveyard.mkdir(exist_ok=True)
    for left in graveyard.iterdir():
        left.unlink()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    # In a group of its own, so that nothing that it starts goes on after it.
    os.setpgid(pid, pid)
    if pid == 0:
        _be(command, what, said, seen, Power(root, graveyard), met)
    code, hung = _wait(pid)
    for left in graveyard.iterdir():
        left.unlink()
    points, ways = pickle.loads(seen.read_bytes()) if what is None and seen.exists() else ([], {})
    if code == _BROKEN:
        raise AssertionError(f"{what} could not be played: {said.read_text(errors='replace')}")
    if isinstance(what, PowerCut) and code == _CUT:
        code = None
    return Ended(code, said.read_text(errors="replace"), met[0] == 1, points, ways, hung)


# What the child ends with where the power failed, and where we could not let it.
_CUT, _BROKEN = 125, 124


def _wait(pid: int) -> tuple[int | None, bool]:
    descriptor = os.pidfd_open(pid)
    try:
        hung = not select.select([descriptor], [], [], PATIENCE_SECONDS)[0]
    finally:
        os.close(descriptor)
        # It is there until somebody waits for it, and so is the group.
        os.killpg(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return (None if code < 0 else code), hung


def _be(
    command: Callable[[], int], what: Fault | PowerCut | None, said: Path, seen: Path, power: Power, met: mmap.mmap
) -> None:
    """The child; it never returns."""
    leave, code, ways = os._exit, 1, {}
    try:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        for number, name in ((1, "stdout"), (2, "stderr")):
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def mark() -> None:
            met[0] = 1

        def fail(way: str) -> bool:
            try:
                return power.fail(way)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                leave(_BROKEN)

        if isinstance(what, Fault):
            meet: Any = Misfortune(what, mark).meet
        else:

            def meet(point: Point, number: int, *call: Any) -> Any:
                try:
                    return power.perform(point, number, *call)
                finally:
                    if what is None:
                        ways[point] = list(power.ways())
                    elif what.point == point:
                        # It was cut off there, whether anything was lost or not.
                        mark()
                        fail(what.way)
                        leave(_CUT)

        watch = Watch(meet)
        watch.begin()
        try:
            code = command()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 1
            if isinstance(exc.code, str):
                print(exc.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = TRACE
        sys.stdout.flush()
        sys.stderr.flush()
        if what is None:
            ways[None] = list(power.ways())
            with open(seen, "wb") as stream:
                pickle.dump((watch.points, ways), stream)
        if isinstance(what, PowerCut) and what.point is None and fail(what.way):
            mark()
    finally:
        leave(code)


def real_sleep(seconds: float) -> None:
    """Wait; the commands themselves never do."""
    _SLEEP(seconds)


_SLEEP = time.sleep


def never_wait() -> None:
    """From here on nobody waits in this process and its children: what is tested is neither the disk nor patience."""
    time.sleep = lambda _seconds: None

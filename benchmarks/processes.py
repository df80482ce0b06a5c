# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measured things run in processes of their own: so their time is whole and their peak memory is theirs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

# The unit of `ru_inblock`, whatever the disk's own is: getrusage(2).
_BLOCK = 512


@dataclass(frozen=True)
class Usage:
    """What one process took, with those that it waited for.

    `started` and `ended` are seconds on the machine's monotonic clock, `processor` the seconds of all cores, `peak` the
    bytes of memory and `fetched` those that the disk had to be asked for.
    """

    started: float
    ended: float
    peak: int
    output: str
    processor: float
    fetched: int

    @property
    def seconds(self) -> float:
        return self.ended - self.started


class TooSlowError(Exception):
    """A process was stopped because its time was up."""


def python(program: str, *arguments: object) -> list[str]:
    """The command line of one of the programs in `work/`."""
    return [sys.executable, "-m", f"benchmarks.work.{program}", *map(str, arguments)]


def run(command: list[str], *, limit: float = 3600) -> Usage:
    """Run to the end. Raises RuntimeError with what it said where it fails, TooSlowError after `limit` seconds.

    Linux counts the memory of the process that starts another as the other's until it has started, so whoever calls
    this must stay small: what needs memory belongs into `work/`.
    """
    late = threading.Event()
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit, stop)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        ended = time.monotonic()
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        output = said.read().decode(errors="replace")
    if late.is_set():
        raise TooSlowError(f"{command[0]} was stopped after {limit:.0f} s")
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    processor = usage.ru_utime + usage.ru_stime
    return Usage(started, ended, usage.ru_maxrss * 1024, output, processor, usage.ru_inblock * _BLOCK)


def interleaved(runs: int, contenders: Mapping[str, Callable[[], Usage]]) -> dict[str, list[Usage]]:
    """A B C A B C …: whatever else the machine does in the meantime hits all of them alike."""
    found: dict[str, list[Usage]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, contender in contenders.items():
            found[name].append(contender())
    return found


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians, and the smallest and largest ratio within one round."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: list[float], theirs: list[float]) -> Ratio:
        rounds = [mine / other for mine, other in zip(ours, theirs)]
        return cls(median(ours) / median(theirs), min(rounds), max(rounds))

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: list[float], unit: str, digits: int = 1) -> str:
    """Median (min to max) with a unit, for people."""
    return f"{median(values):,.{digits}f} {unit} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"

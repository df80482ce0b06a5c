# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that is told to end, by SIGTERM or by the SIGHUP of a lost session: it takes back what is under way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def heeded() -> Iterator[None]:
    """While this lasts, such a signal raises Stopped, once. One that is ignored stays so: nohup means it."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def too_late() -> None:
    """From here on the command goes on to its end, which is near: a restore that says it failed has changed nothing."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, _overlook)


def _stop(number: int, _frame: FrameType | None) -> None:
    too_late()
    name = signal.Signals(number).name
    raise Stopped(f"It was told to end ({name}). What was not finished counts for nothing; run it again.")


def _overlook(_number: int, _frame: FrameType | None) -> None:
    """SIG_IGN would do, but for a signal that came just before: old Pythons try to call it."""

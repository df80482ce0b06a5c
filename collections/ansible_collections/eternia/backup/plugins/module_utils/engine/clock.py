# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time, passed in so that a test can set it; and what tells that a host's clock is off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby, islice

from . import names
from .errors import ClockError
from .units import counted
from .version import RELEASED

# The last backup of one year and the first of the year after the next may be that far apart, and nothing be wrong.
# What no outage is likely to last.
MOST_GAP = timedelta(days=731)
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
# How many times what is usual makes a gap, and by how many moments one knows what is usual.
_UNUSUAL = 2
_LOOKED_AT = 20
# How many backups behind a gap make one believe it, and how many gaps in a row are a habit.
_BELIEVED = 3
_HABIT = 3


@dataclass(frozen=True)
class Clock:
    """The time and the wait for it. `now` is in UTC with its zone; `sleep` takes seconds."""

    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    sleep: Callable[[float], None] = time.sleep

    def second(self) -> datetime:
        """This second, as names have it."""
        return self.now().astimezone(timezone.utc).replace(microsecond=0)

    def sleep_until(self, moment: datetime) -> None:
        """Wait for a moment, if it is still to come."""
        self.sleep(max(0.0, (moment - self.now()).total_seconds()))


@dataclass(frozen=True)
class Gap:
    """A time in which nothing was backed up, or the clock jumped. Both ends are in UTC.

    One is in doubt until there are some backups behind it, over the time that is `enough`; another is never believed.
    """

    start: datetime
    end: datetime
    enough: timedelta | None = None

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def __str__(self) -> str:
        return f"a gap of {counted(self.length.days, 'day')}"


def newest_gap(moments: Iterable[datetime], *, kept_for: timedelta | None = None) -> Gap | None:
    """The newest gap between moments at which the clock was read, which come newest first.

    It is longer than MOST_GAP; or it is in doubt, where `kept_for` is the age that lets go of a backup: see `_doubted`.
    A host that had three of these in a row, and none that is longer than it is used to, is one that is often off, and
    would keep everything for ever.
    """
    distinct = [moment for moment, _same in groupby(moments)]
    doubted = list(islice(_doubted(distinct, kept_for), _HABIT)) if kept_for is not None else []
    if doubted and not _is_habit(doubted):
        return doubted[0]
    pairs = zip(distinct, distinct[1:])
    return next((Gap(moment, later) for later, moment in pairs if later - moment > MOST_GAP), None)


def _is_habit(newest: list[Gap]) -> bool:
    length, *earlier = (gap.length for gap in newest)
    return len(newest) == _HABIT and length <= _UNUSUAL * max(earlier)


def _doubted(moments: list[datetime], kept_for: timedelta) -> Iterator[Gap]:
    """The gaps that may be a clock's jump, and are not believed yet; newest first.

    Each takes half of the time that is kept, or a week, and no less than a day; it is more than twice as long as what
    was usual before it; and fewer than three moments after the first are newer, or they are not spread over a week
    (over `kept_for`, where that is less) without another.
    """
    least = max(_DAY, min(_WEEK, kept_for / 2))
    enough = min(_WEEK, kept_for)
    certain = timedelta(0)
    for place, (later, moment) in enumerate(zip(moments, moments[1:])):
        length = later - moment
        if length > MOST_GAP or (place >= _BELIEVED and certain >= enough):
            return
        # Few are as long as that, and there may be a million to look at.
        if length >= least and length > _UNUSUAL * _usual(moments[place + 1 : place + 1 + _LOOKED_AT], kept_for):
            yield Gap(moment, later, enough)
            certain = timedelta(0)
        else:
            certain += length


def _usual(moments: list[datetime], kept_for: timedelta) -> timedelta:
    """The time that usually lies between them: half of them are no further apart. A week, where nothing tells.

    What is older than `kept_for` was thinned out by other rules, so that it tells only where there is nothing else.
    """
    young = [moment for moment in moments if moments[0] - moment <= kept_for]
    known = young if len(young) > 1 else moments
    between = sorted(later - moment for later, moment in zip(known, known[1:]))
    return between[len(between) // 2] if between else _WEEK


def is_possible(now: datetime) -> bool:
    """Whether this program existed at that time."""
    return now >= RELEASED


def require_possible(now: datetime) -> None:
    """Refuse a time at which this program did not exist: a backup would get a wrong name. Raises ClockError."""
    if not is_possible(now):
        raise ClockError(
            f"The clock of this host says {names.iso(now)}, and no version of this program is older than "
            f"{names.iso(RELEASED)[:10]}: the clock is wrong. No backup was taken, because it would be named and "
            "pruned by that time. Set the clock (`timedatectl` tells whether it is synchronised), then run again."
        )

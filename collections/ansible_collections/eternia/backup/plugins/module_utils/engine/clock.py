# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time, passed in so that a test can set it; and what tells that a host's clock is off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby

from . import names
from .errors import ClockError
from .version import RELEASED

# The last backup of one year and the first of the year after the next may be that far apart, and nothing be wrong.
# What no outage is likely to last.
MOST_GAP = timedelta(days=731)
# What is a gap to one who is used to shorter times, and how long he waits until he believes it.
_LEAST_GAP = timedelta(days=7)
_UNUSUAL = 10
_BELIEVED = 3


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

    One that `passes` is believed once there are some backups behind it, over some days; another never.
    """

    start: datetime
    end: datetime
    passes: bool = False

    @property
    def days(self) -> int:
        return (self.end - self.start).days

    def __str__(self) -> str:
        return f"a gap of {self.days} days"


def newest_gap(moments: Iterable[datetime], *, believed_after: timedelta | None = None) -> Gap | None:
    """The newest gap between moments at which the clock was read, which come newest first.

    It is longer than MOST_GAP; or, where `believed_after` is given, longer than a week and ten times what was usual
    before it, and fewer than three moments after the first are newer, or they are not spread over so much time.
    """
    distinct = [moment for moment, _same in groupby(moments)]
    for place, (later, moment) in enumerate(zip(distinct, distinct[1:])):
        length = later - moment
        if length > MOST_GAP:
            return Gap(moment, later)
        is_young = believed_after is not None and (place < _BELIEVED or distinct[0] - later < believed_after)
        # Few are as long as that, and there may be a million to look at.
        if is_young and length > _LEAST_GAP and length > _UNUSUAL * _usual(distinct[place + 1 :]):
            return Gap(moment, later, passes=True)
    return None


def _usual(moments: list[datetime]) -> timedelta:
    """The time that usually lies between them: half of the last ones are no further apart."""
    last = moments[: 2 * _UNUSUAL]
    between = sorted(later - moment for later, moment in zip(last, last[1:]))
    return between[len(between) // 2] if between else timedelta(0)


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

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time, passed in so that a test can set it; and what tells that a host's clock is years off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from . import names
from .errors import ClockError
from .version import RELEASED

# The last backup of one year and the first of the year after the next may be that far apart, and nothing be wrong.
MOST_GAP = timedelta(days=731)


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
    """A time longer than MOST_GAP in which nothing was backed up, or the clock jumped. Both ends are in UTC."""

    start: datetime
    end: datetime

    @property
    def days(self) -> int:
        return (self.end - self.start).days

    def __str__(self) -> str:
        return f"a gap of {self.days} days"


def newest_gap(moments: Iterable[datetime]) -> Gap | None:
    """The newest gap between moments at which the clock was read, which come newest first."""
    later: datetime | None = None
    for moment in moments:
        if later is not None and later - moment > MOST_GAP:
            return Gap(moment, later)
        later = moment
    return None


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

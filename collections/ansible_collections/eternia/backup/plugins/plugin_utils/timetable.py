# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the jobs of a host are due, in the words of cron(8) and of systemd: one answer for the same host, always."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# In seconds. The shortest month: what begins later than its last day would not come every month.
PERIODS: Mapping[str, int] = MappingProxyType(
    {"hourly": _HOUR, "daily": _DAY, "weekly": 7 * _DAY, "monthly": 28 * _DAY}
)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Due:
    """Every how often, and how many seconds after the beginning of the hour, the day, Monday or the month."""

    every: str
    after: int

    def spread(self, share: float, seconds: int) -> Due:
        """The same, later by a share (0 to below 1) of so many seconds, and of no more than one period."""
        period = PERIODS[self.every]
        return Due(self.every, (self.after + int(share * min(seconds, period))) % period)

    @property
    def cron(self) -> str:
        """The five fields of crontab(5); `wait` is what is left after them, in seconds."""
        days, hour, minute, _second = self._clock
        return {
            "hourly": f"{minute} * * * *",
            "daily": f"{minute} {hour} * * *",
            "weekly": f"{minute} {hour} * * {(1 + days) % 7}",
            "monthly": f"{minute} {hour} {1 + days} * *",
        }[self.every]

    @property
    def wait(self) -> int:
        return self._clock[3]

    @property
    def calendar(self) -> str:
        """As systemd.time(7) has it. In UTC: in local time a timer leaves out the hour that a clock repeats."""
        days, hour, minute, second = self._clock
        date, hours = {
            "hourly": ("*-*-*", "*"),
            "daily": ("*-*-*", f"{hour:02}"),
            "weekly": (f"{_DAYS[days % 7]} *-*-*", f"{hour:02}"),
            "monthly": (f"*-*-{1 + days:02}", f"{hour:02}"),
        }[self.every]
        return f"{date} {hours}:{minute:02}:{second:02} UTC"

    @property
    def _clock(self) -> tuple[int, int, int, int]:
        days, rest = divmod(self.after, _DAY)
        hour, rest = divmod(rest, _HOUR)
        return days, hour, *divmod(rest, _MINUTE)


def share(environment: str, host: str) -> float:
    """What the host gets of any spread, 0 to below 1: spread evenly over hosts, and always the same for one."""
    digest = hashlib.sha256(f"{environment}/{host}".encode()).digest()
    # As many bits as a float holds, so that the result never becomes 1.
    return int.from_bytes(digest[:6], "big") / (1 << 48)

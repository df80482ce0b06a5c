# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time, passed in: so that a test can set it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone


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

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast bytes may go over the line, all connections of a store together."""

from __future__ import annotations

import threading
import time
from typing import Any

# Shorter waits are put off until they add up: each costs more than it is worth.
_SHORTEST = 0.01


class Pace:
    """No more than `rate` bytes a second, over any time that is longer than an instant; None knows no limit."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._paid_until = 0.0

    @property
    def most(self) -> int:
        """How many bytes to take at once, so that the line is never silent for long."""
        return 1 << 30 if self._rate is None else max(self._rate // 8, 1 << 12)

    def keep(self, count: int) -> None:
        """Wait until so many bytes more may have gone."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._paid_until = max(self._paid_until, now) + count / self._rate
            wait = self._paid_until - now
        if wait >= _SHORTEST:
            time.sleep(wait)


def hear_of_sending(client: Any) -> None:
    """Have every body that can be `paced` know when it is read to be sent: without TLS it is read once before, to sign.

    As s3transfer does it for its own limit.
    """

    def tell(is_sent: bool) -> Any:
        def told(request: Any, **_other: Any) -> None:
            if hasattr(request.body, "paced"):
                request.body.paced = is_sent

        return told

    client.meta.events.register_first("request-created.s3", tell(False))
    client.meta.events.register("before-send.s3", tell(True))

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exit codes of the command line: scripts may rely on them."""

from __future__ import annotations

from enum import IntEnum

from .errors import ConfigError, DamagedError, EngineError, LockedError, NotFoundError, root


class ExitCode(IntEnum):
    """What the end of a command means. What went wrong in no way that has a code of its own is FAILED."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    NO_SUCH_BACKUP = 10
    LOCKED = 11
    DAMAGED = 12


_BY_ERROR: tuple[tuple[type[EngineError], ExitCode], ...] = (
    (ConfigError, ExitCode.USAGE),
    (NotFoundError, ExitCode.NO_SUCH_BACKUP),
    (LockedError, ExitCode.LOCKED),
    (DamagedError, ExitCode.DAMAGED),
)


def of(error: BaseException) -> ExitCode:
    """The code for an error, or for the one behind it where it only tells how far a run got."""
    cause = root(error)
    return next((code for kind, code in _BY_ERROR if isinstance(cause, kind)), ExitCode.FAILED)

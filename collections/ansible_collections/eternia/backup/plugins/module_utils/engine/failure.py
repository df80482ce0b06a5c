# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failure is to whoever counts it or is called because of it: its kind, and its reason."""

from __future__ import annotations

from typing import NamedTuple

from . import refusal
from .errors import ConfigError, DamagedError, EngineError, LockedError, SourceError, StoreError, root
from .stores.s3_errors import S3Error

OTHER = "other"

# The first that fits counts: an S3Error is a StoreError, too.
_KINDS: tuple[tuple[type[EngineError], str], ...] = (
    (S3Error, "s3"),
    (SourceError, "source"),
    (DamagedError, "damaged"),
    (LockedError, "locked"),
    (ConfigError, "config"),
    (StoreError, "store"),
)
KINDS = (*(kind for _error, kind in _KINDS), OTHER)


class Failure(NamedTuple):
    """Why something failed, in one of KINDS and in words."""

    kind: str
    reason: str


def of(error: BaseException) -> Failure:
    """What an error is, or what lies behind one that only tells how far a run got."""
    if isinstance(error, OSError):
        error = refusal.of(error)
    cause = root(error)
    kind = next((kind for class_, kind in _KINDS if isinstance(cause, class_)), OTHER)
    if isinstance(error, EngineError):
        return Failure(kind, str(error))
    if isinstance(error, KeyboardInterrupt):
        return Failure(kind, str(error) or "It was interrupted.")
    return Failure(kind, f"A fault of this program: {type(error).__name__}: {error}. Report it, with the log.")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the system refuses where nobody expected it: a disk that breaks may refuse any call, and that is said too."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from .errors import StoreError
from .files import reason

_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def of(exc: OSError) -> StoreError:
    """The words for it, with what it was about where that is known."""
    where = "A file or directory of this run" if exc.filename is None else str(exc.filename)
    error = StoreError(
        f"{where} could not be used: {reason(exc)}. What was not finished counts for nothing. Look at the disk, and at "
        "the rights there, then run again."
    )
    error.__cause__ = exc
    return error


def told(verb: _Verb) -> _Verb:
    """Let a verb end with a StoreError where it would end with an OSError."""

    @wraps(verb)
    def telling(*arguments: Any, **keywords: Any) -> Any:
        try:
            return verb(*arguments, **keywords)
        except OSError as exc:
            raise of(exc) from exc

    return cast(_Verb, telling)

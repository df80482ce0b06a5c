# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields of a document that others may have bent: each is returned as it may be used, or refused.

All raise ValueError or TypeError with what was expected and what was found.
"""

from __future__ import annotations

import re
from typing import Any

from .errors import is_line, quoted

_DIGEST = re.compile(r"[0-9a-f]{64}")
# `source` of a manifest holds blocks in a block; what is deeper was not written by this program, and could not be
# written again.
_MOST_LEVELS = 8


def text(value: Any) -> str:
    """A line that may go into logs and messages."""
    if not isinstance(value, str):
        raise TypeError(f"text expected, found {quoted(value)}")
    if not is_line(value):
        raise ValueError(f"a short line of text expected, found {quoted(value)}")
    return value


def hexadecimal(value: Any) -> str:
    """The value of a digest of 256 bits."""
    found = text(value)
    if not _DIGEST.fullmatch(found):
        raise ValueError(f"a digest of 64 hexadecimal digits expected, found {quoted(found)}")
    return found


def size(value: Any) -> int:
    """How many there are, of bytes or rows."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"a number of bytes or rows expected, found {quoted(value)}")
    return value


def ok(value: Any) -> str:
    """The result of a check that found nothing."""
    if value != "ok":
        raise ValueError(f"its check was not ok but {quoted(value)}")
    return "ok"


def facts(value: Any) -> dict[str, Any]:
    """The facts of a source, which can be shown and added up."""
    if not isinstance(value, dict) or _is_deeper(value, _MOST_LEVELS):
        raise ValueError(f"facts of the source expected, found {quoted(value)}")
    for counts in (value.get(key) for key in ("tables", "keys")):
        if counts is not None:
            # Whoever reads them adds them up.
            _counts(counts)
    return value


def _counts(value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"numbers by name expected, found {quoted(value)}")
    for count in value.values():
        size(count)


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(one, levels - 1) for one in inner)

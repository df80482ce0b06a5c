# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and ages as people read and write them."""

from __future__ import annotations

import re
from datetime import timedelta

from .errors import ConfigError

_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def size(count: int | None) -> str:
    """Bytes for a person, in powers of ten as disks are sold: `1.2 MB`. "-" where there are none."""
    if count is None:
        return "-"
    if count < 1000:
        return f"{count} B"
    amount, units = count / 1000, ["TB", "GB", "MB", "kB"]
    while amount >= 999.95 and len(units) > 1:
        amount, _smaller = amount / 1000, units.pop()
    return f"{amount:.1f} {units[-1]}"


def of_bytes(text: str) -> int:
    """The bytes of a size as somebody writes it: `500kB`, `10 MB`, `1GiB`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9}) ?(kB|MB|GB|KiB|MiB|GiB)", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is no size")
    return int(match[1]) * _BYTES[match[2]]


def age(seconds: float) -> str:
    """A time for a person, in its two largest units: `2 d 3 h`, `45 s`."""
    whole = timedelta(seconds=int(abs(seconds)))
    hours, rest = divmod(whole.seconds, 3600)
    units = ((whole.days, "d"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    first = next((place for place, (amount, _unit) in enumerate(units) if amount), len(units) - 1)
    words = " ".join(f"{amount} {unit}" for amount, unit in units[first : first + 2] if amount) or "0 s"
    return words if seconds >= 0 else f"in {words}"


def counted(count: int, one: str, more: str = "") -> str:
    """So many of them: `1 backup`, `2 backups`."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def seconds(text: str, what: str) -> int:
    """The seconds of an age as somebody types it: `90m`, `26h`, `2d`, or plain seconds. Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text, re.ASCII)
    if match is None or not int(match[1]):
        raise ConfigError(f"{what} is {text!r}; it must be an age such as 90m, 26h or 2d, or a number of seconds.")
    return int(match[1]) * _SECONDS[match[2]]

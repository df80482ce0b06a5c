# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, by kind. Every message says what failed, where, and what to do next."""

from __future__ import annotations

import re
import reprlib
from typing import Any

# How many characters of one value a message quotes, and how much of lists and blocks is looked at for them.
_QUOTED = 200
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxlist, _BRIEF.maxtuple, _BRIEF.maxdict, _BRIEF.maxset = 4, 10, 10, 10, 10
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 2000


class EngineError(Exception):
    """The root of everything that the engine raises on purpose."""


class ConfigError(EngineError):
    """The configuration names something that does not exist or cannot be: the key, its value, what is allowed."""


class SourceError(EngineError):
    """The source is missing, busy, unreadable, or is not what its kind says."""


class DamagedError(EngineError):
    """Bytes are not what they should be: in the source, in a copy of it, or in a store."""


class LockedError(EngineError):
    """Somebody else has what is needed: another run, an application that has the target open, a hold."""


class HeldError(LockedError):
    """Somebody said that nothing is to happen here for a while."""


class TargetError(EngineError):
    """What a restore should replace cannot be replaced: a directory, a file of a read-only filesystem, no rights."""


class RefusedError(EngineError):
    """It could be done and is not: nobody said that it may, or something that belongs to it would be left out."""


class ClockError(EngineError):
    """The clock of this host says a time that cannot be."""


class StoreError(EngineError):
    """A store cannot be reached, refuses, or is full."""


class NameTakenError(StoreError):
    """A store holds something else under this name already; nothing is ever overwritten."""


class NotFoundError(StoreError):
    """The store has nothing under this name."""


class Stopped(KeyboardInterrupt):
    """The process was told to end: what is under way is taken back, and nobody mistakes it for an EngineError."""


def root(error: BaseException) -> BaseException:
    """The error behind those that carry the outcome of a run that failed half-way."""
    while hasattr(error, "outcome") and isinstance(error.__cause__, EngineError):
        error = error.__cause__
    return error


def quoted(value: Any) -> str:
    """A value as a message shows it: a line of it at most, without a password, however large or deep it is."""
    if is_secret(value):
        return "a secret key, which is not shown here"
    try:
        return shortened(without_secrets(_BRIEF.repr(value)), _QUOTED)
    except ValueError:
        # Python writes no number of more than 4,300 digits.
        return "a value that nobody can read"


def is_secret(value: Any) -> bool:
    """Whether there is a secret key in it, of age or of SSH."""
    try:
        return re.search("AGE-SECRET-KEY-|PRIVATE KEY", repr(value), re.IGNORECASE) is not None
    except (ValueError, RecursionError):
        # So deep or so long that it is no configuration at all.
        return False


def shortened(words: object, most: int = 500) -> str:
    """The beginning of a text, or of what an error says, that may be of any length."""
    text = str(words)
    return text if len(text) <= most else text[:most] + "…"


# Of a name, a host, a version; a path may have as many as Linux takes.
LINE = 255
PATH_LINE = 4096
# Control characters, line ends, what turns the direction of a line round, and halves of a character.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def is_line(text: str, most: int = LINE) -> bool:
    """Whether a text that somebody else wrote may stand in a message: short, and nothing that a terminal obeys."""
    return len(text) <= most and not _OBEYED.search(text)


def printable(text: str) -> str:
    """The same text on one line, a space for each character that a terminal would obey."""
    return _OBEYED.sub(" ", text)


def without_secrets(message: str) -> str:
    """A message without the `user:password@` that an address in it may carry."""
    return re.sub(r"//[^/@\s]*@", "//***@", message)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with a call, and with which."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .calls import Point

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS")
SHORT, KILL, TERM = "short write", "SIGKILL", "SIGTERM"
ONCE, FOR_EVER = "once", "for ever"

# What only looks; whatever is not known here changes something.
_LOOKS = {
    *("open", "stat", "lstat", "fstat", "statvfs", "fstatvfs", "listdir", "scandir", "readlink", "access", "pread"),
    *("getxattr", "listxattr", "read", "readall", "close", "flock", "fcntl", "lockf"),
}
# What goes by a descriptor that is open, so that nobody looks at rights any more.
_BY_DESCRIPTOR = {
    *("pwrite", "write", "read", "readall", "pread", "copy_file_range", "ftruncate", "fsync", "fdatasync", "fstat"),
    *("close", "flock", "fcntl", "ioctl", "fchmod", "fchown", "sync", "fstatvfs", "sql"),
}
# What takes room on the disk; a name in a directory may, too.
_TAKES_ROOM = {
    *("create", "mkdir", "copy_file_range", "ftruncate", "pwrite", "write", "fsync", "fdatasync", "setxattr", "link"),
    *("symlink", "sql", "sqlite", "ioctl", "spawn"),
}
_NAMES = {"rename", "replace"}
_CAN_BE_SHORT = {"pwrite", "write", "copy_file_range", "read", "pread"}
# What SQLite makes of it: https://www.sqlite.org/rescode.html
_SQLITE = {
    "EIO": "disk I/O error",
    "ENOSPC": "database or disk is full",
    "EDQUOT": "disk I/O error",
    "EACCES": "unable to open database file",
    "EROFS": "attempt to write a readonly database",
}
# How S3 says it: status and code. Where it is None, no answer comes: the connection is reset.
_S3: dict[str, tuple[int, str] | None] = {
    "EIO": None,
    "ENOSPC": (507, "InsufficientStorage"),
    "EDQUOT": (403, "QuotaExceeded"),
    "EACCES": (403, "AccessDenied"),
    "EROFS": (503, "SlowDown"),
}


@dataclass(frozen=True)
class Fault:
    """What happens to the call at a point, or to the call with a number of all; `for ever`, to later ones too.

    A "short write" of a request is one that was done and whose answer is lost.
    """

    what: str
    times: str = ONCE
    point: Point | None = None
    number: int | None = None

    def __str__(self) -> str:
        where = str(self.point) if self.point is not None else f"call {self.number}"
        return f"{self.what} {self.times} at {where}"


def possible(point: Point) -> Iterator[tuple[str, str]]:
    """What can go wrong with a call: what, and how often."""
    for error in ERRORS:
        if can_meet(point.call, error):
            yield error, ONCE
            yield error, FOR_EVER
    if can_meet(point.call, SHORT):
        yield SHORT, ONCE
        yield SHORT, FOR_EVER
    yield KILL, ONCE
    yield TERM, ONCE
    yield TERM, FOR_EVER


def can_meet(call: str, what: str) -> bool:
    """Whether that can happen to such a call at all."""
    if what in (KILL, TERM) or call.startswith("s3 "):
        return True
    if what == SHORT:
        return call in _CAN_BE_SHORT
    if what == "EIO":
        return True
    if what in ("ENOSPC", "EDQUOT"):
        return call in _TAKES_ROOM | _NAMES
    if what == "EACCES":
        return call not in _BY_DESCRIPTOR
    return call not in _LOOKS and call != "spawn"


def meets(call: str, what: str, later: bool) -> bool:
    """As `can_meet`; of a full disk, what comes `later` and takes no room of its own goes on working."""
    if later and what in ("ENOSPC", "EDQUOT") and call in _NAMES:
        return False
    return can_meet(call, what)


class Misfortune:
    """Lets one fault happen. `told` is called when it does."""

    def __init__(self, fault: Fault, told: Callable[[], None]) -> None:
        self._fault, self._told = fault, told
        self._has_begun = False

    def meet(
        self, point: Point, number: int, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        fault, later = self._fault, self._has_begun
        if later:
            is_due = fault.times == FOR_EVER and meets(point.call, fault.what, True)
        elif fault.point is not None:
            is_due = point == fault.point
        else:
            # The first from there on that it can happen to.
            is_due = number >= (fault.number or 0) and can_meet(point.call, fault.what)
        if not is_due or _shrinks(point.call, fault.what, arguments):
            return real(*arguments, **keywords)
        self._has_begun = True
        self._told()
        return _happen(fault.what, point.call, real, arguments, keywords)


def _shrinks(call: str, what: str, arguments: tuple[Any, ...]) -> bool:
    """To make a file shorter takes no room."""
    return what in ("ENOSPC", "EDQUOT") and call == "ftruncate" and arguments[1] == 0


def _happen(
    what: str, call: str, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    if what == KILL:
        if call in _CAN_BE_SHORT:
            _short(call, real, arguments, keywords)
        os.kill(os.getpid(), signal.SIGKILL)
    if what == TERM:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **keywords)
    if call.startswith("s3 "):
        return _of_s3(what, real, arguments)
    if what == SHORT:
        return _short(call, real, arguments, keywords)
    if call in ("sql", "sqlite"):
        raise sqlite3.OperationalError(_SQLITE[what])
    if call == "close":
        real(*arguments, **keywords)
    number = getattr(errno, what)
    named = call not in _BY_DESCRIPTOR and arguments and isinstance(arguments[0], (str, bytes, os.PathLike))
    raise OSError(number, os.strerror(number), *([os.fspath(arguments[0])] if named else []))


def _short(call: str, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Half of it, and at least one byte: fewer is the end of a file, and an error of a write."""
    if call == "pwrite":
        return real(arguments[0], memoryview(arguments[1])[: _half(len(arguments[1]))], *arguments[2:])
    if call == "copy_file_range":
        return real(*arguments[:2], _half(arguments[2]), *arguments[3:], **keywords)
    if call == "pread":
        return real(arguments[0], _half(arguments[1]), *arguments[2:])
    at = 1 if isinstance(arguments[0], int) else 0
    data = arguments[at]
    half = _half(data) if isinstance(data, int) else memoryview(data)[: _half(len(data))]
    return real(*arguments[:at], half, *arguments[at + 1 :])


def _half(size: int) -> int:
    return max(1, size // 2) if size else 0


def _of_s3(what: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import ConnectionClosedError

    _session, request = arguments
    if what == SHORT:
        real(*arguments)
    answer = _S3.get(what)
    if answer is None:
        raise ConnectionClosedError(endpoint_url=request.url)
    status, code = answer
    body = (
        b"" if request.method == "HEAD" else f"<Error><Code>{code}</Code><Message>Because.</Message></Error>".encode()
    )

    class Raw:
        def stream(self, *_amount: Any, **_keywords: Any) -> Iterator[bytes]:
            yield body

    return AWSResponse(request.url, status, {}, Raw())

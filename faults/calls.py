# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every call that the product makes to the system, to SQLite and to S3, seen where it is made.

There is no list of what is seen: whatever the module `os` has is, but for what has nothing to do with a disk. A call
belongs to the product where one of its files is on the stack, and is named by the innermost of them.
"""

from __future__ import annotations

import builtins
import fcntl
import io
import itertools
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.eternia.backup.plugins.module_utils import engine
from ansible_collections.eternia.backup.plugins.module_utils.engine import errors

ENGINE = str(Path(errors.__file__).parent)
ROLE = str(Path(ENGINE).parents[2] / "roles/agent/files")
assert engine.__name__ in errors.__name__

# Of `os`, what asks or changes this process, the terminal or the machine, and no disk.
_NO_DISK = {
    *("abort", "closerange", "confstr", "cpu_count", "ctermid", "device_encoding", "dup", "dup2", "fork", "forkpty"),
    *("fspath", "isatty", "kill", "killpg", "login_tty", "lseek", "major", "makedev", "memfd_create", "minor", "nice"),
    *("openpty", "pidfd_open", "pipe", "pipe2", "putenv", "register_at_fork", "strerror", "sysconf", "system", "times"),
    *("ttyname", "umask", "uname", "unsetenv", "urandom"),
}
_NO_DISK_BEGINNINGS = ("_", "W", "eventfd", "exec", "get", "posix_spawn", "sched_", "set", "spawn", "tc", "wait")
# `get...` that do ask a disk.
_DISK_ALL_THE_SAME = ("getxattr", "setxattr")
# What is no disk although it has a path.
_NO_PLACE = ("/proc", "/sys", "/dev/null", "/dev/log", "/dev/urandom")


class Point(NamedTuple):
    """A call of the product: which, from where, and how many of the same place came before it."""

    call: str
    place: str
    nth: int

    def __str__(self) -> str:
        return f"{self.call} in {self.place}" + (f" (time {self.nth + 1})" if self.nth else "")


# What becomes of a call: it is given the point, its number of all, the real call, and what that is given.
Meet = Callable[[Point, int, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class Watch:
    """Names the calls of this process as they come, and gives each to `meet`. It stays until the process ends."""

    def __init__(self, meet: Meet) -> None:
        self._meet = meet
        self._seen: Counter[tuple[str, str]] = Counter()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.points: list[Point] = []

    def begin(self) -> None:
        """Put ourselves before every call there is."""
        for name in dir(os):
            real = getattr(os, name)
            if type(real).__name__ == "builtin_function_or_method" and _is_of_a_disk(name):
                setattr(os, name, self._seen_before(name, real))
        for name in ("flock", "ioctl", "fcntl", "lockf"):
            setattr(fcntl, name, self._seen_before(name, getattr(fcntl, name)))
        io.open = builtins.open = self._open
        sqlite3.connect = self._connect
        subprocess.Popen = self._process()  # type: ignore[misc]
        if "botocore.httpsession" in sys.modules:
            from botocore.httpsession import URLLib3Session

            real_send = URLLib3Session.send
            URLLib3Session.send = lambda session, request: self.see(  # type: ignore[method-assign]
                f"s3 {request_name(request)}", real_send, (session, request), {}
            )

    def see(self, call: str, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        place = _place(through_libraries=call.startswith("s3 "))
        if place is None or _is_elsewhere(arguments):
            return real(*arguments, **keywords)
        with self._lock:
            point = Point(call, place, self._seen[call, place])
            self._seen[call, place] += 1
            number = next(self._numbers)
            self.points.append(point)
        return self._meet(point, number, real, arguments, keywords)

    def _seen_before(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            is_made = name == "open" and len(arguments) > 1 and arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
            return self.see("create" if is_made else name, real, arguments, keywords)

        return call

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *text: Any, **keywords: Any) -> Any:
        """As the real one, of a file whose reads and writes are seen."""
        watch, opener = self, keywords.pop("opener", None)

        class Seen(io.FileIO):
            def readinto(self, buffer: Any) -> Any:
                return watch.see("read", super().readinto, (buffer,), {})

            def readall(self) -> Any:
                return watch.see("readall", super().readall, (), {})

            def write(self, data: Any) -> Any:
                return watch.see("write", super().write, (data,), {})

        raw_mode = "".join(sign for sign in mode if sign not in "bt")

        def made(path: Any) -> io.FileIO:
            return Seen(path, raw_mode, keywords.get("closefd", True), opener)

        is_writing = bool(set(raw_mode) & set("wax+"))
        raw = made(file) if isinstance(file, int) else self.see("create" if is_writing else "open", made, (file,), {})
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        kind = io.BufferedRandom if "+" in raw_mode else io.BufferedWriter if is_writing else io.BufferedReader
        buffered = kind(raw, size)
        if "b" in mode:
            return buffered
        keywords.pop("closefd", None)
        wrapped = io.TextIOWrapper(buffered, *text, line_buffering=buffering == 1, **keywords)
        wrapped.mode = mode  # type: ignore[misc]
        return wrapped

    def _connect(self, *arguments: Any, **keywords: Any) -> Any:
        watch = self

        class Seen(sqlite3.Connection):
            def execute(self, *sql: Any) -> Any:
                return watch.see("sql", super().execute, sql, {})

            def backup(self, *to: Any, **how: Any) -> Any:
                return watch.see("sql", super().backup, to, how)

        keywords["factory"] = Seen
        return self.see("sqlite", _REAL_CONNECT, arguments, keywords)

    def _process(self) -> type[subprocess.Popen[Any]]:
        watch = self

        class Seen(subprocess.Popen):  # type: ignore[type-arg]
            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                watch.see("spawn", super().__init__, arguments, keywords)

        return Seen


_REAL_CONNECT = sqlite3.connect


def request_name(request: Any) -> str:
    """What a request is about: its method, and which kind of object or question."""
    path, _mark, query = request.url.partition("?")
    name = path.rsplit("/", 1)[-1]
    sort = next((sort for sort in ("manifest.json", "drilled.json", "host.json", "probe") if name.endswith(sort)), "")
    asked = sorted(word.partition("=")[0] for word in query.split("&") if word)
    return " ".join(filter(None, (request.method, sort or ("" if asked else "object"), "&".join(asked[:3]))))


def _is_of_a_disk(name: str) -> bool:
    if name in _DISK_ALL_THE_SAME:
        return True
    return name not in _NO_DISK and not name.startswith(_NO_DISK_BEGINNINGS)


def _is_elsewhere(arguments: tuple[Any, ...]) -> bool:
    first = arguments[0] if arguments else None
    if isinstance(first, os.PathLike):
        first = os.fspath(first)
    return isinstance(first, str) and first.startswith(_NO_PLACE)


def _place(*, through_libraries: bool) -> str | None:
    """The innermost of the product's own lines on the stack, and who called that function; None where there is none.

    What a library reads of its own files is no call of the product.
    """
    frame, found = sys._getframe(2), []
    while frame is not None and len(found) < 2:
        file = frame.f_code.co_filename
        if file.startswith((ENGINE, ROLE)):
            name = file.rsplit("/", 1)[-1]
            found.append(f"{name}:{frame.f_lineno} {frame.f_code.co_name}")
        elif "/site-packages/" in file and not (found or through_libraries):
            return None
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(found) or None

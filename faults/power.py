# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk has when the power fails: of a file what was put onto it by fsync, of a directory's names those likewise.

The real calls are made as ever, and remembered. When the power fails, what nobody had put onto the disk is taken back
where it lies, so that every file is the very file that it was: all of it, or the bytes alone, or one name, with the
bytes or without. A filesystem may do any of these.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .calls import Point

# What survives: nothing; every name, but no bytes; every name but one (with its number behind it), and no bytes; all
# but that name.
NOTHING, NAMES = "power cut, nothing survives", "power cut, names without bytes"
NAMES_BUT, ALL_BUT = "power cut, no bytes, and names but name", "power cut, all but name"

# The real ones: those of `os` are seen by then, and what we ask for is no call of the product's.
_REAL = {name: getattr(os, name) for name in dir(os) if callable(getattr(os, name))}
# Of so many names each is lost alone; of more, the latest.
_MOST_NAMES = 30
_WRITES = {"pwrite": 0, "ftruncate": 0, "copy_file_range": 1, "ioctl": 0}
_NAMES = ("create", "mkdir", "link", "symlink", "rename", "replace", "unlink", "remove", "rmdir")
_REMEMBERED = {*_WRITES, *_NAMES, "write", "fsync", "fdatasync", "sync"}


@dataclass
class _Name:
    """A change of a directory that is not on the disk yet, and how it is taken back."""

    words: str
    paths: tuple[str, ...]
    take_back: Callable[[], None]

    @property
    def directories(self) -> set[str]:
        return {os.path.dirname(path) for path in self.paths}

    def concerns(self, other: _Name) -> bool:
        return any(
            mine == his or mine.startswith(f"{his}/") or his.startswith(f"{mine}/")
            for mine in self.paths
            for his in other.paths
        )


class Power:
    """The disk of one host below `roots`; `graveyard` is a directory on the same filesystem."""

    def __init__(self, root: Path, graveyard: Path) -> None:
        self._root, self._graveyard = root, graveyard
        self._names: list[_Name] = []
        # What the disk has of files that were written to since, by their inode.
        self._bytes: dict[int, bytes] = {}
        self._lock = threading.RLock()
        self._buried = 0

    def perform(
        self, point: Point, _number: int, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """Make a call, and remember what of it is not on the disk yet."""
        if point.call not in _REMEMBERED:
            # An open may wait for another thread of ours, which answers for the gate and closes what it was given.
            return real(*arguments, **keywords)
        with self._lock:
            return self._perform(point.call, real, arguments, keywords)

    def ways(self) -> Iterator[str]:
        """How the power could fail now, so that anything is lost."""
        if self._names or self._bytes:
            yield NOTHING
        if self._names and self._bytes:
            yield NAMES
        if len(self._names) > 1:
            latest = range(max(0, len(self._names) - _MOST_NAMES), len(self._names))
            alone = [number for number in latest if self._is_alone(number)]
            yield from (f"{ALL_BUT} {number}" for number in alone)
            if self._bytes:
                yield from (f"{NAMES_BUT} {number}" for number in alone)

    def fail(self, way: str) -> bool:
        """Take back what is lost that way; whether anything was."""
        lost = 0
        if not way.startswith(ALL_BUT):
            lost += self._take_bytes_back()
        if way == NOTHING:
            for name in reversed([*self._names]):
                name.take_back()
                lost += 1
        elif way.startswith((ALL_BUT, NAMES_BUT)):
            number = int(way.rsplit(" ", 1)[1])
            # What goes on side by side may have come in another order this time, or not yet.
            if self._is_alone(number):
                self._names[number].take_back()
                lost += 1
        return lost > 0

    def _is_alone(self, number: int) -> bool:
        if number >= len(self._names):
            return False
        name = self._names[number]
        return not any(name.concerns(later) for later in self._names[number + 1 :])

    def _take_bytes_back(self) -> int:
        """Of how many files."""
        taken = 0
        for path in sorted(self._root.rglob("*")):
            facts = _REAL["lstat"](path)
            if stat.S_ISREG(facts.st_mode) and facts.st_ino in self._bytes:
                _write(path, self._bytes[facts.st_ino], facts)
                taken += 1
        return taken

    def _perform(
        self, call: str, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        if call in _WRITES:
            self._remember_bytes(arguments[_WRITES[call]])
        elif call == "write":
            target = arguments[0] if isinstance(arguments[0], int) else getattr(real, "__self__", None)
            if target is not None:
                self._remember_bytes(target if isinstance(target, int) else target.fileno())
        elif call in ("fsync", "fdatasync"):
            self._put_onto_disk(arguments[0])
        elif call == "sync":
            self._names.clear()
            self._bytes.clear()
        elif call in _NAMES:
            return self._perform_name(call, real, arguments, keywords)
        return real(*arguments, **keywords)

    def _perform_name(
        self, call: str, real: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        first = _path(arguments[0], keywords.get("dir_fd", keywords.get("src_dir_fd")))
        if call == "create":
            is_new = not _lexists(first)
            made = real(*arguments, **keywords)
            if is_new and self._is_ours(first):
                self._add(f"{first} (new)", (first,), lambda: _unlink(first))
            return made
        if call == "mkdir":
            real(*arguments, **keywords)
            self._add(f"{first} (new)", (first,), lambda: shutil.rmtree(first, ignore_errors=True))
        elif call in ("link", "symlink"):
            second = _path(arguments[1], keywords.get("dst_dir_fd"))
            real(*arguments, **keywords)
            self._add(f"{second} (linked)", (second,), lambda: _unlink(second))
        elif call in ("rename", "replace"):
            second = _path(arguments[1], keywords.get("dst_dir_fd"))
            grave = self._bury(second)
            real(*arguments, **keywords)
            self._add(f"{first} (renamed to {second})", (first, second), lambda: _rename_back(first, second, grave))
        elif call == "rmdir":
            facts = _REAL["lstat"](first)
            real(*arguments, **keywords)
            self._add(f"{first} (removed)", (first,), lambda: _make_again(first, facts))
        else:
            grave = self._bury(first)
            real(*arguments, **keywords)
            self._add(f"{first} (removed)", (first,), lambda: _dig_out(grave, first))
        return None

    def _add(self, words: str, paths: tuple[str, ...], take_back: Callable[[], None]) -> None:
        if self._is_ours(paths[-1]):
            self._names.append(_Name(words, paths, take_back))

    def _is_ours(self, path: str) -> bool:
        return path.startswith(f"{self._root}/")

    def _bury(self, path: str) -> str | None:
        """Another name for what loses its own, so that the very file can come back."""
        if not self._is_ours(path) or not _lexists(path) or stat.S_ISDIR(_REAL["lstat"](path).st_mode):
            return None
        self._buried += 1
        grave = f"{self._graveyard}/{self._buried}"
        _REAL["link"](path, grave, follow_symlinks=False)
        return grave

    def _remember_bytes(self, descriptor: int) -> None:
        facts = _REAL["fstat"](descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_ino not in self._bytes:
            readable = _REAL["open"](f"/proc/self/fd/{descriptor}", os.O_RDONLY)
            try:
                self._bytes[facts.st_ino] = _REAL["pread"](readable, facts.st_size, 0)
            finally:
                _REAL["close"](readable)

    def _put_onto_disk(self, descriptor: int) -> None:
        facts = _REAL["fstat"](descriptor)
        if stat.S_ISDIR(facts.st_mode):
            directory = _REAL["readlink"](f"/proc/self/fd/{descriptor}")
            self._names = [name for name in self._names if directory not in name.directories]
        else:
            self._bytes.pop(facts.st_ino, None)


def _path(path: Any, directory: Any) -> str:
    text = os.fsdecode(path)
    if directory is not None and not os.path.isabs(text):
        return os.path.join(_REAL["readlink"](f"/proc/self/fd/{directory}"), text)
    return os.path.abspath(text)


def _lexists(path: str) -> bool:
    try:
        _REAL["lstat"](path)
    except OSError:
        return False
    return True


def _unlink(path: str) -> None:
    with suppress(OSError):
        _REAL["unlink"](path)


def _dig_out(grave: str | None, path: str) -> None:
    # Where its directory has gone for good, so has what was in it.
    with suppress(OSError):
        if grave is not None and not _lexists(path):
            _REAL["link"](grave, path, follow_symlinks=False)


def _rename_back(first: str, second: str, grave: str | None) -> None:
    with suppress(OSError):
        _REAL["rename"](second, first)
    _dig_out(grave, second)


def _make_again(path: str, facts: os.stat_result) -> None:
    with suppress(OSError):
        _REAL["mkdir"](path, stat.S_IMODE(facts.st_mode))
        _REAL["chown"](path, facts.st_uid, facts.st_gid)


def _write(path: Path, data: bytes, facts: os.stat_result) -> None:
    descriptor = _REAL["open"](path, os.O_WRONLY | os.O_TRUNC)
    try:
        _REAL["write"](descriptor, data)
    finally:
        _REAL["close"](descriptor)
    _REAL["utime"](path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

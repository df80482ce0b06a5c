# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has a file open. An application that does would go on writing into what a restore has put away."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import files
from .errors import LockedError, TargetError
from .names import DATABASE, Kind
from .target import Target

# The bytes of a database that SQLite's readers and writers lock: https://www.sqlite.org/src/file/src/os.h
_PENDING, _BYTES = 0x40000000, 512
_FLOCK = struct.Struct("hhqqi")


@dataclass(frozen=True)
class Holder:
    """A process that has one of the target's files open; `pid` is 0 where only its lock can be seen."""

    pid: int
    command: str
    path: str

    def __str__(self) -> str:
        who = f"process {self.pid} ({self.command})" if self.pid else "a process of another user"
        return f"{who} has {self.path} open"


def find(target: Target, *, locked: bool = True) -> list[Holder]:
    """The processes that have the target or a companion of it open, as far as this user may see.

    With `locked` a lock on a database tells of those that cannot be seen; not for whoever holds that lock himself.
    """
    wanted = {_number(facts): str(target.beside(suffix)) for suffix, facts in target.present().items()}
    return _find(target, wanted) or (_by_lock(target) if locked else [])


def number_of(path: Path) -> tuple[int, int] | None:
    """The file at `path`, as it can be told from every other that is open now; None where there is none."""
    with suppress(FileNotFoundError):
        return _number(path.lstat())
    return None


def require_none_of_old(target: Target, old: tuple[int, int] | None) -> None:
    """Raises LockedError naming every process that opened what was there, right before it was replaced.

    `old` is its `number_of`, of before.
    """
    holders = _find(target, {} if old is None else {old: f"the old {target.real}"})
    if holders:
        raise LockedError(
            f"{'; '.join(map(str, holders))}: it was started while the restore went on. What was there was put back, "
            "and is kept in safety/ too. Stop the application, look at its data, then run again."
        )


def _number(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def _find(target: Target, wanted: Mapping[tuple[int, int], str]) -> list[Holder]:
    # What was deleted under an application has no name to ask for: the kernel remembers the one that it had.
    deleted = {f"{target.beside(suffix).name} (deleted)" for suffix in target.suffixes}
    device = target.real.parent.stat().st_dev if target.real.parent.exists() else None
    found: dict[int, Holder] = {}
    for pid, descriptor in _descriptors():
        try:
            facts = os.stat(descriptor)
            path = wanted.get(_number(facts))
            if path is None and facts.st_nlink == 0:
                link = os.readlink(descriptor)
                # In a container, the directory has another path.
                is_here = Path(link).parent == target.real.parent or (facts.st_dev == device and _sees_other_paths(pid))
                path = link if is_here and Path(link).name in deleted else None
        except OSError:
            # It was closed meanwhile.
            continue
        if path is not None and pid not in found:
            found[pid] = Holder(pid, _command(pid), path)
    return sorted(found.values(), key=lambda holder: holder.pid)


def require_none(target: Target, *, locked: bool = True) -> None:
    """Raises LockedError naming every process that has the target open, as `find`."""
    holders = find(target, locked=locked)
    if holders:
        raise LockedError(
            f"{'; '.join(map(str, holders))}. Stop the application, then run again: what it wrote from now on would be "
            "lost, and nothing was changed."
        )


@contextmanager
def kept_out(target: Target) -> Iterator[None]:
    """Let nobody open the database while it is replaced: who tries finds it busy. Raises LockedError, TargetError."""
    with kept_out_of(target.kind, target.real) as locked:
        if not locked:
            require_none(target)
            raise LockedError(f"A process holds a lock on {target.real}. Stop the application, then run again.")
        yield


@contextmanager
def kept_out_of(kind: Kind, path: Path) -> Iterator[bool]:
    """Lock a database file as its only writer, whatever its name will be; says whether that worked.

    The lock belongs to the open file, not to the process, so that SQLite's own locks in this process do not drop it.
    """
    if kind != DATABASE or not path.exists():
        yield True
        return
    try:
        descriptor = files.open_plain(path, os.O_RDWR)
    except OSError as exc:
        raise TargetError(f"{path} cannot be opened: {files.reason(exc)}. Run as its owner, or as root.") from exc
    try:
        try:
            is_locked = _lock(descriptor, fcntl.F_OFD_SETLK)
        except OSError as exc:
            raise TargetError(
                f"{path} cannot be locked: {files.reason(exc)}. Move the data to a filesystem that has locks."
            ) from exc
        yield is_locked
    finally:
        files.let_go(descriptor)


def _by_lock(target: Target) -> list[Holder]:
    """A lock on the database tells of a process whose open files only root may see."""
    if target.kind != DATABASE:
        return []
    try:
        descriptor = files.open_plain(target.real)
    except OSError:
        return []
    try:
        answer = fcntl.fcntl(
            descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _PENDING, _BYTES, 0)
        )
    except OSError:
        return []
    finally:
        files.let_go(descriptor)
    kind, _whence, _start, _length, pid = _FLOCK.unpack(answer)
    if kind == fcntl.F_UNLCK:
        return []
    return [Holder(max(pid, 0), _command(pid), str(target.real))]


def _lock(descriptor: int, command: int) -> bool:
    try:
        fcntl.fcntl(descriptor, command, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _PENDING, _BYTES, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _descriptors() -> Iterator[tuple[int, str]]:
    """The open files of every process that may be looked at, but this one."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            try:
                numbers = os.listdir(f"/proc/{entry}/fd")
            except OSError:
                # It ended, or it is another user's.
                continue
            yield from ((int(entry), f"/proc/{entry}/fd/{number}") for number in numbers)


def _sees_other_paths(pid: int) -> bool:
    return os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "unknown"

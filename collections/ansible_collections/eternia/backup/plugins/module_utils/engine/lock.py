# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time for one storage path, one drill at a time, one restore at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import LockedError, StoreError
from .files import let_go, make, reason, require_followable

_NAME = ".lock"
# A drill may take hours, and backups go on meanwhile.
_DRILL = ".drill.lock"


def require_free(storage_path: Path) -> None:
    """Find out, without writing, whether another run goes on. Raises as `held`."""
    _require_free(storage_path / _NAME, _taken(storage_path))


@contextmanager
def held(storage_path: Path) -> Iterator[None]:
    """Hold the lock of a storage path. The kernel lets go of it when the process ends, however it ends.

    Raises LockedError naming the process that holds it, StoreError where there can be no lock.
    """
    with _held(storage_path / _NAME, _taken(storage_path)):
        yield


def require_no_drill(storage_path: Path) -> None:
    """Find out, without writing, whether a drill goes on. Raises as `held_drill`."""
    _require_free(storage_path / _DRILL, _taken(storage_path, "drill"))


@contextmanager
def held_drill(storage_path: Path) -> Iterator[None]:
    """Hold the lock of the drills of a storage path, which keeps no other run away. Raises as `held`."""
    with _held(storage_path / _DRILL, _taken(storage_path, "drill")):
        yield


def _taken(storage_path: Path, what: str = "run") -> str:
    return f"Another {what} (process HOLDER) works on {storage_path}."


@contextmanager
def held_target(path: Path) -> Iterator[None]:
    """Hold the lock of what lies at `path`, so that nobody else of ours replaces it. Leaves nothing behind.

    Raises LockedError, StoreError. It is the directory that is locked: the file itself comes and goes.
    """
    with _locked(path.parent, os.O_RDONLY | os.O_DIRECTORY, taken=f"Another restore works on {path}.", place=str(path)):
        yield


def _require_free(path: Path, taken: str) -> None:
    if os.path.lexists(path):
        with _locked(path, os.O_RDONLY, taken=taken, place="storage_path"):
            pass


@contextmanager
def _held(path: Path, taken: str) -> Iterator[None]:
    require_followable(path.parent)
    with _locked(path, None, taken=taken, place="storage_path") as descriptor:
        # Only a help for whoever finds the lock taken: a full disk must not keep anybody from holding it.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield


@contextmanager
def _locked(path: Path, flags: int | None, *, taken: str, place: str) -> Iterator[int]:
    """`flags` are for what has to be there; without them it is made."""
    try:
        if flags is None:
            descriptor = make(path, access=os.O_RDWR, is_new=False)
        else:
            descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        raise StoreError(f"{path} cannot be opened: {reason(exc)}. Correct the rights on {path.parent}.") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LockedError(
                f"{taken.replace('HOLDER', _holder(descriptor))} Wait for it to end, then run again."
            ) from exc
        except OSError as exc:
            raise StoreError(
                f"{path} cannot be locked: {reason(exc)}. Move {place} to a filesystem that has locks."
            ) from exc
        yield descriptor
    finally:
        let_go(descriptor)


def _holder(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"

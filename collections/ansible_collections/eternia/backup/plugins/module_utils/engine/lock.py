# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time for one storage path."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import LockedError, StoreError
from .files import reason

_NAME = ".lock"


def require_free(storage_path: Path) -> None:
    """Find out, without writing, whether another run goes on. Raises as `held`."""
    if os.path.lexists(storage_path / _NAME):
        with _locked(storage_path, os.O_RDONLY):
            pass


@contextmanager
def held(storage_path: Path) -> Iterator[None]:
    """Hold the lock of a storage path. The kernel lets go of it when the process ends, however it ends.

    Raises LockedError naming the process that holds it, StoreError where there can be no lock.
    """
    with _locked(storage_path, os.O_RDWR | os.O_CREAT) as descriptor:
        # Only a help for whoever finds the lock taken: a full disk must not keep anybody from holding it.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield


@contextmanager
def _locked(storage_path: Path, flags: int) -> Iterator[int]:
    path = storage_path / _NAME
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise StoreError(f"{path} cannot be opened: {reason(exc)}. Correct the rights on {storage_path}.") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "unknown"
            raise LockedError(
                f"Another run (process {holder}) works on {storage_path}. Wait for it to end, then run again."
            ) from exc
        except OSError as exc:
            raise StoreError(
                f"{path} cannot be locked: {reason(exc)}. Move storage_path to a filesystem that has locks."
            ) from exc
        yield descriptor
    finally:
        os.close(descriptor)

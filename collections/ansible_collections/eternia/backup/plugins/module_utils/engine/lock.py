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


@contextmanager
def held(storage_path: Path) -> Iterator[None]:
    """Hold the lock of a storage path. The kernel lets go of it when the process ends, however it ends.

    Raises LockedError naming the process that holds it.
    """
    path = storage_path / _NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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
        # Only a help for whoever finds the lock taken: a full disk must not keep anybody from holding it.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)

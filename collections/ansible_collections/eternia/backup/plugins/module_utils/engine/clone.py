# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database on a filesystem that has clones: the source is held for as long as a clone of its file takes.

What tells its shape is read while it is held. Its rows are counted afterwards, by SQLite itself, in a second clone that
has the log beside it; where the log has nothing that the file lacks, in the copy, which is the clone. That a clone has
the bytes of its file is the kernel's word. How long one takes grows with the pieces that the file lies in, not with its
size.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import copying, files, sqlite, wal
from .pin import Pin

# The header of a database: among others its size, and a counter of its changes.
_HEADER_BYTES = 100


@dataclass(frozen=True)
class Clone:
    """One state of the database at `path`, of which `target` is a clone, not folded yet.

    `bytes` is the size of this state, `shape` what was read of the source while it was held. With a `mark` the log is
    needed, and a copy of it lies beside.
    """

    path: Path
    target: Path
    bytes: int
    shape: dict[str, Any]
    mark: wal.Mark | None

    def complete(self, descriptor: int) -> dict[str, Any]:
        """Make the open target the copy; returns the facts of the source.

        Raises OSError, SourceError, DamagedError, StoreError.
        """
        if self.mark is None:
            os.ftruncate(descriptor, self.bytes)
            with sqlite.cloned(self.path, self.target, sqlite.IMMUTABLE) as connection:
                return {**sqlite.facts(connection), **self.shape}
        original = _original(self.target)
        try:
            with files.opened(files.make(original)) as second:
                copying.copy_bytes(descriptor, second, os.fstat(descriptor).st_size)
            with files.opened(files.open_plain(_log_of(original))) as log:
                wal.fold(log, self.mark, descriptor)
            os.ftruncate(descriptor, self.bytes)
            with sqlite.cloned(self.path, original) as connection:
                return {**sqlite.facts(connection), **self.shape}
        finally:
            for path in (original, _log_of(original), Path(f"{original}-shm")):
                path.unlink(missing_ok=True)


def take(pin: Pin, path: Path, target: Path, descriptor: int) -> Clone | None:
    """Clone the database at `path` into the open `target` while it is held; None where there are no clones."""
    size = pin.size
    if not pin.clone_to(descriptor):
        return None
    shape = sqlite.shape(pin.connection)
    if pin.needed_log is None:
        # Nobody writes to the file while this is so; where the log is needed, checkpoints go on.
        if files.read_at(descriptor, _HEADER_BYTES, 0) != pin.header(_HEADER_BYTES):
            raise OSError(errno.EIO, "the filesystem's clone of the database is not what the database is")
        return Clone(path, target, size, shape, None)
    log, mark = pin.needed_log
    with files.opened(files.make(_log_of(_original(target)))) as copy:
        copying.copy_bytes(log, copy, mark.log_bytes)
    return Clone(path, target, size, shape, mark)


def _original(target: Path) -> Path:
    return target.with_name(f"{target.name}.source")


def _log_of(database: Path) -> Path:
    return Path(f"{database}-wal")

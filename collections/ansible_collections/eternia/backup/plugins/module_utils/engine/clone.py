# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database on a filesystem that has clones: the source is held for as long as clones of its files take.

What is read of the source for comparison is read afterwards, of the clones, by SQLite itself: they are the source as it
was while it was held.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files, sqlite, wal
from .pin import Pin


@dataclass(frozen=True)
class Clone:
    """One state of the database at `path`: its file twice, once to become the copy, and its log up to `mark`.

    `bytes` is the size of this state. Without a mark the file alone is all of it, and there is no second one.
    """

    path: Path
    target: Path
    bytes: int
    mark: wal.Mark | None

    def complete(self) -> dict[str, Any]:
        """Make the copy whole; returns the facts of the source. Raises OSError, SourceError, DamagedError."""
        with files.opened(os.open(self.target, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)) as target:
            if self.mark is not None:
                with files.opened(os.open(_log_of(_original(self.target)), os.O_RDONLY | os.O_CLOEXEC)) as log:
                    wal.fold(log, self.mark, target)
            os.ftruncate(target, self.bytes)
        counted = self._facts()
        _tidy(self.target)
        return counted

    def _facts(self) -> dict[str, Any]:
        if self.mark is None:
            with sqlite.source(self.path, sqlite.IMMUTABLE, lies_at=self.target) as connection:
                return sqlite.facts(connection)
        with sqlite.source(self.path, lies_at=_original(self.target)) as connection:
            return sqlite.facts(connection)


def take(pin: Pin, path: Path, target: Path, descriptor: int) -> Clone | None:
    """Clone the database at `path` to `target`, which is open, while it is held; None where there are no clones."""
    size = pin.size
    if not pin.clone_to(descriptor):
        return None
    if pin.needed_log is None:
        return Clone(path, target, size, None)
    log, mark = pin.needed_log
    original = _original(target)
    _tidy(target)
    with files.opened(files.make(original, access=os.O_RDWR)) as file:
        pin.clone_to(file)
    with files.opened(files.make(_log_of(original), access=os.O_RDWR)) as copy:
        files.copy_bytes(log, copy, mark.log_bytes)
    return Clone(path, target, size, mark)


def _original(target: Path) -> Path:
    return target.with_name(f"{target.name}.source")


def _log_of(database: Path) -> Path:
    return Path(f"{database}-wal")


def _tidy(target: Path) -> None:
    original = _original(target)
    for path in (original, _log_of(original), Path(f"{original}-shm")):
        path.unlink(missing_ok=True)

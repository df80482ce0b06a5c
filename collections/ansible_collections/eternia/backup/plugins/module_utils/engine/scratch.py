# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scratch of a drill: a directory beside the backups, on their filesystem, that is gone when the drill ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import catalog, files, lock
from .config import Config
from .errors import EngineError

_NAME = ".drill"


@contextmanager
def held(storage_path: Path) -> Iterator[Path]:
    """The scratch, empty, for one drill at a time. Raises LockedError, StoreError."""
    with lock.held_drill(storage_path), files.emptied(storage_path / _NAME) as path:
        yield path


def tidy(config: Config) -> None:
    """Remove what a drill left that was killed: it may be plain, and a backup may need the room.

    Lets a drill alone that goes on, and whatever is another host's.
    """
    path = config.storage_path / _NAME
    if os.path.lexists(path):
        with suppress(EngineError):
            catalog.require_storage(config)
            with lock.held_drill(config.storage_path), files.emptied(path):
                pass

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database that is backed up, and the ways to copy it that are compared."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from .processes import Usage, python, run

# Beside a database and its copy: their logs, and whatever else lives on that disk.
_SPARE = 1 << 30
# Seconds after which free memory is the host's again, and from which size on that counts.
_REST, _LARGE = 3.0, 1 << 30

CP = ["sh", "-c", 'cp -- "$1" "$2" && sync -- "$2"', "cp"]


class NoRoomError(Exception):
    """The disk is too small for a measurement."""


class Scene:
    """A folder with one database, and a place for the copies of it: one at a time."""

    def __init__(self, folder: Path, mib: int) -> None:
        folder.mkdir(parents=True)
        need_room(folder, 2 * mib)
        self.database = folder / "eternia.db"
        self._copies = folder / "copies"
        run(python("make_database", self.database, mib))

    def ours(self) -> Usage:
        """A backup by the engine: snapshot, quick check, digests, fsync, manifest."""
        return self._measured(python("backup", self.database, self._copies / "backups"))

    def cp(self) -> Usage:
        """`cp`, then fsync."""
        return self._measured([*CP, str(self.database), str(self._copies / "copy.db")])

    def sqlite(self, *, limit: float = 3600) -> Usage:
        """`sqlite3 SRC ".backup DST"`."""
        return self._measured(["sqlite3", str(self.database), f".backup '{self._copies / 'copy.db'}'"], limit)

    def connection_backup(self) -> Usage:
        """Python's Connection.backup with its defaults."""
        return self._measured(python("sqlite_backup", self.database, self._copies / "copy.db"))

    def tidy(self) -> None:
        """Remove the last copy and let the disk come to rest."""
        shutil.rmtree(self._copies, ignore_errors=True)
        os.sync()

    def _measured(self, command: list[str], limit: float = 3600) -> Usage:
        shutil.rmtree(self._copies, ignore_errors=True)
        self._copies.mkdir()
        settle(self.database)
        return run(command, limit=limit)


def settle(*sources: Path) -> None:
    """Bring the machine to rest, with what is going to be read in the page cache.

    Memory that the one before gave back must be no advantage to who comes next: a virtual machine takes seconds for
    each GiB that it has to ask its host for, and none for what was just freed. After a while the host has it all.
    """
    os.sync()
    size = 0
    for source in sources:
        if source.exists():
            read(source)
            size += source.stat().st_size
    time.sleep(min(_REST, _REST * size / _LARGE))


def need_room(folder: Path, mib: int) -> None:
    """Raises NoRoomError where a filesystem has no room for so much and some more."""
    free, needed = shutil.disk_usage(folder).free, (mib << 20) + _SPARE
    if free < needed:
        raise NoRoomError(f"{folder} has {free >> 20:,} MiB free, {needed >> 20:,} are needed")


def read(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb", buffering=0) as stream:
        buffer = bytearray(1 << 20)
        while stream.readinto(buffer):
            pass


def has_sqlite3() -> bool:
    """Whether the system has the `sqlite3` command."""
    return shutil.which("sqlite3") is not None

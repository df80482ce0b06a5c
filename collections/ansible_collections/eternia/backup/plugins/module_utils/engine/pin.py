# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database held still while it is read.

A read transaction pins one state of the database. While it is open no checkpoint passes it, the log cannot be reset,
and in rollback mode nobody writes, so that the files can be read as they are.

A database in WAL mode that nobody has open is read without a transaction, which would leave a log and its index beside
it. A shared lock keeps whoever comes meanwhile from removing the log that he needs to write: where there is none at the
end, nobody wrote.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import copying, files, sqlite, wal
from .errors import EngineError, SourceError

# A pin fails only when a commit falls into its few microseconds.
_ATTEMPTS = 200
_CHUNK = 1 << 20
_FLUSH_BYTES = 64 << 20
# Reads page 1, and with it whatever pins a state.
_ANY_READ = "SELECT count(*) FROM sqlite_master"

# Where SQLite's locks lie in the database file, and the bytes that a reader locks: https://www.sqlite.org/src/file/src/os.h
_SHARED_FIRST, _SHARED_SIZE = 0x40000000 + 2, 510


class StirredError(SourceError):
    """Somebody opened a database that was at rest, or put another in its place, while it was read. Try again."""


class Pin:
    """One state of a database, and the ways to read it.

    `mark` is where its log stands and `log` the open file of it; both are None in rollback mode, at rest, and where the
    log's index cannot be read. `readable` tells the last case: then only SQLite itself can make a copy.
    """

    def __init__(self, connection: sqlite3.Connection, database: int, journal_mode: str) -> None:
        self.connection = connection
        self.journal_mode = journal_mode
        self.started = time.monotonic()
        self.mark: wal.Mark | None = None
        self.log: int | None = None
        self.readable = True
        self._database = database

    @property
    def size(self) -> int:
        """Bytes of the database in this state."""
        if self.mark is not None and self.mark.pages:
            return self.mark.pages * self.mark.page_size
        return os.fstat(self._database).st_size

    @property
    def needed_log(self) -> tuple[int, wal.Mark] | None:
        """The open log and where it stands, where the database file alone lacks something of this state."""
        if self.log is None or self.mark is None or not self.mark.log_is_needed:
            return None
        return self.log, self.mark

    def copy_to(self, target: int) -> str:
        """Copy this state of the database; returns the way it was done."""
        # In rollback mode writers wait for us: what is flushed afterwards does not keep them waiting.
        flush_bytes = _FLUSH_BYTES if self.mark else 0
        way = copying.copy_bytes(self._database, target, self._file_bytes, flush_bytes=flush_bytes)
        if self.needed_log is not None:
            wal.fold(*self.needed_log, target)
        os.ftruncate(target, self.size)
        return way

    def header(self, size: int) -> bytes:
        """The first bytes of the database file."""
        return files.read_at(self._database, size, 0)

    def clone_to(self, target: int) -> bool:
        """Clone the database file, without what only the log has; False where the filesystem has no clones."""
        return copying.clone(self._database, target, self._file_bytes)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of this state of the database, in order."""
        pages = None if self.needed_log is None else wal.Pages(*self.needed_log)
        step = _CHUNK if pages is None else pages.size
        for start in range(0, self.size, step):
            newer = None if pages is None else pages.get(start // step + 1)
            length = min(step, self.size - start)
            # The page at 1 GiB is never written: behind the end of the file it is in neither place, and reads as zeros.
            yield newer or files.read_at(self._database, length, start).ljust(length, b"\0")

    @property
    def _file_bytes(self) -> int:
        # What lies behind the end of this state was cut off by it, what is not there yet is in the log.
        return min(self.size, os.fstat(self._database).st_size)


@contextmanager
def pinned(path: Path, *, may_rest: bool = True) -> Iterator[Pin]:
    """Hold the database still, for as short as the caller can make it.

    Raises SourceError, DamagedError; StirredError where a second attempt, without `may_rest`, will do.
    """
    real = Path(os.path.realpath(path))
    # SQLite's locks are POSIX locks: closing any descriptor of a file drops this process's locks on it. So ours are
    # closed last, after the connection.
    with ExitStack() as descriptors:
        try:
            database = _opened(descriptors, real)
        except OSError as exc:
            raise SourceError(f"{path} cannot be read: {files.reason(exc)}. Run as its owner.") from exc
        if may_rest and _is_at_rest(real, database) and _lock_shared(database):
            with _watched(path, real, database), sqlite.source(path, sqlite.IMMUTABLE) as connection:
                yield Pin(connection, database, "wal")
        else:
            with sqlite.source(path) as connection:
                pin = _begin_pin(connection, real, database, descriptors)
                if not os.path.samestat(os.fstat(database), os.stat(real)):
                    raise _stirred(path)
                yield pin


def _begin_pin(connection: sqlite3.Connection, real: Path, database: int, descriptors: ExitStack) -> Pin:
    # The first read makes the log and its index, where the database has them and they are missing.
    connection.execute(_ANY_READ).fetchone()
    mark = log = None
    try:
        # Open for writing, because SQLite does not use an index that it cannot write to: it may be of another time.
        index = _opened(descriptors, Path(f"{real}-shm"), os.O_RDWR)
        log = _opened(descriptors, Path(f"{real}-wal"))
        mark = _begin_at_mark(connection, index)
    except OSError:
        # In rollback mode there are none.
        pass
    if not connection.in_transaction:
        _begin(connection)
    # Asked inside the transaction: from here on nobody can change it.
    pin = Pin(connection, database, connection.execute("PRAGMA journal_mode").fetchone()[0])
    if pin.journal_mode == "wal":
        pin.mark, pin.log, pin.readable = mark, log, mark is not None
    return pin


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    # BEGIN alone takes no lock; the first read does.
    connection.execute(_ANY_READ).fetchone()


def _begin_at_mark(connection: sqlite3.Connection, index: int) -> wal.Mark | None:
    """Begin the read transaction between two equal readings of the index: that is its mark."""
    for _attempt in range(_ATTEMPTS):
        before = wal.read_mark(index)
        _begin(connection)
        after = wal.read_mark(index)
        if before is not None and after is not None and before.header == after.header:
            # Of the two the later one: where it says that everything is checkpointed, the log may be reset under us and
            # is not needed; where it does not, our transaction keeps the log as it is.
            return after
        connection.execute("ROLLBACK")
    return None


def _is_at_rest(real: Path, database: int) -> bool:
    beside = (os.path.lexists(f"{real}{suffix}") for suffix in sqlite.COMPANIONS)
    return sqlite.is_in_wal_mode(database) and not any(beside)


def _lock_shared(database: int) -> bool:
    """Lock the database as its readers do; False where somebody holds it exclusively.

    The lock belongs to the open file, not to the process: SQLite, which closes its own, does not drop it.
    """
    wanted = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
    try:
        fcntl.fcntl(database, fcntl.F_OFD_SETLK, wanted)
    except OSError:
        return False
    return True


@contextmanager
def _watched(path: Path, real: Path, database: int) -> Iterator[None]:
    """Raise StirredError where the database did not stay at rest: whatever was read then means nothing."""
    before = os.fstat(database)
    if not _is_at_rest(real, database):
        # Somebody came between the first look and the lock.
        raise _stirred(path)
    try:
        yield
    except EngineError as exc:
        if _was_stirred(real, database, before):
            raise _stirred(path) from exc
        raise
    if _was_stirred(real, database, before):
        raise _stirred(path)


def _was_stirred(real: Path, database: int, before: os.stat_result) -> bool:
    after = os.fstat(database)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return True
    return not _is_at_rest(real, database) or not os.path.samestat(after, os.stat(real))


def _stirred(path: Path) -> StirredError:
    return StirredError(f"{path} was opened or replaced by an application while it was read. Run again.")


def _opened(descriptors: ExitStack, path: Path, access: int = os.O_RDONLY) -> int:
    return descriptors.enter_context(files.opened(files.open_plain(path, access)))

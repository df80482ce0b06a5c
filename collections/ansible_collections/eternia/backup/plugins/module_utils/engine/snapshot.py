# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A consistent copy of the source at one instant, in staging.

SQLite: a read transaction pins one state of the database. While it is open no checkpoint passes it, the log cannot be
reset, and in rollback mode nobody writes, so the file can be copied as it is, and the pages that the log holds for this
state are laid over the copy. The result is what a checkpoint would have made, without SQLite's page-by-page copy, and
without a restart when somebody writes. Where the log's index cannot be read, SQLite's own backup does the work.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import digest, files, sqlite, verify, wal
from .errors import DamagedError, SourceError, StoreError
from .manifest import Digest
from .names import DATABASE
from .source import Source, examine

# A pin fails only when a commit falls into its few microseconds.
_PIN_ATTEMPTS = 200
# A state file that is written in place is whole again after one write; a person does not want to wait much longer.
_STATE_ATTEMPTS = 20
_STATE_PAUSE = 0.1
_CHUNK = 1 << 20
# Reads page 1, and with it whatever pins a state.
_ANY_READ = "SELECT count(*) FROM sqlite_master"


@dataclass(frozen=True)
class Snapshot:
    """A copy in staging. `facts` were read from the source in the same read transaction.

    `way` says how it was copied, `pinned_seconds` how long the source was held.
    """

    path: Path
    facts: dict[str, Any]
    way: str
    pinned_seconds: float


def take(source: Source, target: Path, *, sleep: Callable[[float], None] = time.sleep) -> Snapshot:
    """Copy the source to `target`, a path that does not exist yet.

    Raises SourceError where the source cannot be read as a whole, DamagedError where it is corrupt, StoreError where
    staging has no room.
    """
    files.need_space(target.parent, examine(source) + _log_bytes(source))
    try:
        return (
            _take_database(source.path, target) if source.kind == DATABASE else _take_state(source.path, target, sleep)
        )
    except OSError as exc:
        raise StoreError(
            f"The snapshot {target} could not be written: {files.reason(exc)}. "
            "Nothing was stored; free some space or correct the storage path, then run again."
        ) from exc


def content_digest(source: Source, algorithm: str, *, sleep: Callable[[float], None] = time.sleep) -> Digest | None:
    """The digest that a backup taken now would have, without writing anything; None where only a copy could tell."""
    examine(source)
    hasher = digest.new(algorithm)
    if source.kind == DATABASE:
        with _pinned(source.path) as pin:
            if not pin.readable:
                return None
            for chunk in pin.chunks():
                hasher.update(chunk)
    else:
        hasher.update(_stable_state(source.path, sleep)[0])
    return Digest(algorithm, hasher.hexdigest())


class _Pin:
    """A database held still by a read transaction.

    `mark` is where its log stands, None where it has none (rollback mode) or where the log's index cannot be read
    (`readable` is false then, and only SQLite itself can make the copy).
    """

    def __init__(self, connection: sqlite3.Connection, journal_mode: str, database: int) -> None:
        self.connection = connection
        self.journal_mode = journal_mode
        self.started = time.monotonic()
        self.mark: wal.Mark | None = None
        self.log: int | None = None
        self._database = database

    @property
    def readable(self) -> bool:
        """Whether the files alone give this state of the database."""
        return self.mark is not None or self.journal_mode != "wal"

    @property
    def size(self) -> int:
        """Bytes of the database in this state."""
        if self.mark is not None and self.mark.pages:
            return self.mark.pages * self.mark.page_size
        return os.fstat(self._database).st_size

    def copy_to(self, target: int) -> str:
        """Copy this state of the database; returns the way it was done."""
        way = files.copy_bytes(self._database, target, min(self.size, os.fstat(self._database).st_size))
        pages = self._pages()
        if pages is not None:
            for number in pages.numbers():
                files.write_at(target, pages.get(number) or b"", (number - 1) * pages.size)
        os.ftruncate(target, self.size)
        return way

    def chunks(self) -> Iterator[bytes]:
        """The bytes of this state of the database, in order."""
        pages = self._pages()
        step = _CHUNK if pages is None else pages.size
        for start in range(0, self.size, step):
            newer = None if pages is None else pages.get(start // step + 1)
            length = min(step, self.size - start)
            # The page at 1 GiB is never written: behind the end of the file it is in neither place, and reads as zeros.
            yield newer or os.pread(self._database, length, start).ljust(length, b"\0")

    def _pages(self) -> wal.Pages | None:
        if self.mark is None or self.log is None or not self.mark.log_is_needed:
            return None
        return wal.Pages(self.log, self.mark)


@contextmanager
def _pinned(path: Path) -> Iterator[_Pin]:
    """Hold the database still, for as short as the caller can make it. Raises SourceError, DamagedError."""
    real = Path(os.path.realpath(path))
    # SQLite's locks are POSIX locks: closing any descriptor of a file drops this process's locks on it. So ours are
    # closed last, after the connection.
    with ExitStack() as descriptors:
        database = _opened(descriptors, real)
        if database is None:
            raise SourceError(
                f"{path} cannot be read: permission denied. Run as its owner, or give this user the right."
            )
        with sqlite.live(path) as connection:
            journal_mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            connection.execute(_ANY_READ).fetchone()
            pin = _Pin(connection, journal_mode, database)
            if journal_mode == "wal":
                # The first read has made both files, where they were missing.
                index = _opened(descriptors, Path(f"{real}-shm"))
                pin.log = _opened(descriptors, Path(f"{real}-wal"))
                pin.mark = None if index is None or pin.log is None else _begin_at_mark(connection, index)
            if not connection.in_transaction:
                _begin(connection)
            pin.started = time.monotonic()
            yield pin


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    # BEGIN alone takes no lock; the first read does.
    connection.execute(_ANY_READ).fetchone()


def _begin_at_mark(connection: sqlite3.Connection, index: int) -> wal.Mark | None:
    """Begin the read transaction between two equal readings of the index: that is its mark."""
    for _attempt in range(_PIN_ATTEMPTS):
        before = wal.read_mark(index)
        _begin(connection)
        after = wal.read_mark(index)
        if before is not None and after is not None and before.header == after.header:
            # Of the two the later one: where it says that everything is checkpointed, the log may be reset under us and
            # is not needed; where it does not, our transaction keeps the log as it is.
            return after
        connection.execute("ROLLBACK")
    return None


def _opened(descriptors: ExitStack, path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    descriptors.callback(os.close, descriptor)
    return descriptor


def _take_database(path: Path, target: Path) -> Snapshot:
    with _pinned(path) as pin:
        found = {"path": str(path), "bytes": pin.size, "journal_mode": pin.journal_mode}
        way, counted = _copy_files(pin, target) if pin.readable else _copy_by_sqlite(pin, target)
        held = time.monotonic() - pin.started
    return Snapshot(target, {**found, **counted}, way, held)


def _copy_files(pin: _Pin, target: Path) -> tuple[str, dict[str, Any]]:
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            counting = pool.submit(sqlite.facts, pin.connection)
            way = pin.copy_to(descriptor)
            return way, counting.result()
    finally:
        os.close(descriptor)


def _copy_by_sqlite(pin: _Pin, target: Path) -> tuple[str, dict[str, Any]]:
    counted = sqlite.facts(pin.connection)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    copy = sqlite3.connect(target)
    try:
        copy.execute("PRAGMA synchronous = OFF")
        # All pages in one step: a step of fewer starts again whenever somebody writes, and so may never end.
        pin.connection.backup(copy, pages=-1)
    finally:
        copy.close()
    return "sqlite_backup", counted


def _take_state(path: Path, target: Path, sleep: Callable[[float], None]) -> Snapshot:
    started = time.monotonic()
    raw, found = _stable_state(path, sleep)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        files.write_at(descriptor, raw, 0)
    finally:
        os.close(descriptor)
    facts = {"path": str(path), "bytes": len(raw), **found}
    return Snapshot(target, facts, "read", time.monotonic() - started)


def _stable_state(path: Path, sleep: Callable[[float], None]) -> tuple[bytes, dict[str, Any]]:
    """Read a state that may be rewritten while we read: take what is whole, and the same a moment later."""
    trouble: DamagedError | None = None
    for _attempt in range(_STATE_ATTEMPTS):
        raw = _read(path)
        sleep(_STATE_PAUSE)
        if _read(path) != raw:
            trouble = None
            continue
        try:
            return raw, verify.state_facts(verify.parse_state(raw, path))
        except DamagedError as exc:
            trouble = exc
    if trouble is not None:
        raise trouble
    raise SourceError(
        f"{path} kept changing while it was read, {_STATE_ATTEMPTS} times in a row. "
        "Nothing was backed up; run again when the application is calmer."
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SourceError(f"{path} cannot be read: {files.reason(exc)}. Run as its owner.") from exc


def _log_bytes(source: Source) -> int:
    try:
        return os.stat(f"{os.path.realpath(source.path)}-wal").st_size if source.kind == DATABASE else 0
    except OSError:
        return 0

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite: how a source and a finished copy are opened, what is read from them, and what its errors mean."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import files, rights
from .errors import DamagedError, EngineError, SourceError, StoreError
from .names import DATABASE

# Long enough for any commit of a healthy application, short enough for a person who waits.
BUSY_SECONDS = 10.0

# What SQLite replays into a database that lies beside it, and its index: https://www.sqlite.org/tempfiles.html
COMPANIONS = ("-wal", "-shm", "-journal")

# This byte of the header says so: https://www.sqlite.org/fileformat2.html#file_format_version_numbers
_VERSION_AT, _WAL_VERSION = 18, b"\2"

# With this a rollback journal begins; one that names another file ends with it too.
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")

# For a file that nobody writes to: keeps SQLite from making `-wal` and `-shm` beside it.
IMMUTABLE = "immutable=1"


def is_in_wal_mode(database: int) -> bool:
    """Whether whoever opens the database, here an open descriptor, will write to `-wal`. Raises OSError."""
    return os.pread(database, 1, _VERSION_AT) == _WAL_VERSION


def connect(path: Path, *options: str) -> sqlite3.Connection:
    """Open read-only, in autocommit, usable from one thread after the other. `options` are of SQLite's URI."""
    query = "&".join(("mode=ro", *options))
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?{query}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )


@contextmanager
def finished(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy, which nobody writes to. Raises DamagedError for whatever SQLite finds wrong."""
    try:
        with closing(connect(path, IMMUTABLE)) as connection:
            yield connection
    except (sqlite3.Error, UnicodeError) as exc:
        raise DamagedError(
            f"{path} is damaged: SQLite says {exc}. Run again; if it stays, look at the disk, or choose another backup."
        ) from exc


@contextmanager
def source(path: Path, *options: str) -> Iterator[sqlite3.Connection]:
    """A source, which an application may be writing to. Raises SourceError or DamagedError."""
    _require_files_beside(path)
    try:
        with closing(connect(path, *options)) as connection:
            yield connection
    except (sqlite3.Error, UnicodeError) as exc:
        raise _meaning(path, exc) from exc


def _require_files_beside(path: Path) -> None:
    """Refuse what SQLite would wait for: of a FIFO in place of a log, until somebody writes to it."""
    for suffix in COMPANIONS:
        beside = f"{os.path.realpath(path)}{suffix}"
        with suppress(OSError):
            mode = os.stat(beside).st_mode
            if not stat.S_ISREG(mode):
                raise SourceError(
                    f"{beside} is {files.kind_of(mode)}, not a file, so {path} cannot be opened. Look at it; move it "
                    "away."
                )


@contextmanager
def cloned(path: Path, clone: Path, *options: str) -> Iterator[sqlite3.Connection]:
    """A clone of the source `path`. Raises DamagedError, which is the source's, or StoreError, which is the clone's."""
    try:
        with closing(connect(clone, *options)) as connection:
            yield connection
    except (sqlite3.Error, UnicodeError) as exc:
        if _is_damage(exc):
            raise _meaning(path, exc) from exc
        raise StoreError(
            f"{clone}, a clone of {path}, cannot be read: SQLite says {exc}. Nothing was stored; free some space in "
            "the storage path or correct the rights there, then run again."
        ) from exc


def names_another(journal: int) -> bool:
    """Whether an open rollback journal ends with the name of another file, as of a transaction over several databases.

    Whoever rolls it back has SQLite look into that file, and remove it: https://www.sqlite.org/fileformat2.html
    """
    end = os.fstat(journal).st_size
    return os.pread(journal, len(_JOURNAL_MAGIC), max(0, end - len(_JOURNAL_MAGIC))) == _JOURNAL_MAGIC


def begin_to_write(path: Path) -> None:
    """Open a database as an application would, become its writer, and leave it as it was. Raises DamagedError."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as exc:
        raise DamagedError(f"{path} cannot be written to: SQLite says {exc}. Choose another backup.") from exc


def copy_into(connection: sqlite3.Connection, target: Path) -> None:
    """Let SQLite copy an open database into the empty file `target`. Raises StoreError where that cannot be written.

    All pages go in one step: a step of fewer starts again whenever somebody writes, and so may never end.
    """
    try:
        with closing(sqlite3.connect(target)) as copy:
            copy.execute("PRAGMA synchronous = OFF")
            connection.backup(copy, pages=-1)
    except sqlite3.OperationalError as exc:
        # What SQLite finds wrong with the source while it reads is of another class, and goes up to `source`.
        raise StoreError(
            f"The snapshot {target} could not be written: {exc}. Free some space, then run again."
        ) from exc


def facts(connection: sqlite3.Connection) -> dict[str, Any]:
    """What proves a copy beside its digest: page size, a digest of the schema, and rows by table.

    Virtual tables are left out (their module may not be there); the ordinary tables that hold their data are counted.
    """
    tables = [
        name
        for kind, name, _table, sql in _schema(connection)
        if kind == "table" and not name.startswith("sqlite_") and not sql.upper().startswith("CREATE VIRTUAL TABLE")
    ]
    return {**shape(connection), "tables": {name: _rows(connection, name) for name in tables}}


def shape(connection: sqlite3.Connection) -> dict[str, Any]:
    """Those of its facts that take no time: page size, and a digest of the schema."""
    return {
        "page_size": connection.execute("PRAGMA page_size").fetchone()[0],
        "schema_digest": "sha256:" + hashlib.sha256(json.dumps(_schema(connection)).encode()).hexdigest(),
    }


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str, str]]:
    return connection.execute(
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master ORDER BY type, name, tbl_name"
    ).fetchall()


def _rows(connection: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    return int(connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0])


def _meaning(path: Path, exc: Exception) -> EngineError:
    text = str(exc)
    if "locked" in text or "busy" in text:
        return SourceError(
            f"{path} is locked: another process has held it for more than {BUSY_SECONDS:.0f} seconds. "
            f"Find it with `fuser {path}` and run again when it has let go."
        )
    lacking = rights.lacking(path, DATABASE) if "unable to open" in text or "readonly" in text else None
    if lacking is not None:
        return SourceError(lacking)
    if "readonly" in text and os.path.exists(f"{os.path.realpath(path)}-journal"):
        # We only ever read; what SQLite wants to write is the rollback of somebody's unfinished transaction.
        return SourceError(
            f"{path} has a hot journal ({path}-journal): a writer died in the middle of a transaction. "
            "Start the application so that SQLite rolls it back, then run again."
        )
    if "unable to open" in text or "readonly" in text:
        return SourceError(
            f"{path} cannot be opened: {text}. Run as a user with rights on the file and on its directory "
            f"({path.parent}), where SQLite keeps its -wal and -shm files."
        )
    if _is_damage(exc):
        return DamagedError(
            f"{path} is damaged: SQLite says {text}. Nothing was backed up; restore the newest verified backup."
        )
    return SourceError(
        f"{path} cannot be read: SQLite says {text}. Nothing was backed up; look at the disk, then run again."
    )


def _is_damage(exc: Exception) -> bool:
    return "malformed" in str(exc) or "not a database" in str(exc)

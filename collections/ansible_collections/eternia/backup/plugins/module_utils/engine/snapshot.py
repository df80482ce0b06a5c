# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A consistent copy of the source at one instant, in staging.

SQLite: while one state of the database is pinned, the file is copied as it is, and the pages that the log holds for
this state are laid over the copy (where the filesystem has clones, after the source was let go). The result is what a
checkpoint would have made, without SQLite's page-by-page copy, and without a restart when somebody writes. Where the
log's index cannot be read, SQLite's own backup does the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from . import clone, copying, digest, files, log, rights, sqlite, verify
from .errors import DamagedError, SourceError, StoreError
from .manifest import Content, Digest
from .names import DATABASE, STATE
from .parts import SMALLEST
from .pin import Pin, StirredError, pinned
from .source import Source, examine

# A state file that is written in place is whole again after one write; a person does not want to wait much longer.
_STATE_ATTEMPTS = 20
_STATE_PAUSE = 0.1

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Snapshot:
    """A copy in staging. `facts` were read from the source in the same read transaction; of a clone, the rows later.

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
        if source.kind == DATABASE:
            return _take_database(source.path, target)
        return _take_state(source.path, target, sleep)
    except OSError as exc:
        raise StoreError(
            f"The snapshot {target} could not be written: {files.reason(exc)}. "
            "Nothing was stored; free some space or correct the storage path, then run again."
        ) from exc


def rehearse(source: Source, directory: Path, *, sleep: Callable[[float], None] = time.sleep) -> int:
    """Read the source as `take` would and write nothing; returns the size in bytes that its copy would have.

    `directory` is where there has to be room. Raises as `take`.
    """
    files.need_space(directory, examine(source) + _log_bytes(source))
    if source.kind != DATABASE:
        return len(_stable_state(source.path, sleep)[0])

    def read(may_rest: bool) -> int:
        with pinned(source.path, may_rest=may_rest) as pin:
            _require_tables(source.path, sqlite.facts(pin.connection))
            return pin.size

    return _again_if_stirred(read)


def facts(source: Source, *, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """The facts of the source as it is now, without writing anything. Raises as `take`."""
    examine(source)
    if source.kind != DATABASE:
        return _stable_state(source.path, sleep)[1]

    def read(may_rest: bool) -> dict[str, Any]:
        with pinned(source.path, may_rest=may_rest) as pin:
            return sqlite.facts(pin.connection)

    return _again_if_stirred(read)


def content_digest(source: Source, algorithm: str, *, sleep: Callable[[float], None] = time.sleep) -> Digest | None:
    """The digest that a backup taken now would have, without writing anything; None where only a copy could tell."""
    examine(source)
    if source.kind != DATABASE:
        return _hashed([_stable_state(source.path, sleep)[0]], algorithm)

    def read(may_rest: bool) -> Digest | None:
        with pinned(source.path, may_rest=may_rest) as pin:
            return _hashed(pin.chunks(), algorithm) if pin.readable else None

    return _again_if_stirred(read)


def has_content(source: Source, content: Content) -> bool:
    """Whether a copy taken now would have this very content, without writing anything. Raises as `take`.

    The first part that differs ends it: what has gone on since its backup differs early, in the header.
    """
    examine(source)
    if source.kind != DATABASE:
        return _is_content([_stable_state(source.path, time.sleep)[0]], content)

    def read(may_rest: bool) -> bool:
        with pinned(source.path, may_rest=may_rest) as pin:
            return pin.readable and pin.size == content.bytes and _is_content(pin.chunks(), content)

    return _again_if_stirred(read)


def _is_content(chunks: Iterable[bytes | memoryview], content: Content) -> bool:
    expected = list(content.parts.digests) or [content.digest.value]
    step = content.parts.bytes or content.bytes
    place = filled = 0
    hasher = digest.new(content.digest.algorithm)
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            taken = view[: step - filled]
            hasher.update(taken)
            view, filled = view[len(taken) :], filled + len(taken)
            if filled == step:
                if expected[place : place + 1] != [hasher.hexdigest()]:
                    return False
                place, filled, hasher = place + 1, 0, digest.new(content.digest.algorithm)
    return expected[place:] == ([hasher.hexdigest()] if filled else [])


def _hashed(chunks: Iterable[bytes], algorithm: str) -> Digest:
    hasher = digest.new(algorithm)
    for chunk in chunks:
        hasher.update(chunk)
    return Digest(algorithm, hasher.hexdigest())


def _again_if_stirred(read: Callable[[bool], _Read]) -> _Read:
    """Read a database that may be at rest; where it was not left alone, pin it."""
    try:
        return read(True)
    except StirredError:
        return read(False)


def _take_database(path: Path, target: Path) -> Snapshot:
    return _again_if_stirred(lambda may_rest: _copy_pinned(path, target, may_rest))


def _copy_pinned(path: Path, target: Path, may_rest: bool) -> Snapshot:
    target.unlink(missing_ok=True)
    with files.opened(files.make(target, access=os.O_RDWR)) as descriptor:
        with pinned(path, may_rest=may_rest) as pin:
            found = {"path": str(path), "bytes": pin.size, "journal_mode": pin.journal_mode}
            cloned = clone.take(pin, path, target, descriptor) if pin.readable else None
            if cloned is None:
                way, counted = _copy_files(pin, descriptor) if pin.readable else _copy_by_sqlite(pin, target)
            held = time.monotonic() - pin.started
        if cloned is not None:
            way, counted = copying.REFLINK, cloned.complete(descriptor)
    _require_tables(path, counted)
    log.info(f"{path} was copied by {way}, held for {held:.3f} s")
    return Snapshot(target, {**found, **counted}, way, held)


def _require_tables(path: Path, facts: dict[str, Any]) -> None:
    if not facts["tables"]:
        # What a database looks like whose -wal file was left behind when it was copied.
        raise SourceError(f"{path} has no tables. Nothing was backed up; if its content was lost, restore it.")


def _copy_files(pin: Pin, target: int) -> tuple[str, dict[str, Any]]:
    if pin.size <= SMALLEST:
        # A thread, and what it needs to be loaded, takes longer than both.
        return pin.copy_to(target), sqlite.facts(pin.connection)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as pool:
        counting = pool.submit(sqlite.facts, pin.connection)
        way = pin.copy_to(target)
        return way, counting.result()


def _copy_by_sqlite(pin: Pin, target: Path) -> tuple[str, dict[str, Any]]:
    counted = sqlite.facts(pin.connection)
    sqlite.copy_into(pin.connection, target)
    return "sqlite_backup", counted


def _take_state(path: Path, target: Path, sleep: Callable[[float], None]) -> Snapshot:
    started = time.monotonic()
    raw, found = _stable_state(path, sleep)
    descriptor = files.make(target)
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
        raise DamagedError(f"{trouble} Nothing was backed up; if its content was lost, restore it.") from trouble
    raise SourceError(
        f"{path} kept changing while it was read, {_STATE_ATTEMPTS} times in a row. "
        "Nothing was backed up; run again when the application is calmer."
    )


def _read(path: Path) -> bytes:
    try:
        return verify.read_state(path)
    except OSError as exc:
        raise SourceError(
            rights.lacking(path, STATE) or f"{path} cannot be read: {files.reason(exc)}. Run as its owner."
        ) from exc


def _log_bytes(source: Source) -> int:
    try:
        return os.stat(f"{os.path.realpath(source.path)}-wal").st_size if source.kind == DATABASE else 0
    except OSError:
        return 0

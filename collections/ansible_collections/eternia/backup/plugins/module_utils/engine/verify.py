# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof that a finished file is what it should be."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from . import digest, files, sqlite
from .errors import DamagedError, quoted
from .manifest import Content, Digest, Manifest, Stored
from .names import DATABASE, Kind
from .parts import SMALLEST
from .steps import timed
from .stores.base import Copy, Store

T = TypeVar("T")

# In bytes; parsed it takes several times as much memory.
_MOST_OF_STATE = 1 << 30

_CHECKS = {"quick": "PRAGMA quick_check", "full": "PRAGMA integrity_check"}


@dataclass(frozen=True)
class Proof:
    """What was found of a plain file that is sound: its content, how it would lie in a store, and its facts.

    `seconds` are those of the steps, which go on side by side.
    """

    content: Content
    stored: Stored
    facts: dict[str, Any]
    seconds: dict[str, float]


def prove(path: Path, kind: Kind, level: str, *, algorithm: str, for_s3: bool = True) -> Proof:
    """Check a plain copy, read its facts, hash it and put it on the disk, all side by side.

    Where it is not `for_s3`, the checksum that only S3 needs is left out.

    Raises DamagedError, and OSError where it cannot be read or flushed.
    """
    return _side_by_side(path, kind, level, lambda: digest.of_file(path, algorithm, for_s3=for_s3))


def prove_and_compress(
    path: Path, kind: Kind, level: str, *, encoded: Path, algorithm: str, for_s3: bool = True
) -> Proof:
    """As `prove`, for a plain copy that is kept compressed, in the new file `encoded`: that one is put on the disk."""
    from . import compression

    return _side_by_side(
        path,
        kind,
        level,
        lambda: compression.encode(path, encoded, algorithm, for_s3=for_s3),
        is_kept=False,
    )


def prove_whole(path: Path, kind: Kind, level: str, *, algorithm: str) -> Proof:
    """As `prove`, for a copy that is not going to S3: without the digests of its parts and S3's checksum."""

    def described() -> tuple[Content, Stored]:
        content = digest.of_whole(path, algorithm)
        return content, Stored(content.bytes, content.digest, None)

    return _side_by_side(path, kind, level, described)


def _side_by_side(
    path: Path, kind: Kind, level: str, described: Callable[[], tuple[Content, Stored]], *, is_kept: bool = True
) -> Proof:
    work: dict[str, Callable[[], Any]] = {
        "digest": described,
        "flush": lambda: files.fsync_path(path) if is_kept else None,
        "check": lambda: check(path, kind, level),
        "rows": lambda: facts(path, kind),
    }
    seconds: dict[str, float] = {}

    def step(name: str) -> Any:
        with timed(seconds, name):
            return work[name]()

    if path.stat().st_size <= SMALLEST:
        # Threads, and what they need to be loaded, take longer than all of it.
        found = dict(zip(work, map(step, work)))
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=len(work)) as pool:
            found = dict(zip(work, pool.map(step, work)))
    content, stored = found["digest"]
    return Proof(content, stored, found["rows"], seconds)


def check(path: Path, kind: Kind, level: str) -> None:
    """Check the inner structure of a plain copy, `quick` or `full`. Raises DamagedError."""
    if kind == DATABASE:
        with sqlite.finished(path) as connection:
            check_open(connection, path, level)
    else:
        parse_state(read_state(path), path)


def facts(path: Path, kind: Kind) -> dict[str, Any]:
    """Read the facts of a plain copy, to be compared with those read from its source. Raises DamagedError."""
    if kind == DATABASE:
        with sqlite.finished(path) as connection:
            return sqlite.facts(connection)
    return state_facts(parse_state(read_state(path), path))


def shape(path: Path, kind: Kind) -> dict[str, Any]:
    """Those facts of a plain copy that take no time to read. Raises DamagedError."""
    if kind == DATABASE:
        with sqlite.finished(path) as connection:
            return sqlite.shape(connection)
    return facts(path, kind)


def same_bytes(where: str, size: int, found: Digest, expected: Content | Stored) -> None:
    """Compare what lies at a place, or came from there, with what a manifest says of it. Raises DamagedError."""
    if (size, found) != (expected.bytes, expected.digest):
        raise DamagedError(
            f"{where} is damaged: {size} bytes with {found}, its manifest says {expected.bytes} bytes with "
            f"{expected.digest.value}. Choose another backup."
        )


def same_facts(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Compare the facts of a copy with its source's. Raises DamagedError naming the first that differs."""
    for key, value in found.items():
        if expected.get(key) != value:
            raise DamagedError(
                f"{path} is not what its source was: {key} is {quoted(value)}, the source had "
                f"{quoted(expected.get(key))}. Run again, and check the disk if it comes back."
            )


def read_state(path: Path) -> bytes:
    """All of a state, which is read as a whole. Raises OSError, DamagedError where it cannot be one."""
    with files.opened(files.open_plain(os.path.realpath(path))) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > _MOST_OF_STATE:
            raise DamagedError(
                f"{path} has {size:,} bytes, and a state of more than {_MOST_OF_STATE:,} is not read into memory. Look "
                "at what writes it; so much belongs into a database."
            )
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(size + 1)


def parse_state(raw: bytes, path: Path) -> dict[str, Any]:
    """Read a JSON state. Raises DamagedError where it is empty, half-written, not UTF-8, or no object."""
    try:
        state = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise DamagedError(f"{path} is not UTF-8 text (byte {exc.start}).") from exc
    except (ValueError, RecursionError) as exc:
        raise DamagedError(f"{path} is not whole JSON ({exc}).") from exc
    if not isinstance(state, dict):
        raise DamagedError(f"{path} holds {json.dumps(state)[:100]}, not a JSON object.")
    if not state:
        raise DamagedError(f"{path} holds an empty JSON object.")
    return state


def state_facts(state: Mapping[str, Any]) -> dict[str, Any]:
    """Top-level keys and their sizes: elements of a list or object, characters of a text, 1 for anything else."""
    return {"keys": {key: len(value) if isinstance(value, (dict, list, str)) else 1 for key, value in state.items()}}


def in_store(store: Store, copy: Copy, level: Literal["manifest", "full"]) -> None:
    """Check what lies in a store against its manifest: `manifest` reads that alone, `full` every byte of the data.

    Raises DamagedError, NotFoundError, StoreError.
    """
    if level == "full":
        read_back(store, copy)
    else:
        manifest_of(store, copy)


def manifest_of(store: Store, copy: Copy) -> Manifest:
    """The manifest of a copy whose size is what it says. Raises as `in_store`."""
    manifest = store.manifest(copy.name)
    if copy.bytes is None:
        raise DamagedError(
            f"{store.location(copy.name)} is gone, or hidden in a bucket that keeps versions; only its manifest is "
            "left. Choose another backup."
        )
    if copy.bytes != manifest.stored.bytes:
        raise DamagedError(
            f"{store.location(copy.name)} is damaged: it has {copy.bytes} bytes, its manifest says "
            f"{manifest.stored.bytes}. Choose another backup."
        )
    return manifest


def read_back(store: Store, copy: Copy) -> None:
    """Read every byte of a copy and compare the digest with its manifest's. Raises as `in_store`."""
    expected = manifest_of(store, copy).stored
    where = store.location(copy.name)
    try:
        with store.open(copy.name) as stream:
            found, size = digest.of_stream(stream, expected.digest.algorithm, expected.bytes)
    except OSError as exc:
        raise DamagedError(
            f"{where} cannot be read: {files.reason(exc)}. Choose another backup, and look at the disk."
        ) from exc
    same_bytes(where, size, found, expected)


def check_open(connection: sqlite3.Connection, path: Path, level: str) -> None:
    """Check a database through an open connection. Raises DamagedError, sqlite3.Error."""
    found = [row[0] for row in connection.execute(_CHECKS[level])]
    if found != ["ok"]:
        raise DamagedError(f"{path} is damaged: {level} check says {found[0]!r} ({len(found)} findings).")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of files: BLAKE3 where it is installed, SHA-256 where it is not, and CRC64NVME for S3.

All of them are the plain digests of the plain bytes, so `b3sum` and `sha256sum` agree.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from .errors import StoreError
from .manifest import Content, Digest, Parts, Stored
from .parts import part_bytes


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


blake3 = _optional("blake3")
checksums = _optional("awscrt.checksums")

_CHUNK = 1 << 20
# More threads gain nothing once the memory bus is full, and each holds a chunk.
_THREADS = 4


def preferred_algorithm() -> str:
    """The fastest algorithm that this host can compute."""
    return "sha256" if blake3 is None else "blake3"


def new(algorithm: str) -> Any:
    """A fresh hash object. Raises StoreError where the host lacks the library for it."""
    if algorithm == "sha256":
        return hashlib.sha256()
    if blake3 is None:
        raise StoreError(
            "The digest is a BLAKE3 one, and this interpreter has no Python library blake3 to compute it. Install it."
        )
    return blake3.blake3()


def of_stream(stream: BinaryIO, algorithm: str) -> tuple[Digest, int]:
    """Digest and size in bytes of everything that is left in `stream`, in bounded memory."""
    hasher, size = new(algorithm), 0
    while chunk := stream.read(_CHUNK):
        hasher.update(chunk)
        size += len(chunk)
    return Digest(algorithm, hasher.hexdigest()), size


def of_whole(path: Path, algorithm: str) -> Content:
    """Describe a plain file that is only going to be compared: without the digests of its parts."""
    hasher = new(algorithm)
    for chunk in _chunks(path, 0, path.stat().st_size):
        hasher.update(chunk)
    return Content(path.stat().st_size, Digest(algorithm, hasher.hexdigest()), Parts(0, ()))


def of_file(path: Path, algorithm: str) -> tuple[Content, Stored]:
    """Describe a plain file: as content, with the digest of each part, and as stored, with S3's checksum.

    The whole file and its parts are hashed side by side; the page cache serves the bytes, memory holds a chunk for each
    thread.
    """
    size = path.stat().st_size
    part = part_bytes(size)
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        parts = pool.map(lambda start: _of_range(path, algorithm, start, part), range(0, size, part))
        value, checksum = _whole_and_checksum(path, algorithm)
        digest = Digest(algorithm, value)
        return Content(size, digest, Parts(part, tuple(parts))), Stored(size, digest, checksum)


def _of_range(path: Path, algorithm: str, start: int, length: int) -> str:
    hasher = new(algorithm)
    for chunk in _chunks(path, start, length):
        hasher.update(chunk)
    return str(hasher.hexdigest())


def _whole_and_checksum(path: Path, algorithm: str) -> tuple[str, str | None]:
    """The digest and S3's checksum, in one reading."""
    hasher, value = new(algorithm), 0
    for chunk in _chunks(path, 0, path.stat().st_size):
        hasher.update(chunk)
        if checksums is not None:
            value = checksums.crc64nvme(chunk, value)
    return hasher.hexdigest(), None if checksums is None else base64.b64encode(value.to_bytes(8, "big")).decode()


def _chunks(path: Path, start: int, length: int) -> Iterator[memoryview]:
    """The bytes of a range, a piece at a time; each piece is gone when the next is asked for."""
    buffer = memoryview(bytearray(min(_CHUNK, length) or 1))
    with path.open("rb", buffering=0) as stream:
        stream.seek(start)
        while length > 0 and (count := stream.readinto(buffer[: min(_CHUNK, length)])):
            yield buffer[:count]
            length -= count

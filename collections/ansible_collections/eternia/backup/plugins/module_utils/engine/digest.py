# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of files: BLAKE3 where it is installed, SHA-256 where it is not, and CRC64NVME for S3.

All of them are the plain digests of the plain bytes, so `b3sum` and `sha256sum` agree.
"""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from . import files
from .errors import StoreError
from .manifest import Content, Digest, Parts, Stored
from .parts import in_order, part_bytes, split

_CHUNK = 1 << 20


@functools.cache
def blake3() -> Any:
    """The library for BLAKE3, None where it is not installed."""
    return _optional("blake3")


@functools.cache
def crc64nvme() -> Any:
    """The function `(bytes, checksum so far) -> checksum`, None where awscrt is not installed. It loads slowly."""
    # An awscrt from before 2025, such as Debian 12's, has no such checksum.
    return getattr(_optional("awscrt.checksums"), "crc64nvme", None)


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def preferred_algorithm() -> str:
    """The fastest algorithm that this host can compute."""
    return "sha256" if blake3() is None else "blake3"


def new(algorithm: str) -> Any:
    """A fresh hash object. Raises StoreError where the host lacks the library for it."""
    if algorithm == "sha256":
        return hashlib.sha256()
    if blake3() is None:
        raise StoreError(
            f"The digest is a BLAKE3 one, and {sys.executable} has no Python library blake3 to compute it. Install "
            "blake3 there, or apply the role eternia.backup.agent to this host."
        )
    return blake3().blake3()


def of_stream(stream: BinaryIO, algorithm: str, most: int) -> tuple[Digest, int]:
    """Digest and size in bytes of everything that is left in `stream`, in bounded memory.

    Of more than `most` bytes the rest is not read: it is another file than was meant, and may have no end.
    """
    hasher, size = new(algorithm), 0
    while size <= most and (chunk := stream.read(_CHUNK)):
        hasher.update(chunk)
        size += len(chunk)
    return Digest(algorithm, hasher.hexdigest()), size


def of_whole(path: Path, algorithm: str) -> Content:
    """Describe a plain file that is only going to be compared: without the digests of its parts."""
    hasher = new(algorithm)
    for chunk in _chunks(path, 0, path.stat().st_size):
        hasher.update(chunk)
    return Content(path.stat().st_size, Digest(algorithm, hasher.hexdigest()), Parts(0, ()))


def of_file(path: Path, algorithm: str, *, for_s3: bool = True) -> tuple[Content, Stored]:
    """Describe a plain file: as content, with the digest of each part, and as stored, with S3's checksum where wanted.

    Every byte is read once. Whole and parts are hashed side by side; memory holds some parts.
    """
    size = path.stat().st_size
    part = part_bytes(size)
    if size <= part:
        # Its only part is the whole, and to load what threads need takes longer than to hash it.
        sums = _sums(path, algorithm, for_s3)
        parts: tuple[str, ...] = (sums.digest.value,) if size else ()
    else:
        sums = Sums(algorithm, for_s3=for_s3)
        parts = tuple(in_order(lambda raw: of_bytes(raw, algorithm), read_parts(path, size, sums)))
    return Content(size, sums.digest, Parts(part, parts)), Stored(size, sums.digest, sums.checksum)


def read_parts(path: Path, size: int, whole: Sums) -> Iterator[bytes]:
    """The parts of a file, which are all hashed into `whole`. Raises OSError, also where it ends early."""
    with files.opened(files.open_plain(path)) as descriptor:
        for part in split(size):
            raw = files.read_at(descriptor, part.bytes, part.start)
            if len(raw) != part.bytes:
                raise OSError(errno.EIO, f"it ends after {part.start + len(raw)} of {size} bytes")
            whole.update(raw)
            yield raw


class Sums:
    """The digest of bytes that come one after the other, and S3's checksum where it is wanted and can be computed."""

    def __init__(self, algorithm: str, *, for_s3: bool) -> None:
        self._algorithm = algorithm
        self._hasher = new(algorithm)
        self._crc = crc64nvme() if for_s3 else None
        self._value = 0

    def update(self, chunk: bytes | memoryview) -> None:
        self._hasher.update(chunk)
        if self._crc is not None:
            self._value = self._crc(chunk, self._value)

    @property
    def digest(self) -> Digest:
        return Digest(self._algorithm, self._hasher.hexdigest())

    @property
    def checksum(self) -> str | None:
        """As S3 writes it."""
        return None if self._crc is None else _as_s3_writes(self._value)


def of_bytes(raw: bytes, algorithm: str) -> str:
    """The digest of what lies in memory, in hexadecimal."""
    hasher = new(algorithm)
    hasher.update(raw)
    return str(hasher.hexdigest())


def s3_checksum(path: Path) -> str | None:
    """S3's checksum of a file as S3 writes it, None where it cannot be computed here."""
    crc, value = crc64nvme(), 0
    if crc is None:
        return None
    for chunk in _chunks(path, 0, path.stat().st_size):
        value = crc(chunk, value)
    return _as_s3_writes(value)


def _as_s3_writes(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(8, "big")).decode()


def _sums(path: Path, algorithm: str, for_s3: bool) -> Sums:
    """Both, in one reading."""
    sums = Sums(algorithm, for_s3=for_s3)
    for chunk in _chunks(path, 0, path.stat().st_size):
        sums.update(chunk)
    return sums


def _chunks(path: Path, start: int, length: int) -> Iterator[memoryview]:
    """The bytes of a range, a piece at a time; each piece is gone when the next is asked for."""
    buffer = memoryview(bytearray(min(_CHUNK, length) or 1))
    with files.stream(path) as stream:
        stream.seek(start)
        while length > 0 and (count := stream.readinto(buffer[: min(_CHUNK, length)])):
            yield buffer[:count]
            length -= count

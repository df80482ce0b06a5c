# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""zstd, in frames that follow the parts: each part is compressed on its own, and the frames lie behind each other.

`zstd -d` reads them as one (https://datatracker.ietf.org/doc/html/rfc8878#name-frames). A part that did not change
compresses to the same bytes wherever it lies, so that only the others have to travel.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from . import digest, files
from .errors import DamagedError, StoreError
from .manifest import Content, Manifest, Parts, Stored
from .parts import Part, in_a_row, in_order, in_parallel, part_at, part_bytes

SUFFIX = "zst"
# What `zstd` does when it is not told otherwise.
LEVEL = 3

_CHUNK = 1 << 20
_LITTLE = 1 << 10


@functools.cache
def _library() -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        return None


def require() -> Any:
    """The library. Raises StoreError where the host lacks it."""
    if _library() is None:
        raise StoreError(
            f"{sys.executable} has no Python library zstandard, which compressed backups need. Install zstandard "
            "there, apply the role eternia.backup.agent to this host, or set compression to none; by hand, `zstd -d` "
            "makes a compressed backup plain."
        )
    return _library()


def encode(plain: Path, encoded: Path, algorithm: str, *, for_s3: bool = True) -> tuple[Content, Stored]:
    """Compress a plain file into the new file `encoded`, put that on the disk, and describe both.

    Every byte is read once: for the digests of the whole and of its part, and to be compressed; and what it was
    compressed to is made plain again, and has to be what was read. Memory holds a part and its frame for each thread.

    Raises StoreError, OSError; DamagedError where it did not come back.
    """
    size = plain.stat().st_size
    whole, stored = digest.Sums(algorithm, for_s3=False), digest.Sums(algorithm, for_s3=for_s3)
    digests: list[str] = []
    frames: list[int] = []
    done = 0

    def work(raw: bytes) -> tuple[str, bytes]:
        return digest.of_bytes(raw, algorithm), _frame(raw, plain)

    descriptor = files.make(encoded)
    try:
        for value, frame in in_order(work, digest.read_parts(plain, size, whole)):
            files.write_at(descriptor, frame, done)
            stored.update(frame)
            done += len(frame)
            digests.append(value)
            frames.append(len(frame))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    content = Content(size, whole.digest, Parts(part_bytes(size), tuple(digests)))
    return content, Stored(done, stored.digest, stored.checksum, (SUFFIX,), tuple(frames))


def _frame(raw: bytes, path: Path) -> bytes:
    zstd = require()
    # One thread for each frame: more would cut it into jobs, and the cuts depend on how many there are.
    frame: bytes = zstd.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(raw)
    view, done = memoryview(raw), 0
    with zstd.ZstdDecompressor().stream_reader(frame) as reader:
        while chunk := reader.read(_CHUNK):
            if chunk != view[done : done + len(chunk)]:
                break
            done += len(chunk)
    if done != len(raw):
        raise DamagedError(f"{path} did not come back from zstd as it was. Look at the memory of this host.")
    return frame


def decode(encoded: Path, plain: Path, manifest: Manifest | None) -> None:
    """Make a compressed file plain again, in the new file `plain`; no larger than its manifest says, if it has one.

    Raises DamagedError where it is no zstd, or not whole; StoreError where the library is missing; OSError.
    """
    zstd = require()
    with files.opened(files.make(plain, access=os.O_RDWR)) as descriptor, files.stream(encoded) as source:
        if manifest is not None and manifest.stored.frames:
            decode_parts(source.fileno(), descriptor, manifest, ())
            return
        most = None if manifest is None else manifest.content.bytes
        try:
            _decode_stream(zstd.ZstdDecompressor().stream_reader(source, read_across_frames=True), descriptor, most)
        except zstd.ZstdError as exc:
            raise DamagedError(f"{encoded} cannot be made plain: {exc}.") from exc


def decode_parts(source: int, target: int, manifest: Manifest, present: Collection[int]) -> None:
    """Make those parts plain, in an open file, whose numbers are not `present` in it. Raises as `decode`."""
    content = manifest.content
    os.ftruncate(target, content.bytes)

    def work(frame: Part) -> None:
        part = part_at(frame.number - 1, content.bytes, content.parts.bytes)
        files.write_at(target, plain_part(source, frame, part.bytes), part.start)

    in_parallel(work, (frame for frame in in_a_row(manifest.stored.frames) if frame.number not in present))


def plain_part(source: int, frame: Part, size: int) -> bytes:
    """The `size` bytes that a frame of an open file was made of. Raises DamagedError, StoreError, OSError."""
    zstd, raw = require(), files.read_at(source, frame.bytes, frame.start)
    try:
        # It says itself how large it gets: no memory is given to one that says more than the manifest.
        plain: bytes = zstd.ZstdDecompressor().decompress(raw) if zstd.frame_content_size(raw) == size else b""
    except zstd.ZstdError as exc:
        raise DamagedError(f"frame {frame.number} cannot be made plain: {exc}.") from exc
    if len(plain) != size:
        raise DamagedError(f"frame {frame.number} is not what the manifest says.")
    return plain


def _decode_stream(reader: Any, target: int, most: int | None) -> None:
    done = 0
    while chunk := reader.read(_CHUNK):
        files.write_at(target, chunk, done)
        done += len(chunk)
        if most is not None and done > most:
            raise DamagedError(f"it holds more than the {most} bytes that its manifest says.")


class Unpacker:
    """Compressed bytes, as they come, made plain and handed on."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._one: Any = None

    def take(self, data: bytes) -> None:
        """Raises DamagedError."""
        zstd = require()
        try:
            # A little at a time: what comes out of a little may be large already.
            for start in range(0, len(data), _LITTLE):
                piece = data[start : start + _LITTLE]
                while piece:
                    # One for each frame: what is behind its end belongs to the next.
                    self._one = self._one or zstd.ZstdDecompressor().decompressobj()
                    self._take(self._one.decompress(piece))
                    piece, self._one = self._one.unused_data, None if self._one.eof else self._one
        except zstd.ZstdError as exc:
            raise DamagedError(f"it cannot be made plain: {exc}.") from exc

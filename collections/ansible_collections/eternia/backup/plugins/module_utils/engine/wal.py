# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite's write-ahead log, as far as a copy needs it: which frames belong to a reader's snapshot, and their pages.

The formats are SQLite's own: https://www.sqlite.org/walformat.html (the WAL-index header and the checkpoint facts
behind it) and https://www.sqlite.org/fileformat2.html#walformat (the log).
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from . import files
from .errors import SourceError

# Of both headers only what is read here is taken apart; `x` passes over the rest.
_INDEX_HEADER = struct.Struct("=12xBxHII8x8s8x")
_BACKFILLED = struct.Struct("=I")
_LOG_HEADER_BYTES = 32
_FRAME_HEADER = struct.Struct(">I4x8s8x")


@dataclass(frozen=True)
class Mark:
    """Where the log stood at one instant: valid frames, pages of the database, page size in bytes, frames checkpointed.

    `header` is the WAL-index header itself: two equal ones mean that no commit and no reset lay between them.
    """

    header: bytes
    frames: int
    pages: int
    page_size: int
    salts: bytes
    backfilled: int

    @property
    def log_is_needed(self) -> bool:
        """Whether the database file alone lacks something of this snapshot."""
        return self.backfilled < self.frames

    @property
    def log_bytes(self) -> int:
        """Bytes of the log up to this mark."""
        return _LOG_HEADER_BYTES + self.frames * (_FRAME_HEADER.size + self.page_size)


def read_mark(index: int) -> Mark | None:
    """Read the WAL-index behind the open `-shm` file; None while a writer is changing it."""
    size = _INDEX_HEADER.size
    raw = files.read_at(index, 2 * size + _BACKFILLED.size, 0)
    if len(raw) < 2 * size + _BACKFILLED.size or raw[:size] != raw[size : 2 * size]:
        return None
    ready, page_size, frames, pages, salts = _INDEX_HEADER.unpack_from(raw)
    if not ready:
        return None
    (backfilled,) = _BACKFILLED.unpack_from(raw, 2 * size)
    # 65536 does not fit into the field; the format writes it as 1.
    return Mark(raw[:size], frames, pages, 65536 if page_size == 1 else page_size, salts, backfilled)


class Pages:
    """The pages that the log holds for one mark: the newest frame of each page, and its bytes."""

    def __init__(self, log: int, mark: Mark) -> None:
        self._log = log
        self._mark = mark
        # One number a page, 4 bytes each, whatever the length of the log.
        self._frames = array("I", bytes(4 * (mark.pages + 1)))
        for frame in range(1, mark.frames + 1):
            page = self._page_of(frame)
            # Pages behind the end were cut off by a later transaction in the same log.
            if page <= mark.pages:
                self._frames[page] = frame

    @property
    def size(self) -> int:
        """Bytes of a page."""
        return self._mark.page_size

    def numbers(self) -> Iterator[int]:
        """The numbers of the pages that the log holds, ascending; the first page of a database is 1."""
        return (page for page, frame in enumerate(self._frames) if frame)

    def get(self, page: int) -> bytes | None:
        """The bytes of one page, None where the log has nothing newer than the database file."""
        frame = self._frames[page]
        if not frame:
            return None
        raw = files.read_at(self._log, _FRAME_HEADER.size + self._mark.page_size, self._offset(frame))
        self._check(raw, frame)
        if len(raw) != _FRAME_HEADER.size + self._mark.page_size:
            # Half a page would be laid over a whole one.
            raise self._strange(frame)
        return raw[_FRAME_HEADER.size :]

    def _page_of(self, frame: int) -> int:
        return self._check(files.read_at(self._log, _FRAME_HEADER.size, self._offset(frame)), frame)

    def _check(self, raw: bytes, frame: int) -> int:
        """The page's number in a frame that belongs to the mark."""
        if len(raw) >= _FRAME_HEADER.size:
            page, salts = _FRAME_HEADER.unpack_from(raw)
            if salts == self._mark.salts:
                return int(page)
        raise self._strange(frame)

    def _strange(self, frame: int) -> SourceError:
        log = os.path.realpath(f"/proc/self/fd/{self._log}")
        return SourceError(
            f"The write-ahead log {log} is not what its index says (frame {frame}). Nothing was backed up. Run again."
        )

    def _offset(self, frame: int) -> int:
        return _LOG_HEADER_BYTES + (frame - 1) * (_FRAME_HEADER.size + self._mark.page_size)


def fold(log: int, mark: Mark, target: int) -> None:
    """Lay the pages that the log holds for a mark over a copy of the database file, as a checkpoint would."""
    pages = Pages(log, mark)
    for number in pages.numbers():
        files.write_at(target, pages.get(number) or b"", (number - 1) * pages.size)

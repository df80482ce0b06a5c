# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A part of a file as a file of its own, for whoever sends it: read by many threads, no faster than it may travel."""

from __future__ import annotations

import io
import os
from typing import Any

from ..parts import Part
from .s3_pace import Pace


class Range(io.RawIOBase):
    """One part of the file, as a file. Threads share the descriptor, since each read names its place.

    While it is `paced`, it is read no faster than it may be sent. `failure` is what the disk said of the last read: a
    request that it ends looks as if the line had failed.
    """

    def __init__(self, fd: int, part: Part, pace: Pace | None = None) -> None:
        self._fd, self._part, self._at, self._pace = fd, part, 0, pace
        self._waiting: BaseException | None = None
        self.failure: OSError | None = None
        self.paced = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._part.bytes}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto1(self, buffer: Any) -> int:
        """How awscrt reads, and nobody else, to sign what will be sent.

        It would print whatever is raised here, a signal's exception too, and go on with an error of its own. So that
        waits for whoever reads next, to send.
        """
        try:
            return self.readinto(buffer)
        except BaseException as exc:
            self._waiting = exc
            return 0

    def readinto(self, buffer: Any) -> int:
        waiting, self._waiting = self._waiting, None
        try:
            if waiting is not None:
                raise waiting
            count = self._read(buffer)
        except OSError as exc:
            self.failure = exc
            raise
        self.failure = None
        return count

    def _read(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._part.bytes - self._at)
        data = os.pread(self._fd, wanted, self._part.start + self._at)
        if wanted and not data:
            # Fewer bytes than announced would leave the server waiting for the rest.
            raise OSError("the file became shorter while it was being sent")
        buffer[: len(data)] = data
        self._at += len(data)
        if self.paced and self._pace is not None:
            self._pace.keep(len(data))
        return len(data)

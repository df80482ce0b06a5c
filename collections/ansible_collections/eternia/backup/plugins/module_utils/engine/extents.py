# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What files take on the disk, where several may share one inode, or the blocks of a clone."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

# linux/fiemap.h: _IOWR('f', 11, struct fiemap)
_FIEMAP = 0xC020660B
_HEAD = struct.Struct("=QQIIII")
_EXTENT = struct.Struct("=QQQQQIIII")
_AT_ONCE = 512
_LAST = 0x0001
# Where an extent lies is not known, or not yet: UNKNOWN, DELALLOC, DATA_INLINE, DATA_TAIL.
_NOWHERE = 0x0002 | 0x0004 | 0x0200 | 0x0400
_SHARED = 0x2000


def disk_bytes(paths: Iterable[Path]) -> int:
    """How many bytes of the disk files take together: what several share counts once. What is gone counts nothing."""
    inodes: set[tuple[int, int]] = set()
    alone, shared = 0, []
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            facts = os.fstat(descriptor)
            if (facts.st_dev, facts.st_ino) not in inodes:
                inodes.add((facts.st_dev, facts.st_ino))
                its = list(_shared(descriptor))
                shared += its
                alone += facts.st_blocks * 512 - sum(end - start for start, end in its)
        finally:
            os.close(descriptor)
    return max(0, alone) + _union(shared)


def _shared(descriptor: int) -> Iterator[tuple[int, int]]:
    """Where on the disk those extents of a file begin and end that other files may have, too."""
    at = 0
    while True:
        buffer = bytearray(_HEAD.size + _AT_ONCE * _EXTENT.size)
        _HEAD.pack_into(buffer, 0, at, (1 << 64) - 1 - at, 0, 0, _AT_ONCE, 0)
        try:
            fcntl.ioctl(descriptor, _FIEMAP, buffer)
        except OSError:
            # A filesystem that does not tell has no clones either.
            return
        flags = _LAST
        for number in range(_HEAD.unpack_from(buffer)[3]):
            found = _EXTENT.unpack_from(buffer, _HEAD.size + number * _EXTENT.size)
            logical, physical, length, flags = found[0], found[1], found[2], found[5]
            if flags & _SHARED and not flags & _NOWHERE:
                yield physical, physical + length
            at = logical + length
        if flags & _LAST:
            return


def _union(intervals: Iterable[tuple[int, int]]) -> int:
    total = reached = 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes from one file to another, in the cheapest way that the filesystem has."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import files

# Told of so many bytes each time that some more are done.
Progress = Callable[[int], None]


def silent(_count: int) -> None:
    """The progress that nobody watches."""


# linux/fs.h: _IOW(0x94, 9, int)
_FICLONE = 0x40049409
_COPY_CHUNK = 64 << 20
# As ZFS answers for bytes that are not on the disk yet.
_NO_CLONE = {*files.NOT_SUPPORTED, errno.EAGAIN}
# The way of `copy_bytes` that takes no space.
REFLINK = "reflink"


def copy_bytes(source: int, target: int, size: int, *, flush_bytes: int = 0, progress: Progress = silent) -> str:
    """Copy the first `size` bytes between two open files in the cheapest way the filesystem has.

    With `flush_bytes` what was copied goes onto the disk each so many bytes, while the next so many are copied: never
    more than twice that is not there yet. A journalling filesystem may make somebody else's fsync wait for all of it.

    Returns the way taken: `reflink`, `copy_file_range` or `read`. Raises OSError, also where the source ends early.
    """
    way = _copy_bytes(source, target, size, flush_bytes, progress)
    if os.fstat(target).st_size != size:
        raise OSError(errno.EIO, f"only {os.fstat(target).st_size} of {size} bytes could be copied")
    return way


def clone(source: int, target: int, size: int) -> bool:
    """Have the first `size` bytes of an open file share the disk with another; False where that cannot be."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
        os.ftruncate(target, size)
        return True
    except OSError as exc:
        if exc.errno not in _NO_CLONE:
            raise
    return False


def _copy_bytes(source: int, target: int, size: int, flush_bytes: int, progress: Progress) -> str:
    if clone(source, target, size):
        progress(size)
        return REFLINK
    try:
        _copy_file_range(source, target, size, flush_bytes, progress)
        return "copy_file_range"
    except OSError as exc:
        if exc.errno not in files.NOT_SUPPORTED:
            raise
    _read_and_write(source, target, size, progress)
    return "read"


def _copy_file_range(source: int, target: int, size: int, flush_bytes: int, progress: Progress) -> None:
    # Typeshed and macOS know no such call; every Linux since 4.5 does.
    copy: Any = getattr(os, "copy_file_range", None)
    if copy is None:
        raise OSError(errno.ENOSYS, "no copy_file_range here")
    done = flushed = 0
    with _flusher(target) as flush:
        while done < size:
            count = copy(source, target, min(flush_bytes or _COPY_CHUNK, size - done), done, done)
            if count == 0:
                return
            done += count
            progress(count)
            if flush_bytes and done - flushed >= flush_bytes:
                flush()
                flushed = done


@contextmanager
def _flusher(target: int) -> Iterator[Callable[[], None]]:
    """Put what was written onto the disk while more is written: a flush waits for the one before, and raises for it."""
    going: list[threading.Thread] = []
    failures: list[OSError] = []

    def work() -> None:
        try:
            os.fdatasync(target)
        except OSError as exc:
            failures.append(exc)

    def wait() -> None:
        # It leaves the list only when it is done: an interrupt while we wait is followed by another wait.
        while going:
            going[0].join()
            going.clear()
        if failures:
            raise failures[0]

    def flush() -> None:
        wait()
        thread = threading.Thread(target=work)
        try:
            thread.start()
        except RuntimeError:
            # No more threads for this user: then one after the other.
            work()
        else:
            going.append(thread)

    try:
        yield flush
    finally:
        wait()


def _read_and_write(source: int, target: int, size: int, progress: Progress) -> None:
    done = 0
    while done < size:
        chunk = os.pread(source, min(1 << 20, size - done), done)
        if not chunk:
            return
        files.write_at(target, chunk, done)
        done += len(chunk)
        progress(len(chunk))


def link_or_copy(source: Path, target: Path) -> bool:
    """Give a file a second name, or copy it where that cannot be; True where it was linked. Raises OSError."""
    try:
        os.link(source, target, follow_symlinks=False)
        return True
    except OSError as exc:
        if exc.errno not in files.NOT_SUPPORTED:
            raise
    copy_file(source, target)
    return False


def copy_file(source: Path, target: Path, *, progress: Progress = silent) -> None:
    """Copy a file, no link, to a path that does not exist yet, mode 0600, onto the disk. Raises OSError."""
    with files.opened(files.open_plain(source)) as old, files.opened(files.make(target)) as new:
        copy_bytes(old, new, os.fstat(old).st_size, progress=progress)
        os.fsync(new)

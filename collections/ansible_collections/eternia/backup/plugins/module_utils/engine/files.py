# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on disk: durable, and under their final name only when they are whole."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import NameTakenError, StoreError

# Told of so many bytes each time that some more are done.
Progress = Callable[[int], None]


def silent(_count: int) -> None:
    """The progress that nobody watches."""


# linux/fs.h: _IOW(0x94, 9, int)
_FICLONE = 0x40049409
_COPY_CHUNK = 64 << 20
# More than any record, claim, hold or history has.
_MOST_OF_SMALL = 4 << 20
# The kernel's ways to say "not between these two files" rather than "this went wrong".
_NOT_SUPPORTED = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EPERM, errno.EBADF}
# As ZFS answers for bytes that are not on the disk yet.
_NO_CLONE = {*_NOT_SUPPORTED, errno.EAGAIN}
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
        if exc.errno not in _NOT_SUPPORTED:
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
        write_at(target, chunk, done)
        done += len(chunk)
        progress(len(chunk))


def write_at(target: int, data: bytes, offset: int) -> None:
    """Write all of `data`: a short write is continued, not overlooked."""
    view = memoryview(data)
    while view:
        count = os.pwrite(target, view, offset)
        view, offset = view[count:], offset + count


def fsync_path(path: Path) -> None:
    """Put a file's bytes, or a directory's names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make(
    path: Path | str,
    *,
    access: int = os.O_WRONLY,
    mode: int = 0o600,
    is_new: bool = True,
    within: int | None = None,
) -> int:
    """Open a file that may be made, never through a link; one that `is_new` must not exist yet. Raises OSError.

    `within` is an open directory, in which a path without one lies. What root makes in somebody's directory is his: he
    has to go on with it, by schedule for example.
    """
    # Nor is a FIFO waited for that somebody put in its place.
    flags = access | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_EXCL if is_new else 0)
    descriptor = os.open(path, flags, mode, dir_fd=within)
    try:
        _give(descriptor, Path(path).parent.stat() if within is None else os.fstat(within))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """An open file, which is closed afterwards."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_private_dir(path: Path) -> None:
    """Make a directory, mode 0700, for whom `make` would. Raises OSError."""
    path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _give(descriptor, path.parent.stat())
    finally:
        os.close(descriptor)


def _give(descriptor: int, his: os.stat_result) -> None:
    if os.geteuid() == 0:
        ours = os.fstat(descriptor)
        # Not what has another name: that is somebody's file already.
        is_made_here = ours.st_uid == 0 and (stat.S_ISDIR(ours.st_mode) or ours.st_nlink == 1)
        if is_made_here and his.st_uid != 0:
            os.fchown(descriptor, his.st_uid, his.st_gid)


def make_private_dirs(path: Path) -> None:
    """Create a directory and its missing parents, mode 0700. Raises StoreError naming the path and the reason."""
    try:
        missing = [step for step in (path, *path.parents) if not step.exists()]
        for step in reversed(missing):
            try:
                make_private_dir(step)
            except FileExistsError:
                if not step.is_dir():
                    raise
            fsync_path(step.parent)
        _require_directory(path)
    except OSError as exc:
        raise _unusable(path, exc) from exc


def require_usable(path: Path, *, of: str = "storage_path") -> Path:
    """Find out, without writing, whether a directory can be used or made; returns its nearest existing parent, or it.

    `of` is the key that says where it is. Raises StoreError as `make_private_dirs` would.
    """
    try:
        nearest = next((step for step in (path, *path.parents) if os.path.lexists(step)), Path(path.anchor))
        _require_directory(nearest)
        if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
            number = errno.EROFS if os.statvfs(nearest).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number))
    except OSError as exc:
        raise _unusable(path, exc, of) from exc
    return nearest


def _require_directory(path: Path) -> None:
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{path} is a file, not a directory")


def _unusable(path: Path, exc: OSError, of: str = "storage_path") -> StoreError:
    return StoreError(f"The directory {path} cannot be used: {reason(exc)}. Correct {of}, or the rights on that place.")


@contextmanager
def opened_in(directory: Path, name: str) -> Iterator[int]:
    """A file of a directory of ours, as a descriptor to read; neither is a symbolic link. Raises OSError."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(place).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"{directory} belongs to another user")
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def emptied(path: Path) -> Iterator[Path]:
    """An empty directory, mode 0700, gone afterwards. Whatever a crash left there goes first. Raises StoreError."""
    try:
        if os.path.lexists(path):
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise StoreError(f"{path} is not a directory. Remove it, then run again.")
            shutil.rmtree(path)
        make_private_dir(path)
    except OSError as exc:
        raise StoreError(
            f"{path} cannot be prepared: {reason(exc)}. Correct the rights on {path.parent}, or storage_path."
        ) from exc
    try:
        yield path
    finally:
        # Not even what it is told to ignore does it all ignore.
        with suppress(OSError):
            shutil.rmtree(path, ignore_errors=True)


def read_small(path: Path) -> bytes:
    """A small file of ours, in a directory that may be somebody else's. Raises OSError.

    Never through a link, never waiting for a FIFO, and never more than a file of ours can hold.
    """
    with opened(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)) as descriptor:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind_of(facts.st_mode)}, not a file")
        if facts.st_size > _MOST_OF_SMALL:
            raise OSError(errno.EFBIG, f"it has {facts.st_size} bytes, and nothing of ours is that large")
        return os.pread(descriptor, _MOST_OF_SMALL, 0)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, mode 0600, onto the disk. Raises OSError."""
    descriptor = make(path)
    try:
        write_at(descriptor, data, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes, *, staging: Path) -> None:
    """Write a small file so that a crash leaves the old one or the new one. Raises OSError."""
    staged = staging / path.name
    write_new(staged, data)
    os.replace(staged, path)
    fsync_path(path.parent)


def commit(staged: Path, final: Path) -> None:
    """Give a finished, fsynced file its final name; never overwrite. Raises NameTakenError, OSError.

    A hard link is the one call that names a file and fails where the name is taken; where a filesystem has no links,
    the lock on the store makes looking first good enough.
    """
    try:
        os.link(staged, final)
        staged.unlink()
    except FileExistsError as exc:
        raise NameTakenError(f"{final} exists already and is never overwritten. Run again.") from exc
    except OSError as exc:
        if exc.errno not in _NOT_SUPPORTED:
            raise
        if os.path.lexists(final):
            raise NameTakenError(f"{final} exists already and is never overwritten.") from exc
        os.rename(staged, final)
    fsync_path(final.parent)


def link_or_copy(source: Path, target: Path) -> bool:
    """Give a file a second name, or copy it where that cannot be; True where it was linked. Raises OSError."""
    try:
        os.link(source, target, follow_symlinks=False)
        return True
    except OSError as exc:
        if exc.errno not in _NOT_SUPPORTED:
            raise
    copy_file(source, target)
    return False


def copy_file(source: Path, target: Path, *, progress: Progress = silent) -> None:
    """Copy a file to a path that does not exist yet, mode 0600, onto the disk. Raises OSError."""
    with source.open("rb", buffering=0) as stream:
        descriptor = make(target)
        try:
            size = os.fstat(stream.fileno()).st_size
            copy_bytes(stream.fileno(), descriptor, size, progress=progress)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def free_bytes(directory: Path) -> int:
    """What is free on a directory's filesystem for this user, in bytes."""
    return shutil.disk_usage(directory).free


def need_space(directory: Path, size: int) -> None:
    """Refuse before the first byte is written. Raises StoreError with what is needed and what is free, in bytes."""
    free = free_bytes(directory)
    if free < size:
        raise StoreError(
            f"{directory} has {free:,} bytes free and {size:,} are needed. "
            "Free some space there, or move storage_path to a larger filesystem."
        )


def kind_of(mode: int) -> str:
    """What something is that is no file, for a message."""
    kinds = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((words for test, words in (*kinds, (stat.S_ISLNK, "a symbolic link")) if test(mode)), "a device")


def reason(exc: OSError) -> str:
    """The system's own words for an error, without its number."""
    words = exc.strerror or str(exc)
    return words[:1].lower() + words[1:]

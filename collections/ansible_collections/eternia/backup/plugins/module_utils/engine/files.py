# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on disk: durable, and under their final name only when they are whole."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from . import symlinks
from .errors import NameTakenError, StoreError

# More than any record, claim, hold or history has.
_MOST_OF_SMALL = 4 << 20
# The kernel's ways to say "not between these two files" rather than "this went wrong".
NOT_SUPPORTED = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EPERM, errno.EBADF}


def write_at(target: int, data: bytes, offset: int) -> None:
    """Write all of `data`: a short write is continued, not overlooked."""
    view = memoryview(data)
    while view:
        count = os.pwrite(target, view, offset)
        view, offset = view[count:], offset + count


def read_at(source: int, size: int, offset: int) -> bytes:
    """As many of `size` bytes as there are: a short read is continued, not taken for the end."""
    data = os.pread(source, size, offset)
    while 0 < len(data) < size and (more := os.pread(source, size - len(data), offset + len(data))):
        data += more
    return data


def fsync_path(path: Path) -> None:
    """Put a file's bytes, or a directory's names, onto the disk."""
    # A storage path may be a link; and what became a FIFO is not waited for.
    with opened(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as descriptor:
        os.fsync(descriptor)


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


def open_plain(path: Path | str, access: int = os.O_RDONLY, *, within: int | None = None) -> int:
    """Open a file that lies where somebody else may put what he likes: never through a link, never waiting for a FIFO.

    `within` as in `make`. Raises OSError, also for whatever is no file.
    """
    descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=within)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a file")
    return descriptor


def stream(path: Path) -> BufferedReader:
    """A file to be read from its beginning, opened as by `open_plain`. Raises OSError."""
    return os.fdopen(open_plain(path), "rb")


def let_go(descriptor: int) -> None:
    """Close what only held something, a lock for example: on Linux it is let go of however that ends.

    What was done meanwhile is done, and must not be called a failure.
    """
    with suppress(OSError):
        os.close(descriptor)


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """An open file, which is closed afterwards."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_private_dir(path: Path, *, is_his: bool = True) -> None:
    """Make a directory, mode 0700, for whom `make` would; one that is not his stays ours. Raises OSError.

    Whoever has the directory above sees of ours whether there is a name in it that he knows, and nothing else.
    """
    path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with opened(descriptor):
        if is_his:
            _give(descriptor, path.parent.stat())
        elif os.geteuid() == 0:
            os.fchmod(descriptor, 0o711)


def _give(descriptor: int, his: os.stat_result) -> None:
    if os.geteuid() == 0:
        ours = os.fstat(descriptor)
        # Not what has another name: that is somebody's file already.
        is_made_here = ours.st_uid == 0 and (stat.S_ISDIR(ours.st_mode) or ours.st_nlink == 1)
        if is_made_here and his.st_uid != 0:
            os.fchown(descriptor, his.st_uid, his.st_gid)


def require_followable(path: Path, *, of: str = "storage_path") -> None:
    """Refuse to go as root where another's link leads to what is not his. `of` is the key that says where it is.

    Raises StoreError.
    """
    try:
        astray = symlinks.astray(path, of)
    except OSError as exc:
        raise _unusable(path, exc, of) from exc
    if astray is not None:
        raise StoreError(astray)


def make_private_dirs(path: Path) -> None:
    """Create a directory and its missing parents, mode 0700. Raises StoreError naming the path and the reason."""
    require_followable(path)
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
    require_followable(path, of=of)
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
        require_ours(place, directory)
        descriptor = open_plain(name, within=place)
    finally:
        os.close(place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def require_ours(descriptor: int, path: Path) -> None:
    """Raises OSError where what was opened at a path is another user's: that proves nothing."""
    owner = os.fstat(descriptor).st_uid
    if owner != os.geteuid():
        raise PermissionError(errno.EPERM, f"{path} belongs to user {owner}, not to user {os.geteuid()} who runs this")


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
    with opened(open_plain(path)) as descriptor:
        return small(descriptor)


def small(descriptor: int, *, most: int = _MOST_OF_SMALL) -> bytes:
    """All of an open file, where it is as small as a file of ours, in bytes. Raises OSError."""
    size = os.fstat(descriptor).st_size
    if size > most:
        raise OSError(errno.EFBIG, f"it has {size} bytes, and nothing of ours is that large")
    return read_at(descriptor, size, 0)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, mode 0600, onto the disk. Raises OSError."""
    descriptor = make(path)
    try:
        write_at(descriptor, data, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes, *, staging: Path | None = None) -> None:
    """Write a small file so that a crash leaves the old one or the new one. Raises OSError.

    It lies in `staging` first, or beside `path` as `.name.new`: what a crash left of another there is removed.
    """
    staged = path.with_name(f".{path.name}.new") if staging is None else staging / path.name
    staged.unlink(missing_ok=True)
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
        if exc.errno not in NOT_SUPPORTED:
            raise
        if os.path.lexists(final):
            raise NameTakenError(f"{final} exists already and is never overwritten.") from exc
        os.rename(staged, final)
    fsync_path(final.parent)


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

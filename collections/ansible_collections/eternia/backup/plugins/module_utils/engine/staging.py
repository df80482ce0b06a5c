# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies fetched and proven beside a target, ready for the one rename that makes it live, or is still coming.

A restore may be done in two runs: the first fetches and proves while the application still works, the second finds what
was staged and has only the rename to do.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import documents, files, names, untrusted
from .errors import DamagedError, TargetError
from .identity import Identity
from .manifest import MOST_BYTES, Content, Digest, Manifest, Parts, from_json
from .target import Target

RECORD = "staged.json"
# Marks a fetch that is not done, and how long it may take somebody to go on with it.
_ARRIVING = "arriving"
_AWAITED_SECONDS = 24 * 3600
# A manifest, in quotes, and the facts.
_MOST_OF_RECORD = 4 * MOST_BYTES


@dataclass(frozen=True)
class Staged:
    """A proven file beside the target. `title` is what it was asked for by name, `location` where it came from.

    `manifest` is None for a legacy backup; `facts` were read from the file itself. As long as it is `untouched`, it is
    what was proven.
    """

    path: Path
    title: str
    location: str
    store: str
    content: Content
    facts: Mapping[str, Any]
    manifest: Manifest | None
    untouched: list[int]


def prepare(target: Target) -> None:
    """An empty staging directory beside the target, for one user. Only for the holder of the target's lock."""
    try:
        discard(target)
        _make(target)
    except OSError as exc:
        raise TargetError(
            f"{target.staging} cannot be prepared: {files.reason(exc)}. Correct the rights on {target.staging.parent}."
        ) from exc


class Arriving:
    """The staging of a fetch that may be gone on with when it is cut off: files that are open, by their names.

    All goes by one descriptor of the directory. Its owner may at any moment put a link to any place of the host where
    it was, and root must not write there.
    """

    def __init__(self, place: int, descriptors: dict[str, int]) -> None:
        self._place, self._descriptors = place, descriptors

    def descriptor(self, name: str) -> int:
        """The file with this name, to be read and written."""
        return self._descriptors[name]

    @property
    def bytes(self) -> int:
        """How much of the disk the files have."""
        return sum(os.fstat(descriptor).st_blocks * 512 for descriptor in self._descriptors.values())

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._place)


@contextmanager
def arriving(target: Target, names: Collection[str]) -> Iterator[Arriving]:
    """The staging with these files alone: as an earlier fetch left them, or empty. Only for the holder of the lock."""
    with ExitStack() as opened:
        try:
            place = _begun(target, opened, {*names, _ARRIVING})
            os.close(_file(place, _ARRIVING))
            descriptors = {name: opened.enter_context(files.opened(_file(place, name))) for name in names}
        except OSError as exc:
            raise TargetError(
                f"{target.staging} cannot be prepared: {files.reason(exc)}. Correct the rights on "
                f"{target.staging.parent}."
            ) from exc
        yield Arriving(place, descriptors)


def _begun(target: Target, opened: ExitStack, names: Collection[str]) -> int:
    """The staging directory, open: one that is there, where it is as `prepare` makes it, or a new one."""
    with suppress(OSError):
        place = opened.enter_context(files.opened(_directory(target)))
        kinds = {name: os.stat(name, dir_fd=place, follow_symlinks=False).st_mode for name in os.listdir(place)}
        # With directories in it, it is of no fetch.
        if not any(map(stat.S_ISDIR, kinds.values())):
            for name in kinds.keys() - names:
                os.unlink(name, dir_fd=place)
            return place
    discard(target)
    _make(target)
    return opened.enter_context(files.opened(_directory(target)))


def _make(target: Target) -> None:
    # What is going to be live stays ours, so that nobody else changes what was proven.
    files.make_private_dir(target.staging, is_his=not target.is_live)


def _directory(target: Target) -> int:
    """Raises OSError where somebody else could have put there what he likes: that proves nothing."""
    descriptor = os.open(target.staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    facts = os.fstat(descriptor)
    owners = {os.geteuid()} if target.is_live else _owners(target.staging.parent.stat())
    if facts.st_uid in owners and facts.st_mode & 0o066 == 0:
        return descriptor
    os.close(descriptor)
    raise PermissionError(errno.EPERM, f"{target.staging} belongs to another user")


def _file(place: int, name: str) -> int:
    """One that was left, where it is nobody else's and has no other name; otherwise a new one."""
    with suppress(OSError):
        descriptor = files.open_plain(name, os.O_RDWR, within=place)
        facts = os.fstat(descriptor)
        if facts.st_nlink == 1 and facts.st_uid in _owners(os.fstat(place)):
            return descriptor
        os.close(descriptor)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=place)
    return files.make(name, access=os.O_RDWR, within=place)


def _owners(place: os.stat_result) -> set[int]:
    """Whose what lies there may be: ours, and where we are root of him whose the place is."""
    return {os.geteuid()} if os.geteuid() != 0 else {0, place.st_uid}


def is_awaited(target: Target) -> bool:
    """Whether a fetch was cut off lately, whose rest may come yet."""
    with suppress(OSError):
        marked = (target.staging / _ARRIVING).lstat().st_mtime
        newest = max(path.lstat().st_mtime for path in target.staging.iterdir())
        return not (target.staging / RECORD).exists() and abs(time.time() - max(marked, newest)) < _AWAITED_SECONDS
    return False


def take(target: Target, staged: Staged) -> None:
    """Let nobody else change what is staged from here on. Raises OSError where it is not what was proven.

    A live target's staging is ours alone already, but somebody else's is the directory that it lies in.
    """
    if os.geteuid() == 0:
        os.chown(target.staging, 0, 0, follow_symlinks=False)
    with files.opened_in(target.staging, staged.path.name):
        if untouched(staged.path) != staged.untouched:
            raise PermissionError(errno.EPERM, "somebody put another file in the place of what was proven")


def discard(target: Target) -> None:
    """Remove what is staged. Raises OSError."""
    if not os.path.lexists(target.staging):
        return
    # Of a FIFO, rmtree would wait for somebody to write to it.
    facts = target.staging.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise NotADirectoryError(f"{target.staging} is not a directory; remove it")
    if os.geteuid() not in (0, facts.st_uid):
        raise PermissionError(f"a restore of user {facts.st_uid} left it; go on as that user, or have it removed")
    shutil.rmtree(target.staging)


def record(target: Target, staged: Staged) -> None:
    """Remember that it was proven, for a later run. Raises TargetError."""
    fields = {
        "title": staged.title,
        "location": staged.location,
        "store": staged.store,
        "bytes": staged.content.bytes,
        "digest": [staged.content.digest.algorithm, staged.content.digest.value],
        "facts": staged.facts,
        "manifest": None if staged.manifest is None else staged.manifest.to_json().decode(),
        "file": staged.path.name,
        "untouched": staged.untouched,
        "origin": _origin(staged.location),
    }
    try:
        documents.write(target.staging / RECORD, fields)
    except OSError as exc:
        raise TargetError(
            f"{target.staging / RECORD} could not be written: {files.reason(exc)}. Nothing was changed. Free some "
            "space or correct the rights there, then run again."
        ) from exc


def find(target: Target, location: str) -> Staged | None:
    """What an earlier run staged from this very place, if nobody touched either since; else None."""
    with suppress(OSError, DamagedError, *documents.BENT):
        with files.opened_in(target.staging, RECORD) as descriptor:
            fields = json.loads(files.small(descriptor, most=_MOST_OF_RECORD))
        path = target.staging / Path(fields["file"]).name
        if fields["location"] != location or fields["untouched"] != untouched(path) or path.is_symlink():
            return None
        if fields["origin"] != _origin(location):
            return None
        title = fields["title"]
        raw, name = fields["manifest"], names.parse(title)
        manifest = None
        if raw is not None and name is not None:
            manifest = from_json(raw.encode(), name=name, where=str(target.staging / RECORD))
        size, facts, store = fields["bytes"], untrusted.facts(fields["facts"]), fields["store"]
        if not (isinstance(size, int) and size >= 0 and isinstance(store, str)):
            return None
        content = Content(size, Digest(*fields["digest"]), Parts(0, ()))
        return Staged(path, title, fields["location"], store, content, facts, manifest, fields["untouched"])
    return None


def _origin(location: str) -> list[int] | None:
    """The file that it was fetched from, as `untouched`; None for an object in S3, which is never overwritten."""
    return untouched(Path(location)) if os.path.isabs(location) else None


def untouched(path: Path) -> list[int]:
    """What changes whenever somebody writes to a file, or puts another in its place; its times can be set."""
    facts = path.lstat()
    return [*Identity.from_stat(facts), facts.st_ctime_ns]

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local store: a directory that holds backups as plain files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from .. import copying, files, manifest, names, verify
from ..copying import Progress
from ..errors import DamagedError, NotFoundError, StoreError
from ..manifest import Manifest
from ..names import DRILLED_SUFFIX, MANIFEST_SUFFIX, PIN_SUFFIX, SEEN_SUFFIX, SIDECAR_SUFFIXES, BackupName, Kind
from .base import Copy, group

_STAGING = ".staging"


class LocalStore:
    """Backups in `path`. Nothing is made or changed there before the first `staging` or `put`."""

    at_once = 1

    def __init__(self, path: Path, name: str = "local") -> None:
        self.path = path
        self.name = name

    def location(self, name: BackupName | str) -> str:
        return str(self.path / str(name))

    def copies(self, of: BackupName | None = None) -> Iterator[Copy]:
        try:
            with os.scandir(self.path) as entries:
                found = [(entry.name, size) for entry in entries if (size := _file_bytes(entry)) is not None]
        except FileNotFoundError:
            return iter(())
        except OSError as exc:
            raise StoreError(
                f"{self.path} cannot be listed: {files.reason(exc)}. Correct storage_path, or the rights on it."
            ) from exc
        return (copy for copy in group(sorted(found)) if of in (None, copy.name))

    def manifest(self, name: BackupName) -> Manifest:
        try:
            with self._opened(f"{name}{MANIFEST_SUFFIX}") as stream:
                raw = stream.read(manifest.MOST_BYTES + 1)
        except OSError as exc:
            where = self.location(f"{name}{MANIFEST_SUFFIX}")
            raise DamagedError(f"{where} cannot be read: {files.reason(exc)}. Look at the disk.") from exc
        return manifest.from_json(raw, name=name, where=self.location(f"{name}{MANIFEST_SUFFIX}"))

    def open(self, name: BackupName) -> BinaryIO:
        return self._opened(str(name))

    def fetch(self, copy: Copy, target: Path, progress: Progress) -> None:
        with self._opened(str(copy.name)) as stream:
            descriptor = files.make(target, access=os.O_RDWR)
            try:
                copying.copy_bytes(stream.fileno(), descriptor, os.fstat(stream.fileno()).st_size, progress=progress)
            finally:
                os.close(descriptor)

    def put(self, path: Path, manifest: Manifest) -> None:
        """Bring in a finished, fsynced file that lies in this store's staging, and then its manifest."""
        staged_manifest = path.with_name(f"{manifest.name}{MANIFEST_SUFFIX}")
        try:
            files.write_new(staged_manifest, manifest.to_json())
            files.commit(path, self.path / manifest.name)
            files.commit(staged_manifest, self.path / staged_manifest.name)
        except OSError as exc:
            raise StoreError(
                f"{self.location(manifest.name)} could not be stored: {files.reason(exc)}. "
                "Free some space or correct the rights on storage_path, then run again."
            ) from exc

    def share(self, name: BackupName, earlier: BackupName, *, staging: Path) -> None:
        """Have a backup lie in the file of an earlier one that holds the same bytes. Raises StoreError."""
        path = staging / str(name)
        try:
            os.link(self.path / str(earlier), path, follow_symlinks=False)
            os.replace(path, self.path / str(name))
            files.fsync_path(self.path)
        except OSError as exc:
            raise StoreError(
                f"{self.location(name)} cannot share a file with {earlier}: {files.reason(exc)}. It is whole, and "
                "takes a space of its own."
            ) from exc

    def prove(self, copy: Copy) -> None:
        verify.read_back(self, copy)

    def remove(self, names: Sequence[BackupName]) -> Iterator[BackupName]:
        for name in names:
            # Whoever pins one while others go, with a command of the shell, must find it there.
            if not os.path.lexists(self.path / f"{name}{PIN_SUFFIX}"):
                self._remove(name)
                yield name

    def _remove(self, name: BackupName) -> None:
        try:
            (self.path / f"{name}{MANIFEST_SUFFIX}").unlink(missing_ok=True)
            # A crash from here on leaves a backup that says itself that it is no longer whole.
            files.fsync_path(self.path)
            for suffix in ("", *SIDECAR_SUFFIXES):
                (self.path / f"{name}{suffix}").unlink(missing_ok=True)
            files.fsync_path(self.path)
        except OSError as exc:
            raise StoreError(
                f"{self.location(name)} could not be removed: {files.reason(exc)}. Correct the rights on {self.path}."
            ) from exc

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty directory on the same filesystem, gone afterwards. Whatever a crash left there goes first.

        Only for the holder of the lock.
        """
        with files.emptied(self.path / _STAGING) as path:
            yield path

    def tidy(self) -> None:
        """Remove what a crash left in staging. Only for the holder of the lock. Raises StoreError."""
        if os.path.lexists(self.path / _STAGING):
            with self.staging():
                pass

    def mark_seen(self, name: BackupName, moment: datetime, *, staging: Path) -> None:
        """Record that the source still had this backup's content at `moment`."""
        record = json.dumps({"unchanged_at": names.iso(moment)}) + "\n"
        try:
            files.replace(self.path / f"{name}{SEEN_SUFFIX}", record.encode(), staging=staging)
        except OSError as exc:
            raise StoreError(
                f"The record beside {self.location(name)} could not be written: {files.reason(exc)}. Run again."
            ) from exc

    def seen(self, name: BackupName) -> datetime | None:
        """When the source was last found to have this backup's content; None where nobody looked since."""
        try:
            with self._opened(f"{name}{SEEN_SUFFIX}") as stream:
                return names.from_iso(json.loads(stream.read(1000))["unchanged_at"])
        except (StoreError, OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def mark_drilled(self, copy: Copy, mark: bytes, *, staging: Path) -> None:
        path = self.path / f"{copy.name}{DRILLED_SUFFIX}"
        try:
            files.replace(path, mark, staging=staging)
            if not (self.path / f"{copy.name}{MANIFEST_SUFFIX}").exists():
                # Pruned a moment ago: a mark alone would stay for ever.
                path.unlink(missing_ok=True)
        except OSError as exc:
            raise StoreError(f"{path} could not be written: {files.reason(exc)}. Correct the rights there.") from exc

    def unmark_drilled(self, name: BackupName) -> None:
        """Take the mark away from a copy that no longer comes back."""
        path = self.path / f"{name}{DRILLED_SUFFIX}"
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise StoreError(f"{path} could not be removed: {files.reason(exc)}. Remove it.") from exc

    def _opened(self, name: str) -> BinaryIO:
        path = self.path / name
        try:
            # Never through a link, and never waiting for a FIFO that somebody put there.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError as exc:
            raise NotFoundError(f"{path} does not exist. Choose another backup.") from exc
        except OSError as exc:
            raise StoreError(f"{path} cannot be read: {files.reason(exc)}. Correct the rights on it.") from exc
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StoreError(f"{path} is not a file. Look at it; nothing of ours makes such a thing.")
        return os.fdopen(descriptor, "rb")


class SingleFile(LocalStore):
    """One file by its path, whatever its name is: a backup without a manifest, as old as the file."""

    def __init__(self, path: Path, kind: Kind) -> None:
        super().__init__(path.parent, name="file")
        self._file = path
        self._kind = kind

    def location(self, name: BackupName | str) -> str:
        return str(self._file)

    def copies(self, of: BackupName | None = None) -> Iterator[Copy]:
        facts = self._file.stat()
        taken = datetime.fromtimestamp(int(facts.st_mtime), tz=timezone.utc)
        yield Copy(BackupName(taken, self._kind), facts.st_size, has_manifest=False)

    def _opened(self, name: str) -> BinaryIO:
        return super()._opened(self._file.name)


def _file_bytes(entry: os.DirEntry[str]) -> int | None:
    """The size of a file; None for what is none, or is gone since the directory was read."""
    try:
        return entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else None
    except FileNotFoundError:
        return None

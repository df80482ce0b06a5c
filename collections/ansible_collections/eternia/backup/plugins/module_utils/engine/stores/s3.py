# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The S3 store: the backups of one host under one prefix of a bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import files, verify
from ..copying import Progress
from ..errors import DamagedError
from ..manifest import Digest, Manifest, Transfer
from ..names import DRILLED_SUFFIX, MANIFEST_SUFFIX, PIN_SUFFIX, SIDECAR_SUFFIXES, BackupName
from ..parts import Part
from . import s3_download, s3_lock, s3_open
from .base import CLAIM, S3, Copy, Owner, group
from .s3_claim import Claim
from .s3_create import refuses_wrong_bytes
from .s3_errors import S3Error
from .s3_lock import Lock
from .s3_objects import Objects
from .s3_put import Put
from .s3_settings import S3Settings
from .s3_versions import Versions

if TYPE_CHECKING:
    from ..promises import Finding

_BESIDE_MANIFEST = ("", *(suffix for suffix in SIDECAR_SUFFIXES if suffix != MANIFEST_SUFFIX))
# Backups of which all can be deleted by two requests, of 1,000 keys at most:
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_AT_ONCE = 1000 // len(_BESIDE_MANIFEST)

# What a store is tried with; in none that keeps its word does it ever appear.
_PROBE = "eternia_backup.probe"


class S3Store:
    """Backups under `settings.prefix`. Nothing is asked of S3 before the first call, no backup sent before `claim`."""

    name = S3
    at_once = _AT_ONCE

    def __init__(self, settings: S3Settings) -> None:
        self._objects = Objects(settings)
        self._client = self._objects.client
        self.versions = Versions(self._client, self._objects.key(""))
        self._claim = Claim(self.location(CLAIM), self._client.location(settings.prefix))

    @property
    def create_only(self) -> bool | None:
        """Whether the store was seen to refuse to overwrite; None before `claim` tried it."""
        return self._objects.create_only

    def location(self, name: BackupName | str) -> str:
        return self._objects.location(name)

    def copies(self, of: BackupName | None = None) -> Iterator[Copy]:
        folder = self._objects.key("")
        entries = self._client.entries(self._objects.key("eternia_" if of is None else of))
        found = group((key[len(folder) :], size) for key, size in entries)
        return (copy for copy in found if of in (None, copy.name))

    def manifest(self, name: BackupName) -> Manifest:
        return self._objects.manifest(name)

    def open(self, name: BackupName) -> BinaryIO:
        try:
            return self._client.open(self._objects.key(name))
        except S3Error as exc:
            if exc.code != "NoSuchKey":
                raise
            raise self._objects.missing(name) from exc

    def fetch(self, copy: Copy, target: Path, progress: Progress) -> None:
        with files.opened(files.make(target, access=os.O_RDWR)) as descriptor:
            s3_download.fetch(self._client, self._objects.key(copy.name), self._head_of(copy), descriptor, progress)

    def fetch_parts(self, copy: Copy, target: int, parts: Sequence[Part], progress: Progress) -> None:
        """Bring those parts of what is stored to their places in an open file. Raises as `fetch`."""
        s3_download.fetch(self._client, self._objects.key(copy.name), self._head_of(copy), target, progress, parts)

    def _head_of(self, copy: Copy) -> dict[str, Any]:
        head = self._objects.head(copy.name)
        if head is None:
            raise self._objects.missing(copy.name)
        # There is space for what was listed.
        if head["ContentLength"] != copy.bytes:
            raise DamagedError(
                f"{self.location(copy.name)} is damaged: it has {head['ContentLength']} bytes, and was listed with "
                f"{copy.bytes}. Choose another backup."
            )
        return head

    def claim(self, owner: Owner) -> bool:
        """Make the prefix the owner's, or see that it is, and find out whether the store keeps create-only.

        Some stores answer 200 to a conditional put and overwrite all the same; here that changes no byte. Returns False
        for those. Raises StoreError where the prefix belongs to somebody else, or the bucket lacks a lock.
        """
        objects = self._objects
        objects.create_only = None
        self.require_lock()
        raw = objects.read(CLAIM)
        if raw is None:
            self._require_empty(owner)
            checks = refuses_wrong_bytes(self._client, objects.key(_PROBE), self._client.settings.encryption)
            raw = self._claim.made(owner, checks=checks)
            # Where another host was faster, what it wrote is what counts.
            objects.created(CLAIM, raw)
            raw = objects.read(CLAIM) or raw
        objects.checks = self._claim.require(raw, owner)
        objects.create_only = not objects.created(CLAIM, raw)
        return objects.create_only

    def claimed(self, owner: Owner) -> bool:
        """Whether the prefix is the owner's; False where no run has claimed it yet. Reads only.

        Raises StoreError where it belongs to somebody else.
        """
        raw = self._objects.read(CLAIM)
        if raw is not None:
            self._objects.checks = self._claim.require(raw, owner)
        return raw is not None

    def promises(self) -> tuple[list[Finding], str]:
        """What the store keeps of what backups rely on, tried just now, and what of that stays there. Writes."""
        # A run does without it, and starts every hour.
        from . import s3_check

        return s3_check.look(self._objects, wrong=_PROBE)

    def prove(self, copy: Copy) -> None:
        """By the checksum that S3 keeps of the whole object, or by reading it back."""
        manifest = verify.manifest_of(self, copy)
        if self._objects.checks is None:
            raw = self._objects.read(CLAIM)
            self._objects.checks = raw is not None and self._claim.checks(raw)
        _how, difference = self._objects.compared(self._objects.head(copy.name), manifest)
        if difference:
            raise DamagedError(f"{self.location(copy.name)} is damaged: {difference}. Choose another backup.")

    def put(
        self,
        path: Path,
        manifest: Manifest,
        *,
        base: BackupName | None = None,
        base_digest: Digest | None = None,
        lock_until: datetime | None = None,
    ) -> Transfer:
        """Bring in the finished file at `path` and then, when it lies there whole, its manifest. `claim` comes first.

        Where `base`, an earlier backup here whose stored bytes have `base_digest`, has parts in common with it, only
        the others travel. Both are locked.

        Never overwrites: raises NameTakenError where the name holds anything else. What lies there already is proven,
        not sent, so that a put that was cut off is finished by putting the same backup again.
        """
        lock = s3_lock.options(self._client, lock_until)
        return Put(self._objects, path, manifest, lock).run(base, base_digest)

    def require_lock(self) -> None:
        """Refuse a bucket that locks nothing, where backups are to be locked; reads only. Raises StoreError."""
        s3_lock.require(self._client)

    def lock_of(self, name: BackupName) -> Lock | None:
        """What holds data and manifest both; None where one is not locked, or is not there. Raises S3Error."""
        return s3_lock.weakest(self._locks(name))

    def partly_locked_until(self, name: BackupName) -> datetime | None:
        """Until when data or manifest is locked, whichever longer; None where neither is. Raises S3Error."""
        return max((lock.until for lock in self._locks(name) if lock is not None), default=None)

    def _locks(self, name: BackupName) -> list[Lock | None]:
        return [s3_lock.of(self._client, self._objects.key(f"{name}{one}")) for one in ("", MANIFEST_SUFFIX)]

    def lock(self, name: BackupName, until: datetime, *, expected: Manifest | None = None) -> None:
        """Have nobody delete a backup before then.

        Raises S3Error, and DamagedError or NotFoundError where it is not what its manifest describes, or that does not
        say what another copy's does, `expected`: what somebody put on top of a backup is not worth a lock.
        `claim` or `claimed` comes first.
        """
        manifest, head = self.manifest(name), self._objects.head(name)
        if expected is not None and not manifest.describes_same(expected):
            difference = f"it has the {manifest.stored.digest}, the one on the disk {expected.stored.digest}"
            if manifest.stored.digest == expected.stored.digest:
                difference = "its manifest tells something else of the same bytes than the one on the disk"
        else:
            _how, difference = self._objects.compared(head, manifest)
        if difference:
            raise DamagedError(f"{self.location(name)} is damaged: {difference}. Look at its versions there.")
        for suffix in ("", MANIFEST_SUFFIX):
            s3_lock.extend(self._client, self._objects.key(f"{name}{suffix}"), until)

    def give_up_open(self) -> int:
        """Give up the uploads that killed runs of this host left open; how many there were. `claim` comes first.

        Only for the holder of the storage's lock, when all that is to be sent was sent.
        """
        return sum(one.give_up(self._client) for one in s3_open.find(self._client, self._objects.key("")))

    def mark_drilled(self, copy: Copy, mark: bytes, *, staging: Path) -> None:
        # The first mark stays: a host's key may be allowed to create and not to overwrite.
        if not copy.drilled and self._objects.head(f"{copy.name}{MANIFEST_SUFFIX}") is not None:
            self._put_beside(f"{copy.name}{DRILLED_SUFFIX}", mark)

    def pin(self, name: BackupName) -> None:
        """Put a pin beside a backup, or let the one stay that is there. `claim` comes first. Raises StoreError."""
        # Not locked: whoever lets go of the backup removes it.
        self._put_beside(f"{name}{PIN_SUFFIX}", b"")

    def _put_beside(self, name: str, body: bytes) -> None:
        if not self._objects.created(name, body) and self._objects.head(name) is None:
            raise self._objects.denied(name)

    def remove(self, names: Sequence[BackupName]) -> Iterator[BackupName]:
        for at in range(0, len(names), self.at_once):
            batch = names[at : at + self.at_once]
            kept = self._delete(batch, (MANIFEST_SUFFIX,))
            bare = [name for name in batch if name not in kept]
            kept |= self._delete(bare, _BESIDE_MANIFEST) if bare else {}
            yield from (name for name in batch if name not in kept)
            if kept:
                raise min(kept.items())[1]

    def _delete(self, names: Sequence[BackupName], suffixes: Sequence[str]) -> dict[BackupName, S3Error]:
        """Delete those objects of some backups in one request; why what is still there is, by backup."""
        of = {self._objects.key(f"{name}{suffix}"): name for name in names for suffix in suffixes}
        refused = self._client.delete([(key, None) for key in of])
        return {of[key]: why for (key, _version), why in refused.items()}

    def _require_empty(self, owner: Owner) -> None:
        """Refuse a prefix without a claim where the newest backup says that it is somebody else's."""
        newest = max((copy.name for copy in self.copies() if copy.verified), default=None)
        if newest is not None:
            manifest = self.manifest(newest)
            if (manifest.environment, manifest.host) != (owner.environment, owner.host):
                raise self._claim.refusal(Owner(manifest.environment, manifest.host, "by its newest manifest"), owner)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The S3 store: the backups of one host under one prefix of a bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import digest, files, verify
from ..copying import Progress
from ..errors import DamagedError, NameTakenError, NotFoundError, StoreError
from ..manifest import MOST_BYTES, Digest, Manifest, Transfer, from_json
from ..names import DRILLED_SUFFIX, MANIFEST_SUFFIX, SIDECAR_SUFFIXES, BackupName
from ..parts import Part
from . import s3_delta, s3_download, s3_lock, s3_open
from .base import CLAIM, S3, Copy, Owner, group
from .s3_claim import Claim
from .s3_client import S3Client
from .s3_create import again_after_conflict, created, refuses_wrong_bytes
from .s3_errors import S3Error
from .s3_settings import S3Settings
from .s3_upload import CRC64NVME, Rung, Upload, ladder, send
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
        self._settings = settings
        self._client = S3Client(settings)
        self._encryption = _without_none(ServerSideEncryption=settings.sse, SSEKMSKeyId=settings.kms_key_id)
        # Only the data: a manifest in a cold storage class could not be read.
        self._options = {**self._encryption, **_without_none(StorageClass=settings.storage_class)}
        self.create_only: bool | None = None
        self._checks: bool | None = None
        self.versions = Versions(self._client, self._key(""))
        self._claim = Claim(self.location(CLAIM), self._client.location(settings.prefix))

    def location(self, name: BackupName | str) -> str:
        return self._client.location(self._key(name))

    def copies(self, of: BackupName | None = None) -> Iterator[Copy]:
        folder = self._key("")
        entries = self._client.entries(self._key("eternia_" if of is None else of))
        found = group((key[len(folder) :], size) for key, size in entries)
        return (copy for copy in found if of in (None, copy.name))

    def manifest(self, name: BackupName) -> Manifest:
        sidecar = f"{name}{MANIFEST_SUFFIX}"
        raw = self._get(sidecar)
        if raw is None:
            raise NotFoundError(f"{self.location(sidecar)} does not exist. Choose another backup.")
        return from_json(raw, name=name, where=self.location(sidecar))

    def open(self, name: BackupName) -> BinaryIO:
        try:
            return self._client.open(self._key(name))
        except S3Error as exc:
            if exc.code != "NoSuchKey":
                raise
            raise NotFoundError(f"{self.location(name)} does not exist. Choose another backup.") from exc

    def fetch(self, copy: Copy, target: Path, progress: Progress) -> None:
        with files.opened(files.make(target, access=os.O_RDWR)) as descriptor:
            s3_download.fetch(self._client, self._key(copy.name), self._head_of(copy), descriptor, progress)

    def fetch_parts(self, copy: Copy, target: int, parts: Sequence[Part], progress: Progress) -> None:
        """Bring those parts of what is stored to their places in an open file. Raises as `fetch`."""
        s3_download.fetch(self._client, self._key(copy.name), self._head_of(copy), target, progress, parts)

    def _head_of(self, copy: Copy) -> dict[str, Any]:
        head = self._head(str(copy.name))
        if head is None:
            raise NotFoundError(f"{self.location(copy.name)} does not exist. Choose another backup.")
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
        self.create_only = None
        self.require_lock()
        raw = self._get(CLAIM)
        if raw is None:
            self._require_empty(owner)
            raw = self._claim.made(owner, checks=refuses_wrong_bytes(self._client, self._key(_PROBE), self._encryption))
            # Where another host was faster, what it wrote is what counts.
            self._created(CLAIM, raw)
            raw = self._get(CLAIM) or raw
        self._checks = self._claim.require(raw, owner)
        self.create_only = not self._created(CLAIM, raw)
        return self.create_only

    def claimed(self, owner: Owner) -> bool:
        """Whether the prefix is the owner's; False where no run has claimed it yet. Reads only.

        Raises StoreError where it belongs to somebody else.
        """
        raw = self._get(CLAIM)
        if raw is not None:
            self._checks = self._claim.require(raw, owner)
        return raw is not None

    def promises(self) -> tuple[list[Finding], str]:
        """What the store keeps of what backups rely on, tried just now, and what of that stays there. Writes."""
        # A run does without it, and starts every hour.
        from . import s3_check

        return s3_check.look(self._client, self._key, self._encryption, wrong=_PROBE)

    def prove(self, copy: Copy) -> None:
        """By the checksum that S3 keeps of the whole object, or by reading it back."""
        manifest = verify.manifest_of(self, copy)
        if self._checks is None:
            raw = self._get(CLAIM)
            self._checks = raw is not None and self._claim.checks(raw)
        head = self._head(manifest.name)
        difference = "it is gone" if head is None else self._compared(head, manifest)[1]
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
        if self.create_only is None:
            raise RuntimeError("S3Store.put before S3Store.claim")
        recorded = self._recorded(manifest)
        head = self._head(manifest.name)
        if head is None:
            transfer = self._send(path, manifest, self._base(base, base_digest, manifest), lock_until)
        elif recorded is not None and recorded.transfer and head["ContentLength"] == manifest.stored.bytes:
            return replace(recorded.transfer, bytes_sent=0, bytes_copied=0)
        else:
            transfer = self._adopted(head, manifest)
        if recorded is None:
            self._put_manifest(manifest.with_transfer(transfer), lock_until)
        return transfer

    def require_lock(self) -> None:
        """Refuse a bucket that locks nothing, where backups are to be locked; reads only. Raises StoreError."""
        s3_lock.require(self._client)

    def locked_until(self, name: BackupName) -> datetime | None:
        """Until when data and manifest both are locked; None where one is not, or is not there. Raises S3Error."""
        ends = self._lock_ends(name)
        return None if None in ends else min(filter(None, ends))

    def partly_locked_until(self, name: BackupName) -> datetime | None:
        """Until when data or manifest is locked, whichever longer; None where neither is. Raises S3Error."""
        return max(filter(None, self._lock_ends(name)), default=None)

    def _lock_ends(self, name: BackupName) -> list[datetime | None]:
        return [s3_lock.end(self._client, self._key(f"{name}{suffix}")) for suffix in ("", MANIFEST_SUFFIX)]

    def lock(self, name: BackupName, until: datetime, *, expected: Manifest | None = None) -> None:
        """Have nobody delete a backup before then.

        Raises S3Error, and DamagedError or NotFoundError where it is not what its manifest describes, or that does not
        say what another copy's does, `expected`: what somebody put on top of a backup is not worth a lock.
        `claim` or `claimed` comes first.
        """
        manifest, head = self.manifest(name), self._head(str(name))
        if expected is not None and not manifest.describes_same(expected):
            difference = f"it has the {_words(manifest)}, the one on the disk {_words(expected)}"
            if manifest.stored.digest == expected.stored.digest:
                difference = "its manifest tells something else of the same bytes than the one on the disk"
        else:
            difference = "it is gone" if head is None else self._compared(head, manifest)[1]
        if difference:
            raise DamagedError(f"{self.location(name)} is damaged: {difference}. Look at its versions there.")
        for suffix in ("", MANIFEST_SUFFIX):
            s3_lock.extend(self._client, self._key(f"{name}{suffix}"), until)

    def give_up_open(self) -> int:
        """Give up the uploads that killed runs of this host left open; how many there were. `claim` comes first.

        Only for the holder of the storage's lock, when all that is to be sent was sent.
        """
        return sum(one.give_up(self._client) for one in s3_open.find(self._client, self._key("")))

    def mark_drilled(self, copy: Copy, mark: bytes, *, staging: Path) -> None:
        # The first mark stays: a host's key may be allowed to create and not to overwrite.
        name = f"{copy.name}{DRILLED_SUFFIX}"
        if copy.drilled or self._head(f"{copy.name}{MANIFEST_SUFFIX}") is None:
            return
        if not self._created(name, mark) and self._head(name) is None:
            raise self._denied(name)

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
        of = {self._key(f"{name}{suffix}"): name for name in names for suffix in suffixes}
        refused = self._client.delete([(key, None) for key in of])
        return {of[key]: why for (key, _version), why in refused.items()}

    def _key(self, name: BackupName | str) -> str:
        return f"{self._settings.prefix}/{name}" if self._settings.prefix else str(name)

    def _get(self, name: str) -> bytes | None:
        try:
            with self._client.open(self._key(name)) as body:
                return body.read(MOST_BYTES + 1)
        except S3Error as exc:
            if exc.code != "NoSuchKey":
                raise
            return None

    def _head(self, name: str) -> dict[str, Any] | None:
        try:
            return self._client.call("head_object", self._key(name), ChecksumMode="ENABLED")
        except S3Error as exc:
            if exc.code != "NoSuchKey":
                raise
            return None

    def _created(self, name: str, body: bytes, lock: Mapping[str, Any] | None = None) -> bool:
        """Put a small object; False where the store kept the one that was there."""
        options = {**self._encryption, **(lock or {})}
        return created(self._client, self._key(name), body, options, before=lambda: self._see_it_free(name))

    def _require_empty(self, owner: Owner) -> None:
        """Refuse a prefix without a claim where the newest backup says that it is somebody else's."""
        newest = max((copy.name for copy in self.copies() if copy.verified), default=None)
        if newest is not None:
            manifest = self.manifest(newest)
            if (manifest.environment, manifest.host) != (owner.environment, owner.host):
                raise self._claim.refusal(Owner(manifest.environment, manifest.host, "by its newest manifest"), owner)

    def _recorded(self, manifest: Manifest) -> Manifest | None:
        """The manifest that an earlier put of the same backup left; None where there is none."""
        try:
            found = self.manifest(manifest.backup_name)
        except NotFoundError:
            return None
        except DamagedError as exc:
            raise self._taken(manifest.name, f"a manifest that cannot be used ({exc})") from exc
        if found.stored.digest != manifest.stored.digest:
            raise self._taken(manifest.name, f"a backup with the {_words(found)}; this one has the {_words(manifest)}")
        if not found.describes_same(manifest):
            raise self._taken(manifest.name, "a manifest that tells something else of the same bytes")
        return found

    def _send(
        self, path: Path, manifest: Manifest, base: s3_delta.Base | None, lock_until: datetime | None
    ) -> Transfer:
        upload = Upload(
            client=self._client,
            path=path,
            key=self._key(manifest.name),
            manifest=manifest,
            options=self._options,
            before_commit=lambda: self._see_it_free(manifest.name),
            base=base,
            lock=s3_lock.options(self._client, lock_until),
        )
        rungs = ladder(self._settings.checksum, manifest)
        try:
            rung = again_after_conflict(lambda: send(upload, rungs))
        except S3Error as exc:
            # A request may have worked and its answer been lost: botocore's second try then meets what the first made.
            head = self._head(manifest.name) if exc.code in ("PreconditionFailed", "NoSuchUpload") else None
            if head is None:
                raise
            transfer = self._adopted(head, manifest)
        else:
            transfer = self._verified(rung, manifest)
        return replace(transfer, bytes_sent=upload.tally.sent, bytes_copied=upload.tally.copied)

    def _base(self, name: BackupName | None, stored: Digest | None, manifest: Manifest) -> s3_delta.Base | None:
        """What can be copied of an earlier backup; None where that cannot be known, and then all of it is sent."""
        if name is None or len(s3_delta.travelling(manifest)) == 1:
            return None
        with suppress(NotFoundError, DamagedError, S3Error):
            earlier, head = self.manifest(name), self._head(str(name))
            if head is not None and stored in (None, earlier.stored.digest):
                return s3_delta.find(self._client, self._key(name), head, earlier, manifest)
        return None

    def _verified(self, rung: Rung, manifest: Manifest) -> Transfer:
        head = self._head(manifest.name)
        check, difference = ("", "it is not there") if head is None else self._compared(head, manifest, rung)
        if difference:
            raise StoreError(
                f"{self.location(manifest.name)} was sent and answered with success, but {difference}. The local "
                "backup is valid. Delete the object, then run again."
            )
        return Transfer(check, self.create_only is True, bytes_sent=0)

    def _adopted(self, head: dict[str, Any], manifest: Manifest) -> Transfer:
        """Go on with an object that a put left without its manifest, if it is ours."""
        check, difference = self._compared(head, manifest)
        if difference:
            raise self._taken(manifest.name, f"something else: {difference}")
        return Transfer(check, self.create_only is True, bytes_sent=0)

    def _compared(self, head: dict[str, Any], manifest: Manifest, rung: Rung | None = None) -> tuple[str, str]:
        """How the object was compared with its manifest, and in what it differs, "" where it does not.

        The store's own word counts where it was seen to refuse wrong bytes; otherwise the object is read back.
        """
        stored = manifest.stored
        if head["ContentLength"] != stored.bytes:
            return "size", f"it has {head['ContentLength']} bytes, ours {stored.bytes}"
        kept = head.get("ChecksumCRC64NVME")
        if kept and stored.crc64nvme and self._checks:
            differs = f"its crc64nvme is {kept}, ours {stored.crc64nvme}"
            return (rung or CRC64NVME).check, "" if kept == stored.crc64nvme else differs
        if rung is not None and rung is not CRC64NVME and self._checks:
            return rung.check, ""
        with self._client.open(self._key(manifest.name)) as body:
            found = digest.of_stream(body, stored.digest.algorithm, stored.bytes)[0]
        differs = f"its {found.algorithm} is {found.value}, ours {stored.digest.value}"
        return f"read back, {found.algorithm}", "" if found == stored.digest else differs

    def _put_manifest(self, manifest: Manifest, lock_until: datetime | None) -> None:
        name = f"{manifest.name}{MANIFEST_SUFFIX}"
        is_new = self._created(name, manifest.to_json(), s3_lock.options(self._client, lock_until))
        # Another put was faster: right if it was of the same backup.
        if not is_new and self._recorded(manifest) is None:
            raise self._denied(name)

    def _see_it_free(self, name: str) -> None:
        """The best that can be had from a store that ignores create-only: look right before writing."""
        if self.create_only is False and self._head(name) is not None:
            raise self._client.refusal("put_object", self._key(name), "PreconditionFailed", "found by looking first")

    def _denied(self, name: str) -> StoreError:
        """The store kept what is there, it says, and nothing is."""
        return StoreError(
            f"{self.location(name)} was not written: the store says that it is there already, and then that it is not. "
            "Run again; if it stays, look at the store: eternia-backup check-store."
        )

    def _taken(self, name: str, holds: str) -> NameTakenError:
        return NameTakenError(
            f"{self.location(name)} is taken: there is {holds}. Nothing was overwritten. Look at it there; move it "
            "away or delete it if nobody needs it, then run again."
        )


def _without_none(**options: str | None) -> dict[str, str]:
    return {key: value for key, value in options.items() if value is not None}


def _words(manifest: Manifest) -> str:
    return f"{manifest.stored.digest.algorithm} {manifest.stored.digest.value}"

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing one backup into S3: what lies there already is proven, the rest is sent, and the manifest comes last."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DamagedError, NameTakenError, NotFoundError, StoreError
from ..manifest import Digest, Manifest, Transfer
from ..names import MANIFEST_SUFFIX, BackupName
from . import s3_delta
from .s3_create import again_after_conflict
from .s3_errors import S3Error
from .s3_objects import Objects
from .s3_upload import Rung, Upload, ladder, send


@dataclass(frozen=True)
class Put:
    """The finished file at `path` on its way to `objects`; both it and its manifest are put with the options `lock`.

    Whether the store keeps create-only is known by then: `S3Store.claim` finds out.
    """

    objects: Objects
    path: Path
    manifest: Manifest
    lock: dict[str, Any]

    def run(self, base: BackupName | None, base_digest: Digest | None) -> Transfer:
        """What travelled, and how it was proven; `S3Store.put` says what `base` is.

        Raises NameTakenError, S3Error, and StoreError where what lies there afterwards is not what was sent.
        """
        if self.objects.create_only is None:
            raise RuntimeError("a put before a claim")
        recorded = self._recorded()
        head = self.objects.head(self.manifest.name)
        if head is None:
            transfer = self._sent(self._base(base, base_digest))
        elif recorded is not None and recorded.transfer and head["ContentLength"] == self.manifest.stored.bytes:
            return replace(recorded.transfer, bytes_sent=0, bytes_copied=0)
        else:
            transfer = self._adopted(head)
        if recorded is None:
            self._put_manifest(self.manifest.with_transfer(transfer))
        return transfer

    def _recorded(self) -> Manifest | None:
        """The manifest that an earlier put of the same backup left; None where there is none."""
        ours = self.manifest
        try:
            found = self.objects.manifest(ours.backup_name)
        except NotFoundError:
            return None
        except DamagedError as exc:
            raise self._taken(f"a manifest that cannot be used ({exc})") from exc
        if found.stored.digest != ours.stored.digest:
            raise self._taken(f"a backup with the {found.stored.digest}; this one has the {ours.stored.digest}")
        if not found.describes_same(ours):
            raise self._taken("a manifest that tells something else of the same bytes")
        return found

    def _base(self, name: BackupName | None, stored: Digest | None) -> s3_delta.Base | None:
        """What can be copied of an earlier backup; None where that cannot be known, and then all of it is sent."""
        if name is None or len(s3_delta.travelling(self.manifest)) == 1:
            return None
        with suppress(NotFoundError, DamagedError, S3Error):
            earlier, head = self.objects.manifest(name), self.objects.head(name)
            if head is not None and stored in (None, earlier.stored.digest):
                return s3_delta.find(self.objects.client, self.objects.key(name), head, earlier, self.manifest)
        return None

    def _sent(self, base: s3_delta.Base | None) -> Transfer:
        objects, name, settings = self.objects, self.manifest.name, self.objects.client.settings
        upload = Upload(
            client=objects.client,
            path=self.path,
            key=objects.key(name),
            manifest=self.manifest,
            options=settings.data_options,
            before_commit=lambda: objects.see_it_free(name),
            base=base,
            lock=self.lock,
        )
        rungs = ladder(settings.checksum, self.manifest)
        try:
            rung = again_after_conflict(lambda: send(upload, rungs))
        except S3Error as exc:
            # A request may have worked and its answer been lost: botocore's second try then meets what the first made.
            head = objects.head(name) if exc.code in ("PreconditionFailed", "NoSuchUpload") else None
            if head is None:
                raise
            transfer = self._adopted(head)
        else:
            transfer = self._transfer(self._arrived(rung))
        return replace(transfer, bytes_sent=upload.tally.sent, bytes_copied=upload.tally.copied)

    def _arrived(self, rung: Rung) -> str:
        """How it was proven that the object is what was sent."""
        head = self.objects.head(self.manifest.name)
        sent = f"{self.objects.location(self.manifest.name)} was sent and answered with success, but"
        if head is None:
            raise StoreError(
                f"{sent} it is not there. The local backup is valid. Run again; if it stays so, look at the store: "
                "eternia-backup check-store."
            )
        check, difference = self.objects.compared(head, self.manifest, rung)
        if difference:
            raise StoreError(f"{sent} {difference}. The local backup is valid. Delete the object, then run again.")
        return check

    def _adopted(self, head: Mapping[str, Any]) -> Transfer:
        """Go on with an object that a put left without its manifest, if it is ours."""
        check, difference = self.objects.compared(head, self.manifest)
        if difference:
            raise self._taken(f"something else: {difference}")
        return self._transfer(check)

    def _transfer(self, check: str) -> Transfer:
        return Transfer(check, self.objects.create_only is True, bytes_sent=0)

    def _put_manifest(self, manifest: Manifest) -> None:
        name = f"{manifest.name}{MANIFEST_SUFFIX}"
        # Another put was faster: right if it was of the same backup.
        if not self.objects.created(name, manifest.to_json(), self.lock) and self._recorded() is None:
            raise self.objects.denied(name)

    def _taken(self, holds: str) -> NameTakenError:
        return NameTakenError(
            f"{self.objects.location(self.manifest.name)} is taken: there is {holds}. Nothing was overwritten. Look at "
            "it there; move it away or delete it if nobody needs it, then run again."
        )

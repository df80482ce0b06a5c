# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of one host in S3, by their names below its prefix, and what is known of the store that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import digest
from ..errors import NotFoundError, StoreError
from ..manifest import MOST_BYTES, Manifest, from_json
from ..names import MANIFEST_SUFFIX, BackupName
from .s3_client import S3Client
from .s3_create import created
from .s3_errors import S3Error
from .s3_settings import S3Settings
from .s3_upload import CRC64NVME, Rung


class Objects:
    """What lies under `settings.prefix`. Nothing is asked before the first call; whatever asks raises S3Error.

    `create_only` says whether the store was seen to refuse to overwrite where it is asked to, and `checks` whether it
    was seen to refuse wrong bytes; each is None until it is known.
    """

    def __init__(self, settings: S3Settings) -> None:
        self.client = S3Client(settings)
        self.create_only: bool | None = None
        self.checks: bool | None = None

    def key(self, name: BackupName | str) -> str:
        prefix = self.client.settings.prefix
        return f"{prefix}/{name}" if prefix else str(name)

    def location(self, name: BackupName | str) -> str:
        """`s3://bucket/prefix/name`."""
        return self.client.location(self.key(name))

    def head(self, name: BackupName | str) -> dict[str, Any] | None:
        """What the store says of an object; None where there is none."""
        try:
            return self.client.call("head_object", self.key(name), ChecksumMode="ENABLED")
        except S3Error as exc:
            if exc.code != "NoSuchKey":
                raise
            return None

    def read(self, name: str) -> bytes | None:
        """A small object, cut off behind what any of ours has; None where there is none."""
        try:
            with self.client.open(self.key(name)) as body:
                return body.read(MOST_BYTES + 1)
        except S3Error as exc:
            if exc.code != "NoSuchKey":
                raise
            return None

    def manifest(self, name: BackupName) -> Manifest:
        """Raises NotFoundError where there is none, DamagedError where it is unusable."""
        sidecar = f"{name}{MANIFEST_SUFFIX}"
        raw = self.read(sidecar)
        if raw is None:
            raise self.missing(sidecar)
        return from_json(raw, name=name, where=self.location(sidecar))

    def missing(self, name: BackupName | str) -> NotFoundError:
        return NotFoundError(f"{self.location(name)} does not exist. Choose another backup.")

    def created(self, name: str, body: bytes, lock: Mapping[str, Any] | None = None) -> bool:
        """Put a small object; False where the store kept the one that was there."""
        options = {**self.client.settings.encryption, **(lock or {})}
        return created(self.client, self.key(name), body, options, before=lambda: self.see_it_free(name))

    def see_it_free(self, name: str) -> None:
        """Refuse what is there already, as a store does that keeps create-only; only where this one does not.

        The best that can be had from it: look right before writing.
        """
        if self.create_only is False and self.head(name) is not None:
            raise self.client.refusal("put_object", self.key(name), "PreconditionFailed", "found by looking first")

    def compared(self, head: Mapping[str, Any] | None, manifest: Manifest, rung: Rung | None = None) -> tuple[str, str]:
        """How an object was compared with its manifest, and in what it differs, "" where it does not.

        `head` is what the store says of it, None where it is gone, `rung` how it was sent just now. The store's own
        word counts where it was seen to refuse wrong bytes; otherwise the object is read back.
        """
        if head is None:
            return "", "it is gone"
        stored = manifest.stored
        if head["ContentLength"] != stored.bytes:
            return "size", f"it has {head['ContentLength']} bytes, ours {stored.bytes}"
        kept = head.get("ChecksumCRC64NVME")
        if kept and stored.crc64nvme and self.checks:
            differs = f"its crc64nvme is {kept}, ours {stored.crc64nvme}"
            return (rung or CRC64NVME).check, "" if kept == stored.crc64nvme else differs
        if rung is not None and rung is not CRC64NVME and self.checks:
            return rung.check, ""
        with self.client.open(self.key(manifest.name)) as body:
            found = digest.of_stream(body, stored.digest.algorithm, stored.bytes)[0]
        differs = f"its {found.algorithm} is {found.value}, ours {stored.digest.value}"
        return f"read back, {found.algorithm}", "" if found == stored.digest else differs

    def denied(self, name: str) -> StoreError:
        """The store kept what is there, it says, and nothing is."""
        return StoreError(
            f"{self.location(name)} was not written: the store says that it is there already, and then that it is not. "
            "Run again; if it stays, look at the store: eternia-backup check-store."
        )

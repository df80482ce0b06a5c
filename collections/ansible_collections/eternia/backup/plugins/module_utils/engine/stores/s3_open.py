# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploads that a killed run left open: paid for, and seen by nobody, until they are completed or given up.

Only the holder of the storage's lock may look here: any open upload of a name of ours is then somebody's who died.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import log
from ..names import parse_with_sidecar
from ..parts import Part
from .s3_client import S3Client
from .s3_errors import S3Error

# What an upload has that was begun without a word about it.
STANDARD = "STANDARD"


@dataclass(frozen=True)
class OpenUpload:
    """One that was begun and not completed."""

    key: str
    upload_id: str
    storage_class: str

    def parts(self, client: S3Client, wanted: list[Part]) -> dict[int, str]:
        """The ETags of those parts that arrived in the size that is wanted, by their number."""
        sizes = {part.number: part.bytes for part in wanted}
        listed = _pages(client, "list_parts", self.key, "Parts", ("PartNumberMarker",), UploadId=self.upload_id)
        return {one["PartNumber"]: one["ETag"] for one in listed if sizes.get(one["PartNumber"]) == one["Size"]}

    def give_up(self, client: S3Client) -> bool:
        """Have the store forget it; whether it did. What becomes of that is not worth a failure."""
        try:
            client.call("abort_multipart_upload", self.key, UploadId=self.upload_id)
        except S3Error as exc:
            log.info(f"What a run sent of {client.location(self.key)} stays there unseen, and is billed. {exc}")
            return False
        return True


def find(client: S3Client, prefix: str) -> list[OpenUpload]:
    """The open uploads of backups of ours right under `prefix`, those of others are passed over.

    An empty list, too, where the store does not tell, or not this key.
    """
    try:
        found = _pages(
            client, "list_multipart_uploads", None, "Uploads", ("KeyMarker", "UploadIdMarker"), Prefix=prefix
        )
        return [
            OpenUpload(one["Key"], one["UploadId"], one.get("StorageClass") or STANDARD)
            for one in found
            if _is_ours(one["Key"], prefix)
        ]
    except S3Error as exc:
        log.info(f"Whether an earlier run left uploads open cannot be known. {exc}")
        return []


def _is_ours(key: str, prefix: str) -> bool:
    folder = prefix[: prefix.rfind("/") + 1]
    return key.startswith(folder) and parse_with_sidecar(key[len(folder) :]) is not None


def _pages(
    client: S3Client, operation: str, key: str | None, what: str, markers: tuple[str, ...], **params: Any
) -> Iterator[dict[str, Any]]:
    while True:
        answer = client.call(operation, key, **params)
        yield from answer.get(what, ())
        following = {marker: answer.get(f"Next{marker}") for marker in markers}
        if not answer.get("IsTruncated") or not all(following.values()):
            return
        if following.items() <= params.items():
            raise client.endless(key or "")
        params |= following

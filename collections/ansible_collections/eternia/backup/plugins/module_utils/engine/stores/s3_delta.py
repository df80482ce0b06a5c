# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a backup lies in S3 already: its parts that are those of an earlier one are copied there, and do not travel.

The object that comes of it is as whole and plain as any other. That a copied part is what we think it is nobody has to
believe: the store compares the finished object with the checksum of the whole file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import log
from ..manifest import Manifest
from ..parts import Part, part_bytes
from .s3_client import S3Client, S3Error


class Base:
    """An earlier object, and which numbers of its parts are the same as ours."""

    def __init__(self, client: S3Client, key: str, etag: str, same: frozenset[int]) -> None:
        self._client, self._key, self._etag, self._same = client, key, etag, same

    def copy(self, part: Part, key: str, upload: Mapping[str, Any]) -> str | None:
        """Have S3 make a part of an open upload of the same part here; its ETag, None where it has to be sent.

        An object that was replaced or removed since it was looked at is noticed, and a store that cannot copy parts is
        not asked again.
        """
        if part.number not in self._same:
            return None
        try:
            answer = self._client.call(
                "upload_part_copy",
                key,
                PartNumber=part.number,
                CopySource={"Bucket": self._client.settings.bucket, "Key": self._key},
                CopySourceRange=f"bytes={part.start}-{part.start + part.bytes - 1}",
                CopySourceIfMatch=self._etag,
                **upload,
            )
            etag: str = answer["CopyPartResult"]["ETag"]
        except (S3Error, KeyError) as exc:
            self._same = frozenset()
            log.info(f"Parts of {self._client.location(self._key)} cannot be copied, and are sent instead. {exc}")
            return None
        return etag


def find(client: S3Client, key: str, head: Mapping[str, Any], earlier: Manifest, manifest: Manifest) -> Base | None:
    """What the object `key`, described by `head` and `earlier`, has in common with the file of `manifest`, if anything.

    Parts can be compared where both files are plain and were cut and hashed alike.
    """
    theirs, ours = earlier.content, manifest.content
    alike = (
        not earlier.stored.encoding
        and not manifest.stored.encoding
        and theirs.digest.algorithm == ours.digest.algorithm
        and theirs.parts.bytes == ours.parts.bytes == part_bytes(ours.bytes)
        and head["ContentLength"] == theirs.bytes
    )
    pairs = enumerate(zip(theirs.parts.digests, ours.parts.digests), start=1) if alike else ()
    same = frozenset(number for number, (their, our) in pairs if their == our)
    return Base(client, key, head["ETag"], same) if same else None

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a backup lies in S3 already: its parts that are those of an earlier one are copied there, and do not travel.

The object that comes of it is as whole and plain as any other. That a copied part is what we think it is nobody has to
believe: the store compares the finished object with the checksum of the whole file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import log
from ..manifest import Manifest
from ..parts import Part, part_bytes, runs, split
from .s3_client import S3Client
from .s3_errors import S3Error


class Base:
    """An earlier object, and where in it those of our parts begin that it has, by their number."""

    def __init__(self, client: S3Client, key: str, etag: str, same: Mapping[int, int]) -> None:
        self._client, self._key, self._etag, self._same = client, key, etag, same

    def copy(self, part: Part, key: str, upload: Mapping[str, Any]) -> str | None:
        """Have S3 make a part of an open upload of the same part here; its ETag, None where it has to be sent.

        An object that was replaced or removed since it was looked at is noticed, and a store that cannot copy parts is
        not asked again.
        """
        start = self._same.get(part.number)
        if start is None:
            return None
        try:
            answer = self._client.call(
                "upload_part_copy",
                key,
                PartNumber=part.number,
                CopySource={"Bucket": self._client.settings.bucket, "Key": self._key},
                CopySourceRange=f"bytes={start}-{start + part.bytes - 1}",
                CopySourceIfMatch=self._etag,
                **upload,
            )
            etag: str = answer["CopyPartResult"]["ETag"]
        except (S3Error, KeyError) as exc:
            self._same = {}
            log.info(f"Parts of {self._client.location(self._key)} cannot be copied, and are sent instead. {exc}")
            return None
        return etag


def find(client: S3Client, key: str, head: Mapping[str, Any], earlier: Manifest, manifest: Manifest) -> Base | None:
    """What the object `key`, described by `head` and `earlier`, has in common with the file of `manifest`, if anything.

    Parts can be compared where both were cut and hashed alike, and both are plain or both compressed. A frame of the
    same part that is as large is taken for the same; were it another, the finished object's checksum would tell. A
    prefix that was handed over may hold what another host sent: of that, nothing becomes ours.
    """
    theirs, ours = earlier.content, manifest.content
    alike = (
        (earlier.environment, earlier.host) == (manifest.environment, manifest.host)
        and earlier.stored.encoding == manifest.stored.encoding
        # What is encrypted has nothing in common with what was encrypted before.
        and bool(earlier.stored.frames) == bool(manifest.stored.encoding)
        and theirs.digest.algorithm == ours.digest.algorithm
        and theirs.parts.bytes == ours.parts.bytes == part_bytes(ours.bytes)
        and head["ContentLength"] == earlier.stored.bytes
    )
    if not alike:
        return None
    starts = {piece: start for piece, start, _value in _pieces(earlier)}
    unchanged = {
        piece for (piece, _s, their), (_p, _t, our) in zip(_pieces(earlier), _pieces(manifest)) if their == our
    }
    same = {part.number: starts[run[0]] for part, run in travelling(manifest) if unchanged.issuperset(run)}
    return Base(client, key, head["ETag"], same) if same else None


def travelling(manifest: Manifest) -> list[tuple[Part, range]]:
    """The parts that a file is sent in, and which parts of its content each holds, counted from 0."""
    if manifest.stored.frames:
        return runs(manifest.stored.frames)
    return [(part, range(part.number - 1, part.number)) for part in split(manifest.stored.bytes)]


def _pieces(manifest: Manifest) -> Iterator[tuple[int, int, tuple[str, int]]]:
    """Each part of the content: its place, where it begins in the stored file, and what has to be equal to be the same.

    A last part that is shorter has another digest.
    """
    step, start = manifest.content.parts.bytes, 0
    for place, value in enumerate(manifest.content.parts.digests):
        size = manifest.stored.frames[place] if manifest.stored.frames else step
        yield place, start, (value, size)
        start += size

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching one object from S3, several ranges at a time, each only of the very object that was looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .. import files
from ..copying import Progress
from ..errors import StoreError
from ..parts import PARALLEL, Part, in_parallel, joined, split
from .s3_client import S3Client

_CHUNK = 1024 * 1024
# Each request costs the server a start, and more: some read ahead behind the end of what was asked for.
_RANGE = 64 * 1024 * 1024


def fetch(
    client: S3Client,
    key: str,
    head: dict[str, Any],
    target: int,
    progress: Progress,
    parts: Sequence[Part] | None = None,
) -> None:
    """Bring the object that `head` describes, or those parts, into an open file. Raises StoreError, OSError."""
    size = head["ContentLength"]
    most = min(_RANGE, size // PARALLEL)
    wanted = split(size, least=most) if parts is None else joined(parts, most)
    # They arrive in no order; the file has its size from the start.
    os.ftruncate(target, size)

    def fetch_part(part: Part) -> None:
        _fetch_part(client, key, head["ETag"], part, target, progress)

    in_parallel(fetch_part, [part for part in wanted if part.bytes])


def _fetch_part(client: S3Client, key: str, etag: str, part: Part, target: int, progress: Progress) -> None:
    done = 0
    # With IfMatch an object that is replaced meanwhile is an error, not half of each.
    with client.open(key, Range=f"bytes={part.start}-{part.start + part.bytes - 1}", IfMatch=etag) as body:
        while chunk := body.read(min(_CHUNK, part.bytes - done)):
            files.write_at(target, chunk, part.start + done)
            done += len(chunk)
            progress(len(chunk))
    if done != part.bytes:
        raise StoreError(
            f"{client.location(key)} ended after {done} of {part.bytes} bytes of part {part.number}. Run again; if it "
            "stays, choose another backup."
        )

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creating small objects, and whether a store keeps its word about it: what runs and `check-store` both try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from .. import digest
from .s3_client import S3Client
from .s3_errors import S3Error

T = TypeVar("T")

# What says nothing about the bytes that were sent with a wrong checksum.
_NOT_ABOUT_BYTES = (
    *("AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("NotImplemented", "XNotImplemented", "501", ""),
)


def created(
    client: S3Client,
    key: str,
    body: bytes,
    options: Mapping[str, Any],
    *,
    before: Callable[[], None] = lambda: None,
) -> bool:
    """Put a small object where there is none; False where the store kept the one that was there. Raises S3Error.

    True from a store where one was there: it does not keep create-only. `before` may refuse as the store does.
    """

    def request() -> None:
        before()
        client.call("put_object", key, Body=body, IfNoneMatch="*", **client.proof(body), **options)

    try:
        again_after_conflict(request)
    except S3Error as exc:
        if exc.code != "PreconditionFailed":
            raise
        return False
    return True


def refuses_wrong_bytes(client: S3Client, key: str, options: Mapping[str, Any]) -> bool:
    """Whether the store looks at checksums at all: sent with a wrong one, a few bytes have to be refused.

    In a store that does, `key` never appears. Raises S3Error.
    """
    wrong = {"ChecksumCRC64NVME": "AAAAAAAAAAA="} if digest.crc64nvme() else {"ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    try:
        # Create-only, because a key may be allowed nothing else.
        client.call("put_object", key, Body=b"probe", IfNoneMatch="*", **wrong, **options)
    except S3Error as exc:
        if exc.code in _NOT_ABOUT_BYTES:
            raise
        # What lies there already is what the store took another time.
        return exc.code != "PreconditionFailed"
    with suppress(S3Error):
        client.call("delete_object", key)
    return False


def again_after_conflict(request: Callable[[], T]) -> T:
    """Two conditional requests on one key met, and S3 made neither: its own advice is to do the upload again."""
    try:
        return request()
    except S3Error as exc:
        if exc.code != "ConditionalRequestConflict":
            raise
        return request()

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What S3 is told of locks: nobody deletes, or overwrites for good, what is locked before its time is over."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from .. import log
from ..errors import StoreError
from .s3_client import S3Client
from .s3_errors import S3Error

_HARDEST = "COMPLIANCE"
_NO_SUCH_THING = ("ObjectLockConfigurationNotFoundError", "NotImplemented", "XNotImplemented", "501")


def options(client: S3Client, until: datetime | None) -> dict[str, Any]:
    """What goes with an object so that it is locked until then; nothing for None."""
    if until is None:
        return {}
    return {"ObjectLockMode": client.settings.object_lock_mode, "ObjectLockRetainUntilDate": until}


def end(client: S3Client, key: str) -> datetime | None:
    """Until when an object is locked; None where it is not, or is not there. Raises S3Error."""
    try:
        found = client.call("head_object", key).get("ObjectLockRetainUntilDate")
    except S3Error as exc:
        if exc.code != "NoSuchKey":
            raise
        return None
    return None if found is None else found.astimezone(timezone.utc)


def extend(client: S3Client, key: str, until: datetime) -> None:
    """Lock an object until then, where it is not locked for as long already. Raises S3Error."""
    head = client.call("head_object", key)
    end = head.get("ObjectLockRetainUntilDate")
    if end is None or end < until:
        # A lock that is harder than ours stays as hard while it lasts: S3 refuses to make it weaker.
        is_harder = end is not None and end > datetime.now(timezone.utc) and head.get("ObjectLockMode") == _HARDEST
        mode = _HARDEST if is_harder else client.settings.object_lock_mode
        client.call("put_object_retention", key, Retention={"Mode": mode, "RetainUntilDate": until})


def require(client: S3Client) -> None:
    """Refuse a bucket that locks nothing, where backups are to be locked; reads only. Raises StoreError."""
    days = client.settings.object_lock_days
    if not days:
        return
    try:
        answer = client.call("get_object_lock_configuration", None)
    except S3Error as exc:
        if exc.code == "AccessDenied":
            # Then it shows when the first backup is sent.
            log.info(f"Whether the bucket has Object Lock cannot be known. {exc}")
            return
        if exc.code not in _NO_SUCH_THING:
            raise
        answer = {}
    if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
        raise StoreError(
            f"The bucket {client.settings.bucket} has no Object Lock, and cloud_backup.object_lock_days is {days}. "
            "Nothing was sent. Switch it on there (aws s3api put-object-lock-configuration, once the bucket keeps "
            "versions), make a bucket that has it, or take object_lock_days away."
        )

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What S3 is told of locks: nobody deletes, or overwrites for good, what is locked before its time is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .. import log
from ..errors import StoreError
from .s3_client import S3Client
from .s3_errors import S3Error

_HARDEST = "COMPLIANCE"
_NO_SUCH_THING = ("ObjectLockConfigurationNotFoundError", "NotImplemented", "XNotImplemented", "501")


@dataclass(frozen=True)
class Lock:
    """Until when something is locked, UTC, and in which of S3's modes."""

    until: datetime
    mode: str

    def is_softer_than(self, mode: str) -> bool:
        """Whether somebody may end it who could not end one in that mode."""
        return mode == _HARDEST != self.mode


def options(client: S3Client, until: datetime | None) -> dict[str, Any]:
    """What goes with an object so that it is locked until then; nothing for None."""
    if until is None:
        return {}
    return {"ObjectLockMode": client.settings.object_lock_mode, "ObjectLockRetainUntilDate": until}


def of(client: S3Client, key: str) -> Lock | None:
    """The lock of an object; None where it has none, or is not there. Raises S3Error."""
    try:
        return _told(client, client.call("head_object", key))
    except S3Error as exc:
        if exc.code != "NoSuchKey":
            raise
        return None


def weakest(locks: Iterable[Lock | None]) -> Lock | None:
    """What holds all of several: until the first of them ends, in the softest mode; None where one is none."""
    found = list(locks)
    there = [lock for lock in found if lock is not None]
    if len(there) < len(found):
        return None
    return Lock(min(lock.until for lock in there), min((lock.mode for lock in there), key=_HARDEST.__eq__))


def extend(client: S3Client, key: str, until: datetime) -> None:
    """Lock an object until then, where it is not locked for as long already. Raises S3Error."""
    lock = _told(client, client.call("head_object", key))
    if lock is None or lock.until < until:
        mode = client.settings.object_lock_mode
        if lock is not None and lock.until > datetime.now(timezone.utc):
            # No store makes one softer that lasts, and most make it harder only for somebody who may bypass it.
            mode = lock.mode
        client.call("put_object_retention", key, Retention={"Mode": mode, "RetainUntilDate": until})


def _told(client: S3Client, head: Mapping[str, Any]) -> Lock | None:
    """The lock that an answer tells of, in the mode that was asked for where it tells none."""
    until = head.get("ObjectLockRetainUntilDate")
    mode = str(head.get("ObjectLockMode") or client.settings.object_lock_mode)
    return None if until is None else Lock(until.astimezone(timezone.utc), mode)


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

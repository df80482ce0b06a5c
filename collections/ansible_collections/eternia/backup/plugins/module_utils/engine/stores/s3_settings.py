# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a store is, and how to talk to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path


@dataclass(frozen=True)
class S3Settings:
    """Where the store is and how to talk to it.

    `prefix` has no slash at either end and may hold some. `checksum` is auto, crc64nvme, sha256 or md5, `sse` AES256 or
    aws:kms. `credentials_file` has the format of AWS's shared credentials, profile `default`; where it is given it is
    the only source of credentials, otherwise they come from boto3's ordinary chain. `limit_rate` is in bytes a second,
    all connections together. With `remove_versions` nothing of what retention removes stays in a bucket that keeps
    versions. Without `prune` retention removes nothing there: this key may not, and another does it. What is sent is
    locked for `object_lock_days`, in S3's `object_lock_mode`; 0 locks nothing.
    """

    bucket: str
    prefix: str
    region: str | None = None
    endpoint_url: str | None = None
    storage_class: str | None = None
    remove_versions: bool = False
    prune: bool = True
    sse: str | None = None
    kms_key_id: str | None = None
    checksum: str = "auto"
    credentials_file: Path | None = None
    limit_rate: int | None = None
    object_lock_days: int = 0
    object_lock_mode: str = "COMPLIANCE"

    @property
    def place(self) -> str:
        """Which store this is, in words."""
        return f"s3://{self.bucket}/{self.prefix} at {self.endpoint_url or 'AWS'}"

    def location(self, key: str) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{key}"

    @property
    def encryption(self) -> dict[str, str]:
        """What S3 is told of encryption with every object."""
        return _without_none(ServerSideEncryption=self.sse, SSEKMSKeyId=self.kms_key_id)

    @property
    def data_options(self) -> dict[str, str]:
        """The same for the data, and its storage class: a manifest in a cold one could not be read."""
        return {**self.encryption, **_without_none(StorageClass=self.storage_class)}

    def lock_until(self, now: datetime) -> datetime | None:
        """Until when what is sent now is locked; None where nothing is."""
        days = self.object_lock_days
        return now.replace(microsecond=0) + timedelta(days=days) if days else None


def _without_none(**options: str | None) -> dict[str, str]:
    return {key: value for key, value in options.items() if value is not None}

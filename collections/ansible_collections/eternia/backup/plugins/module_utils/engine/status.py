# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a host: its catalog, checked as deeply as asked, and whether the newest verified backup is too old."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from . import catalog, names, verify
from .catalog import DAMAGED, VERIFIED, Backup
from .config import Config
from .errors import DamagedError, NotFoundError
from .names import BackupName
from .stores.base import Copy, Store


@dataclass(frozen=True)
class CopyStatus:
    """One copy: `problem` is what a check found, None where it found nothing or did not look."""

    store: str
    location: str
    bytes: int | None
    verified: bool
    problem: str | None


@dataclass(frozen=True)
class BackupStatus:
    """One backup of the catalog."""

    name: str
    kind: str
    created_at: str
    bytes: int | None
    status: str
    pinned: bool
    copies: tuple[CopyStatus, ...]


@dataclass(frozen=True)
class Status:
    """Everything there is to know about a host's backups. Ages are in seconds."""

    backups: tuple[BackupStatus, ...]
    newest_verified: str | None
    age_seconds: int | None
    max_age_seconds: int

    @property
    def stale(self) -> bool:
        """Whether the newest verified backup is missing or older than the frequency allows."""
        return self.age_seconds is None or self.age_seconds > self.max_age_seconds


def read(config: Config, *, now: datetime, verify: str = "none") -> Status:
    """List every store and check what is listed: `none`, `manifest` or `full`.

    Raises StoreError, also where the prefix in S3 belongs to another host: its backups are no comfort to this one.
    """
    remote = catalog.remote(config)
    if remote is not None:
        remote.claimed(config.environment, config.host)
    stores: dict[str, Store] = {
        store.name: store for store in (*catalog.stores(config), *catalog.legacy_stores(config))
    }
    backups = tuple(_backup(backup, stores, verify) for backup in catalog.build(stores.values()))
    newest = next((name for name in map(_verified_name, backups) if name is not None and name.created_at <= now), None)
    return Status(
        backups=backups,
        newest_verified=None if newest is None else str(newest),
        age_seconds=None if newest is None else _age(config, newest, now),
        max_age_seconds=config.max_age,
    )


def _backup(backup: Backup, stores: dict[str, Store], level: str) -> BackupStatus:
    copies = tuple(_copy(stores[store], copy, level) for store, copy in backup.copies.items())
    status = backup.status
    if status == VERIFIED and not any(copy.verified for copy in copies):
        status = DAMAGED
    return BackupStatus(
        name=str(backup.name),
        kind=backup.name.kind,
        created_at=names.iso(backup.name.created_at),
        bytes=backup.bytes,
        status=status,
        pinned=backup.pinned,
        copies=copies,
    )


def _copy(store: Store, copy: Copy, level: str) -> CopyStatus:
    problem = "its data is missing" if copy.bytes is None else None
    if copy.verified and level != "none":
        try:
            verify.in_store(store, copy, level)
        except (DamagedError, NotFoundError) as exc:
            problem = str(exc)
    return CopyStatus(store.name, store.location(copy.name), copy.bytes, copy.verified and problem is None, problem)


def _verified_name(backup: BackupStatus) -> BackupName | None:
    return names.parse(backup.name) if backup.status == VERIFIED else None


def _age(config: Config, newest: BackupName, now: datetime) -> int:
    """Seconds since the source was last known to have this content."""
    seen = catalog.local(config).seen(newest)
    return int((now - max(newest.created_at, seen or newest.created_at)).total_seconds())

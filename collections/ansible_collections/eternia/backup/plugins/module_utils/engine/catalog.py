# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog: the backups of all stores, merged by name, newest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import claim, files, mounts
from .config import Config
from .names import BackupName, Kind
from .stores.base import S3, Copy, Store
from .stores.local import LocalStore

if TYPE_CHECKING:
    from .stores.s3 import S3Store

VERIFIED = "verified"
LEGACY = "legacy"
DAMAGED = "damaged"

# The name of the store of safety backups, and of its directory.
SAFETY = "safety"


@dataclass(frozen=True)
class Backup:
    """One backup and its copies, by the name of the store that holds each."""

    name: BackupName
    copies: Mapping[str, Copy]

    @property
    def status(self) -> str:
        """`verified` where some store holds it with its manifest, `legacy` with data alone, `damaged` without data."""
        if any(copy.verified for copy in self.copies.values()):
            return VERIFIED
        return LEGACY if any(copy.bytes is not None for copy in self.copies.values()) else DAMAGED

    @property
    def bytes(self) -> int | None:
        """The size of the data as stored, None where only sidecars are left."""
        return next((copy.bytes for copy in self.copies.values() if copy.bytes is not None), None)

    @property
    def pinned(self) -> bool:
        return any(copy.pinned for copy in self.copies.values())


def local(config: Config) -> LocalStore:
    """The store on the host itself."""
    return LocalStore(config.storage_path)


def remote(config: Config) -> S3Store | None:
    """The store in S3, None where backups stay on the host."""
    if config.cloud is None:
        return None
    from .stores.s3 import S3Store

    return S3Store(config.cloud)


def in_s3(store: Store) -> S3Store | None:
    """A store, where it is one in S3. Most of what that needs is loaded only where S3 is used."""
    if store.name != S3:
        return None
    from .stores.s3 import S3Store

    return store if isinstance(store, S3Store) else None


def stores(config: Config) -> list[Store]:
    """The stores that backups go to, in the order they go there: local first."""
    away = remote(config)
    return [local(config)] if away is None else [local(config), away]


def require_storage(config: Config) -> None:
    """Refuse a storage path that is not mounted, or another host's; reads only. Raises StoreError, ConfigError."""
    mounts.require(config)
    files.require_followable(config.storage_path)
    claim.require(local(config), config.owner)


def require_own(store: Store, config: Config) -> None:
    """Refuse another host's store, whose backups are no comfort to this one; reads only. Raises StoreError."""
    remote = in_s3(store)
    if remote is not None:
        remote.claimed(config.owner)
    elif isinstance(store, LocalStore) and store.path == config.storage_path:
        claim.require(store, config.owner)


def legacy_stores(config: Config) -> list[LocalStore]:
    """Where Eternia's built-in manager left backups: listed, never pruned."""
    places = (path for path in config.legacy_paths if path != config.storage_path)
    return [LocalStore(path, name=f"legacy:{path}") for path in places]


def safety(config: Config) -> LocalStore:
    """Where a restore keeps what it replaced: listed apart, because the newest backup it is not."""
    return LocalStore(config.storage_path / SAFETY, name=SAFETY)


def build(places: Iterable[Store]) -> list[Backup]:
    """List every store and merge. Raises StoreError where one cannot be listed: half a catalog would mislead."""
    return merge({store.name: store.copies() for store in places})


def merge(listed: Mapping[str, Iterable[Copy]]) -> list[Backup]:
    """Merge the copies of several stores, by the store's name, into backups, the newest first."""
    found: dict[BackupName, dict[str, Copy]] = defaultdict(dict)
    for store, copies in listed.items():
        for copy in copies:
            found[copy.name][store] = copy
    backups = (Backup(name, found[name]) for name in sorted(found, reverse=True))
    return [backup for backup in backups if any(copy.is_there for copy in backup.copies.values())]


def newest_verified(backups: Iterable[Backup], kind: Kind) -> Backup | None:
    """The first verified backup of a kind in a catalog."""
    for backup in backups:
        if backup.status == VERIFIED and backup.name.kind == kind:
            return backup
    return None

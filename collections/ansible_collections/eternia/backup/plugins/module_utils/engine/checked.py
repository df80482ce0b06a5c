# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a backup and its copies stand, once somebody has looked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from . import names, verify
from .catalog import DAMAGED, VERIFIED, Backup
from .errors import DamagedError, NotFoundError, StoreError
from .stores.base import Copy, Store

# As many connections as boto3 keeps open, less two.
_AT_A_TIME = 8

# Against nothing, against the manifest, or every byte.
# `newest` reads manifests only until each store has shown one backup that is whole.
Level = Literal["none", "newest", "manifest", "full"]


@dataclass(frozen=True)
class CopyStatus:
    """One copy: `problem` is what a check found, None where it found nothing or did not look; it may be `damaged`."""

    store: str
    location: str
    bytes: int | None
    verified: bool
    problem: str | None
    damaged: bool = False


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


def look_at_all(backups: Sequence[Backup], stores: Mapping[str, Store], level: Level) -> tuple[BackupStatus, ...]:
    """Check the copies of backups, which come newest first, as deeply as `level` says. Raises nothing on purpose."""
    if level == "newest":
        return tuple(_until_whole(backups, stores))
    # Some at a time where each is small and far away: a manifest in S3 takes a while to come.
    with ThreadPoolExecutor(max_workers=_AT_A_TIME if level == "manifest" else 1) as pool:
        return tuple(pool.map(lambda backup: look(backup, stores, level), backups))


def _until_whole(backups: Sequence[Backup], stores: Mapping[str, Store]) -> Iterator[BackupStatus]:
    wanted = set(stores)
    for backup in backups:
        found = look(backup, stores, "manifest", only=wanted)
        wanted -= {copy.store for copy in found.copies if copy.verified}
        yield found


def look(
    backup: Backup, stores: Mapping[str, Store], level: Level, *, only: Collection[str] | None = None
) -> BackupStatus:
    """Check the copies of a backup, those in other stores than `only` without reading anything."""
    copies = tuple(
        _copy(stores[store], copy, level if only is None or store in only else "none")
        for store, copy in backup.copies.items()
        if copy.is_there
    )
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


def _copy(store: Store, copy: Copy, level: Level) -> CopyStatus:
    problem, damaged = ("its data is missing", True) if copy.bytes is None else (None, False)
    if copy.verified and level in ("manifest", "full"):
        try:
            verify.in_store(store, copy, level)
        except (DamagedError, StoreError) as exc:
            # A store that does not answer now says nothing about what it holds.
            problem, damaged = str(exc), isinstance(exc, (DamagedError, NotFoundError))
    return CopyStatus(
        store.name, store.location(copy.name), copy.bytes, copy.verified and not damaged, problem, damaged
    )

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a host: its catalog, checked as deeply as asked, and whether the newest verified backup is too old."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from . import catalog, hold, holders, names, record, snapshot, source, swap, target, verify
from .catalog import DAMAGED, VERIFIED, Backup
from .config import Config
from .errors import DamagedError, EngineError, NotFoundError, StoreError, TargetError
from .names import BackupName
from .safety import RAW_SUFFIX
from .stores.base import Copy, Store
from .stores.s3 import S3Store
from .target import Target


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


@dataclass(frozen=True)
class Status:
    """Everything there is to know about a host's backups. Ages are in seconds.

    `unlisted` says of each store that could not be listed why; what is said of backups is then about the others.
    `last_run` says why the last run of a backup is no ground for trust, None where it succeeded. `held` says who holds
    the host's backups, why and until when. `interrupted` tells of restores that were cut off.
    """

    enabled: bool
    backups: tuple[BackupStatus, ...]
    unlisted: dict[str, str]
    newest_verified: str | None
    age_seconds: int | None
    max_age_seconds: int
    last_run: str | None
    held: str | None
    interrupted: tuple[str, ...]

    @property
    def stale(self) -> bool:
        """Whether the newest verified backup is missing or older than the frequency allows."""
        return self.age_seconds is None or self.age_seconds > self.max_age_seconds


def read(config: Config, *, now: datetime, verify: Literal["none", "manifest", "full"] = "none") -> Status:
    """List every store and check what is listed: `none`, `manifest` or `full`. Raises nothing on purpose."""
    stores: dict[str, Store] = {
        store.name: store for store in (*catalog.stores(config), *catalog.legacy_stores(config))
    }
    listed: dict[str, list[Copy]] = {}
    unlisted = {}
    for store in stores.values():
        try:
            if isinstance(store, S3Store):
                # Another host's backups are no comfort to this one.
                store.claimed(config.owner)
            listed[store.name] = list(store.copies())
        except StoreError as exc:
            unlisted[store.name] = str(exc)
    backups = tuple(_backup(backup, stores, verify) for backup in catalog.merge(listed))
    newest = next((name for name in map(_verified_name, backups) if name is not None and name.created_at <= now), None)
    return Status(
        enabled=config.enabled,
        backups=backups,
        unlisted=unlisted,
        newest_verified=None if newest is None else str(newest),
        age_seconds=None if newest is None else _age(config, newest, now),
        max_age_seconds=config.max_age,
        last_run=record.trouble(config.storage_path),
        held=_held(config, now),
        interrupted=tuple(filter(None, map(_interrupted, target.both(config)))),
    )


def kept(config: Config) -> tuple[BackupStatus, ...]:
    """What restores replaced, the newest first; `raw` is what was too damaged to be a backup. Raises StoreError."""
    store = catalog.safety(config)
    backups = [_backup(one, {store.name: store}, "none") for one in catalog.merge({store.name: store.copies()})]
    return tuple(sorted((*backups, *_raw(store.path)), key=lambda one: one.created_at, reverse=True))


def _raw(directory: Path) -> Iterator[BackupStatus]:
    for path in directory.glob(f"*{RAW_SUFFIX}"):
        name = names.parse(path.name[: -len(RAW_SUFFIX)])
        if name is not None and path.is_dir():
            size = sum(one.stat().st_size for one in path.iterdir())
            copy = CopyStatus(catalog.SAFETY, str(path), size, verified=False, problem=None)
            yield BackupStatus(path.name, name.kind, names.iso(name.created_at), size, "raw", False, (copy,))


def _held(config: Config, now: datetime) -> str | None:
    found = hold.read(config.storage_path, now)
    return None if found is None else f"held by {found.who} until {names.iso(found.until)}: {found.why}"


def _interrupted(live: Target) -> str | None:
    try:
        return swap.pending(live)
    except TargetError as exc:
        return str(exc)


def live(config: Config) -> dict[str, Any]:
    """What the application holds at this moment: kind, path, facts, when it was last written to, and who has it open.

    Reads only. What cannot be read, or is not there, says so in `problem`.
    """
    try:
        known = catalog.build([catalog.local(config)])
        found = source.resolve(config, backed_up={backup.name.kind for backup in known})
    except EngineError as exc:
        return {"exists": False, "problem": str(exc), "holders": []}
    where = Target(found.kind, found.path)
    told = {
        "kind": found.kind,
        "path": str(found.path),
        "exists": where.real.exists(),
        "holders": [str(holder) for holder in holders.find(where)],
    }
    try:
        return {**told, **snapshot.facts(found), "written_at": _written_at(where)}
    except EngineError as exc:
        return {**told, "problem": str(exc)}


def _written_at(where: Target) -> float:
    """When the file or its log was last written to, in seconds since 1970."""
    times = []
    for suffix in ("", "-wal"):
        with suppress(OSError):
            times.append(where.beside(suffix).stat().st_mtime)
    return max(times, default=0.0)


def _backup(backup: Backup, stores: dict[str, Store], level: Literal["none", "manifest", "full"]) -> BackupStatus:
    copies = tuple(_copy(stores[store], copy, level) for store, copy in backup.copies.items() if copy.is_there)
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


def _copy(store: Store, copy: Copy, level: Literal["none", "manifest", "full"]) -> CopyStatus:
    problem, damaged = ("its data is missing", True) if copy.bytes is None else (None, False)
    if copy.verified and level != "none":
        try:
            verify.in_store(store, copy, level)
        except (DamagedError, StoreError) as exc:
            # A store that does not answer now says nothing about what it holds.
            problem, damaged = str(exc), isinstance(exc, (DamagedError, NotFoundError))
    return CopyStatus(
        store.name, store.location(copy.name), copy.bytes, copy.verified and not damaged, problem, damaged
    )


def _verified_name(backup: BackupStatus) -> BackupName | None:
    return names.parse(backup.name) if backup.status == VERIFIED else None


def _age(config: Config, newest: BackupName, now: datetime) -> int:
    """Seconds since the source was last known to have this content."""
    seen = catalog.local(config).seen(newest)
    return int((now - max(newest.created_at, seen or newest.created_at)).total_seconds())

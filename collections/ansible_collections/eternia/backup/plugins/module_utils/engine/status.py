# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a host: its catalog, checked as deeply as asked, and whether the newest verified backup is too old."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from . import (
    catalog,
    checked,
    extents,
    history,
    hold,
    holders,
    lock,
    log,
    names,
    promises,
    record,
    send,
    snapshot,
    source,
    swap,
    target,
)
from .catalog import VERIFIED
from .checked import BackupStatus, CopyStatus, Level
from .config import Config
from .errors import DamagedError, EngineError, LockedError, StoreError, TargetError
from .history import Last
from .names import BackupName
from .promises import StoreCheck
from .record import Record
from .safety import RAW_SUFFIX
from .stores.base import S3, Copy, Store
from .target import Target

T = TypeVar("T")


@dataclass(frozen=True)
class StoreStatus:
    """One of the stores that backups go to and could be listed. `kept` counts backups, `bytes` is their size.

    `disk_bytes` is what they take on the disk, where several may share a file or blocks; None for a store that is none.

    `newest_verified_at` is when its newest verified backup was taken, or the source last seen to have that content.
    `missing` counts the verified backups that the policy wants here and only another store has, None where that is not
    known.

    `versioned` says whether a bucket keeps versions, None where that is not known, or the store is no bucket, and
    `noncurrent_bytes` is the size of old versions of backups there, None where nobody counted.
    """

    name: str
    kept: int
    bytes: int
    disk_bytes: int | None
    newest_verified_at: str | None
    missing: int | None
    versioned: bool | None = None
    noncurrent_bytes: int | None = None


@dataclass(frozen=True)
class Status:
    """Everything there is to know about a host's backups. Ages are in seconds.

    `unlisted` says of each store that could not be listed why; what is said of backups is then about the others.
    `obstacle` says why no run can work on the storage path. `last_run` says why the last run of a backup is no ground
    for trust, None where it succeeded; `record` is all that is known of it, and `running` whether one goes on.
    `promises` is what the store in S3 was last seen to keep, None where nobody checked it. `locks_ending` are the
    backups in S3 that are to be kept and whose Object Lock ends soon, with when, None where no run knows.

    `drill` is the last one.
    `held` says who holds the host's backups, why and until when. `interrupted` tells of restores that were cut off.
    """

    enabled: bool
    backups: tuple[BackupStatus, ...]
    stores: tuple[StoreStatus, ...]
    unlisted: dict[str, str]
    obstacle: str | None
    newest_verified: str | None
    age_seconds: int | None
    max_age_seconds: int
    last_run: str | None
    running: bool
    record: Record | None
    promises: StoreCheck | None
    locks_ending: dict[str, str | None]
    drill: Last | None
    drill_seconds: dict[str, float]
    held: str | None
    interrupted: tuple[str, ...]

    @property
    def stale(self) -> bool:
        """Whether the newest verified backup is missing or older than the frequency allows."""
        return self.age_seconds is None or self.age_seconds > self.max_age_seconds


def read(
    config: Config,
    *,
    now: datetime,
    verify: Level = "newest",
    max_age: int | None = None,
    versions: bool = False,
) -> Status:
    """List every store and check what is listed: `none`, `newest`, `manifest` or `full`. Raises nothing on purpose.

    `max_age` (seconds) stands in for what the frequency allows. With `versions`, or `full`, the old versions are
    counted that a bucket keeps: there may be many more of them than of backups.
    """
    stores: dict[str, Store] = {
        store.name: store for store in (*catalog.stores(config), *catalog.legacy_stores(config))
    }
    listed: dict[str, list[Copy]] = {}
    unlisted = {}
    for store in stores.values():
        try:
            catalog.require_own(store, config)
            listed[store.name] = list(store.copies())
        except StoreError as exc:
            unlisted[store.name] = str(exc)
    backups = checked.look_at_all(catalog.merge(listed), stores, verify)
    # One of what the host does not protect is no comfort, however young.
    kind = source.kind(config, backed_up={copy.name.kind for copies in listed.values() for copy in copies})
    past = (name for name in map(_verified_name, backups) if name is not None and name.created_at <= now)
    newest = next((name for name in past if name.kind == kind), None)
    return Status(
        enabled=config.enabled,
        backups=backups,
        stores=tuple(_stores(config, listed, backups, now, versions=versions or verify == "full")),
        unlisted=unlisted,
        obstacle=_obstacle(config),
        newest_verified=None if newest is None else str(newest),
        age_seconds=None if newest is None else int((now - _seen(config, newest)).total_seconds()),
        max_age_seconds=config.max_age if max_age is None else max_age,
        last_run=record.trouble(config.storage_path),
        running=_is_running(config),
        record=_or_none(record.read, config),
        promises=_promises(config),
        locks_ending=_locks_ending(config, listed, now),
        drill=_or_none(history.last, config),
        drill_seconds={entry.store: entry.seconds for entry in _or_none(history.read, config) or ()},
        held=_held(config, now),
        interrupted=tuple(filter(None, map(_interrupted, target.both(config)))),
    )


def _stores(
    config: Config, listed: Mapping[str, list[Copy]], backups: Iterable[BackupStatus], now: datetime, *, versions: bool
) -> Iterator[StoreStatus]:
    local = catalog.local(config)
    damaged = {(copy.store, one.name) for one in backups for copy in one.copies if copy.damaged}
    for store in (store for store in catalog.stores(config) if store.name in listed):
        name = store.name
        there = [copy for copy in listed[name] if copy.bytes is not None]
        whole = (copy.name for copy in there if copy.verified and (name, str(copy.name)) not in damaged)
        newest = max((one for one in whole if one.created_at <= now), default=None)
        yield StoreStatus(
            name=name,
            kept=len(there),
            bytes=sum(copy.bytes or 0 for copy in there),
            disk_bytes=None if name == S3 else extents.disk_bytes(local.path / str(copy.name) for copy in there),
            newest_verified_at=None if newest is None else names.iso(_seen(config, newest)),
            missing=_missing(config, listed, name, now),
            **_versions(store, counted=versions),
        )


def _versions(store: Store, *, counted: bool) -> dict[str, Any]:
    """What a bucket keeps of what was deleted; nothing is known where the store does not tell, or not this key."""
    remote = catalog.in_s3(store)
    if remote is None:
        return {}
    kept = remote.versions.are_kept()
    total = 0 if kept is False else None
    if kept and counted:
        try:
            total = remote.versions.noncurrent_bytes()
        except StoreError as exc:
            log.info(f"How much old versions take is not known. {exc}")
    return {"versioned": kept, "noncurrent_bytes": total}


def _missing(config: Config, listed: Mapping[str, list[Copy]], name: str, now: datetime) -> int | None:
    """How many verified backups a store lacks. What is older than all that the local store has, nobody brings there."""
    if config.cloud is None:
        return 0
    others = [listed[store.name] for store in catalog.stores(config) if store.name != name and store.name in listed]
    if not others:
        return None
    there = send.fit_for_s3(config, others[0]) if name == S3 else others[0]
    wanted = send.lacking(config.policy, there, listed[name], now)
    if name == S3:
        return len(wanted)
    oldest = min((copy.name for copy in listed[name]), default=None)
    return sum(oldest is not None and copy.name > oldest for copy in wanted)


def _locks_ending(config: Config, listed: Mapping[str, list[Copy]], now: datetime) -> dict[str, str | None]:
    if config.cloud is None or not config.cloud.object_lock_days or S3 not in listed:
        return {}
    from . import object_lock

    ends = object_lock.ending(config, listed[S3], listed.get(catalog.local(config).name, ()), now)
    return {str(name): None if end is None else names.iso(end) for name, end in ends.items()}


def _obstacle(config: Config) -> str | None:
    """Why no run can work on the storage path, although it can be read; where it cannot, `unlisted` says so."""
    try:
        catalog.require_storage(config)
    except EngineError as exc:
        with suppress(StoreError):
            catalog.local(config).copies()
            return str(exc)
    return None


def _is_running(config: Config) -> bool:
    try:
        lock.require_free(config.storage_path)
    except LockedError:
        return True
    except EngineError:
        return False
    return False


def _or_none(read: Callable[[Path], T], config: Config) -> T | None:
    """What can be read; that something cannot is said elsewhere."""
    try:
        return read(config.storage_path)
    except DamagedError:
        return None


def _promises(config: Config) -> StoreCheck | None:
    try:
        return promises.remembered(config)
    except DamagedError as exc:
        log.info(str(exc))
        return None


def kept(config: Config) -> tuple[BackupStatus, ...]:
    """What restores replaced, the newest first; `raw` is what was too damaged to be a backup. Raises StoreError."""
    store = catalog.safety(config)
    backups = [checked.look(one, {store.name: store}, "none") for one in catalog.merge({store.name: store.copies()})]
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
        found = source.of_host(config, known)
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


def _verified_name(backup: BackupStatus) -> BackupName | None:
    return names.parse(backup.name) if backup.status == VERIFIED else None


def _seen(config: Config, newest: BackupName) -> datetime:
    """When the source was last known to have this content."""
    return max(newest.created_at, catalog.local(config).seen(newest) or newest.created_at)

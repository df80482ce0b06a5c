# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Object Lock: how long nobody can delete what lies in S3, and seeing to it that this lasts as long as it is kept.

Each backup is locked for some days when it is sent. What retention keeps for longer is locked anew before that ends. A
lock is never shortened, so that what is known of one once, beside the backups, is true for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from . import catalog, documents, files, lock, log, mounts, names
from .clock import require_possible
from .config import Config
from .errors import ClockError, ConfigError, DamagedError, EngineError, NotFoundError, StoreError
from .manifest import Manifest
from .names import BackupName
from .retention import apply_policy
from .stores.base import Copy
from .stores.local import LocalStore
from .stores.s3 import S3Store
from .stores.s3_errors import S3Error
from .stores.s3_lock import Lock
from .stores.s3_settings import S3Settings
from .units import counted

NAME = "locks.json"
_FORMAT = 1

# Runs may fail for some days, over a holiday for example.
_SLACK = timedelta(days=3)


def renew(config: Config, local: LocalStore, *, now: datetime, warn: Callable[[str], None]) -> None:
    """Lock for longer what the policy keeps in S3 and whose lock might end before the next run.

    `local` has pins, and manifests of which S3 has a copy. Not for the holder of the storage's lock. Asks S3 only about
    what is not known yet. What fails is a warning: the backup is there.
    """
    try:
        require_possible(now)
        _renew(config, local, now, warn)
    except (ClockError, StoreError) as exc:
        warn(f"Whether the backups in S3 stay locked is not known. {exc}")


def _renew(config: Config, local: LocalStore, now: datetime, warn: Callable[[str], None]) -> None:
    remote, cloud = catalog.remote(config), config.cloud
    until = None if cloud is None else cloud.lock_until(now)
    if remote is None or cloud is None or until is None:
        return
    is_claimed = remote.claimed(config.owner)
    copies = [copy for copy in remote.copies() if copy.verified]
    if not is_claimed:
        if copies:
            warn(
                f"{remote.location('')} holds backups and has lost what says whose they are, so that their locks were "
                "not renewed. The next run that takes a backup claims it again; look at who deleted it."
            )
        return
    remote.require_lock()
    known = read(config)
    # Of these a softer mode was told when S3 was asked.
    found = {copy.name: Lock(known[copy.name], cloud.object_lock_mode) for copy in copies if copy.name in known}
    locked = 0
    failures: list[EngineError] = []
    here: list[Copy] = []
    try:
        here = list(local.copies())
    except (StoreError, OSError) as exc:
        why = f"{files.reason(exc)}." if isinstance(exc, OSError) else exc
        warn(
            f"{local.path} cannot be listed, so that what is kept for the sake of the disk alone was not locked for "
            f"longer in S3: a lock may end. {why} The next run locks it; if it stays so, correct what is wrong there."
        )
    for copy in _kept(config, copies, here, now):
        try:
            held = found.get(copy.name) or remote.lock_of(copy.name)
            if held is None or held.until < now + margin(config):
                remote.lock(copy.name, until, expected=_manifest(local, copy.name))
                held, locked = _confirmed(remote, copy.name, until), locked + 1
        except (S3Error, DamagedError, NotFoundError) as exc:
            failures.append(exc)
            if isinstance(exc, S3Error) and exc.no_answer:
                # Nobody answers: the others will fare no better.
                break
        else:
            found[copy.name] = held
    softer = {name: one for name, one in found.items() if one.is_softer_than(cloud.object_lock_mode)}
    if softer:
        warn(_softer(softer, remote, cloud))
    if failures:
        what = counted(len(failures), "backup")
        warn(f"{what} to be kept in S3 could not be locked for longer: a lock may end. {failures[0]}")
    if locked:
        log.info(f"{remote.location('')}: {counted(locked, 'backup')} locked until {names.iso(until)}")
    ends = {name: one.until for name, one in found.items()}
    if ends != known:
        _write(config, local, ends, warn)


def _manifest(local: LocalStore, name: BackupName) -> Manifest | None:
    with suppress(NotFoundError, DamagedError, StoreError, OSError):
        return local.manifest(name)
    return None


def _confirmed(remote: S3Store, name: BackupName, until: datetime) -> Lock:
    """How it is locked, as the store says afterwards: one that answers yes may have done nothing."""
    found = remote.lock_of(name)
    if found is None or found.until < until:
        raise S3Error(
            f"{remote.location(name)} was to be locked, the store said yes, and it is not. Look at the store: "
            "eternia-backup check-store."
        )
    return found


def _softer(locks: Mapping[BackupName, Lock], remote: S3Store, cloud: S3Settings) -> str:
    """What is said of locks that the settings want harder; this host's key may not make them so."""
    name, one = min(locks.items())
    key, mode = remote.location(name).removeprefix(cloud.location("")), cloud.object_lock_mode
    return (
        f"Of {counted(len(locks), 'backup')} in {remote.location('')} the lock is in {one.mode}, and "
        f"cloud_backup.object_lock_mode is {mode}: whoever may bypass it can delete what it holds, {name} for one. "
        f"Where {one.mode} was never configured, find out who else has this host's key. An administrator makes the "
        "lock as hard, that of the data and that of the manifest: aws s3api put-object-retention "
        f"--bucket {cloud.bucket} --key {key} --retention Mode={mode},RetainUntilDate={names.iso(one.until)} "
        f"--bypass-governance-retention, and the same with --key {key}{names.MANIFEST_SUFFIX}."
    )


def margin(config: Config) -> timedelta:
    """How much of a lock has to be left, so that the next run comes in time to lock for longer."""
    days = 0 if config.cloud is None else config.cloud.object_lock_days
    return max(timedelta(seconds=config.max_age), min(_SLACK, timedelta(days=days) / 2))


def ending(
    config: Config, copies: Iterable[Copy], here: Iterable[Copy], now: datetime
) -> dict[BackupName, datetime | None]:
    """What is kept of the `copies` in S3, and whose lock ends soon, with when: no run renews it. None where none knows.

    What the disk keeps of those `here` is kept in S3, too. A run that is late by a quarter of the margin is none.
    """
    known, soon = read(config), now + margin(config) / 4
    kept = (copy.name for copy in _kept(config, [copy for copy in copies if copy.verified], here, now))
    ends = ((name, known.get(name)) for name in kept)
    return {name: end for name, end in ends if end is None or end < soon}


def end_of(copy: Copy, remote: S3Store, known: Mapping[BackupName, datetime], now: datetime) -> datetime | None:
    """Until when something of a copy is locked, None where nothing is, or not any more. Raises StoreError."""
    end = known.get(copy.name)
    if end is None or end <= now:
        # A run may have locked one half for longer, and not the other.
        end = remote.partly_locked_until(copy.name)
    return end if end is not None and end > now else None


def read(config: Config) -> dict[BackupName, datetime]:
    """Until when each backup is locked in the store that is configured now, of those of which it is known.

    What cannot be read, or is of another store, is asked of S3 again.
    """
    path = config.storage_path / NAME
    try:
        fields = documents.read(path, _FORMAT)
        until = fields["until"] if config.cloud is not None and fields["store"] == config.cloud.place else {}
        return {names.required(name): names.from_iso(end) for name, end in until.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ConfigError, *documents.BENT) as exc:
        log.info(f"{path} cannot be read, and S3 is asked ({exc})")
        return {}


def _kept(config: Config, copies: list[Copy], here: Iterable[Copy], now: datetime) -> list[Copy]:
    """What the policy keeps, and what the disk keeps of it, whatever else S3 has."""
    judged_here = apply_policy(here, config.policy, now)
    kept_here = {one.copy.name for one in judged_here if one.keep and (one.copy.verified or one.copy.pinned)}
    return [one.copy for one in apply_policy(copies, config.policy, now) if one.keep or one.copy.name in kept_here]


def _write(
    config: Config, local: LocalStore, found: Mapping[BackupName, datetime], warn: Callable[[str], None]
) -> None:
    path, store = config.storage_path / NAME, "" if config.cloud is None else config.cloud.place
    until = {str(name): names.iso(end) for name, end in sorted(found.items())}
    try:
        mounts.require(config)
        with lock.held(config.storage_path), local.staging() as staging:
            documents.write(path, {"format": _FORMAT, "store": store, "until": until}, staging=staging)
    except (EngineError, OSError) as exc:
        why = f"{files.reason(exc)}." if isinstance(exc, OSError) else exc
        warn(f"{path} could not be written: {why} S3 is asked again by the next run.")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what somebody asks for to the backups that may be meant: `latest`, a time, a name, a path, `s3://bucket/key`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from . import catalog, clock, names, source
from .catalog import VERIFIED, Backup
from .config import Config
from .errors import ConfigError, NotFoundError, StoreError
from .names import MANIFEST_SUFFIX, BackupName, Kind
from .safety import RAW_SUFFIX
from .stores.base import Copy, Store
from .stores.local import LocalStore, SingleFile
from .stores.s3 import S3Store
from .stores.s3_settings import S3Settings

LATEST = "latest"

# What to do next. Whoever shows it to a person says with which command.
LIST = "List the backups."

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT.*")
# After every backup.
_LAST = datetime.max.replace(tzinfo=timezone.utc)
_S3 = re.compile(r"s3://([^/]+)/(?:(.+)/)?([^/]+)")


@dataclass(frozen=True)
class Candidate:
    """One backup, and the stores that hold a copy of it, in the order in which they are tried.

    `raw` is the directory of a safety copy, byte for byte, of something that was too damaged to be backed up.
    """

    title: str
    kind: Kind
    copies: tuple[tuple[Store, Copy], ...] = ()
    raw: Path | None = None


@dataclass
class Selection:
    """The candidates, the first to be tried first. One that was asked for by name stands alone.

    `unlisted` says of each store that could not be listed why; it is among the `warnings`, too.
    """

    by_name: bool
    candidates: tuple[Candidate, ...] = ()
    unlisted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find(config: Config, wanted: str, *, now: datetime) -> Selection:
    """The backups that `wanted` may mean.

    `latest` and an instant mean verified backups of the kind that the host has, the newest first. Raises ConfigError
    where `wanted` is none of the forms, NotFoundError where there is no such backup, StoreError where that cannot be
    known because a store cannot be listed.
    """
    if wanted == LATEST:
        return _newest(config, _LAST, now, f"{LATEST} means a verified backup, and there is none")
    if _INSTANT.match(wanted):
        return _newest(config, _instant(wanted), now, f"there is no verified backup from {wanted} or before")
    if wanted.startswith("s3://"):
        return _at_key(config, wanted)
    if os.path.isabs(wanted):
        return _at_path(config, Path(wanted))
    name = names.parse(wanted.removesuffix(MANIFEST_SUFFIX))
    if name is None:
        raise ConfigError(
            f"{wanted!r} is no backup. Give {LATEST}, a time such as 2026-11-22T12:00:00Z, a name such as "
            "eternia_backup_20261122_220000.db, an absolute path, or s3://bucket/key."
        )
    return _named(config, name)


def _instant(text: str) -> datetime:
    try:
        return names.from_iso(text)
    except ValueError as exc:
        raise ConfigError(f"{text!r} is no time; give it in UTC, such as 2026-11-22T12:00:00Z.") from exc


def _newest(config: Config, until: datetime, now: datetime, otherwise: str) -> Selection:
    stores = catalog.stores(config)
    found = Selection(by_name=False)
    backups = _listed(stores, found)
    verified = [one for one in backups if one.status == VERIFIED]
    kind = kind_of_host(config, verified)
    ours = [one for one in verified if one.name.kind == kind]
    if not clock.is_possible(now):
        # Whoever lost everything may have lost the time as well; what was verified is no worse for that.
        found.warnings.append(f"The clock says {names.iso(now)}, and is wrong: no backup is passed over for its time.")
        now = _LAST
    old_enough = [one for one in ours if one.name.created_at <= min(until, now)]
    if any(one.name.created_at > now for one in ours):
        found.warnings.append(
            f"The clock says {names.iso(now)}, and {ours[0].name} is later: it is passed over. Check the clock, or ask "
            "for the backup by its name."
        )
    if not old_enough:
        reason = f" ({' '.join(found.warnings)})" if found.warnings else ""
        error = StoreError if found.unlisted else NotFoundError
        raise error(f"Of the {kind}, {otherwise}{reason}. {LIST}")
    found.candidates = tuple(_candidate(one, stores) for one in old_enough)
    return found


def kind_of_host(config: Config, verified: Iterable[Backup]) -> Kind:
    """What the host protects. With `auto` every store has a say: the disk may have lost what S3 remembers."""
    return source.kind(config, backed_up={one.name.kind for one in verified})


def _named(config: Config, name: BackupName) -> Selection:
    """A backup by its name, wherever it lies. A safety backup may have the name of another backup: it comes last."""
    try:
        return _alone([*catalog.stores(config), *catalog.legacy_stores(config)], name, str(name))
    except NotFoundError:
        if not list(catalog.safety(config).copies(name)):
            raise
        return _alone([catalog.safety(config)], name, str(name))


def _at_path(config: Config, path: Path) -> Selection:
    if path.name.endswith(RAW_SUFFIX) and path.is_dir():
        name = names.parse(path.name.removesuffix(RAW_SUFFIX))
        if name is None:
            raise ConfigError(
                f"{path} is no safety copy, such as safety/eternia_backup_20261122_220000.db{RAW_SUFFIX}."
            )
        return Selection(by_name=True, candidates=(Candidate(str(path), name.kind, raw=path),))
    path = path.with_name(path.name.removesuffix(MANIFEST_SUFFIX))
    parsed = names.parse(path.name)
    known = next((store for store in _local_stores(config) if store.path == path.parent), None)
    if parsed is not None and known is not None and known.name != catalog.SAFETY:
        # The same backup may lie in another store too, and be whole there.
        return _alone([known, *(one for one in catalog.stores(config) if one.name != known.name)], parsed, str(path))
    if not os.path.lexists(path):
        raise NotFoundError(f"Backup file not found: {path}. {LIST}")
    if parsed is not None:
        return _alone([known or LocalStore(path.parent, name="file")], parsed, str(path))
    single = SingleFile(path, source.looks_like(path))
    return Selection(
        by_name=True,
        candidates=tuple(Candidate(str(path), copy.name.kind, ((single, copy),)) for copy in single.copies()),
    )


def _local_stores(config: Config) -> list[LocalStore]:
    return [catalog.local(config), *catalog.legacy_stores(config), catalog.safety(config)]


def _at_key(config: Config, wanted: str) -> Selection:
    match = _S3.fullmatch(wanted)
    name = names.parse(match[3].removesuffix(MANIFEST_SUFFIX)) if match else None
    if match is None or name is None:
        raise ConfigError(
            f"{wanted!r} is no backup in S3, such as s3://bucket/prefix/eternia_backup_20261122_220000.db."
        )
    bucket, prefix = match[1], match[2] or ""
    settings = config.cloud or S3Settings(bucket=bucket, prefix=prefix)
    if (settings.bucket, settings.prefix) != (bucket, prefix) or config.cloud is None:
        return _alone([S3Store(replace(settings, bucket=bucket, prefix=prefix))], name, wanted)
    return _alone(list(reversed(catalog.stores(config))), name, wanted)


def _alone(stores: Sequence[Store], name: BackupName, wanted: str) -> Selection:
    found = Selection(by_name=True)
    backups = _listed(stores, found, of=name)
    if not backups:
        if found.unlisted:
            raise StoreError(f"Whether there is a backup {wanted} cannot be known. {' '.join(found.unlisted)}")
        where = ", ".join(store.location("").rstrip("/") for store in stores)
        raise NotFoundError(f"There is no backup {wanted} (looked in {where}). {LIST}")
    found.candidates = tuple(_candidate(one, stores) for one in backups)
    return found


def _listed(stores: Iterable[Store], found: Selection, of: BackupName | None = None) -> list[Backup]:
    """What the stores hold; one that cannot be listed is a warning, because another may have what is needed."""
    listed: dict[str, list[Copy]] = {}
    for store in stores:
        try:
            listed[store.name] = list(store.copies(of))
        except StoreError as exc:
            found.unlisted.append(str(exc))
            found.warnings.append(str(exc))
    return catalog.merge(listed)


def _candidate(backup: Backup, stores: Sequence[Store]) -> Candidate:
    copies = ((store, backup.copies[store.name]) for store in stores if store.name in backup.copies)
    # A copy with its manifest is worth more than one nearby without.
    there = sorted(((store, copy) for store, copy in copies if copy.is_there), key=lambda pair: not pair[1].verified)
    return Candidate(str(backup.name), backup.name.kind, tuple(there))

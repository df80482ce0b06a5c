# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what the policy no longer keeps, store by store, and say why for each backup."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from . import catalog, hold, lock, log, record, refusal, verify
from .config import Config
from .errors import DamagedError, EngineError, HeldError, NotFoundError, StoreError
from .names import DATABASE, STATE, BackupName, iso
from .retention import Decision, Policy, apply_policy, stay_first
from .stores.base import Copy, Store
from .stores.s3_client import S3Error

if TYPE_CHECKING:
    from .noncurrent import Noncurrent

# How the reason begins of what stays although no rule wants it.
LOCKED = "locked until"

# How long a safety backup stays at least.
_SAFETY_DAYS = 30


@dataclass(frozen=True)
class Verdict:
    """What becomes of one copy in one store."""

    store: str
    location: str
    decision: Decision


@dataclass
class Outcome:
    """The verdicts, those of them that were carried out, and what an operator should look at.

    `noncurrent` is what became of old versions, None where the bucket keeps none, nothing was removed, or pruning ended
    before it looked.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    removed: list[Verdict] = field(default_factory=list)
    noncurrent: Noncurrent | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was removed, or would be."""
        return bool(self.removed or (self.noncurrent is not None and self.noncurrent.removed))


class PruneFailedError(EngineError):
    """A removal failed; `outcome` says what was removed all the same."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


@refusal.told
def plan(config: Config, *, now: datetime, upcoming: Collection[BackupName] = ()) -> Outcome:
    """Judge the backups of every store, reading only; `removed` is what a run would remove.

    Raises StoreError, LockedError, ConfigError.

    `upcoming` are backups that a run planned just now would bring to every store first: they count as if they were
    there, and that run would put right what keeps pruning from happening now.
    """
    catalog.require_storage(config)
    hold.require_none(config.storage_path, now)
    stores = _stores(config)
    obstacles = _obstacles(stores, config, follows_a_run=bool(upcoming))
    outcome = _judge(stores, config, now, obstacles, upcoming)
    outcome.removed = [verdict for store in stores for verdict in _going(store, outcome)]
    _look_behind(stores, outcome, config, now, obstacles, upcoming, planned=True)
    return outcome


@refusal.told
def run(config: Config, *, now: datetime) -> Outcome:
    """Judge, then remove. Raises PruneFailedError, LockedError; StoreError, ConfigError where nothing was removed."""
    catalog.require_storage(config)
    with ExitStack() as held:
        if config.storage_path.is_dir():
            held.enter_context(lock.held(config.storage_path))
        hold.require_none(config.storage_path, now)
        stores = _stores(config)
        obstacles = _obstacles(stores, config)
        outcome = _judge(stores, config, now, obstacles)
        try:
            for store in stores:
                _remove(store, outcome, config, now)
            _look_behind(stores, outcome, config, now, obstacles, (), planned=False)
        except HeldError as exc:
            # To prove the newest takes a while: who holds meanwhile must find what he was told of.
            outcome.warnings.append(f"{exc} Pruning has stopped; removed before it: {len(outcome.removed)}.")
            log.warning(outcome.warnings[-1])
        except (StoreError, OSError) as exc:
            why = refusal.of(exc) if isinstance(exc, OSError) else exc
            error = _failed(why, outcome)
            log.error(str(error))
            raise error from why
        return outcome


def _failed(why: StoreError, outcome: Outcome) -> PruneFailedError:
    denied = isinstance(why, S3Error) and why.code == "AccessDenied"
    advice = " If it is another key that prunes there, set cloud_backup.prune to false." if denied else ""
    return PruneFailedError(f"{why}{advice} Removed all the same: {len(outcome.removed)}.", outcome)


def _stores(config: Config) -> list[Store]:
    """Where backups lie that age. Safety backups age too, apart from the others."""
    kept = catalog.safety(config)
    # Nothing of ours makes a link there, and so it is not ours what lies behind one.
    return [*catalog.stores(config), *([] if kept.path.is_symlink() else [kept])]


def _policy(store: Store, config: Config) -> Policy:
    """What stays in a store. A safety backup goes by its age alone: several restores in one night are one incident."""
    if store.name != catalog.SAFETY:
        return config.policy
    days = config.policy.retention_days
    return Policy(
        retention_days=_SAFETY_DAYS if days is None else days and max(days, _SAFETY_DAYS),
        minimum_kept=config.policy.minimum_kept,
    )


def _obstacles(stores: Iterable[Store], config: Config, *, follows_a_run: bool = False) -> dict[str, str]:
    """Why nothing may be removed from a store now, by the store's name. Raises StoreError for another host's prefix.

    What a run that comes first would put right is none.
    """
    found = {}
    trouble = None if follows_a_run else record.trouble(config.storage_path)
    for store in stores:
        remote = catalog.in_s3(store)
        if remote is not None and not remote.claimed(config.owner) and not follows_a_run:
            found[store.name] = "no backup run of this host has claimed the prefix yet"
        if trouble is not None:
            found[store.name] = trouble
        if remote is not None and config.cloud is not None and not config.cloud.prune:
            found[store.name] = "cloud_backup.prune is false, so another key prunes there"
    return found


def _judge(
    stores: Iterable[Store],
    config: Config,
    now: datetime,
    obstacles: Mapping[str, str],
    upcoming: Collection[BackupName] = (),
) -> Outcome:
    outcome = Outcome()
    # Every store is listed before the first judgement: a pin counts wherever it lies.
    listed = [(store, _with(store.copies(), () if store.name == catalog.SAFETY else upcoming)) for store in stores]
    pinned = {copy.name for _store, copies in listed for copy in copies if copy.pinned}
    marked = [
        (store, [replace(copy, pinned=True) if copy.name in pinned else copy for copy in copies])
        for store, copies in listed
    ]
    # Restores happen rarely, and so their safety backups tell nothing of how the clock went.
    witnesses = [copy for store, copies in marked if store.name != catalog.SAFETY for copy in copies]
    for store, copies in marked:
        for decision in _decide(store, copies, config, now, obstacles, upcoming, witnesses, outcome):
            outcome.verdicts.append(Verdict(store.name, store.location(decision.copy.name), decision))
    return outcome


def _decide(
    store: Store,
    copies: list[Copy],
    config: Config,
    now: datetime,
    obstacles: Mapping[str, str],
    upcoming: Collection[BackupName],
    witnesses: Collection[Copy],
    outcome: Outcome,
) -> list[Decision]:
    policy = _policy(store, config)
    decisions = apply_policy(copies, policy, now, witnesses=witnesses)
    if all(decision.keep for decision in decisions):
        return decisions
    obstacle = obstacles.get(store.name)
    if obstacle is not None:
        return [Decision(one.copy, True, (f"nothing is removed: {obstacle}",)) for one in decisions]
    proven = _proven(store, copies, config, now, upcoming, outcome)
    decisions = apply_policy(proven, policy, now, witnesses=witnesses)
    held = _locked(store, [one.copy for one in decisions if not one.keep], config, now)
    return [
        Decision(one.copy, True, ("the application runs on it",))
        if _is_live(store, one.copy, config)
        else Decision(one.copy, True, (f"{LOCKED} {iso(held[one.copy.name])}",))
        if one.copy.name in held
        else one
        for one in decisions
    ]


def _locked(store: Store, going: Iterable[Copy], config: Config, now: datetime) -> dict[BackupName, datetime]:
    """Until when those are locked that S3 would only hide, were they deleted."""
    remote = catalog.in_s3(store)
    if remote is None or config.cloud is None or not config.cloud.object_lock_days:
        return {}
    from . import object_lock

    known = object_lock.read(config)
    ends = ((copy.name, object_lock.end_of(copy, remote, known, now)) for copy in going)
    return {name: end for name, end in ends if end is not None}


def _proven(
    store: Store, copies: list[Copy], config: Config, now: datetime, upcoming: Collection[BackupName], outcome: Outcome
) -> list[Copy]:
    """The copies, those that turn out to be damaged no longer verified.

    Before others go, every byte of the newest is proven, and the manifests of as many more as always stay are read: it
    is on them that the others may go.
    """
    bad: set[BackupName] = set()

    def is_whole(copy: Copy, *, every_byte: bool) -> bool:
        try:
            if copy.name not in upcoming:
                verify.manifest_of(store, copy)
                if every_byte:
                    store.prove(copy)
        except (DamagedError, NotFoundError) as exc:
            outcome.warnings.append(str(exc))
            log.warning(str(exc))
            bad.add(copy.name)
        return copy.name not in bad

    past = (copy for copy in copies if copy.verified and copy.name.created_at <= now)
    newest_first = sorted(past, key=lambda copy: copy.name, reverse=True)
    for kind in (DATABASE, STATE):
        verified = [copy for copy in newest_first if copy.name.kind == kind]
        newest = next((at for at, copy in enumerate(verified) if is_whole(copy, every_byte=True)), len(verified))
        good = 1
        for copy in islice(stay_first(verified[newest:], lambda copy: copy.drilled), 1, None):
            if good >= config.policy.minimum_kept:
                break
            good += is_whole(copy, every_byte=False)
    return [replace(copy, has_manifest=False) if copy.name in bad else copy for copy in copies]


def _is_live(store: Store, copy: Copy, config: Config) -> bool:
    """Whether somebody made an application run on a backup where it lies."""
    sources = (config.database_path, config.state_path)
    path = Path(store.location(copy.name))
    return store.name in ("local", catalog.SAFETY) and any(
        path.exists() and source.exists() and path.samefile(source) for source in sources
    )


def _with(copies: Iterable[Copy], upcoming: Collection[BackupName]) -> list[Copy]:
    there = list(copies)
    names = {copy.name for copy in there}
    return [*there, *(Copy(name, 0, has_manifest=True) for name in upcoming if name not in names)]


def _going(store: Store, outcome: Outcome) -> list[Verdict]:
    # The oldest first: what an interruption leaves is still a history without holes.
    return [one for one in reversed(outcome.verdicts) if one.store == store.name and not one.decision.keep]


def _look_behind(
    stores: Iterable[Store],
    outcome: Outcome,
    config: Config,
    now: datetime,
    obstacles: Mapping[str, str],
    upcoming: Collection[BackupName],
    *,
    planned: bool,
) -> None:
    """See what a bucket that keeps versions still has of what was removed, and have that go where it is wanted."""
    store = next(filter(None, map(catalog.in_s3, stores)), None)
    if store is None or config.cloud is None or store.name in obstacles:
        return
    # With S3 alone, and what it needs to be loaded.
    from . import noncurrent

    def judge(were: list[Copy]) -> set[BackupName]:
        if not were:
            return set()
        verdicts = [verdict for verdict in outcome.verdicts if verdict.store == store.name]
        there = [verdict.decision.copy for verdict in verdicts]
        if all(verdict.decision.keep for verdict in verdicts):
            there = _proven(store, there, config, now, upcoming, outcome)
        pinned = {verdict.decision.copy.name for verdict in outcome.verdicts if verdict.decision.copy.pinned}
        witnesses = [one.decision.copy for one in outcome.verdicts if one.store != catalog.SAFETY]
        gone = [replace(copy, pinned=copy.pinned or copy.name in pinned) for copy in were]
        decisions = apply_policy([*there, *gone], config.policy, now, witnesses=witnesses)
        return {one.copy.name for one in decisions if not one.keep} & {copy.name for copy in gone}

    pruned = [verdict.decision.copy for verdict in outcome.removed if verdict.store == store.name]
    if not config.cloud.remove_versions:
        outcome.noncurrent = noncurrent.told(store.versions, pruned)
    elif planned:
        outcome.noncurrent = noncurrent.plan(store.versions, pruned, judge)
    else:
        go_on = partial(hold.require_none, config.storage_path, now)
        outcome.noncurrent = noncurrent.run(store.versions, pruned, judge, go_on)
    if outcome.noncurrent is not None:
        outcome.warnings += outcome.noncurrent.warnings


def _remove(store: Store, outcome: Outcome, config: Config, now: datetime) -> None:
    going = {verdict.decision.copy.name: verdict for verdict in _going(store, outcome)}
    names = list(going)
    failed = None
    for at in range(0, len(names), store.at_once):
        hold.require_none(config.storage_path, now)
        before = len(outcome.removed)
        try:
            for name in store.remove(names[at : at + store.at_once]):
                outcome.removed.append(going[name])
                log.info(f"{going[name].location} was removed: {'; '.join(going[name].decision.reasons)}")
        except StoreError as exc:
            failed = failed or exc
            # Some are refused and others go: one that has to stay keeps no other. Where none goes, no more will.
            if len(outcome.removed) == before:
                break
    if failed is not None:
        raise failed

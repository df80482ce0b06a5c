# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what the policy no longer keeps, store by store, and say why for each backup."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from . import catalog, hold, lock, log, record, refusal
from .config import Config
from .errors import EngineError, HeldError, StoreError
from .judgement import Judge, Verdict
from .names import BackupName
from .retention import Decision
from .stores.base import Store
from .stores.s3_errors import S3Error

if TYPE_CHECKING:
    from .noncurrent import Noncurrent


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
    judge = Judge(config, now, _obstacles(stores, config, follows_a_run=bool(upcoming)), upcoming)
    outcome = Outcome(judge.judge(stores), warnings=judge.warnings)
    outcome.removed = [verdict for store in stores for verdict in _going(store, outcome)]
    _look_behind(stores, outcome, judge, planned=True)
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
        judge = Judge(config, now, _obstacles(stores, config))
        # One list for both: the judge is asked again when old versions go.
        outcome = Outcome(judge.judge(stores), warnings=judge.warnings)
        try:
            for store in stores:
                _spare_pinned(store, stores, outcome)
                _remove(store, outcome, config, now)
            _look_behind(stores, outcome, judge, planned=False)
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


def _going(store: Store, outcome: Outcome) -> list[Verdict]:
    # The oldest first: what an interruption leaves is still a history without holes.
    return [one for one in reversed(outcome.verdicts) if one.store == store.name and not one.decision.keep]


def _look_behind(stores: Iterable[Store], outcome: Outcome, judge: Judge, *, planned: bool) -> None:
    """See what a bucket that keeps versions still has of what was removed, and have that go where it is wanted."""
    store, config = next(filter(None, map(catalog.in_s3, stores)), None), judge.config
    if store is None or config.cloud is None or store.name in judge.obstacles:
        return
    # With S3 alone, and what it needs to be loaded.
    from . import noncurrent

    nothing_keeps = partial(judge.judge_removed, store, verdicts=outcome.verdicts)
    pruned = [verdict.decision.copy for verdict in outcome.removed if verdict.store == store.name]
    if not config.cloud.remove_versions:
        outcome.noncurrent = noncurrent.told(store.versions, pruned)
    elif planned:
        outcome.noncurrent = noncurrent.plan(store.versions, pruned, nothing_keeps)
    else:
        go_on = partial(hold.require_none, config.storage_path, judge.now)
        outcome.noncurrent = noncurrent.run(store.versions, pruned, nothing_keeps, go_on)
    if outcome.noncurrent is not None:
        outcome.warnings += outcome.noncurrent.warnings


def _spare_pinned(store: Store, stores: Iterable[Store], outcome: Outcome) -> None:
    """Have those stay that somebody pinned while others were proven, which takes a while."""
    if not _going(store, outcome):
        return
    pinned = {copy.name for one in stores for copy in one.copies() if copy.pinned}
    _keep(outcome, [verdict for verdict in _going(store, outcome) if verdict.decision.copy.name in pinned])


def _keep(outcome: Outcome, pinned: Sequence[Verdict]) -> None:
    for verdict in pinned:
        kept = replace(verdict, decision=Decision(verdict.decision.copy, True, ("pinned",)))
        outcome.verdicts[outcome.verdicts.index(verdict)] = kept


def _remove(store: Store, outcome: Outcome, config: Config, now: datetime) -> None:
    going = {verdict.decision.copy.name: verdict for verdict in _going(store, outcome)}
    names = list(going)
    failed = None
    for at in range(0, len(names), store.at_once):
        hold.require_none(config.storage_path, now)
        before = len(outcome.removed)
        batch = names[at : at + store.at_once]
        try:
            for name in store.remove(batch):
                outcome.removed.append(going[name])
                log.info(f"{going[name].location} was removed: {'; '.join(going[name].decision.reasons)}")
            gone = {verdict.decision.copy.name for verdict in outcome.removed[before:]}
            _keep(outcome, [going[name] for name in batch if name not in gone])
        except StoreError as exc:
            failed = failed or exc
            # Some are refused and others go: one that has to stay keeps no other. Where none goes, no more will.
            if len(outcome.removed) == before:
                break
    if failed is not None:
        raise failed

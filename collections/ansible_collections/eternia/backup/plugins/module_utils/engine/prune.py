# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what the policy no longer keeps, store by store, and say why for each backup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime

from . import catalog, lock, log, record, verify
from .config import Config
from .errors import DamagedError, NotFoundError, StoreError
from .names import BackupName
from .retention import Decision, apply_policy
from .stores.base import Copy, Store


@dataclass(frozen=True)
class Verdict:
    """What becomes of one copy in one store."""

    store: str
    location: str
    decision: Decision


def plan(config: Config, *, now: datetime, upcoming: Collection[BackupName] = ()) -> list[Verdict]:
    """Judge the backups of every store, reading only. Raises StoreError.

    `upcoming` are backups that a run planned just now would bring to every store first: they count as if they were
    there, and that run would put right what keeps pruning from happening now.
    """
    obstacles = _obstacles(config)
    return _judge(config, now, {} if upcoming else obstacles, upcoming)


def run(config: Config, *, now: datetime) -> list[Verdict]:
    """Judge, then remove. Raises StoreError, with what was removed until then in its message; LockedError."""
    with ExitStack() as held:
        if config.storage_path.is_dir():
            held.enter_context(lock.held(config.storage_path))
        verdicts = _judge(config, now, _obstacles(config))
        for store in catalog.stores(config):
            _remove(store, [one for one in verdicts if one.store == store.name and not one.decision.keep])
        return verdicts


def _obstacles(config: Config) -> dict[str, str]:
    """Why nothing may be removed from a store now, by the store's name. Raises StoreError for another host's prefix."""
    trouble = record.trouble(config.storage_path)
    found = {} if trouble is None else {store.name: trouble for store in catalog.stores(config)}
    remote = catalog.remote(config)
    if remote is not None and not remote.claimed(config.environment, config.host):
        found.setdefault(remote.name, "no backup run of this host has claimed the prefix yet")
    return found


def _judge(
    config: Config, now: datetime, obstacles: Mapping[str, str], upcoming: Collection[BackupName] = ()
) -> list[Verdict]:
    # Every store is listed before the first judgement: a pin counts wherever it lies.
    listed = [(store, _with(store.copies(), upcoming)) for store in catalog.stores(config)]
    pinned = {copy.name for _store, copies in listed for copy in copies if copy.pinned}
    verdicts = []
    for store, copies in listed:
        marked = [replace(copy, pinned=True) if copy.name in pinned else copy for copy in copies]
        marked = _doubted(store, marked, config, upcoming)
        for decision in apply_policy(marked, config.policy, now):
            if store.name in obstacles:
                decision = Decision(decision.copy, True, (f"nothing is removed: {obstacles[store.name]}",))
            verdicts.append(Verdict(store.name, store.location(decision.copy.name), decision))
    return verdicts


def _doubted(store: Store, copies: list[Copy], config: Config, upcoming: Collection[BackupName]) -> list[Copy]:
    """The copies, those with a manifest that cannot be used no longer verified.

    Only the newest are read, until as many are good as always stay: it is on them that the others may go.
    """
    good: Counter[str] = Counter()
    judged = []
    for copy in sorted(copies, key=lambda copy: copy.name, reverse=True):
        if copy.verified and good[copy.name.kind] < config.policy.minimum_kept:
            try:
                if copy.name not in upcoming:
                    verify.in_store(store, copy, "manifest")
                good[copy.name.kind] += 1
            except (DamagedError, NotFoundError) as exc:
                log.warning(str(exc))
                copy = replace(copy, has_manifest=False)
        judged.append(copy)
    return judged


def _with(copies: Iterable[Copy], upcoming: Collection[BackupName]) -> list[Copy]:
    there = list(copies)
    names = {copy.name for copy in there}
    return [*there, *(Copy(name, 0, has_manifest=True) for name in upcoming if name not in names)]


def _remove(store: Store, verdicts: list[Verdict]) -> None:
    # The oldest first: what an interruption leaves is still a history without holes.
    for count, verdict in enumerate(reversed(verdicts)):
        try:
            store.remove(verdict.decision.copy.name)
        except StoreError as exc:
            raise StoreError(f"{exc} ({count} of {len(verdicts)} were removed from {store.name} before it.)") from exc
        log.info(f"{verdict.location} was removed: {'; '.join(verdict.decision.reasons)}")

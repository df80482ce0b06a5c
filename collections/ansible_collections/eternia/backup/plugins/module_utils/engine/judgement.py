# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of each copy in each store, and why: the policy's word, and what keeps it from being carried out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from . import catalog, log, verify
from .config import Config
from .errors import DamagedError, NotFoundError
from .names import DATABASE, STATE, BackupName, iso
from .retention import Decision, Policy, apply_policy, stay_first
from .stores.base import S3, Copy, Store

# How the reason begins of what stays although no rule wants it.
LOCKED = "locked until"
# And of what stays because nothing may be removed now.
OBSTACLE = "nothing is removed:"

# How long a safety backup stays at least.
_SAFETY_DAYS = 30


# By what each tells, how the clock went is judged.
Histories = tuple[list[Copy], list[Copy]]


@dataclass(frozen=True)
class Verdict:
    """What becomes of one copy in one store."""

    store: str
    location: str
    decision: Decision


@dataclass
class Judge:
    """Judges the backups of some stores at one moment, and tells in `warnings` what turned out to be damaged.

    `obstacles` are why nothing may be removed from a store, by the store's name. `upcoming` are backups that will be in
    every store before anything is removed: they count as if they were there.
    """

    config: Config
    now: datetime
    obstacles: Mapping[str, str]
    upcoming: Collection[BackupName] = ()
    warnings: list[str] = field(default_factory=list)

    def judge(self, stores: Iterable[Store]) -> list[Verdict]:
        """A verdict on each copy, store by store, the newest first. Raises StoreError."""
        # Every store is listed before the first judgement: a pin counts wherever it lies.
        listed = [(store, self._with_upcoming(store)) for store in stores]
        pinned = {copy.name for _store, copies in listed for copy in copies if copy.pinned}
        marked = [
            (store, [replace(copy, pinned=True) if copy.name in pinned else copy for copy in copies])
            for store, copies in listed
        ]
        witnesses = _witnesses((store.name, copy) for store, copies in marked for copy in copies)
        kept_here: set[BackupName] = set()
        verdicts: list[Verdict] = []
        for store, copies in marked:
            decisions = self._decide(store, copies, witnesses)
            if catalog.in_s3(store) is None:
                kept_here |= {one.copy.name for one in decisions if one.keep and one.copy.verified}
            else:
                # Who has this host's key can add to the history there, so that it leaves no room for what is true.
                stays = ("the disk keeps it",)
                decisions = [
                    Decision(one.copy, True, stays) if one.copy.name in kept_here and not one.keep else one
                    for one in decisions
                ]
            verdicts += [Verdict(store.name, store.location(one.copy.name), one) for one in decisions]
        return verdicts

    def judge_removed(self, store: Store, were: Collection[Copy], verdicts: Iterable[Verdict]) -> set[BackupName]:
        """Which of those that `were` in a store, and of which old versions are left there, nothing would keep now.

        `verdicts` are those on what is there. Raises StoreError.
        """
        if not were:
            return set()
        verdicts = list(verdicts)
        here = [verdict for verdict in verdicts if verdict.store == store.name]
        there = [verdict.decision.copy for verdict in here]
        if all(verdict.decision.keep for verdict in here):
            there = self._proven(store, there)
        pinned = {verdict.decision.copy.name for verdict in verdicts if verdict.decision.copy.pinned}
        witnesses = _witnesses((one.store, one.decision.copy) for one in verdicts)
        gone = [replace(copy, pinned=copy.pinned or copy.name in pinned) for copy in were]
        decisions = apply_policy([*there, *gone], self.config.policy, self.now, witnesses=witnesses)
        return {one.copy.name for one in decisions if not one.keep} & {copy.name for copy in gone}

    def _decide(self, store: Store, copies: list[Copy], witnesses: Histories) -> list[Decision]:
        policy = self._policy(store)
        decisions = apply_policy(copies, policy, self.now, witnesses=witnesses)
        if all(decision.keep for decision in decisions):
            return decisions
        obstacle = self.obstacles.get(store.name)
        if obstacle is not None:
            return [Decision(one.copy, True, (f"{OBSTACLE} {obstacle}",)) for one in decisions]
        decisions = apply_policy(self._proven(store, copies), policy, self.now, witnesses=witnesses)
        held = self._locked(store, [one.copy for one in decisions if not one.keep])
        return [
            Decision(one.copy, True, ("the application runs on it",))
            if self._is_live(store, one.copy)
            else Decision(one.copy, True, (f"{LOCKED} {iso(held[one.copy.name])}",))
            if one.copy.name in held
            else one
            for one in decisions
        ]

    def _with_upcoming(self, store: Store) -> list[Copy]:
        there = list(store.copies())
        if store.name == catalog.SAFETY:
            return there
        names = {copy.name for copy in there}
        return [*there, *(Copy(name, 0, has_manifest=True) for name in self.upcoming if name not in names)]

    def _policy(self, store: Store) -> Policy:
        """What stays in a store.

        A safety backup goes by its age alone: several restores in one night are one incident.
        """
        if store.name != catalog.SAFETY:
            return self.config.policy
        days = self.config.policy.retention_days
        return Policy(
            retention_days=_SAFETY_DAYS if days is None else days and max(days, _SAFETY_DAYS),
            minimum_kept=self.config.policy.minimum_kept,
        )

    def _locked(self, store: Store, going: Iterable[Copy]) -> dict[BackupName, datetime]:
        """Until when those are locked that S3 would only hide, were they deleted."""
        remote = catalog.in_s3(store)
        if remote is None or self.config.cloud is None or not self.config.cloud.object_lock_days:
            return {}
        from . import object_lock

        known = object_lock.read(self.config)
        ends = ((copy.name, object_lock.end_of(copy, remote, known, self.now)) for copy in going)
        return {name: end for name, end in ends if end is not None}

    def _proven(self, store: Store, copies: list[Copy]) -> list[Copy]:
        """The copies, those that turn out to be damaged no longer verified.

        Before others go, every byte of the newest is proven, and the manifests of as many more as always stay are read:
        it is on them that the others may go.
        """
        bad: set[BackupName] = set()

        def is_whole(copy: Copy, *, every_byte: bool) -> bool:
            try:
                if copy.name not in self.upcoming:
                    verify.manifest_of(store, copy)
                    if every_byte:
                        store.prove(copy)
            except (DamagedError, NotFoundError) as exc:
                self.warnings.append(str(exc))
                log.warning(str(exc))
                bad.add(copy.name)
            return copy.name not in bad

        past = (copy for copy in copies if copy.verified and copy.name.created_at <= self.now)
        newest_first = sorted(past, key=lambda copy: copy.name, reverse=True)
        for kind in (DATABASE, STATE):
            verified = [copy for copy in newest_first if copy.name.kind == kind]
            newest = next((at for at, copy in enumerate(verified) if is_whole(copy, every_byte=True)), len(verified))
            good = 1
            for copy in islice(stay_first(verified[newest:], lambda copy: copy.drilled), 1, None):
                if good >= self.config.policy.minimum_kept:
                    break
                good += is_whole(copy, every_byte=False)
        return [replace(copy, has_manifest=False) if copy.name in bad else copy for copy in copies]

    def _is_live(self, store: Store, copy: Copy) -> bool:
        """Whether somebody made an application run on a backup where it lies."""
        sources = (self.config.database_path, self.config.state_path)
        path = Path(store.location(copy.name))
        return store.name in ("local", catalog.SAFETY) and any(
            path.exists() and source.exists() and path.samefile(source) for source in sources
        )


def _witnesses(known: Iterable[tuple[str, Copy]]) -> Histories:
    """The history that the disk has, and that of all stores. Safety backups tell nothing: restores happen rarely.

    Who has this host's key can fill a gap in S3 with names, and that must not fill the one on the disk.
    """
    there = [(store, copy) for store, copy in known if store != catalog.SAFETY]
    return [copy for store, copy in there if store != S3], [copy for _store, copy in there]

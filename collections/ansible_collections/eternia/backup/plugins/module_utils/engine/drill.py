# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that backups come back: select → fetch → prove → place → open → mark, in scratch beside the live system.

The newest backup of every store is restored, from that store alone, and one older backup by lot. The live data is not
touched, and backups go on meanwhile.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import (
    catalog,
    copying,
    eligibility,
    encoding,
    fetch,
    files,
    history,
    lock,
    log,
    names,
    placing,
    recovery,
    refusal,
    scratch,
    sqlite,
    verify,
)
from . import target as target_
from .choice import describe
from .clock import Clock
from .config import Config
from .eligibility import Chosen
from .encryption import Identity
from .errors import DamagedError, EngineError, StoreError
from .history import Entry, Last, Prediction
from .lot import Choice, Choose, Lot
from .names import DATABASE
from .selection import Candidate
from .stores.local import LocalStore
from .swap import Kept
from .target import Target

# The steps that a recovery has too, before the application starts.
_RECOVERY = ("fetch", "decode", "prove", "place")
_NOTHING_WAS_THERE = Kept(None, {}, linked=False, sound=False)


@dataclass
class Drilled:
    """One drill, done or planned. `problem` says why the backup did not come back, None where it did.

    `bytes` is its size as stored, `facts` what was read from it in scratch, `steps` and `seconds` are the time taken.
    """

    name: str
    store: str
    location: str
    bytes: int
    newest: bool
    problem: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Outcome:
    """What was drilled, or would be, at a UTC time.

    `undrilled` says of each store from which nothing could be drilled why. `predicted` has the stores whose newest
    backup came back. Times are in seconds.
    """

    at: str
    drilled: list[Drilled] = field(default_factory=list)
    undrilled: dict[str, str] = field(default_factory=dict)
    predicted: list[Prediction] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def warn(self, message: str) -> None:
        """Say what an operator should look at, although the drill goes on."""
        self.warnings.append(message)
        log.warning(message, log.RECOVERY)

    @property
    def problems(self) -> list[str]:
        return [*self.undrilled.values(), *(one.problem for one in self.drilled if one.problem is not None)]

    @property
    def changed(self) -> bool:
        """Whether a backup came back, and so was marked."""
        return any(one.problem is None for one in self.drilled)


class DrillFailedError(EngineError):
    """Not everything came back; `outcome` says what did, and what did not."""

    def __init__(self, outcome: Outcome) -> None:
        count = len(outcome.drilled) + len(outcome.undrilled)
        super().__init__(f"{len(outcome.problems)} of {count} drills failed. {' '.join(outcome.problems)}")
        self.outcome = outcome


# What is done with a choice: returns facts; raises EngineError.
Act = Callable[[Choice, recovery.Outcome], Mapping[str, Any]]


@refusal.told
def plan(config: Config, *, clock: Clock, choose: Choose | None = None, identity: Identity | None = None) -> Outcome:
    """Find out what `run` would drill, reading only. Raises DrillFailedError where it would fail for a reason seen now.

    LockedError, StoreError, ConfigError as `run`.
    """
    catalog.require_storage(config)
    lock.require_no_drill(config.storage_path)
    attempt = _Attempt(config, clock, choose, files.require_usable(config.storage_path), identity)
    attempt.drill_all(attempt.look)
    return attempt.ended()


@refusal.told
def run(config: Config, *, clock: Clock, choose: Choose | None = None, identity: Identity | None = None) -> Outcome:
    """Drill the newest backup of every store and an older one. Raises DrillFailedError once all were tried.

    What is encrypted needs an `identity` to come back. `choose` takes one of the older ones; by default it is drawn by
    lot, anew after each drill, so that a plan names the one that the run takes. LockedError where another drill goes
    on, StoreError where there can be no scratch, the history cannot be renamed or the storage path is another host's,
    ConfigError where it is not where it should be.
    """
    catalog.require_storage(config)
    files.make_private_dirs(config.storage_path)
    # Not in the scratch: to make that may need space which is not there, and then the drill has failed, too.
    with lock.held_drill(config.storage_path):
        history.begin(config.storage_path)
    with scratch.held(config.storage_path) as place:
        attempt = _Attempt(config, clock, choose, place, identity)
        attempt.drill_all(attempt.restore_and_mark)
        attempt.predict()
        return attempt.ended()


class _Attempt:
    """A drill under way: what the stores hold, and what came of it so far."""

    def __init__(
        self, config: Config, clock: Clock, choose: Choose | None, place: Path, identity: Identity | None
    ) -> None:
        self._config, self._clock, self._place, self._identity = config, clock, place, identity
        self._started = time.monotonic()
        self._outcome = Outcome(names.iso(clock.now()))
        self._earlier = self._history()
        drawn = random.Random(f"{config.host} {self._earlier[-1:]}")
        self._lot = Lot(config, clock.now(), choose or drawn.choice, opens=identity is not None)
        # The same: a store may fail to be listed later, too.
        self._outcome.undrilled = self._lot.unlisted

    def drill_all(self, act: Act) -> None:
        """The newest of every store, and an older one: what went wrong with one keeps no other from its turn."""
        undrilled = self._outcome.undrilled
        for store in self._lot.stores:
            if store.name not in undrilled and not self._drill(self._lot.newest_of(store), act, newest=True):
                undrilled.setdefault(
                    store.name,
                    f"{store.location('').rstrip('/')} has no verified backup of the {self._lot.kind}. Take one, then "
                    "drill again.",
                )
        self._drill(self._lot.older, act, newest=False)

    def ended(self) -> Outcome:
        """What came of it. Raises DrillFailedError where anything went wrong."""
        outcome = self._outcome
        outcome.seconds = time.monotonic() - self._started
        if outcome.problems:
            failed = DrillFailedError(outcome)
            log.error(str(failed), log.RECOVERY)
            raise failed
        return outcome

    def look(self, choice: Choice, steps: recovery.Outcome) -> Mapping[str, Any]:
        """Find out whether a restore could begin, without writing; returns the facts that it would have to find."""
        chosen = self._examined(choice, steps)
        encoding.require(choice.copy.name, choice.store.location(choice.copy.name), self._identity)
        self._need_room(chosen)
        return {} if chosen.manifest is None else chosen.manifest.facts

    def restore_and_mark(self, choice: Choice, steps: recovery.Outcome) -> Mapping[str, Any]:
        """Restore into scratch; a copy that comes back is marked, one that is damaged loses its mark."""
        store, copy = choice.store, choice.copy
        try:
            facts = self._restore(choice, steps)
        except DamagedError:
            self._unmark(choice)
            raise
        seconds = round(sum(steps.steps.values()), 3)
        mark = json.dumps({"at": names.iso(self._clock.now()), "seconds": seconds}).encode() + b"\n"
        try:
            store.mark_drilled(copy, mark, staging=self._place)
        except StoreError as exc:
            self._outcome.warn(f"{store.location(copy.name)} came back, but could not be marked as drilled. {exc}")
        log.info(f"{store.location(copy.name)} came back in a drill, in {seconds} s", log.RECOVERY)
        return facts

    def predict(self) -> None:
        """Say how long a recovery is going to take, and remember it."""
        measured = [
            Entry(
                self._outcome.at,
                one.store,
                one.name,
                one.bytes,
                round(sum(one.steps.get(step, 0.0) for step in _RECOVERY), 6),
            )
            for one in self._outcome.drilled
            if one.newest and one.problem is None
        ]
        self._outcome.predicted = [history.predict(entry, self._earlier) for entry in measured]
        try:
            last = Last(self._outcome.at, succeeded=not self._outcome.problems)
            history.write(self._config.storage_path, [*self._earlier, *measured], last, staging=self._place)
        except StoreError as exc:
            self._outcome.warn(str(exc))

    def _restore(self, choice: Choice, steps: recovery.Outcome) -> Mapping[str, Any]:
        """The steps of a restore, with a target that nothing is at."""
        chosen = self._examined(choice, steps)
        self._need_room(chosen)
        live = target_.of(self._config, choice.copy.name.kind)
        with files.emptied(self._place / "host") as directory:
            target = Target(live.kind, directory / live.path.name, is_live=False)
            staged = fetch.bring(chosen, target, level=self._config.verify, outcome=steps, progress=copying.silent)
            with steps.step("place"):
                placing.place(target, staged, kept=_NOTHING_WAS_THERE, keeping=directory, outcome=steps)
            with steps.step("open"):
                self._open(target)
            return staged.facts

    def _unmark(self, choice: Choice) -> None:
        if isinstance(choice.store, LocalStore):
            try:
                choice.store.unmark_drilled(choice.copy.name)
            except StoreError as exc:
                self._outcome.warn(str(exc))

    def _open(self, target: Target) -> None:
        """As the application would that finds it in its place."""
        if target.kind == DATABASE:
            sqlite.begin_to_write(target.real)
        else:
            verify.check(target.real, target.kind, self._config.verify)

    def _examined(self, choice: Choice, steps: recovery.Outcome) -> Chosen:
        store, copy = choice.store, choice.copy
        if copy.bytes is None:
            raise DamagedError(
                f"{store.location(copy.name)} is gone; only what describes it is left. Find out who removed it, and "
                "take a new backup."
            )
        candidate = Candidate(str(copy.name), copy.name.kind, ((store, copy),))
        return eligibility.examine(self._config, recovery.Request(identity=self._identity), candidate, steps)

    def _need_room(self, chosen: Chosen) -> None:
        described = recovery.Outcome()
        describe(described, chosen)
        # As much again, for the backup that may be taken meanwhile.
        files.need_space(self._place, 2 * described.space_needed)

    def _drill(self, pick: Callable[[set[Choice]], Choice | None], act: Act, *, newest: bool) -> bool:
        """Drill what is picked; where prune removed it meanwhile, what is picked next. False where there is nothing."""
        removed: set[Choice] = set()
        while True:
            choice = pick(removed)
            if choice is None:
                return False
            drilled = self._told(choice, act, newest=newest)
            if drilled.problem is None or self._lot.is_still_there(choice):
                self._outcome.drilled.append(drilled)
                return True
            self._outcome.warn(f"{drilled.location} was removed while it was drilled; another is taken.")
            removed.add(choice)

    def _told(self, choice: Choice, act: Act, *, newest: bool) -> Drilled:
        store, copy = choice.store, choice.copy
        told = Drilled(str(copy.name), store.name, store.location(copy.name), copy.bytes or 0, newest)
        started, steps = time.monotonic(), recovery.Outcome()
        try:
            told.facts = act(choice, steps)
        except EngineError as exc:
            told.problem = str(exc)
        except OSError as exc:
            told.problem = str(refusal.of(exc))
        told.steps, told.seconds = steps.steps, time.monotonic() - started
        self._outcome.warnings.extend(steps.warnings)
        return told

    def _history(self) -> list[Entry]:
        try:
            return history.read(self._config.storage_path)
        except DamagedError as exc:
            self._outcome.warn(str(exc))
            return []

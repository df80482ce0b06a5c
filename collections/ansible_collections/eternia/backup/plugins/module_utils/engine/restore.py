# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a backup back: select → fetch → prove → keep what is there → journal → swap → check in place → clear.

The live data changes by one rename, after everything that can go wrong has had its chance to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

from . import (
    catalog,
    choice,
    copying,
    current,
    eligibility,
    fetch,
    files,
    holders,
    lock,
    log,
    mounts,
    nearby,
    placing,
    refusal,
    safety,
    selection,
    staging,
    stopping,
    swap,
)
from . import target as target_
from .clock import Clock
from .config import Config
from .copying import Progress
from .current import Judged, judge
from .eligibility import Chosen
from .errors import ConfigError, EngineError, StoreError
from .recovery import Outcome, Request
from .selection import Candidate, Selection
from .staging import Staged
from .target import Target


@refusal.told
def plan(config: Config, request: Request, *, clock: Clock) -> Outcome:
    """Find out what `run` would do, reading only. Raises EngineError where it would fail for a reason seen now.

    An application that has the target open is no such reason: it is stopped before the run. It is told in `holders`.
    """
    config = config.at_full_speed
    outcome = Outcome()
    _warn_of_missing_mount(config, outcome)
    lock.require_free(config.storage_path)
    found = _selected(config, request, outcome, clock)
    target = target_.of(config, found.candidates[0].kind)
    is_pending = _warn_of_pending(target, outcome)
    target_.require_replaceable(target)
    files.require_usable(config.storage_path)
    outcome.target = str(target.path)
    chosen = None if is_pending else _there_already(config, request, found.candidates[0], target)
    if chosen is None:
        with outcome.step("prove"):
            chosen = choice.first_whole(
                config, request, found, outcome, lambda one: choice.prove_in_store(one, outcome)
            )
    manifest = chosen.manifest
    choice.describe(outcome, chosen)
    outcome.before = current.facts(target)
    outcome.after = None if manifest is None else manifest.facts
    outcome.unchanged = not is_pending and manifest is not None and current.has_content(target, manifest.content)
    if not outcome.unchanged:
        outcome.holders = holders.find(target)
        room = files.require_usable(target.real.parent, of=f"{target.kind}_path")
        outcome.space_free = files.free_bytes(room)
        files.need_space(room, outcome.space_needed)
        safety.need_space(target, config)
    else:
        outcome.after = outcome.before
    return outcome


@refusal.told
def stage(config: Config, request: Request, *, clock: Clock, progress: Progress = copying.silent) -> Outcome:
    """Fetch and prove what a later `run` is going to put into place, beside the target, which is left alone.

    Raises as `run`.
    """
    with _begun(config, request, clock) as (attempt, outcome):
        if not outcome.unchanged:
            safety.need_space(attempt.target, config)
            outcome.before = current.facts(attempt.target)
            staged = attempt.bring(progress)
            attempt.settle(staged)
            staging.record(attempt.target, staged)
            outcome.staged = True
            outcome.holders = holders.find(attempt.target)
    return outcome


@refusal.told
def run(config: Config, request: Request, *, clock: Clock, progress: Progress = copying.silent) -> Outcome:
    """Put a backup into place. Raises EngineError; then the target is what it was before.

    Where the disk fails for good right after the rename, it is the backup, and the next run settles what is left.

    LockedError where another run goes on or somebody has the target open, DamagedError where no copy is whole,
    NotFoundError where there is no such backup, RefusedError where the request has to allow it or a log beside it would
    be left out, TargetError where the target cannot be replaced.
    """
    with _begun(config, request, clock) as (attempt, outcome):
        if outcome.unchanged:
            log.info(f"{attempt.target.path} has the content of {outcome.name} already", log.RECOVERY)
            return outcome
        holders.require_none(attempt.target)
        staged, judged = attempt.bring_and_judge(progress)
        attempt.settle(staged)
        if not outcome.unchanged:
            attempt.replace(staged, judged)
    return outcome


@contextmanager
def _begun(config: Config, request: Request, clock: Clock) -> Iterator[tuple[_Attempt, Outcome]]:
    """Hold both locks, settle what an earlier restore left, and know what is to be restored."""
    config = config.at_full_speed
    outcome = Outcome()
    _warn_of_missing_mount(config, outcome)
    files.make_private_dirs(config.storage_path)
    with ExitStack() as held:
        held.enter_context(lock.held(config.storage_path))
        catalog.local(config).tidy()
        # First of all: what may fail from here on must not keep a restore that was cut off from being settled.
        for one in target_.both(config):
            _settle(one, outcome)
        attempt = _Attempt(config, request, clock, outcome)
        target_.require_followable(attempt.target)
        target_.make_directory(attempt.target)
        held.enter_context(lock.held_target(attempt.target.real))
        try:
            with outcome.step("look"):
                attempt.look()
            yield attempt, outcome
        except (EngineError, OSError) as exc:
            log.error(str(exc), log.RECOVERY)
            # What an earlier run staged is as good as it was, if it was not come to.
            outcome.staged = staging.find(attempt.target, request.backup) is not None
            raise
        finally:
            if not (outcome.staged or outcome.cut_off):
                with suppress(OSError):
                    swap.discard(attempt.target)


def _settle(target: Target, outcome: Outcome) -> None:
    if os.path.lexists(target.staging):
        target_.require_followable(target)
        with lock.held_target(target.real):
            kept = swap.kept_by_pending(target)
            message = swap.settle(target)
            if message is not None:
                outcome.warnings.append(message)
                outcome.safety = kept


class _Attempt:
    """One restore under way: what was chosen, where it goes, and what is known of it so far."""

    def __init__(self, config: Config, request: Request, clock: Clock, outcome: Outcome) -> None:
        self._config, self._request, self._clock, self._outcome = config, request, clock, outcome
        self._staged: Staged | None = None
        self._looked_for: str | None = None
        for kind_target in target_.both(config):
            # Fetched by an earlier run from the very place that is asked for: no store needs to be asked again.
            self._staged = self._staged or staging.find(kind_target, request.backup)
            self.target = kind_target
            if self._staged is not None:
                eligibility.require_allowed(config, request, self._staged.title, self._staged.manifest)
                eligibility.require_alone(kind_target.kind, self._staged.location, self._staged.manifest)
                return
        self._selection = _selected(config, request, outcome, clock)
        self.target = target_.of(config, self._selection.candidates[0].kind)

    def look(self) -> None:
        """Look at what is there, and whether it has the content already."""
        target_.require_replaceable(self.target)
        self._outcome.target = str(self.target.path)
        self._outcome.kind = self.target.kind
        if self._staged is not None:
            return
        first = self._selection.candidates[0]
        self._looked_for = first.title
        chosen = _there_already(self._config, self._request, first, self.target)
        if chosen is not None:
            choice.describe(self._outcome, chosen)
            self._outcome.unchanged = True
            self._outcome.before = self._outcome.after = current.facts(self.target)

    def bring(self, progress: Progress) -> Staged:
        """Fetch and prove: the first candidate, or where the request may fall back the first that is whole."""
        if self._staged is not None:
            return self._staged
        try:
            return self._first_whole(progress)
        except StoreError as exc:
            if not self._outcome.cut_off:
                raise
            raise fetch.resumable(exc, self.target, "the same restore, within a day,") from exc

    def _first_whole(self, progress: Progress) -> Staged:
        return choice.first_whole(
            self._config,
            self._request,
            self._selection,
            self._outcome,
            lambda chosen: fetch.bring(
                chosen,
                self.target,
                level=self._config.verify,
                outcome=self._outcome,
                progress=progress,
                nearby=nearby.candidates(self._config, self.target, chosen),
            ),
        )

    def bring_and_judge(self, progress: Progress) -> tuple[Staged, Judged | None]:
        """Fetch and prove, and side by side with it check what is there."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            judging = pool.submit(judge, self.target, self._config.verify)
            staged = self.bring(progress)
            with self._outcome.step("safety"):
                return staged, judging.result()

    def settle(self, staged: Staged) -> None:
        """What is known now that the bytes were proven."""
        outcome, manifest = self._outcome, staged.manifest
        outcome.name, outcome.location, outcome.store = staged.title, staged.location, staged.store
        outcome.bytes, outcome.manifest = staged.content.bytes, manifest
        outcome.created_at = choice.created_at(staged.title, manifest)
        outcome.after = staged.facts
        is_known = manifest is not None and staged.title == self._looked_for
        if not is_known and not fetch.has_companions(self.target) and current.has_content(self.target, staged.content):
            outcome.unchanged, outcome.before = True, staged.facts

    def replace(self, staged: Staged, judged: Judged | None) -> None:
        """Keep what is there, then put the staged file into its place."""
        outcome, target, config = self._outcome, self.target, self._config
        holders.require_none(target)
        with ExitStack() as held:
            with outcome.step("safety"):
                facts = safety.fold(target, config.verify, judged)
                outcome.before = current.facts(target) if facts is None else current.of_any_copy(facts)
                held.enter_context(holders.kept_out(target))
                keeping = held.enter_context(catalog.local(config).staging())
                kept = safety.prepare(target, facts, config, judged=judged, staging=keeping, clock=self._clock)
            stopping.too_late()
            with outcome.step("swap"):
                placing.place(target, staged, kept=kept, keeping=keeping, outcome=outcome)
        outcome.safety = None if kept.place is None else str(kept.place)
        with suppress(OSError):
            safety.close_to_others(kept)
        log.info(f"{target.path} is {outcome.name} from {outcome.location} now; before: {outcome.safety}", log.RECOVERY)


def _selected(config: Config, request: Request, outcome: Outcome, clock: Clock) -> Selection:
    """What the request may mean, of the kind that this host has."""
    with outcome.step("select"):
        found = selection.find(config, request.backup, now=clock.now())
    for warning in found.warnings:
        outcome.warn(warning)
    eligibility.require_kind(config, found.candidates[0])
    return found


def _warn_of_missing_mount(config: Config, outcome: Outcome) -> None:
    """The disaster may have taken the disk of the backups: that keeps no data from coming back."""
    try:
        mounts.require(config)
    except (StoreError, ConfigError) as exc:
        outcome.warn(f"{exc} The restore goes on without the backups there; what it keeps lies on the disk below.")


def _warn_of_pending(target: Target, outcome: Outcome) -> bool:
    message = swap.pending(target)
    if message is not None:
        outcome.warn(message)
    return message is not None


def _there_already(config: Config, request: Request, candidate: Candidate, target: Target) -> Chosen | None:
    """The candidate, where the target has its content. What speaks against it is said when it is fetched."""
    with suppress(EngineError):
        chosen = eligibility.examine(config, request, candidate, Outcome())
        if chosen.manifest is not None and current.has_content(target, chosen.manifest.content):
            return chosen
    return None

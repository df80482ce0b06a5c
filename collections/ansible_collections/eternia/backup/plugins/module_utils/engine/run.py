# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is scheduled: a run (lock → backup → send → prune → report), a drill, a prune.

Whatever fails, it is recorded and told of before the command is over: nothing is raised here, see `Outcome.error`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from . import backup, behind, exit_code, failure, hold, lock, log, prune, record, refusal, report, scratch
from .clock import Clock
from .config import Config
from .errors import DamagedError, EngineError, HeldError, LockedError
from .names import iso
from .record import Record
from .report import Ended

if TYPE_CHECKING:
    from . import drill
    from .encryption import Identity

T = TypeVar("T")


@dataclass
class Outcome:
    """What a command did; after a failure, what holds all the same. `error` is what failed, None where nothing did."""

    taken: backup.Outcome | None = None
    pruned: prune.Outcome | None = None
    drilled: drill.Outcome | None = None
    error: BaseException | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """What an operator should look at, whoever found it."""
        # What was pruned behind a backup warns with it.
        parts = (self.taken or self.pruned, self.drilled)
        return (*(warning for part in parts if part is not None for warning in part.warnings), *self.warnings)

    def warn(self, messages: Iterable[str]) -> None:
        """Say what an operator should look at, although the command goes on."""
        for message in messages:
            self.warnings.append(message)
            log.warning(message)


def run(config: Config, *, clock: Clock, warnings: Iterable[str] = ()) -> Outcome:
    """Take a backup, bring it to every store and prune behind it. `warnings` are of what went wrong before."""
    outcome, pings = Outcome(warnings=list(warnings)), False
    try:
        # Whoever has to wait his turn does not ping: the run that goes on does, and a hold is no failure.
        _require_turn(config, clock, outcome)
        pings = True
        outcome.warn(report.started(config))
        outcome.taken = backup.run(config, clock=clock)
        behind.run(config, outcome.taken, clock=clock)
    except BaseException as exc:
        outcome.error = _said(exc)
        outcome.taken = outcome.taken or _of(exc, backup.Outcome)
    outcome.pruned = None if outcome.taken is None else outcome.taken.pruned
    _complete_record(config, clock, outcome)
    _report("run", config, clock, outcome, pings=pings)
    _complete_record(config, clock, outcome)
    return outcome


def prune_alone(config: Config, *, clock: Clock, warnings: Iterable[str] = ()) -> Outcome:
    """Remove what the policy no longer keeps."""
    outcome = Outcome(warnings=list(warnings))
    try:
        outcome.pruned = prune.run(config, now=clock.now())
    except BaseException as exc:
        outcome.error, outcome.pruned = _said(exc), _of(exc, prune.Outcome)
    _report("prune", config, clock, outcome)
    return outcome


def drill_all(
    config: Config, *, clock: Clock, warnings: Iterable[str] = (), identity: Identity | None = None
) -> Outcome:
    """Prove the backups, unless somebody holds them; `identity` opens those that are encrypted."""
    # A run does without it, and starts every hour.
    from . import drill

    outcome = Outcome(warnings=list(warnings))
    try:
        _require_no_hold(config, clock)
        outcome.drilled = drill.run(config, clock=clock, identity=identity)
    except BaseException as exc:
        outcome.error, outcome.drilled = _said(exc), _of(exc, drill.Outcome)
    _report("drill", config, clock, outcome)
    return outcome


def _require_turn(config: Config, clock: Clock, outcome: Outcome) -> None:
    try:
        _require_no_hold(config, clock)
    except HeldError:
        # A hold keeps runs away, and no lock in S3 from ending.
        if config.cloud is not None and config.cloud.object_lock_days:
            from . import catalog, object_lock

            object_lock.renew(config, catalog.local(config), now=clock.now(), warn=lambda words: outcome.warn([words]))
        raise
    lock.require_free(config.storage_path)


def _require_no_hold(config: Config, clock: Clock) -> None:
    # A hold may last for days, and what a drill left that was killed may be plain.
    scratch.tidy(config)
    hold.require_none(config.storage_path, clock.now())


def _said(error: BaseException) -> BaseException:
    return refusal.of(error) if isinstance(error, OSError) else error


def _of(error: BaseException, kind: type[T]) -> T | None:
    """What holds although something failed."""
    outcome = getattr(error, "outcome", None)
    return outcome if isinstance(outcome, kind) else None


def _complete_record(config: Config, clock: Clock, outcome: Outcome) -> None:
    if outcome.taken is not None:
        behind.complete_record(config, outcome.taken, clock=clock, warnings=outcome.all_warnings, error=outcome.error)


def _report(command: str, config: Config, clock: Clock, outcome: Outcome, *, pings: bool = False) -> None:
    error = outcome.error
    how = Ended(
        command,
        code=0 if error is None else exit_code.of(error),
        failure=None if error is None else failure.of(error),
        record=_last(config, clock, outcome) if command == "run" else None,
    )
    tells = not isinstance(error, HeldError)
    try:
        outcome.warn(report.ended(config, how, clock.now(), pings=pings, tells=tells))
    except Exception as exc:
        # What was done is done, and must not look as if it had failed.
        outcome.warn([failure.of(exc).reason])


def _last(config: Config, clock: Clock, outcome: Outcome) -> Record | None:
    """The record of this run, also where none could or may be written; None where another's is the last.

    Its `failures` are those that are written down: with others, the counter would go down at the next run.
    """
    try:
        written = record.read(config.storage_path)
    except DamagedError:
        written = None
    if outcome.taken is not None:
        last = outcome.taken.record
    elif not isinstance(outcome.error, EngineError) or isinstance(outcome.error, LockedError):
        last = None
    else:
        begun = replace(written or Record(record.RUNNING, iso(clock.now())), backup=None, seconds=0.0)
        last = begun.failed(clock.now(), failure.of(outcome.error))
    return None if last is None else replace(last, failures={} if written is None else written.failures)

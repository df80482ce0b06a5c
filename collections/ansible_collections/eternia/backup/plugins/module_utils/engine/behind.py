# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows a backup in the same run: pruning, and the rest of the run's record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from . import catalog, failure, lock, prune, record
from .backup import Outcome, RunFailedError
from .clock import Clock
from .config import Config
from .errors import EngineError, LockedError
from .steps import timed


def plan(config: Config, taken: Outcome, *, clock: Clock) -> None:
    """Find out what `run` would remove once a planned backup is taken, reading only: `taken.pruned` says it.

    Raises StoreError, LockedError, ConfigError.
    """
    upcoming = {*taken.transfers, *(() if taken.name is None else (taken.name,))}
    _note(taken, prune.plan(config, now=clock.now(), upcoming=upcoming))


def run(config: Config, taken: Outcome, *, clock: Clock) -> None:
    """Remove what the policy no longer keeps: `taken.pruned` says what. Raises RunFailedError."""
    try:
        with timed(taken.steps, "prune"):
            pruned = prune.run(config, now=clock.now())
        _note(taken, pruned)
    except LockedError as exc:
        # Somebody else was faster, and the backup is there: the next run prunes.
        taken.warn(f"Nothing was pruned. {exc}")
    except EngineError as exc:
        _note(taken, getattr(exc, "outcome", None))
        complete_record(config, taken, clock=clock, warnings=taken.warnings, error=exc)
        raise RunFailedError(str(exc), taken) from exc
    complete_record(config, taken, clock=clock, warnings=taken.warnings)


def complete_record(
    config: Config, taken: Outcome, *, clock: Clock, warnings: Iterable[str], error: BaseException | None = None
) -> None:
    """Add to the record what happened after it was written. The record of any other run is let alone."""
    written = taken.record
    if written is None:
        return
    removed = 0 if taken.pruned is None else len(taken.pruned.removed)
    wanted = replace(written, removed=removed, warnings=tuple(warnings))
    if error is not None and written.result != record.FAILED:
        wanted = wanted.failed(clock.now(), failure.of(error))
    if wanted == written:
        return
    try:
        with lock.held(config.storage_path):
            if record.read(config.storage_path) == written:
                with catalog.local(config).staging() as staging:
                    record.write(config.storage_path, wanted, staging=staging)
        taken.record = wanted
    except LockedError:
        pass
    except EngineError as exc:
        taken.warn(str(exc))


def _note(taken: Outcome, pruned: prune.Outcome | None) -> None:
    taken.pruned = pruned
    if pruned is not None:
        taken.warnings += pruned.warnings

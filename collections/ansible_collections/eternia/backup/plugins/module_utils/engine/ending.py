# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run ends that takes a backup: what is recorded of it, and the locks that must not end with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import failure, log, record, refusal
from .attempt import Outcome, RunFailedError
from .clock import Clock
from .config import Config
from .errors import EngineError, HeldError, LockedError, StoreError, root
from .record import Record
from .steps import timed
from .stores.s3_errors import S3Error

if TYPE_CHECKING:
    from .stores.local import LocalStore


@contextmanager
def recorded(config: Config, clock: Clock, staging: Path, begun: Record, outcome: Outcome) -> Iterator[None]:
    """Keep the record of the last run true: `running` until it is known how it ended, whatever ends it."""
    started = time.monotonic()
    record.write(config.storage_path, begun, staging=staging)
    try:
        yield
        ended = _described(begun, outcome, time.monotonic() - started).succeeded(clock.now())
        record.write(config.storage_path, ended, staging=staging)
    except BaseException as exc:
        ended = _described(begun, outcome, time.monotonic() - started).failed(clock.now(), failure.of(exc))
        with suppress(StoreError):
            # On a full disk the record stays `running`, which counts as failed too.
            record.write(config.storage_path, ended, staging=staging)
        log.error(ended.error)
        outcome.record = ended
        if isinstance(exc, OSError):
            exc = refusal.of(exc)
        if isinstance(exc, EngineError):
            raise RunFailedError(str(exc), outcome) from exc
        raise
    else:
        outcome.record = ended
    finally:
        outcome.seconds = time.monotonic() - started


def _described(begun: Record, outcome: Outcome, seconds: float) -> Record:
    """What the record says of an outcome."""
    return replace(
        begun,
        seconds=round(seconds, 3),
        backup=None if outcome.name is None else str(outcome.name),
        bytes_stored=outcome.bytes,
        bytes_sent=sum(transfer.bytes_sent for transfer in outcome.transfers.values()),
        bytes_copied=sum(transfer.bytes_copied for transfer in outcome.transfers.values()),
        warnings=tuple(outcome.warnings),
        create_only=begun.create_only if outcome.create_only is None else outcome.create_only,
    )


def keeping_locked(config: Config, local: LocalStore, clock: Clock, outcome: Outcome) -> Callable[..., None]:
    """What sees to it, when the run ends, that what S3 has to keep stays locked there; whatever became of the run.

    A host that takes no backups any more, because it has no sound source, its disk is gone or somebody holds them, must
    not let go of those that lie in S3.
    """

    def renew(_kind: type[BaseException] | None, error: BaseException | None, *_trace: object) -> None:
        if config.cloud is not None and config.cloud.object_lock_days and _goes_on(error):
            from . import object_lock

            with timed(outcome.steps, "send"):
                object_lock.renew(config, local, now=clock.now(), warn=outcome.warn)

    return renew


def _goes_on(error: BaseException | None) -> bool:
    """Whether a run that ended so has time for S3: not one that was told to end, or to which S3 gave no answer.

    Nor one that found another at work, which does it.
    """
    cause = None if error is None else root(error)
    has_no_answer = isinstance(cause, S3Error) and cause.no_answer
    has_no_turn = isinstance(cause, LockedError) and not isinstance(cause, HeldError)
    return not (has_no_answer or has_no_turn) and (cause is None or isinstance(cause, Exception))

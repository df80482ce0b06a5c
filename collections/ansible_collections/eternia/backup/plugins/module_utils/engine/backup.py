# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a backup: snapshot → verify → digest → manifest → commit local → send to s3.

The order is the safety: data before manifest, local before S3. A send that fails leaves the local backup valid and the
run failed; the next run sends what is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from . import (
    catalog,
    claim,
    copying,
    digest,
    failure,
    files,
    hold,
    lock,
    log,
    machine,
    mounts,
    names,
    record,
    refusal,
    retention,
    scratch,
    snapshot,
    source,
    target,
    verify,
)
from .clock import Clock, require_possible
from .config import Config
from .errors import DamagedError, EngineError, HeldError, LockedError, StoreError, root
from .manifest import Digest, Manifest, Transfer, Verified
from .names import BackupName
from .record import Record
from .snapshot import Snapshot
from .steps import timed
from .stores.s3_client import S3Error

if TYPE_CHECKING:
    from . import prune
    from .stores.local import LocalStore


# S3 answered, and it was not its answer that ended the run.
_REFUSED_BY_US = "RefusedByUs"


@dataclass
class Outcome:
    """What a run did, or would do; after a failure, what holds all the same.

    `manifest` is None for a backup that is only planned. `previous` is the newest verified backup before the run,
    `transfers` are the backups that went to S3, by name; `create_only` says whether S3 refuses to overwrite, None where
    it was not asked. `bytes` is the size, times are in seconds, those of the `steps` too; those of `proving` go on side
    by side. `record` is what was recorded of the run, None while that goes on; `pruned` is what pruning behind it did,
    None where there was none.
    """

    name: BackupName | None = None
    path: str = ""
    bytes: int = 0
    previous: BackupName | None = None
    unchanged: bool = False
    manifest: Manifest | None = None
    transfers: dict[BackupName, Transfer] = field(default_factory=dict)
    create_only: bool | None = None
    warnings: list[str] = field(default_factory=list)
    pinned_seconds: float = 0.0
    seconds: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    proving: dict[str, float] = field(default_factory=dict)
    record: Record | None = None
    pruned: prune.Outcome | None = None

    def warn(self, message: str) -> None:
        """Say what an operator should look at, although the run goes on."""
        self.warnings.append(message)
        log.warning(message)

    @property
    def changed(self) -> bool:
        """Whether any store holds, or would hold, something that it did not hold before."""
        return (self.name is not None and not self.unchanged) or bool(self.transfers)


class RunFailedError(EngineError):
    """A run that failed half-way; `outcome` says what it left behind, all of it whole."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message)
        self.outcome = outcome


@refusal.told
def plan(config: Config, *, clock: Clock, skip_unchanged: bool = False) -> Outcome:
    """Find out what `run` would do, reading only. Raises EngineError where the run would fail for a reason seen now."""
    require_possible(clock.now())
    mounts.require(config)
    from . import send, swap

    room = files.require_usable(config.storage_path)
    claim.require(catalog.local(config), config.owner)
    lock.require_free(config.storage_path)
    hold.require_none(config.storage_path, clock.now())
    attempt = _Attempt(config, clock, skip_unchanged)
    outcome = attempt.outcome
    for message in filter(None, map(swap.pending, target.both(config))):
        outcome.warn(message)
    size = snapshot.rehearse(attempt.source, room, sleep=clock.sleep)
    name = attempt.free_name()
    attempt.warn_of_the_clock(name)
    _require_libraries(config)
    newest = attempt.newest_if_unchanged(
        lambda: snapshot.content_digest(attempt.source, digest.preferred_algorithm(), sleep=clock.sleep)
    )
    if newest is None:
        attempt.settle(name, size)
    else:
        attempt.settle_unchanged(newest)
    remote = catalog.remote(config)
    if remote is not None:
        if newest is None:
            outcome.transfers[name] = send.planned(size)
        upcoming = name if newest is None else None
        sending = send.plan(
            config,
            attempt.local,
            remote,
            now=clock.now(),
            previous=outcome.previous,
            upcoming=upcoming,
            warn=outcome.warn,
        )
        outcome.transfers.update(sending)
    return outcome


@refusal.told
def run(config: Config, *, clock: Clock, skip_unchanged: bool = False) -> Outcome:
    """Take a backup and bring it to every store. Raises RunFailedError.

    LockedError where another run goes on, or the host's backups are held. A restore that was cut off is settled first.
    """
    local, outcome = catalog.local(config), Outcome()
    with ExitStack() as held:
        held.push(_keeping_locked(config, local, clock, outcome))
        mounts.require(config)
        files.make_private_dirs(config.storage_path)
        claim.require(local, config.owner)
        held.enter_context(lock.held(config.storage_path))
        hold.require_none(config.storage_path, clock.now())
        # That the last run went well is no longer the last word, whatever becomes of this one.
        begun = record.begin(config.storage_path, clock.now())
        staging = held.enter_context(local.staging())
        held.enter_context(_recorded(config, clock, staging, begun, outcome))
        require_possible(clock.now())
        claim.take(local, config.owner, staging=staging)
        for live in filter(lambda live: os.path.lexists(live.staging), target.both(config)):
            # Only where a restore left something: a run starts every hour, and has no time to waste.
            from . import swap

            message = swap.tidy(live)
            if message is not None:
                outcome.warn(message)
        scratch.tidy(config.storage_path)
        attempt = _Attempt(config, clock, skip_unchanged, outcome)
        _require_libraries(config)
        name = attempt.free_name()
        clock.sleep_until(name.created_at)
        attempt.warn_of_the_clock(name)
        with timed(outcome.steps, "snapshot"):
            taken = snapshot.take(attempt.source, staging / str(replace(name, encoding=())), sleep=clock.sleep)
        outcome.pinned_seconds = taken.pinned_seconds
        with timed(outcome.steps, "prove"):
            manifest = _prove(config, name, taken, clock, outcome)
        newest = attempt.newest_if_unchanged(lambda: manifest.content.digest)
        if newest is None:
            with timed(outcome.steps, "store"):
                local.put(staging / manifest.name, manifest)
            attempt.settle(name, manifest.stored.bytes, manifest)
            log.info(f"{outcome.path}: {outcome.bytes} bytes of {attempt.source.path}, check {config.verify}: ok")
        else:
            local.mark_seen(newest.backup_name, clock.now(), staging=staging)
            attempt.settle_unchanged(newest)
            log.info(f"{attempt.source.path} is unchanged since {outcome.name}")
        remote = catalog.remote(config)
        if remote is not None:
            from . import send

            sending = send.run(
                config,
                local,
                remote,
                now=clock.now(),
                previous=outcome.previous,
                fresh=outcome.name,
                warn=outcome.warn,
            )
            # One at a time, so that after a failure the outcome holds what was sent before it.
            try:
                with timed(outcome.steps, "send"):
                    for sent, transfer in sending:
                        outcome.transfers[sent] = transfer
            except StoreError as exc:
                code = exc.code if isinstance(exc, S3Error) else _REFUSED_BY_US
                raise S3Error(
                    f"{outcome.path} is valid on the disk, but S3 has not got everything. {exc}", code
                ) from exc
            finally:
                outcome.create_only = remote.create_only
            if newest is None and taken.way != copying.REFLINK:
                with timed(outcome.steps, "store"):
                    attempt.share(manifest, staging)
    return outcome


@contextmanager
def _recorded(config: Config, clock: Clock, staging: Path, begun: Record, outcome: Outcome) -> Iterator[None]:
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


def _keeping_locked(config: Config, local: LocalStore, clock: Clock, outcome: Outcome) -> Callable[..., None]:
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
    has_no_answer = isinstance(cause, S3Error) and not cause.code
    has_no_turn = isinstance(cause, LockedError) and not isinstance(cause, HeldError)
    return not (has_no_answer or has_no_turn) and (cause is None or isinstance(cause, Exception))


def _prove(config: Config, name: BackupName, taken: Snapshot, clock: Clock, outcome: Outcome) -> Manifest:
    """Check the snapshot, compare it with its source, hash it and put it on the disk, all side by side.

    Where backups are compressed or encrypted, what is put on the disk is what came of that, under the backup's name;
    nothing else of them stays.
    """
    try:
        algorithm, for_s3 = digest.preferred_algorithm(), config.cloud is not None
        if name.encoding:
            from . import encoding

            proof = encoding.prove_and_encode(config, name, taken.path, algorithm=algorithm, for_s3=for_s3)
        else:
            proof = verify.prove(taken.path, name.kind, config.verify, algorithm=algorithm, for_s3=for_s3)
        outcome.proving = proof.seconds
        verify.same_facts(taken.path, proof.facts, taken.facts)
    except DamagedError as exc:
        source_path = taken.facts["path"]
        raise DamagedError(
            f"{source_path} gave a copy that is not fit to be a backup. Nothing was stored. {exc}"
        ) from exc
    except OSError as exc:
        raise StoreError(
            f"The snapshot {taken.path} could not be checked and put on the disk: {files.reason(exc)}. "
            "Nothing was stored; free some space or look at the disk, then run again."
        ) from exc
    return Manifest(
        name=str(name),
        kind=name.kind,
        environment=config.environment,
        host=config.host,
        machine=machine.identity(),
        created_at=names.iso(name.created_at),
        source=taken.facts,
        content=proof.content,
        stored=proof.stored,
        verified=Verified(config.verify, names.iso(clock.now())),
    )


def _require_libraries(config: Config) -> None:
    """Refuse before anything is copied what could not be stored. Raises StoreError."""
    if config.encoding:
        from . import encoding

        encoding.require_possible(config)


class _Attempt:
    """What is known while a backup is planned or taken: the local store, the source, the outcome so far."""

    def __init__(self, config: Config, clock: Clock, skip_unchanged: bool, outcome: Outcome | None = None) -> None:
        self.local = catalog.local(config)
        self.outcome = outcome or Outcome()
        self._clock = clock
        self._encoding = config.encoding
        self._policy = config.policy
        known = catalog.build([self.local])
        self.source = source.of_host(config, known)
        newest = catalog.newest_verified(known, self.source.kind)
        self._copies = [copy for backup in known for copy in backup.copies.values()]
        self.outcome.previous = None if newest is None else newest.name
        self._newest = newest
        self._skip_unchanged = skip_unchanged

    def newest_if_unchanged(self, digest_now: Callable[[], Digest | None]) -> Manifest | None:
        """The newest verified backup's manifest, where the caller asked for it and the source still has its content.

        A backup that is no longer whole is no reason to do without a new one. Nor is one where backups are or were
        encrypted: nobody here can tell whether it is for those that it has to be for now.
        """
        if not self._skip_unchanged or self._newest is None:
            return None
        if self._newest.name.is_encrypted or "age" in self._encoding:
            return None
        try:
            newest = self.local.manifest(self._newest.name)
            if digest_now() != newest.content.digest:
                return None
            verify.in_store(self.local, self._newest.copies[self.local.name], "full")
        except DamagedError as exc:
            self.outcome.warn(str(exc))
            return None
        return newest

    def share(self, manifest: Manifest, staging: Path) -> None:
        """One file on the disk for this backup and the one before it, where both hold the same bytes.

        Only once both lie in S3, too: a bit that flips on the disk must not take all that there is of them. And only
        with what was proven a moment ago.
        """
        newest = self._newest
        try:
            if newest is None or self.local.manifest(newest.name).stored.digest != manifest.stored.digest:
                return
            if os.path.samefile(self.local.location(newest.name), self.source.path):
                self.outcome.warn(
                    f"The application runs on {self.local.location(newest.name)}, which is a backup: what it writes "
                    "changes that. Stop it, and give it a file of its own: restore that backup."
                )
                return
            verify.in_store(self.local, newest.copies[self.local.name], "full")
            self.local.share(manifest.backup_name, newest.name, staging=staging)
        except (DamagedError, StoreError, OSError) as exc:
            self.outcome.warn(str(exc))

    def free_name(self) -> BackupName:
        """The name of this second; where it is taken, of the next that is free."""
        second = self._clock.second()
        while self._is_taken(second):
            second += timedelta(seconds=1)
        return BackupName(second, self.source.kind, self._encoding)

    def _is_taken(self, second: datetime) -> bool:
        """Also by a backup of another encoding: two of one second are hard to tell apart for a person."""
        names_of_it = (BackupName(second, self.source.kind, encoding) for encoding in names.ENCODINGS)
        suffixes = ("", *names.SIDECAR_SUFFIXES)
        return any(os.path.lexists(self.local.path / f"{n}{suffix}") for n in names_of_it for suffix in suffixes)

    def warn_of_the_clock(self, name: BackupName) -> None:
        """Moved back, it makes the next backup look older than the last one; years ahead, it makes all look old."""
        previous = self.outcome.previous
        if previous is not None and previous.created_at > name.created_at:
            self.outcome.warn(
                f"The clock says {names.iso(name.created_at)}, but {previous} is later: the clock was moved back, "
                "or was wrong then. The backup is taken; check the clock, and remove what is dated in the future."
            )
        gap = retention.gap(self._copies, self._policy, name.created_at)
        if gap is not None:
            if gap.passes:
                then = "if the clock is right, that ends by itself after a week of backups."
            else:
                then = "if the clock is right, remove by hand what nobody needs."
            self.outcome.warn(
                f"There is {gap} without a backup, from {names.iso(gap.start)} to {names.iso(gap.end)}. The backup is "
                f"taken; look at the clock. Pruning removes nothing that is older than the gap: {then}"
            )

    def settle(self, name: BackupName, size: int, manifest: Manifest | None = None) -> None:
        """This run's own backup is the result."""
        outcome = self.outcome
        outcome.name, outcome.path, outcome.bytes, outcome.manifest = name, self.local.location(name), size, manifest

    def settle_unchanged(self, newest: Manifest) -> None:
        """The newest backup is the result already."""
        self.outcome.unchanged = True
        self.settle(newest.backup_name, newest.stored.bytes, newest)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a backup: snapshot → verify → digest → manifest → commit local → send to s3.

The order is the safety: data before manifest, local before S3. A send that fails leaves the local backup valid and the
run failed; the next run sends what is missing.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace

from . import (
    catalog,
    claim,
    copying,
    digest,
    ending,
    files,
    hold,
    lock,
    log,
    machine,
    mounts,
    names,
    record,
    refusal,
    scratch,
    snapshot,
    target,
    verify,
)
from .attempt import Attempt, Outcome, RunFailedError
from .clock import Clock, require_possible
from .config import Config
from .errors import DamagedError, StoreError
from .manifest import Manifest, Verified
from .names import BackupName
from .snapshot import Snapshot
from .steps import timed
from .stores.s3_errors import S3Error

__all__ = ["Outcome", "RunFailedError", "plan", "run"]


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
    attempt = Attempt(config, clock, skip_unchanged)
    outcome = attempt.outcome
    doubts = (hold.void(config.storage_path, clock.now()), *map(swap.pending, target.both(config)))
    for message in filter(None, doubts):
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
        held.push(ending.keeping_locked(config, local, clock, outcome))
        mounts.require(config)
        files.make_private_dirs(config.storage_path)
        claim.require(local, config.owner)
        held.enter_context(lock.held(config.storage_path))
        scratch.tidy(config)
        hold.require_none(config.storage_path, clock.now())
        void = hold.void(config.storage_path, clock.now())
        if void is not None:
            outcome.warn(void)
        # That the last run went well is no longer the last word, whatever becomes of this one.
        begun = record.begin(config.storage_path, clock.now())
        staging = held.enter_context(local.staging())
        held.enter_context(ending.recorded(config, clock, staging, begun, outcome))
        require_possible(clock.now())
        claim.take(local, config.owner, staging=staging)
        for live in filter(lambda live: os.path.lexists(live.staging), target.both(config)):
            # Only where a restore left something: a run starts every hour, and has no time to waste.
            from . import swap

            message = swap.tidy(live)
            if message is not None:
                outcome.warn(message)
        attempt = Attempt(config, clock, skip_unchanged, outcome)
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
                code, no_answer = (exc.code, exc.no_answer) if isinstance(exc, S3Error) else ("", False)
                message = f"{outcome.path} is valid on the disk, but S3 has not got everything. {exc}"
                raise S3Error(message, code, no_answer=no_answer) from exc
            finally:
                outcome.create_only = remote.create_only
            if newest is None and taken.way != copying.REFLINK:
                with timed(outcome.steps, "store"):
                    attempt.share(manifest, staging)
    return outcome


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

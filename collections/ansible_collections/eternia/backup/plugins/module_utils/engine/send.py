# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send to S3 what it lacks: the backup of this run, what earlier runs could not bring there, and pins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from . import digest, log, machine, verify
from .config import Config
from .errors import DamagedError, NotFoundError, StoreError
from .manifest import Digest, Manifest, Transfer
from .names import BackupName
from .retention import Policy, apply_policy
from .stores.base import Copy, Store
from .stores.local import LocalStore
from .stores.s3_errors import S3Error
from .units import counted

if TYPE_CHECKING:
    from .stores.s3 import S3Store

Warn = Callable[[str], None]


def planned(size: int) -> Transfer:
    """A transfer that has not happened yet."""
    return Transfer(check="", create_only=True, bytes_sent=size)


def plan(
    config: Config,
    local: LocalStore,
    remote: S3Store,
    *,
    now: datetime,
    previous: BackupName | None,
    upcoming: BackupName | None = None,
    warn: Warn,
) -> Iterator[tuple[BackupName, Transfer]]:
    """What `run` would send of the backups that are there, reading only. Raises StoreError.

    `previous` is the newest verified backup here, `upcoming` the one that the run would take first: it counts as if it
    were there.
    """
    remote.claimed(config.owner)
    remote.require_lock()
    there = list(remote.copies())
    wanted = lacking(config.policy, fit_for_s3(config, local.copies(), warn), there, now, upcoming)
    if wanted:
        _require_no_clone(config, local, remote, there, now=now, previous=previous)
    for copy, manifest in _fit(local, [copy for copy in wanted if copy.name != upcoming], None, warn):
        yield copy.name, planned(manifest.stored.bytes)


def run(
    config: Config,
    local: LocalStore,
    remote: S3Store,
    *,
    now: datetime,
    previous: BackupName | None,
    fresh: BackupName | None,
    warn: Warn,
) -> Iterator[tuple[BackupName, Transfer]]:
    """Send what S3 lacks, the newest first, and tell of each when it is there.

    `previous` was the newest verified backup before this run, `fresh` was proven in it. Raises StoreError.
    """
    if not remote.claim(config.owner):
        warn(
            f"{remote.location('')} does not keep create-only: it overwrites what it was asked not to. "
            "Whoever has this host's key can destroy the backups there; use a store that keeps its word."
        )
    there, on_disk = list(remote.copies()), list(local.copies())
    here = fit_for_s3(config, on_disk, warn)
    wanted = lacking(config.policy, here, there, now)
    if wanted:
        _require_no_clone(config, local, remote, there, now=now, previous=previous)
    if fresh is not None and fresh not in {copy.name for copy in wanted}:
        # Whether what has its name there is that backup, a look inside tells.
        wanted = [*(copy for copy in here if copy.verified and copy.name == fresh), *wanted]
    unpinned = {copy.name for copy in on_disk if copy.pinned} - {copy.name for copy in there if copy.pinned}
    in_s3 = {copy.name for copy in there}
    # Of what is there already first: a send that fails must not keep it from outliving the disk.
    _pin(remote, unpinned & in_s3, warn)
    for copy, manifest in _fit(local, wanted, fresh, warn):
        base, base_digest = _base(local, here, there, copy.name)
        lock_until = None if config.cloud is None else config.cloud.lock_until(now)
        transfer = remote.put(
            local.path / manifest.name, manifest, base=base, base_digest=base_digest, lock_until=lock_until
        )
        if any(one.name == copy.name and one.verified for one in there):
            # It was that backup, and nothing had to be sent.
            continue
        there.append(replace(copy, pinned=False, drilled=False))
        log.info(
            f"{remote.location(copy.name)} holds it too: {transfer.bytes_sent} bytes sent, {transfer.bytes_copied} "
            f"copied there, proven by {transfer.check}"
        )
        _pin(remote, {copy.name} & (unpinned - in_s3), warn)
        yield copy.name, transfer
    left = remote.give_up_open()
    if left:
        log.info(f"{remote.location('')}: {left} uploads were given up that runs left open which were cut off")


def _pin(remote: S3Store, names: Collection[BackupName], warn: Warn) -> None:
    """Pin in S3 what is pinned on the disk: once that is lost, nothing else tells retention of it.

    What fails is a warning: the backups are there, and while the disk lives its pins count in every store.
    """
    left, failure = set(names), None
    for name in sorted(names):
        try:
            remote.pin(name)
        except StoreError as exc:
            failure = failure or exc
            if isinstance(exc, S3Error) and exc.no_answer:
                # Nobody answers: the others will fare no better.
                break
        else:
            left.remove(name)
            log.info(f"{remote.location(name)} is pinned there, too")
    if failure is not None:
        warn(
            f"{counted(len(left), 'backup')} pinned on the disk could not be pinned in S3: should the disk be lost, "
            f"retention lets go of what it alone pins. {failure} The next run tries again."
        )


def _base(
    local: LocalStore, here: Iterable[Copy], there: Iterable[Copy], name: BackupName
) -> tuple[BackupName, Digest] | tuple[None, None]:
    """The newest backup there that has parts in common with another, and what it is, as the disk knows it.

    What the disk does not have may be anybody's: S3 would copy from it whatever has the same checksum.
    """
    known = {copy.name for copy in here if copy.verified}
    common = (one.name for one in there if one.verified and one.name in known and _is_like(one.name, name))
    newest = max(common, default=None)
    if newest is not None:
        with suppress(DamagedError, NotFoundError):
            return newest, local.manifest(newest).stored.digest
    return None, None


def _require_no_clone(
    config: Config,
    local: LocalStore,
    remote: S3Store,
    there: Iterable[Copy],
    *,
    now: datetime,
    previous: BackupName | None,
) -> None:
    """Refuse where a clone, or what this is a clone of, sends to the same place: `latest` would be either's. Reads.

    The newest backup there is another machine's, and newer than the newest here before this run, which is this
    machine's own. A machine that was rebuilt, or was given the disk of another, has none of its own yet, and goes on.
    Once the other is gone, what this run took is the newer one.
    """
    if previous is None:
        return
    of_its_kind = (copy.name for copy in there if copy.verified and copy.name.kind == previous.kind)
    newest = max((name for name in of_its_kind if name.created_at <= now), default=previous)
    if newest.created_at <= previous.created_at:
        return
    ours, other = machine.identity(), _machine_of(remote, newest)
    if None in (ours, other) or other == ours or _machine_of(local, previous) != ours:
        return
    raise StoreError(
        f"{remote.location(newest)} was taken on another machine that goes by the name of this one, {config.host}: it "
        f"is {other}, this is {ours}. Nothing was sent: each would take the other's backups for its own. If one is a "
        "clone, give it a host, a storage_path and a cloud_backup.prefix of its own, or take its schedule away. Once "
        "the other sends nothing there any more, run again: this machine's next backup goes through."
    )


def _machine_of(store: Store, name: BackupName) -> str | None:
    """The machine that a backup was taken on; None where nobody knows."""
    with suppress(DamagedError, NotFoundError):
        return store.manifest(name).machine
    return None


def _is_like(name: BackupName, other: BackupName) -> bool:
    """Whether they may have parts in common: two of one kind, both plain or both compressed."""
    return (name.kind, name.encoding) == (other.kind, other.encoding)


def fit_for_s3(config: Config, copies: Iterable[Copy], warn: Warn | None = None) -> list[Copy]:
    """Those that may leave the host: all of them, or, where backups are encrypted, none that is not."""
    found = list(copies)
    if not config.recipients:
        return found
    plain = [copy for copy in found if copy.verified and not copy.name.is_encrypted]
    if plain and warn is not None:
        warn(
            f"{counted(len(plain), 'backup')} on the disk not encrypted, of before that was switched on. What of them "
            "is in S3 stays there as it is, and no more of them is sent; retention lets go of them as of the others."
        )
    return [copy for copy in found if copy not in plain]


def lacking(
    policy: Policy, here: Iterable[Copy], there: Sequence[Copy], now: datetime, upcoming: BackupName | None = None
) -> list[Copy]:
    """The verified backups of one store that another lacks, and that retention would keep there, newest first.

    One that is there in another encoding is not lacking: what was downloaded lies here plain.
    """
    whole = {replace(copy.name, encoding=()) for copy in there if copy.verified}
    missing = {copy.name: copy for copy in here if copy.verified and replace(copy.name, encoding=()) not in whole}
    if upcoming is not None:
        missing[upcoming] = Copy(upcoming, 0, has_manifest=True)
    # As prune will judge it when all of them are there: a pin counts wherever it lies, a drill is of one copy.
    pinned = {copy.name for copy in there if copy.pinned}
    drilled = {copy.name for copy in there if copy.drilled}
    then = [copy for copy in there if copy.name not in missing]
    then += [
        replace(copy, pinned=copy.pinned or copy.name in pinned, drilled=copy.name in drilled)
        for copy in missing.values()
    ]
    kept = (decision.copy.name for decision in apply_policy(then, policy, now) if decision.keep)
    return [missing[name] for name in kept if name in missing]


def _fit(
    local: LocalStore, copies: list[Copy], fresh: BackupName | None, warn: Warn
) -> Iterator[tuple[Copy, Manifest]]:
    """Those that are still whole; one that has rotted on the disk must not keep the others from being sent.

    Raises StoreError where it is the `fresh` one: a run that did not send it has failed.
    """
    for copy in copies:
        try:
            if copy.name != fresh:
                verify.in_store(local, copy, "full")
            yield copy, _for_s3(local, local.manifest(copy.name))
        except DamagedError as exc:
            if copy.name == fresh:
                raise StoreError(str(exc)) from exc
            warn(f"{exc} It is not sent to S3.")


def _for_s3(local: LocalStore, manifest: Manifest) -> Manifest:
    """The manifest with S3's checksum, which a backup lacks that was taken while nobody wanted it in S3."""
    if manifest.stored.crc64nvme is not None:
        return manifest
    checksum = digest.s3_checksum(local.path / manifest.name)
    return replace(manifest, stored=replace(manifest.stored, crc64nvme=checksum))

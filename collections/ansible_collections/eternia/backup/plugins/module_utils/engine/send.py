# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send to S3 what it lacks: the backup of this run, and what earlier runs could not bring there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from . import digest, log, verify
from .config import Config
from .errors import DamagedError
from .manifest import Manifest, Transfer
from .names import BackupName
from .retention import Policy, apply_policy
from .stores.base import Copy
from .stores.local import LocalStore

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
    upcoming: BackupName | None = None,
    warn: Warn,
) -> Iterator[tuple[BackupName, Transfer]]:
    """What `run` would send of the backups that are there, reading only. Raises StoreError.

    `upcoming` is the backup that the run would take first: it counts as if it were there.
    """
    remote.claimed(config.owner)
    wanted = lacking(config.policy, local.copies(), list(remote.copies()), now, upcoming)
    for copy, manifest in _fit(local, [copy for copy in wanted if copy.name != upcoming], None, warn):
        yield copy.name, planned(manifest.stored.bytes)


def run(
    config: Config, local: LocalStore, remote: S3Store, *, now: datetime, fresh: BackupName | None, warn: Warn
) -> Iterator[tuple[BackupName, Transfer]]:
    """Send what S3 lacks, the newest first, and tell of each when it is there.

    `fresh` was proven in this run. Raises StoreError.
    """
    if not remote.claim(config.owner):
        warn(
            f"{remote.location('')} does not keep create-only: it overwrites what it was asked not to. "
            "Whoever has this host's key can destroy the backups there; use a store that keeps its word."
        )
    there = list(remote.copies())
    for copy, manifest in _fit(local, lacking(config.policy, local.copies(), there, now), fresh, warn):
        alike = (
            one.name for one in there if one.verified and replace(copy.name, created_at=one.name.created_at) == one.name
        )
        base = max(alike, default=None)
        transfer = remote.put(local.path / manifest.name, manifest, base=base)
        there.append(replace(copy, pinned=False, drilled=False))
        log.info(
            f"{remote.location(copy.name)} holds it too: {transfer.bytes_sent} bytes sent, {transfer.bytes_copied} "
            f"copied there, proven by {transfer.check}"
        )
        yield copy.name, transfer
    left = remote.give_up_open()
    if left:
        log.info(f"{remote.location('')}: {left} uploads were given up that runs left open which were cut off")


def _is_like(name: BackupName, other: BackupName) -> bool:
    """Whether they may have parts in common: two of one kind, both plain or both compressed."""
    return (name.kind, name.encoding) == (other.kind, other.encoding)


def lacking(
    policy: Policy, here: Iterable[Copy], there: Sequence[Copy], now: datetime, upcoming: BackupName | None = None
) -> list[Copy]:
    """The verified backups of one store that another lacks, and that retention would keep there, newest first."""
    whole = {copy.name for copy in there if copy.verified}
    missing = {copy.name: copy for copy in here if copy.verified and copy.name not in whole}
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
    """Those that are still whole; one that has rotted on the disk must not keep the others from being sent."""
    for copy in copies:
        try:
            if copy.name != fresh:
                verify.in_store(local, copy, "full")
            yield copy, _for_s3(local, local.manifest(copy.name))
        except DamagedError as exc:
            warn(f"{exc} It is not sent to S3.")


def _for_s3(local: LocalStore, manifest: Manifest) -> Manifest:
    """The manifest with S3's checksum, which a backup lacks that was taken while nobody wanted it in S3."""
    if manifest.stored.crc64nvme is not None:
        return manifest
    checksum = digest.s3_checksum(local.path / manifest.name)
    return replace(manifest, stored=replace(manifest.stored, crc64nvme=checksum))

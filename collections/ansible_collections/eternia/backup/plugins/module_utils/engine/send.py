# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send to S3 what it lacks: the backup of this run, and what earlier runs could not bring there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from . import digest, log
from .config import Config
from .errors import DamagedError
from .manifest import Manifest, Transfer
from .names import BackupName
from .retention import apply_policy
from .stores.local import LocalStore
from .stores.s3 import S3Store


def planned(size: int) -> Transfer:
    """A transfer that has not happened yet."""
    return Transfer(check="", create_only=True, bytes_sent=size)


def plan(config: Config, local: LocalStore, remote: S3Store, *, now: datetime) -> dict[BackupName, Transfer]:
    """What S3 lacks of the local backups, reading only. Raises StoreError."""
    remote.claimed(config.environment, config.host)
    missing = _missing(config, local, remote, now)
    return {copy: planned(local.manifest(copy).stored.bytes) for copy in missing}


def run(
    config: Config,
    local: LocalStore,
    remote: S3Store,
    *,
    now: datetime,
    fresh: BackupName | None,
    warn: Callable[[str], None],
) -> Iterator[tuple[BackupName, Transfer]]:
    """Send what S3 lacks, the newest first, and tell of each when it is there.

    An older backup that has rotted on the disk meanwhile is told by `warn` and left out: it must not keep the next one
    from being sent. `fresh` was proven in this run. Raises StoreError.
    """
    if not remote.claim(config.environment, config.host):
        warn(
            f"{remote.location('')} does not keep create-only: it overwrites what it was asked not to. "
            "Whoever has this host's key can destroy the backups there; use a store that keeps its word."
        )
    for name in _missing(config, local, remote, now):
        try:
            manifest = local.manifest(name)
            if name != fresh:
                _require_whole(local, name, manifest)
        except DamagedError as exc:
            warn(str(exc))
            continue
        transfer = remote.put(local.path / str(name), manifest)
        log.info(f"{remote.location(name)} holds it too: {transfer.bytes_sent} bytes sent, proven by {transfer.check}")
        yield name, transfer


def _missing(config: Config, local: LocalStore, remote: S3Store, now: datetime) -> list[BackupName]:
    """The verified local backups that S3 lacks and that retention would keep there, newest first."""
    there = {copy.name for copy in remote.copies() if copy.verified}
    kept = (decision.copy for decision in apply_policy(local.copies(), config.policy, now) if decision.keep)
    return [copy.name for copy in kept if copy.verified and copy.name not in there]


def _require_whole(local: LocalStore, name: BackupName, manifest: Manifest) -> None:
    with local.open(name) as stream:
        found = digest.of_stream(stream, manifest.stored.digest.algorithm)[0]
    if found != manifest.stored.digest:
        raise DamagedError(
            f"{local.location(name)} is damaged: its digest is {found.value}, its manifest says "
            f"{manifest.stored.digest.value}. It was not sent to S3. Look at the disk; remove it if nobody needs it."
        )

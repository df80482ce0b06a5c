# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup under way: what is known of the store and the source, and what came of it so far."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from . import catalog, log, names, retention, source, verify
from .clock import Clock
from .config import Config
from .errors import DamagedError, EngineError, StoreError
from .manifest import Digest, Manifest, Transfer
from .names import BackupName
from .record import Record
from .units import counted

if TYPE_CHECKING:
    from . import prune


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


class Attempt:
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
        """Moved back, it makes the next backup look older than the last one; days ahead, it makes others look old."""
        previous = self.outcome.previous
        if previous is not None and previous.created_at > name.created_at:
            self.outcome.warn(
                f"The clock says {names.iso(name.created_at)}, but {previous} is later: the clock was moved back, "
                "or was wrong then. The backup is taken; check the clock, and remove what is dated in the future."
            )
        gap = retention.gap(self._copies, self._policy, name.created_at)
        if gap is not None:
            if gap.enough is None:
                then = "that is older than the gap: if the clock is right, remove by hand what nobody needs."
            else:
                days = counted(gap.enough.days, "day")
                then = f"for now: if the clock is right, that ends by itself after {days} of backups."
            self.outcome.warn(
                f"There is {gap} without a backup, from {names.iso(gap.start)} to {names.iso(gap.end)}. The backup is "
                f"taken; look at the clock. Pruning removes nothing {then}"
            )

    def settle(self, name: BackupName, size: int, manifest: Manifest | None = None) -> None:
        """This run's own backup is the result."""
        outcome = self.outcome
        outcome.name, outcome.path, outcome.bytes, outcome.manifest = name, self.local.location(name), size, manifest

    def settle_unchanged(self, newest: Manifest) -> None:
        """The newest backup is the result already."""
        self.outcome.unchanged = True
        self.settle(newest.backup_name, newest.stored.bytes, newest)

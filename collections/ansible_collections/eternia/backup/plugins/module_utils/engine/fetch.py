# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch a backup into the staging beside its target, decode it, and prove it there: digest, check, facts."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import catalog, copying, digest, encoding, files, staging, verify
from .copying import Progress
from .eligibility import Chosen, together
from .encryption import Identity
from .errors import DamagedError, EngineError, NotFoundError, StoreError, TargetError
from .manifest import Content, Manifest
from .nearby import Nearby
from .recovery import Outcome
from .selection import Candidate
from .staging import Staged
from .stores.base import Copy, Store
from .target import Target

if TYPE_CHECKING:
    from .stores.s3 import S3Store

# The store of a safety copy that is put back byte for byte, with nothing to hold it against.
RAW = "raw"


def bring(
    chosen: Chosen,
    target: Target,
    *,
    level: str,
    outcome: Outcome,
    progress: Progress,
    nearby: Sequence[Nearby] = (),
) -> Staged:
    """Bring the first copy that is whole into the target's staging, and prove it there.

    What of it is `nearby`, or was brought by a run that was cut off, does not travel; a drill, which has to prove what
    the store has, names nothing nearby. Raises DamagedError where every copy is damaged or gone, StoreError where one
    could not be reached, TargetError.
    """
    if chosen.candidate.raw is not None:
        return _bring_raw(chosen.candidate, target, outcome)
    trouble: list[EngineError] = []
    for store, copy, manifest in chosen.copies:
        arrival = _Arrival(
            chosen.candidate.title, store, copy, manifest, chosen.identity, target, level, outcome, progress
        )
        try:
            return arrival.staged(nearby)
        except (DamagedError, NotFoundError, StoreError) as exc:
            trouble.append(exc)
            if len(trouble) < len(chosen.copies):
                outcome.warn(f"{exc} The copy in the next store is tried.")
    raise together(trouble)


@dataclass(frozen=True)
class _Arrival:
    """One copy on its way into the target's staging."""

    title: str
    store: Store
    copy: Copy
    manifest: Manifest | None
    identity: Identity | None
    target: Target
    level: str
    outcome: Outcome
    progress: Progress

    @property
    def _where(self) -> str:
        return self.store.location(self.copy.name)

    @property
    def _plain(self) -> Path:
        return self.target.staging / self.target.real.name

    def staged(self, nearby: Sequence[Nearby]) -> Staged:
        """Raises as `bring`."""
        self.outcome.cut_off = False
        encoding.require(self.copy.name, self._where, self.identity)
        if self.copy.bytes is None:
            raise NotFoundError(f"{self._where} is gone; only what describes it is left. Choose another backup.")
        try:
            content, facts = self._brought(self.copy.bytes, nearby)
        except OSError as exc:
            if exc.errno == errno.EIO:
                # It may be the disk that it came from: then that copy is damaged, and another may be whole.
                self.store.prove(self.copy)
            raise TargetError(
                f"{self._where} could not be brought to {self._plain}: {files.reason(exc)}. Nothing was changed; free "
                "some space or look at the disks, then run again."
            ) from exc
        untouched = staging.untouched(self._plain)
        return Staged(self._plain, self.title, self._where, self.store.name, content, facts, self.manifest, untouched)

    def _brought(self, size: int, nearby: Sequence[Nearby]) -> tuple[Content, dict[str, Any]]:
        """What lies in the staging, proven."""
        remote, known = catalog.in_s3(self.store), self.manifest
        if remote is None or known is None or not _has_parts(self.copy, known):
            self._bring_all(size)
            return self._proven()
        if self._bring_parts(remote, known, nearby):
            return self._proven()
        try:
            return self._proven()
        except DamagedError as exc:
            # Its parts were right, and the whole is not: then the manifest is wrong about one of them.
            self.outcome.warn(f"{exc} All of it is fetched.")
            self._bring_all(size)
            return self._proven()

    def _bring_parts(self, remote: S3Store, known: Manifest, nearby: Sequence[Nearby]) -> bool:
        # With S3 alone, and what it needs to be loaded.
        from . import arrival

        with encoding.located(self._where):
            return arrival.bring(
                remote,
                self.copy,
                known,
                self.target,
                nearby=nearby,
                outcome=self.outcome,
                progress=self.progress,
            )

    def _bring_all(self, size: int) -> None:
        staging.prepare(self.target)
        stored = self.target.staging / str(self.copy.name) if self.copy.name.encoding else self._plain
        plain = self.manifest.content.bytes if self.manifest is not None and stored != self._plain else 0
        files.need_space(self.target.staging, size + plain)
        with self.outcome.step("fetch"):
            self.store.fetch(self.copy, stored, self.progress)
        self.outcome.bytes_fetched += size
        if stored != self._plain:
            with self.outcome.step("decode"), encoding.located(self._where):
                encoding.decode(stored, self._plain, self.copy.name, self.manifest, self.identity)

    def _proven(self) -> tuple[Content, dict[str, Any]]:
        with self.outcome.step("prove"):
            return _proven(self._plain, self.target, self.manifest, self._where, self.level)


def _has_parts(copy: Copy, manifest: Manifest) -> bool:
    """Whether it is known where each part lies in what is stored."""
    return copy.bytes == manifest.stored.bytes and (bool(manifest.stored.frames) or not manifest.stored.encoding)


def resumable(exc: StoreError, target: Target, what: str) -> StoreError:
    """The error of a fetch whose rest the same run can bring later; `what` says which run."""
    return StoreError(f"{exc} What came of it lies in {target.staging}; {what} fetches only the rest.")


def has_companions(target: Target) -> bool:
    """Whether what was fetched brings more than one file."""
    return any((target.staging / target.beside(suffix).name).exists() for suffix in target.suffixes[1:])


def _bring_raw(candidate: Candidate, target: Target, outcome: Outcome) -> Staged:
    """A safety copy of what was too damaged to be backed up: as it was, with everything beside it."""
    staging.prepare(target)
    raw = candidate.raw or Path()
    path = target.staging / target.real.name
    try:
        with outcome.step("fetch"):
            for suffix in target.suffixes:
                kept = raw / target.beside(suffix).name
                if suffix == "" or kept.exists():
                    copying.copy_file(kept, target.staging / kept.name)
                    outcome.bytes_fetched += kept.stat().st_size
            content = digest.of_whole(path, digest.preferred_algorithm())
    except OSError as exc:
        raise _unreadable(raw, exc) from exc
    return Staged(path, candidate.title, str(raw), RAW, content, {}, None, staging.untouched(path))


def raw_bytes(raw: Path) -> int:
    """How large the files of such a copy are together. Raises StoreError."""
    try:
        return sum(path.lstat().st_size for path in raw.iterdir())
    except OSError as exc:
        raise _unreadable(raw, exc) from exc


def _unreadable(raw: Path, exc: OSError) -> StoreError:
    return StoreError(f"{raw} cannot be put back: {files.reason(exc)}. Look at it there.")


def _proven(
    path: Path, target: Target, manifest: Manifest | None, where: str, level: str
) -> tuple[Content, dict[str, Any]]:
    """Compare the fetched bytes with the manifest, open and check them, and compare the facts. Raises DamagedError."""
    algorithm = digest.preferred_algorithm() if manifest is None else manifest.content.digest.algorithm
    try:
        proof = verify.prove_whole(path, target.kind, level, algorithm=algorithm)
    except DamagedError as exc:
        if manifest is not None:
            # SQLite stumbles over bytes that are others than were backed up: then they are the reason, as in the plan.
            found = digest.of_whole(path, algorithm)
            verify.same_bytes(where, found.bytes, found.digest, manifest.content)
        raise DamagedError(f"{where} is damaged: {exc} Choose another backup.") from exc
    found, facts = proof.content, proof.facts
    if manifest is not None:
        verify.same_bytes(where, found.bytes, found.digest, manifest.content)
        verify.same_facts(path, facts, manifest.source)
    elif not facts.get("tables", True):
        raise DamagedError(
            f"{where} has no tables: the -wal file that belonged to it is missing. Choose another backup."
        )
    return found, facts

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch a backup into the staging beside its target, decode it, and prove it there: digest, check, facts."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import compression, digest, files, staging, verify
from .eligibility import Chosen, require_decodable, together
from .errors import DamagedError, EngineError, NotFoundError, StoreError, TargetError
from .files import Progress
from .manifest import Content, Manifest
from .nearby import Nearby, take
from .parts import Part, in_a_row, split
from .recovery import Outcome
from .selection import Candidate
from .staging import Staged
from .stores.base import Copy, Store
from .target import Target

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

    What of it is `nearby`, or was brought by a run that was cut off, does not travel. Raises DamagedError where every
    copy is damaged or gone, StoreError where one could not be reached, TargetError.
    """
    if chosen.candidate.raw is not None:
        return _bring_raw(chosen.candidate, target, outcome)
    trouble: list[EngineError] = []
    for store, copy, manifest in chosen.copies:
        arrival = _Arrival(chosen.candidate.title, store, copy, manifest, target, level, outcome, progress)
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

    @property
    def _stored(self) -> Path:
        """Where it lies as it was stored."""
        return self.target.staging / str(self.copy.name) if self.copy.name.encoding else self._plain

    def staged(self, nearby: Sequence[Nearby]) -> Staged:
        """Raises as `bring`."""
        require_decodable(self.copy, self._where)
        if self.copy.bytes is None:
            raise NotFoundError(f"{self._where} is gone; only what describes it is left. Choose another backup.")
        try:
            is_whole = not self._has_parts(self.copy.bytes)
            if is_whole:
                self._bring_all(self.copy.bytes)
            else:
                is_whole = self._bring_missing(self.copy.bytes, nearby)
            try:
                content, facts = self._proven()
            except DamagedError as exc:
                if is_whole:
                    raise
                # Its parts were right, and the whole is not: then the manifest is wrong about one of them.
                self.outcome.warn(f"{exc} All of it is fetched.")
                self._bring_all(self.copy.bytes)
                content, facts = self._proven()
        except OSError as exc:
            self.outcome.cut_off = False
            if exc.errno == errno.EIO:
                # It may be the disk that it came from: then that copy is damaged, and another may be whole.
                self.store.prove(self.copy)
            raise TargetError(
                f"{self._where} could not be brought to {self._plain}: {files.reason(exc)}. Nothing was changed; free "
                "some space or look at the disks, then run again."
            ) from exc
        return Staged(self._plain, self.title, self._where, self.store.name, content, facts, self.manifest)

    def _has_parts(self, size: int) -> bool:
        """Whether it is worth while, and possible, to bring only some."""
        found = self.manifest
        if self.store.is_near or found is None or size != found.stored.bytes:
            return False
        return bool(found.stored.frames) or not found.stored.encoding

    def _bring_all(self, size: int) -> None:
        staging.prepare(self.target)
        plain = self.manifest.content.bytes if self.manifest is not None and self._stored != self._plain else 0
        files.need_space(self.target.staging, size + plain)
        with self.outcome.step("fetch"):
            self.store.fetch(self.copy, self._stored, self.progress)
        self.outcome.bytes_fetched += size
        if self._stored != self._plain:
            self._decode()

    def _bring_missing(self, size: int, nearby: Sequence[Nearby]) -> bool:
        """Whether all of it was missing. What came stays where it is when the rest does not come."""
        found = self.manifest
        assert found is not None
        left = staging.prepare(self.target, keep={self._plain.name, self._stored.name})
        plain = found.content.bytes if self._stored != self._plain else 0
        files.need_space(self.target.staging, size + plain - left)
        if self._stored != self._plain:
            nearby = [Nearby(self._stored, found), *nearby]
        with self.outcome.step("fetch"):
            descriptor = files.make(self._plain, access=os.O_RDWR, is_new=False)
            try:
                there = take(descriptor, found, nearby, self.progress)
            finally:
                os.close(descriptor)
            os.close(files.make(self._stored, is_new=False))
            missing = [piece for piece in _pieces(found) if piece.number - 1 not in there]
            self.outcome.cut_off = True
            try:
                self.store.fetch(self.copy, self._stored, self.progress, missing)
            except NotFoundError:
                self.outcome.cut_off = False
                raise
            except StoreError as exc:
                raise StoreError(
                    f"{exc} What came of it lies in {self.target.staging}: the next restore fetches only the rest."
                ) from exc
            self.outcome.cut_off = False
        self.outcome.bytes_fetched += sum(piece.bytes for piece in missing)
        if self._stored != self._plain:
            self._decode(there)
        return not there

    def _decode(self, there: Collection[int] | None = None) -> None:
        with self.outcome.step("decode"):
            try:
                compression.decode(self._stored, self._plain, self.manifest, there)
            except DamagedError as exc:
                raise DamagedError(f"{self._where} is damaged: {exc} Choose another backup.") from exc
            self._stored.unlink()

    def _proven(self) -> tuple[Content, dict[str, Any]]:
        with self.outcome.step("prove"):
            return _proven(self._plain, self.target, self.manifest, self._where, self.level)


def _pieces(manifest: Manifest) -> list[Part]:
    """Where each part of the content lies in the stored file."""
    return list(in_a_row(manifest.stored.frames)) if manifest.stored.frames else split(manifest.stored.bytes)


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
                    files.copy_file(kept, target.staging / kept.name)
                    outcome.bytes_fetched += kept.stat().st_size
            content = digest.of_whole(path, digest.preferred_algorithm())
    except OSError as exc:
        raise _unreadable(raw, exc) from exc
    return Staged(path, candidate.title, str(raw), RAW, content, {}, None)


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
        raise DamagedError(f"{where} is damaged: {exc} Choose another backup.") from exc
    found, facts = proof.content, proof.facts
    if manifest is not None:
        content = manifest.content
        if (found.digest, found.bytes) != (content.digest, content.bytes):
            raise DamagedError(
                f"{where} is damaged: {found.bytes} bytes with {algorithm} {found.digest.value}, its "
                f"manifest says {content.bytes} bytes with {content.digest.value}. Choose another backup."
            )
        verify.same_facts(path, facts, manifest.source)
    elif not facts.get("tables", True):
        raise DamagedError(
            f"{where} has no tables: the -wal file that belonged to it is missing. Choose another backup."
        )
    return found, facts

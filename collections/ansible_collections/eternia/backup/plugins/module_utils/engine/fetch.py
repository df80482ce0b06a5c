# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch a backup into the staging beside its target, decode it, and prove it there: digest, check, facts."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from . import compression, digest, files, staging, verify
from .eligibility import Chosen, require_decodable, together
from .errors import DamagedError, EngineError, NotFoundError, StoreError, TargetError
from .files import Progress
from .manifest import Content, Manifest
from .recovery import Outcome
from .selection import Candidate
from .staging import Staged
from .stores.base import Copy, Store
from .target import Target

# The store of a safety copy that is put back byte for byte, with nothing to hold it against.
RAW = "raw"


def bring(chosen: Chosen, target: Target, *, level: str, outcome: Outcome, progress: Progress) -> Staged:
    """Bring the first copy that is whole into the target's staging, and prove it there.

    Raises DamagedError where every copy is damaged or gone, StoreError where one could not be reached, TargetError.
    """
    if chosen.candidate.raw is not None:
        return _bring_raw(chosen.candidate, target, outcome)
    trouble: list[EngineError] = []
    for store, copy, manifest in chosen.copies:
        try:
            return _fetched(
                chosen.candidate.title,
                store,
                copy,
                manifest,
                target=target,
                level=level,
                outcome=outcome,
                progress=progress,
            )
        except (DamagedError, NotFoundError, StoreError) as exc:
            trouble.append(exc)
            if len(trouble) < len(chosen.copies):
                outcome.warn(f"{exc} The copy in the next store is tried.")
    raise together(trouble)


def _fetched(
    title: str,
    store: Store,
    copy: Copy,
    manifest: Manifest | None,
    *,
    target: Target,
    level: str,
    outcome: Outcome,
    progress: Progress,
) -> Staged:
    staging.prepare(target)
    path = target.staging / target.real.name
    where = store.location(copy.name)
    require_decodable(copy, where)
    if copy.bytes is None:
        raise NotFoundError(f"{where} is gone; only what describes it is left. Choose another backup.")
    fetched = target.staging / str(copy.name) if copy.name.encoding else path
    plain = manifest.content.bytes if manifest is not None and fetched != path else 0
    files.need_space(target.staging, copy.bytes + plain)
    try:
        with outcome.step("fetch"):
            store.fetch(copy, fetched, progress)
        if fetched != path:
            with outcome.step("decode"):
                _decode(fetched, path, manifest, where)
        with outcome.step("prove"):
            content, facts = _proven(path, target, manifest, where, level)
    except OSError as exc:
        if exc.errno == errno.EIO:
            # It may be the disk that it came from: then that copy is damaged, and another may be whole.
            store.prove(copy)
        raise TargetError(
            f"{where} could not be brought to {path}: {files.reason(exc)}. Nothing was changed; free some space or "
            "look at the disks, then run again."
        ) from exc
    return Staged(path, title, where, store.name, content, facts, manifest)


def _decode(fetched: Path, plain: Path, manifest: Manifest | None, where: str) -> None:
    try:
        compression.decode(fetched, plain, manifest)
    except DamagedError as exc:
        raise DamagedError(f"{where} is damaged: {exc} Choose another backup.") from exc
    fetched.unlink()


def has_companions(target: Target) -> bool:
    """Whether what was fetched brings more than one file."""
    return any((target.staging / target.beside(suffix).name).exists() for suffix in target.suffixes[1:])


def _bring_raw(candidate: Candidate, target: Target, outcome: Outcome) -> Staged:
    """A safety copy of what was too damaged to be backed up: as it was, with everything beside it."""
    raw = candidate.raw or Path()
    path = target.staging / target.real.name
    try:
        with outcome.step("fetch"):
            for suffix in target.suffixes:
                kept = raw / target.beside(suffix).name
                if suffix == "" or kept.exists():
                    files.copy_file(kept, target.staging / kept.name)
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

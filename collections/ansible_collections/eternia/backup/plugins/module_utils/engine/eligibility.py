# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backup may be restored: what its manifests say of its copies, and what the operator allows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import companions, verify
from .config import Config
from .encryption import Identity
from .errors import DamagedError, EngineError, NotFoundError, RefusedError, StoreError
from .manifest import Manifest
from .names import DATABASE, Kind
from .recovery import Outcome, Request
from .selection import Candidate
from .stores.base import Copy, Store


@dataclass(frozen=True)
class Chosen:
    """The candidate of a selection that is to be tried, its copies with the manifest that each is held against.

    `identity` is what opens them, where they are encrypted and it was given.
    """

    candidate: Candidate
    copies: tuple[tuple[Store, Copy, Manifest | None], ...] = ()
    identity: Identity | None = None

    @property
    def manifest(self) -> Manifest | None:
        return self.copies[0][2] if self.copies else None


def require_kind(config: Config, candidate: Candidate) -> None:
    if config.source not in ("auto", candidate.kind):
        raise RefusedError(
            f"{candidate.title} is a backup of a {candidate.kind}, and source says that this host has a "
            f"{config.source}. Choose another backup, or correct source."
        )


def examine(config: Config, request: Request, candidate: Candidate, outcome: Outcome) -> Chosen:
    """Hold the copies of a candidate against their manifests, and against what the request allows.

    Raises DamagedError where no copy is fit, RefusedError where the request has to allow it or a log beside a copy
    would be left out, StoreError where that cannot be known.
    """
    if candidate.raw is not None:
        _require_allowed(request.allow_unverified, candidate.title, "is a copy of something damaged")
        return Chosen(candidate)
    copies, trouble = _with_manifests(candidate)
    if not copies:
        raise together(trouble or [DamagedError(f"{candidate.title} is gone; only what describes it is left.")])
    for one in trouble:
        outcome.warn(str(one))
    require_allowed(config, request, candidate.title, copies[0][2])
    for store, copy, manifest in copies:
        require_alone(candidate.kind, store.location(copy.name), manifest)
    return Chosen(candidate, tuple(copies), request.identity)


def require_allowed(config: Config, request: Request, title: str, manifest: Manifest | None) -> None:
    """Raises RefusedError where the request has to allow what its manifest says, or that it has none."""
    if manifest is None:
        _require_allowed(request.allow_unverified, title, "has no manifest, so nothing proves it whole")
    elif (manifest.environment, manifest.host) != (config.environment, config.host) and not request.allow_foreign:
        raise RefusedError(
            f"{title} is of host {manifest.host} in {manifest.environment}; this is host {config.host} in "
            f"{config.environment}. If it is meant to come here, allow it: allow_foreign."
        )


def require_alone(kind: Kind, location: str, manifest: Manifest | None) -> None:
    """Raises RefusedError where a copy on this host that no manifest proves whole lacks a log that lies beside it.

    StoreError where that cannot be known.
    """
    if manifest is None and kind == DATABASE and os.path.isabs(location):
        companions.require_none(Path(location))


def together(trouble: Sequence[EngineError]) -> EngineError:
    """What speaks against every copy, as one error: damage only where all of it is known to be damaged or gone."""
    lost = all(isinstance(one, (DamagedError, NotFoundError)) for one in trouble)
    return (DamagedError if lost else StoreError)(" ".join(map(str, trouble)))


def _with_manifests(candidate: Candidate) -> tuple[list[tuple[Store, Copy, Manifest | None]], list[EngineError]]:
    """The copies that may be whole, each with its manifest; what speaks against the others.

    A copy without a manifest of its own is held against that of another store: it is the same backup.
    """
    found: list[tuple[Store, Copy, Manifest | None]] = []
    trouble: list[EngineError] = []
    for store, copy in candidate.copies:
        if not copy.has_manifest:
            found.append((store, copy, None))
            continue
        try:
            found.append((store, copy, verify.manifest_of(store, copy)))
        except (DamagedError, StoreError) as exc:
            trouble.append(exc)
    known = next((manifest for _store, _copy, manifest in found if manifest is not None), None)
    if known is None and trouble:
        # A manifest that cannot be read makes no legacy backup of what it describes.
        return [], trouble
    copies = []
    for store, copy, manifest in found:
        if manifest is not None and known is not None and manifest.content.digest != known.content.digest:
            trouble.append(DamagedError(f"{store.location(copy.name)} is another backup under the same name."))
        elif copy.bytes is not None:
            copies.append((store, copy, manifest or known))
    return sorted(copies, key=lambda one: one[1].bytes != (one[2].stored.bytes if one[2] else one[1].bytes)), trouble


def _require_allowed(allowed: bool, title: str, why: str) -> None:
    if not allowed:
        raise RefusedError(f"{title} {why}. If it is wanted all the same, allow it: allow_unverified.")

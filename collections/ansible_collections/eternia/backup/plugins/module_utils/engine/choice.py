# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the backups that a request may mean it is going to be, from which store, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from . import eligibility, encoding, fetch, names
from .config import Config
from .eligibility import Chosen
from .errors import DamagedError, EngineError, NotFoundError, RefusedError, StoreError
from .manifest import Manifest
from .recovery import Outcome, Request
from .selection import LIST, Selection

T = TypeVar("T")


def first_whole(config: Config, request: Request, found: Selection, outcome: Outcome, act: Callable[[Chosen], T]) -> T:
    """What `act` makes of the first candidate that is whole; one that was asked for by name is the only one.

    An older one takes the place of one that is damaged, not of one of which a store that cannot be asked may have a
    whole copy: what was written since would be given up for nothing.
    """
    refused = 0
    for place, candidate in enumerate(found.candidates, start=1):
        try:
            return act(eligibility.examine(config, request, candidate, outcome))
        except (DamagedError, NotFoundError, RefusedError) as exc:
            if found.unlisted and not isinstance(exc, RefusedError):
                older = [f"Or ask for an older one by name: {one.title}." for one in found.candidates[place:][:1]]
                raise StoreError(f"{exc} Another store may have it whole: {' '.join(found.unlisted + older)}") from exc
            if found.by_name:
                raise
            refused += isinstance(exc, RefusedError)
            outcome.warn(f"{candidate.title} is passed over, and an older backup is tried. {exc}")
    error = RefusedError if refused == len(found.candidates) else DamagedError
    raise error(
        f"None of the {len(found.candidates)} backups that {request.backup} may mean can be used. "
        f"{' '.join(outcome.warnings)} {LIST}"
    )


def prove_in_store(chosen: Chosen, outcome: Outcome) -> Chosen:
    """Prove a copy where it lies, as far as its store can, the next one where it is damaged; that one comes first."""
    if chosen.candidate.raw is not None:
        return chosen
    trouble: list[EngineError] = []
    for place, (store, copy, _manifest) in enumerate(chosen.copies):
        try:
            encoding.require(copy.name, store.location(copy.name), chosen.identity)
            if copy.has_manifest:
                store.prove(copy)
            # The wrong key is known before all of it is fetched.
            encoding.require_opens(store, copy, chosen.identity)
            return replace(chosen, copies=chosen.copies[place:])
        except (DamagedError, StoreError) as exc:
            trouble.append(exc)
            if len(trouble) < len(chosen.copies):
                outcome.warn(f"{exc} The copy in the next store is tried.")
    raise eligibility.together(trouble)


def describe(outcome: Outcome, chosen: Chosen) -> None:
    """Tell of it what is known before it is fetched."""
    candidate, manifest = chosen.candidate, chosen.manifest
    outcome.name, outcome.kind, outcome.manifest = candidate.title, candidate.kind, manifest
    outcome.created_at = created_at(candidate.title, manifest)
    if candidate.raw is not None:
        outcome.store, outcome.location = fetch.RAW, str(candidate.raw)
        outcome.bytes_to_fetch = fetch.raw_bytes(candidate.raw)
    elif chosen.copies:
        store, copy, _manifest = chosen.copies[0]
        outcome.store, outcome.location = store.name, store.location(copy.name)
        outcome.bytes_to_fetch = copy.bytes or 0
    outcome.bytes = outcome.bytes_to_fetch if manifest is None else manifest.content.bytes
    # What is compressed lies there twice for a moment.
    outcome.space_needed = outcome.bytes + (outcome.bytes_to_fetch if manifest and manifest.stored.encoding else 0)


def created_at(title: str, manifest: Manifest | None) -> str | None:
    """When it was taken, in UTC; None where neither its manifest nor its name says so."""
    if manifest is not None:
        return manifest.created_at
    name = names.parse(Path(title).name)
    return None if name is None else names.iso(name.created_at)

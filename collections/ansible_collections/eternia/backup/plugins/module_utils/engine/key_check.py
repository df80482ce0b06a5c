# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a secret key opens what was encrypted: asked when it is set up, because a lost key is known too late."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from . import catalog, encoding, verify
from .config import Config
from .encryption import Identity, OtherKeyError
from .errors import DamagedError, EngineError, NotFoundError, StoreError
from .stores.base import Copy, Store


class Verdict(Enum):
    """What became of one; only DOES_NOT says that the key is another."""

    OPENS = "OPENS"
    DOES_NOT = "DOES NOT OPEN"
    DAMAGED = "DAMAGED"
    NOT_ENCRYPTED = "NOT ENCRYPTED"
    NOT_KNOWN = "NOT KNOWN"


@dataclass(frozen=True)
class Found:
    """One backup, or a store of which none could be tried. `problem` says why it was not opened, None where it was."""

    location: str
    verdict: Verdict
    problem: str | None


def run(config: Config, identity: Identity) -> list[Found]:
    """Open the newest encrypted backup of every store, all of it, and compare what comes out with its manifest.

    Where backups are to be encrypted, a newest one that is not is a problem, too. Nothing is written. Raises
    NotFoundError where there is nothing to be told of any store.
    """
    found = []
    for store in catalog.stores(config):
        try:
            copy, plain = _newest(store, config)
        except StoreError as exc:
            found.append(Found(store.location("").rstrip("/"), Verdict.NOT_KNOWN, str(exc)))
            continue
        if plain is not None and config.recipients:
            words = "it is newer, and not encrypted. Take a backup: eternia-backup run."
            found.append(Found(store.location(plain.name), Verdict.NOT_ENCRYPTED, words))
        if copy is not None:
            found.append(Found(store.location(copy.name), *_tried(store, copy, identity)))
    if not found:
        raise NotFoundError("There is no encrypted backup to try the key on. Take one: eternia-backup run.")
    return found


def _newest(store: Store, config: Config) -> tuple[Copy | None, Copy | None]:
    """The newest encrypted backup, and one that is newer and is not."""
    catalog.require_own(store, config)
    copies = sorted((one for one in store.copies() if one.has_manifest), key=lambda one: one.name, reverse=True)
    encrypted = next((one for one in copies if one.name.is_encrypted), None)
    return encrypted, copies[0] if copies and not copies[0].name.is_encrypted else None


def _tried(store: Store, copy: Copy, identity: Identity) -> tuple[Verdict, str | None]:
    try:
        _opened(store, copy, identity)
    except OtherKeyError as exc:
        # A bit that flipped in its head looks like that, too.
        try:
            verify.read_back(store, copy)
        except DamagedError as found:
            return Verdict.DAMAGED, str(found)
        except EngineError as found:
            return Verdict.NOT_KNOWN, str(found)
        return Verdict.DOES_NOT, str(exc)
    except DamagedError as exc:
        return Verdict.DAMAGED, str(exc)
    except (EngineError, OSError) as exc:
        return Verdict.NOT_KNOWN, str(exc)
    return Verdict.OPENS, None


def _opened(store: Store, copy: Copy, identity: Identity) -> None:
    """Open it, all of it. Raises EngineError, OSError."""
    content = verify.manifest_of(store, copy).content
    encoding.require(copy.name, store.location(copy.name), identity)
    with store.open(copy.name) as stream:
        found, size = encoding.content_of(stream, copy.name, identity, content.digest.algorithm, content.bytes)
    if (found, size) != (content.digest, content.bytes):
        raise DamagedError(f"it opens to {size} bytes that are not those of its manifest: {found.value}.")

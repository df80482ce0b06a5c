# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a storage path belongs to: two hosts that share one on a shared mount would prune each other's backups."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from . import files
from .errors import DamagedError, NameTakenError, NotFoundError, StoreError
from .stores.base import CLAIM, Owner
from .stores.local import LocalStore


def require(store: LocalStore, owner: Owner) -> bool:
    """Whether the owner has claimed the directory; False where nobody has, and its newest backup is the owner's. Reads.

    Raises StoreError where it belongs to somebody else. The path in it counts for nothing: it moves with its directory.
    """
    path = store.path / CLAIM
    try:
        raw = files.read_small(path)
    except (FileNotFoundError, NotADirectoryError):
        found = _by_newest_manifest(store)
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {files.reason(exc)}. Correct the rights on it.") from exc
    else:
        found = Owner.from_json(raw, str(path))
        if _is(found, owner):
            return True
    if found is not None and not _is(found, owner):
        raise _belongs(path, found, owner)
    return False


def take(store: LocalStore, owner: Owner, *, staging: Path) -> None:
    """Claim the directory where nobody has. Only for the holder of the lock. Raises as `require`."""
    if require(store, owner):
        return
    staged, path = staging / CLAIM, store.path / CLAIM
    try:
        files.write_new(staged, json.dumps(asdict(owner), indent=2).encode() + b"\n")
        with suppress(NameTakenError):
            files.commit(staged, path)
    except OSError as exc:
        raise StoreError(
            f"{path} could not be written: {files.reason(exc)}. Free some space or correct the rights on {store.path}."
        ) from exc
    # Where another host was faster, what it wrote is what counts.
    require(store, owner)


def _is(found: Owner, owner: Owner) -> bool:
    return (found.environment, found.host) == (owner.environment, owner.host)


def _by_newest_manifest(store: LocalStore) -> Owner | None:
    """Whose the newest backup is that says so; None where there is none."""
    for copy in sorted((copy for copy in store.copies() if copy.verified), key=lambda copy: copy.name, reverse=True):
        with suppress(DamagedError, NotFoundError):
            manifest = store.manifest(copy.name)
            return Owner(manifest.environment, manifest.host, "by its newest manifest")
    return None


def _belongs(path: Path, found: Owner, owner: Owner) -> StoreError:
    # Removing the claim would not do: the newest manifest still names the other.
    return StoreError(
        f"{path.parent} belongs to {found}; this is "
        f"host {owner.host} (environment {owner.environment}), and each would prune what the other needs. Nothing was "
        f'written. Give each host a storage_path of its own, for example "{path.parent}/{{{{ inventory_hostname }}}}". '
        f"Only if {found.host} no longer exists, or became this one, hand it over: echo {owner.to_shell()} > {path}"
    )

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a backup and its manifest to a directory: select → fetch → prove → commit. Never onto the live data."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from . import choice, copying, digest, fetch, files, lock, log, manifest, nearby, selection, staging
from .clock import Clock
from .config import Config
from .copying import Progress
from .eligibility import Chosen
from .encryption import Identity
from .errors import ConfigError, DamagedError, NameTakenError, StoreError
from .manifest import Digest, Manifest
from .names import MANIFEST_SUFFIX, parse, required
from .recovery import Outcome, Request
from .target import Target

# Told how many bytes are going to come, gives what is told of each that came.
Watch = Callable[[int], AbstractContextManager[Progress]]


def unwatched(_bytes: int) -> AbstractContextManager[Progress]:
    """The watch that nobody keeps."""
    return nullcontext(copying.silent)


def run(
    config: Config,
    wanted: str,
    *,
    directory: Path,
    clock: Clock,
    watch: Watch = unwatched,
    identity: Identity | None = None,
) -> Outcome:
    """Bring what `wanted` means to `directory`, proven; the outcome's `target` is the file there.

    It is `unchanged` where the file lies there already. Backups of other hosts are brought too, and those without a
    manifest, with a warning: it is a restore that has to be allowed. Raises ConfigError, NotFoundError, DamagedError
    where no copy is whole, NameTakenError where something else lies there, LockedError, StoreError, TargetError.
    """
    if os.path.isabs(wanted):
        raise ConfigError(
            f"{wanted} is a path on this host already. Give {selection.LATEST}, a time, a name, or s3://bucket/key."
        )
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory. Make it, or name another with --to.")
    config = config.at_full_speed
    outcome = Outcome()
    with outcome.step("select"):
        found = selection.find(config, wanted, now=clock.now())
    for warning in found.warnings:
        outcome.warn(warning)
    choice.first_whole(
        config,
        Request(wanted, allow_unverified=True, allow_foreign=True, identity=identity),
        found,
        outcome,
        lambda chosen: _bring(chosen, directory.resolve(), config, outcome=outcome, watch=watch),
    )
    return outcome


def _bring(chosen: Chosen, directory: Path, config: Config, *, outcome: Outcome, watch: Watch) -> None:
    # What is compressed is brought as it was before: nobody needs a tool for it.
    name = replace(required(chosen.candidate.title), encoding=())
    place = Target(name.kind, directory / str(name), is_live=False)
    _describe(outcome, chosen, place)
    with lock.held_target(place.path):
        _tidy(directory)
        try:
            known = None if chosen.manifest is None else chosen.manifest.as_plain
            if known is None or not _is_there(known, place):
                _fetch(chosen, place, config, outcome=outcome, watch=watch)
            else:
                outcome.unchanged = True
                staging.prepare(place)
                _commit_manifest(known, place)
        except StoreError as exc:
            if not outcome.cut_off:
                raise
            raise fetch.resumable(exc, place, "the same download (remove it if there will be none)") from exc
        except OSError as exc:
            raise StoreError(
                f"{place.path} could not be stored: {files.reason(exc)}. Correct the rights there, or name another "
                "directory with --to."
            ) from exc
        finally:
            if not outcome.cut_off:
                with suppress(OSError):
                    staging.discard(place)


def _tidy(directory: Path) -> None:
    """Remove what downloads to a directory left that were killed: it may be plain. Only for the holder of the lock.

    What somebody may go on with has a mark beside it, or a journal, and stays.
    """
    for path in directory.glob(".*.restore"):
        name = parse(path.stem[1:])
        if name is not None:
            left = Target(name.kind, directory / str(name), is_live=False)
            with suppress(OSError):
                # A link under that name would lead to another's staging.
                if left.staging == path and all(one.name.startswith(str(name)) for one in path.iterdir()):
                    staging.discard(left)


def _describe(outcome: Outcome, chosen: Chosen, place: Target) -> None:
    store, copy, outcome.manifest = chosen.copies[0]
    outcome.name, outcome.kind, outcome.target = chosen.candidate.title, place.kind, str(place.path)
    outcome.store, outcome.location, outcome.bytes = store.name, store.location(copy.name), copy.bytes or 0


def _fetch(chosen: Chosen, place: Target, config: Config, *, outcome: Outcome, watch: Watch) -> None:
    with watch(outcome.bytes) as progress:
        staged = fetch.bring(
            chosen,
            place,
            level=config.verify,
            outcome=outcome,
            progress=progress,
            nearby=nearby.candidates(config, place, chosen),
        )
    outcome.store, outcome.location, outcome.bytes = staged.store, staged.location, staged.content.bytes
    outcome.manifest = staged.manifest
    outcome.unchanged = _holds(place.path, staged.content.digest)
    if not outcome.unchanged:
        files.commit(staged.path, place.path)
        log.info(f"{staged.location} was brought to {place.path}", log.RECOVERY)
    if staged.manifest is None:
        outcome.warn(
            f"{outcome.name} has no manifest: it was checked as far as that goes, and nothing proves that it is what "
            "was backed up."
        )
    else:
        _commit_manifest(staged.manifest.as_plain, place)


def _is_there(found: Manifest, place: Target) -> bool:
    """Whether the file lies there already. Raises NameTakenError where anything else has its name or its manifest's."""
    _holds_manifest(found, place)
    return _holds(place.path, found.content.digest)


def _commit_manifest(found: Manifest, place: Target) -> None:
    if not _holds_manifest(found, place):
        path = _manifest_path(place)
        files.write_new(place.staging / path.name, found.to_json())
        files.commit(place.staging / path.name, path)


def _holds_manifest(found: Manifest, place: Target) -> bool:
    """Whether a manifest of the same bytes lies there already. Raises NameTakenError where anything else does."""
    path = _manifest_path(place)
    if not os.path.lexists(path):
        return False
    with suppress(DamagedError, OSError), files.opened(files.open_plain(path)) as descriptor:
        raw = files.small(descriptor, most=manifest.MOST_BYTES)
        there = manifest.from_json(raw, name=found.backup_name, where=str(path))
        if there.content.digest == found.content.digest:
            return True
    raise _taken(path)


def _manifest_path(place: Target) -> Path:
    return place.path.with_name(f"{place.path.name}{MANIFEST_SUFFIX}")


def _holds(path: Path, expected: Digest) -> bool:
    """Whether these very bytes lie there already. Raises NameTakenError where anything else does."""
    if not os.path.lexists(path):
        return False
    if not stat.S_ISREG(path.lstat().st_mode) or digest.of_file(path, expected.algorithm)[0].digest != expected:
        raise _taken(path)
    return True


def _taken(path: Path) -> NameTakenError:
    return NameTakenError(
        f"{path} exists already, holds something else, and is never overwritten. Move it away, or name another "
        "directory with --to."
    )

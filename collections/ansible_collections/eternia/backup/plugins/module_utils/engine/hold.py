# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hold: while it lasts, no backup is taken and nothing is pruned on this host. The runbook sets it, time ends it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from . import catalog, documents, files, lock, names
from .config import Config
from .errors import ConfigError, EngineError, HeldError, LockedError, StoreError

NAME = "hold.json"
_FORMAT = 1
# A hold that somebody forgot must not keep a host without backups for ever.
_MOST_HOURS = 7 * 24


@dataclass(frozen=True)
class Hold:
    """Who holds a host's backups, why, and until when (UTC)."""

    who: str
    why: str
    until: datetime


class NoPlaceError(StoreError):
    """No run can work on the storage path: a hold has no place there, and nothing to keep away."""


def wanted(config: Config, *, who: str, why: str, hours: float, now: datetime) -> Hold:
    """The hold that somebody asks for, to be put where `due` agrees. Reads only. Raises ConfigError, NoPlaceError."""
    for name, text in (("who", who), ("why", why)):
        if not text.strip() or not text.isprintable():
            raise ConfigError(f"{name} is empty or not one line of text; say it, for whoever finds the backups held.")
    if not 0 < hours <= _MOST_HOURS:
        raise ConfigError(
            f"A hold of {hours:g} hours is asked for; it must last longer than 0, and {_MOST_HOURS} hours at most "
            f"({_MOST_HOURS * 60} minutes)."
        )
    try:
        catalog.require_storage(config)
    except EngineError as exc:
        raise NoPlaceError(str(exc)) from exc
    return Hold(who.strip(), why.strip(), now + timedelta(hours=hours))


def under_way(storage_path: Path) -> str | None:
    """What a hold comes too late for, None where no run goes on. Raises StoreError."""
    try:
        lock.require_free(storage_path)
    except LockedError as exc:
        return f"What is under way comes to its end, and removes nothing more. {exc}"
    return None


def read(storage_path: Path, now: datetime) -> Hold | None:
    """The hold that is in force, None where there is none or it has expired. One that cannot be read is none.

    It may be a later release's: whatever says who, why and until when is a hold.
    """
    try:
        fields = json.loads(files.read_small(storage_path / NAME))
        found = Hold(str(fields["who"]), str(fields["why"]), names.from_iso(fields["until"]))
    except (OSError, *documents.BENT):
        return None
    return found if found.until > now else None


def require_none(storage_path: Path, now: datetime) -> None:
    """Raises HeldError naming who holds, why and until when."""
    found = read(storage_path, now)
    if found is not None:
        raise HeldError(
            f"The backups of this host are held by {found.who} until {names.iso(found.until)}: {found.why}. Wait, or "
            f"remove {storage_path / NAME} if that is over."
        )


def due(found: Hold | None, wanted: Hold, now: datetime) -> Hold:
    """What to put in force where `found` is: the same, until half of its time is over.

    Raises LockedError where it is somebody else's.
    """
    if found is None or found.until <= now:
        return wanted
    if found.who != wanted.who:
        raise LockedError(
            f"The backups of this host are held by {found.who} until {names.iso(found.until)}: {found.why}. Ask there, "
            "or wait."
        )
    is_fresh = found.why == wanted.why and found.until - now > (wanted.until - now) / 2
    return found if is_fresh else wanted


def put(storage_path: Path, hold: Hold | None) -> None:
    """Put a hold in force in place of another, or end it where `hold` is None. Raises StoreError."""
    path = storage_path / NAME
    files.make_private_dirs(storage_path)
    try:
        if hold is None:
            path.unlink(missing_ok=True)
            files.fsync_path(storage_path)
        else:
            documents.write(path, {"format": _FORMAT, **asdict(hold), "until": names.iso(hold.until)})
    except OSError as exc:
        raise StoreError(
            f"{path} could not be changed: {files.reason(exc)}. Free some space or correct the rights there."
        ) from exc

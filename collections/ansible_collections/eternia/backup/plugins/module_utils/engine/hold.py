# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hold: while it lasts, no backup is taken and nothing is pruned on this host. The runbook sets it, time ends it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from . import catalog, documents, files, lock, names, untrusted
from .config import Config
from .errors import LINE, ConfigError, EngineError, HeldError, LockedError, StoreError, is_line, shortened

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


# By so much a clock may have been set right since, and a hold that lasts longest is one all the same.
_SET_BACK = timedelta(days=1)


class NoPlaceError(StoreError):
    """No run can work on the storage path: a hold has no place there, and nothing to keep away."""


def wanted(config: Config, *, who: str, why: str, hours: float, now: datetime) -> Hold:
    """The hold that somebody asks for, to be put where `due` agrees. Reads only. Raises ConfigError, NoPlaceError."""
    for name, text in (("who", who), ("why", why)):
        if not text.strip() or not is_line(text):
            raise ConfigError(
                f"{name} is empty or not one line of text; say it, in {LINE} characters at most, for whoever finds the "
                "backups held."
            )
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
    """The hold that is in force, None where there is none or it has expired. What is `void` is none."""
    try:
        found = _found(storage_path, now)
    except (OSError, *documents.BENT):
        return None
    return found if found.until > now else None


def void(storage_path: Path, now: datetime) -> str | None:
    """Why what lies in the place of a hold is none, and what to do; None where nothing does, or a hold."""
    try:
        _found(storage_path, now)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, *documents.BENT) as exc:
        return (
            f"{storage_path / NAME} is no hold ({shortened(exc)}), so backups go on. Remove it; if they are to be "
            "held, hold them again (`eternia-backup hold`)."
        )
    return None


def _found(storage_path: Path, now: datetime) -> Hold:
    """Raises OSError, and any of documents.BENT for what `wanted` would not have agreed to: others may write there.

    It may be a later release's: whatever says who, why and until when is a hold.
    """
    fields = json.loads(files.read_small(storage_path / NAME))
    found = Hold(untrusted.text(fields["who"]), untrusted.text(fields["why"]), names.from_iso(fields["until"]))
    if found.until - now > timedelta(hours=_MOST_HOURS) + _SET_BACK:
        # The clock was wrong, then or now.
        raise ValueError(f"it ends at {names.iso(found.until)}, and a hold lasts {_MOST_HOURS} hours at most")
    return found


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

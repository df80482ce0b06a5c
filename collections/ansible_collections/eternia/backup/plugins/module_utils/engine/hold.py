# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hold: while it lasts, no backup is taken and nothing is pruned on this host. The runbook sets it, time ends it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from . import files, names
from .errors import LockedError, StoreError

_NAME = "hold.json"


@dataclass(frozen=True)
class Hold:
    """Who holds a host's backups, why, and until when (UTC)."""

    who: str
    why: str
    until: datetime


def read(storage_path: Path, now: datetime) -> Hold | None:
    """The hold that is in force, None where there is none or it has expired. One that cannot be read is none."""
    try:
        fields = json.loads((storage_path / _NAME).read_bytes())
        found = Hold(str(fields["who"]), str(fields["why"]), names.from_iso(fields["until"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.until > now else None


def require_none(storage_path: Path, now: datetime) -> None:
    """Raises LockedError naming who holds, why and until when."""
    found = read(storage_path, now)
    if found is not None:
        raise LockedError(
            f"The backups of this host are held by {found.who} until {names.iso(found.until)}: {found.why}. Wait, or "
            f"remove {storage_path / _NAME} if that is over."
        )


def put(storage_path: Path, hold: Hold) -> None:
    """Put a hold in force; it replaces another. Raises StoreError."""
    files.make_private_dirs(storage_path)
    raw = json.dumps({**asdict(hold), "until": names.iso(hold.until)}, indent=2).encode() + b"\n"
    staged = storage_path / f".{_NAME}.new"
    try:
        staged.unlink(missing_ok=True)
        files.write_new(staged, raw)
        staged.replace(storage_path / _NAME)
        files.fsync_path(storage_path)
    except OSError as exc:
        raise _failed(storage_path, "written", exc) from exc


def release(storage_path: Path) -> bool:
    """End the hold; False where there was none. Raises StoreError."""
    try:
        (storage_path / _NAME).unlink()
        files.fsync_path(storage_path)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise _failed(storage_path, "removed", exc) from exc
    return True


def _failed(storage_path: Path, what: str, exc: OSError) -> StoreError:
    return StoreError(
        f"{storage_path / _NAME} could not be {what}: {files.reason(exc)}. Free some space or correct the rights there."
    )

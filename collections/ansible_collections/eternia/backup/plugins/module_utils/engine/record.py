# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the last run, beside the backups: what prune asks before it removes anything."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from . import files, names
from .errors import StoreError

_NAME = "last-run.json"

RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"


def withdraw(storage_path: Path) -> None:
    """Take back what the record says of an earlier run, if there is one. Needs no space on the disk."""
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        os.close(os.open(storage_path / _NAME, flags))


def write(storage_path: Path, result: str, now: datetime, *, staging: Path, error: str = "") -> None:
    """Record how a backup run stands. Raises StoreError."""
    fields = {"result": result, "at": names.iso(now), "error": error}
    try:
        files.replace(storage_path / _NAME, (json.dumps(fields, indent=2) + "\n").encode(), staging=staging)
    except OSError as exc:
        raise StoreError(
            f"{storage_path / _NAME} could not be written: {files.reason(exc)}. Free some space or correct the rights."
        ) from exc


def trouble(storage_path: Path) -> str | None:
    """Why the last backup run is no ground to remove anything; None where it succeeded."""
    path = storage_path / _NAME
    try:
        fields = json.loads(path.read_bytes())
        result, at, error = (str(fields[key]) for key in ("result", "at", "error"))
    except FileNotFoundError:
        return "no run has succeeded here yet"
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return f"the record of the last run ({path}) cannot be read ({exc})"
    if result == SUCCEEDED:
        return None
    if result == RUNNING:
        return f"the run of {at} was cut off, or still goes on"
    return f"the run of {at} failed: {error}"

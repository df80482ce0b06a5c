# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source: what is protected on this host, and whether it is fit to be read at all."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from . import files, rights
from .config import Config
from .errors import DamagedError, SourceError
from .names import DATABASE, STATE, Kind

_SQLITE_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


@dataclass(frozen=True)
class Source:
    """A file that holds the application's state."""

    kind: Kind
    path: Path


def resolve(config: Config, *, backed_up: set[Kind]) -> Source:
    """The source that the configuration means.

    `auto` is the database, or the state file on a host that never had a database: where backups of a database exist
    (`backed_up`), its absence is a loss to be told, not a reason to back up something else.
    """
    if config.source == STATE:
        return Source(STATE, config.state_path)
    if config.source == DATABASE or DATABASE in backed_up or _may_be_there(config.database_path):
        return Source(DATABASE, config.database_path)
    if _may_be_there(config.state_path):
        return Source(STATE, config.state_path)
    raise SourceError(
        f"There is nothing to back up: neither {config.database_path} nor {config.state_path} exists. "
        "Correct database_path or state_path."
    )


def _may_be_there(path: Path) -> bool:
    """Whether something lies at a path, or a right is lacking that would tell: then it is not for us to say no."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def examine(source: Source) -> int:
    """Look at the file without waiting for anything; returns its size in bytes. Raises SourceError."""
    path = source.path
    try:
        if path.is_symlink() and not path.exists():
            nothing = f"{path} is a symbolic link to nothing ({os.readlink(path)}). Correct the link."
            raise SourceError(rights.lacking(path, source.kind) or nothing)
        facts = path.stat()
    except FileNotFoundError as exc:
        raise SourceError(
            f"{path} does not exist. If it was lost, restore it; otherwise correct {source.kind}_path."
        ) from exc
    except OSError as exc:
        raise SourceError(
            rights.lacking(path, source.kind)
            or f"{path} cannot be looked at: {files.reason(exc)}. Look at its disk, then run again."
        ) from exc
    if not stat.S_ISREG(facts.st_mode):
        raise SourceError(f"{path} is {files.kind_of(facts.st_mode)}, not a file. Correct {source.kind}_path.")
    if facts.st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes). Nothing was backed up; if its content was lost, restore it.")
    if source.kind == DATABASE:
        _require_sqlite(path, facts.st_size)
    return facts.st_size


def _require_sqlite(path: Path, size: int) -> None:
    try:
        with path.open("rb", buffering=0) as stream:
            header = stream.read(_HEADER_BYTES)
    except OSError as exc:
        raise SourceError(
            rights.lacking(path, DATABASE)
            or f"{path} cannot be read: {files.reason(exc)}. Run as its owner, or give this user the right to read it."
        ) from exc
    if len(header) < _HEADER_BYTES:
        raise SourceError(
            f"{path} has {size} bytes, which is too short for a SQLite database. Nothing was "
            "backed up; restore the newest verified backup, or correct database_path."
        )
    if not header.startswith(_SQLITE_MAGIC):
        raise SourceError(
            f"{path} is not a SQLite database, or it is encrypted (it does not begin with SQLite's header). Nothing "
            "was backed up. If it was one, restore the newest verified backup; otherwise correct database_path."
        )


def looks_like(path: Path) -> Kind:
    """What a file with a foreign name holds, judged by how it begins. Raises SourceError."""
    try:
        with path.open("rb", buffering=0) as stream:
            start = stream.read(_HEADER_BYTES)
    except OSError as exc:
        raise SourceError(f"{path} cannot be read: {files.reason(exc)}. Choose another backup.") from exc
    if start.startswith(_SQLITE_MAGIC):
        return DATABASE
    if start.lstrip().startswith(b"{"):
        return STATE
    raise DamagedError(
        f"{path} is neither a SQLite database nor a JSON object (its first {len(start)} bytes say so). "
        "Choose another backup."
    )

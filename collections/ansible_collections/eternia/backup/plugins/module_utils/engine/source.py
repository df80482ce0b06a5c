# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source: what is protected on this host, and whether it is fit to be read at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from . import catalog, files, rights, symlinks
from .catalog import Backup
from .config import Config
from .errors import DamagedError, SourceError, StoreError
from .names import DATABASE, STATE, Kind
from .stores.base import Store

AUTO = "auto"

_SQLITE_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


@dataclass(frozen=True)
class Source:
    """A file that holds the application's state."""

    kind: Kind
    path: Path


def of_host(config: Config, local: Iterable[Backup]) -> Source:
    """The source of a host whose local store holds the backups `local`.

    Whoever lost the database may have lost the storage path with it: before the state is taken for the first time,
    every other place is asked for backups of a database. Raises SourceError, StoreError.
    """
    backed_up = {backup.name.kind for backup in local}
    if config.source == AUTO and STATE not in backed_up and kind(config, backed_up=backed_up) == STATE:
        backed_up |= _backed_up_elsewhere(config)
    return resolve(config, backed_up=backed_up)


def _backed_up_elsewhere(config: Config) -> set[Kind]:
    remote = catalog.remote(config)
    stores: list[Store] = [*catalog.legacy_stores(config), *(() if remote is None else (remote,))]
    try:
        for store in stores:
            catalog.require_own(store, config)
        return {backup.name.kind for backup in catalog.build(stores)}
    except StoreError as exc:
        raise StoreError(
            f"{config.database_path} does not exist, and whether it was ever backed up cannot be known, so "
            f"{config.state_path} is not taken for it. {exc} If this host never had a database, set source to state."
        ) from exc


def resolve(config: Config, *, backed_up: Collection[Kind]) -> Source:
    """The source that the configuration means, where backups of these kinds exist. Raises SourceError."""
    if (
        config.source == AUTO
        and not backed_up
        and not any(map(_may_be_there, (config.database_path, config.state_path)))
    ):
        raise SourceError(
            f"There is nothing to back up: neither {config.database_path} nor {config.state_path} exists. "
            "Correct database_path or state_path."
        )
    found = kind(config, backed_up=backed_up)
    return Source(found, config.database_path if found == DATABASE else config.state_path)


def kind(config: Config, *, backed_up: Collection[Kind]) -> Kind:
    """What the host protects, where backups of these kinds exist.

    `auto` is the database, or the state on a host that never had a database: where there are backups of one, its
    absence is a loss to be told, not a reason to take something else.
    """
    if config.source != AUTO:
        return STATE if config.source == STATE else DATABASE
    if DATABASE in backed_up or _may_be_there(config.database_path):
        return DATABASE
    return STATE if STATE in backed_up or _may_be_there(config.state_path) else DATABASE


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
        astray = symlinks.astray(path, f"{source.kind}_path")
        if astray is not None:
            raise SourceError(astray)
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
        with files.opened(files.open_plain(os.path.realpath(path))) as descriptor:
            header = files.read_at(descriptor, _HEADER_BYTES, 0)
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
        with files.opened(files.open_plain(os.path.realpath(path))) as descriptor:
            start = files.read_at(descriptor, _HEADER_BYTES, 0)
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

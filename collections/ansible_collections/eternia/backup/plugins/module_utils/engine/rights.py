# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which right a user lacks who cannot read a source: on which file, and what gives it to him.

To read a database takes: search on every directory above it; read on it, and on its -wal, -shm and -journal where they
are there; write on its directory where -wal or -shm lies there without the other, which SQLite then has to make. What
is not asked for is write on any of the files: without it a copy takes a little longer.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

from .names import DATABASE, Kind

_WAL = ("-wal", "-shm")


def lacking(path: Path, kind: Kind) -> str | None:
    """What keeps this process's user from reading a source, and what to do; None where he lacks no right."""
    real = Path(os.path.realpath(path))
    # As it is written too, because a link lies in a directory of its own.
    for directory in (*reversed(path.parents), *reversed(real.parents)):
        if not _may(directory, os.X_OK):
            return _said(path, "search the directory", directory, _let_in(directory, "x"))
    if not _may(real, os.R_OK):
        return _said(path, "read", real, _let_in(real, "r"))
    if kind != DATABASE:
        return None
    beside = [Path(f"{real}{suffix}") for suffix in (*_WAL, "-journal") if os.path.lexists(f"{real}{suffix}")]
    for file in beside:
        if not _may(file, os.R_OK):
            return _said(path, "read", file, _let_in_for_good(real, file))
    missing = [suffix for suffix in _WAL if Path(f"{real}{suffix}") not in beside]
    if len(missing) == 1 and not _may(real.parent, os.W_OK):
        needed = f"SQLite has to make {real.name}{missing[0]} there. Start the application, which makes it"
        return _said(path, "write to the directory", real.parent, f"{needed}, or run as {_owner(real.parent)}")
    return None


def _may(path: Path, right: int) -> bool:
    return os.access(path, right, effective_ids=True) or not os.path.exists(path)


def _said(path: Path, verb: str, file: Path, advice: str) -> str:
    facts = file.stat()
    shown = f"owner {_owner(file)}, group {_named(grp.getgrgid, facts.st_gid)}, mode {stat.S_IMODE(facts.st_mode):04o}"
    if verb.startswith("write") and os.statvfs(file).f_flag & os.ST_RDONLY:
        shown = "its filesystem is read-only"
    user = _named(pwd.getpwuid, os.geteuid())
    return f"{path} cannot be read: user {user} may not {verb} {file} ({shown}). {advice}."


def _let_in(file: Path, right: str) -> str:
    return f"Run as {_owner(file)}, or give the right through a group: chgrp GROUP {file}; chmod g+{right} {file}"


def _let_in_for_good(database: Path, file: Path) -> str:
    """What SQLite makes has the mode of the database, and the group of its directory where that is setgid."""
    return (
        f"Run as {_owner(file)}, or give the right through a group, which outlives the file where the directory hands "
        f"it on: chgrp GROUP {database.parent} {database} {file}; chmod g+s {database.parent}; chmod g+r {database} "
        f"{file}"
    )


def _owner(file: Path) -> str:
    return _named(pwd.getpwuid, file.stat().st_uid)


def _named(look_up: Callable[[int], tuple[object, ...]], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)

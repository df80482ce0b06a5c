# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Symbolic links on the way to what we read and write: whoever made one must not lead root to what is not his.

As the kernel does for links in /tmp (fs.protected_symlinks), a link of root's is followed, and anybody else's only to
what he could replace without us: a file that is his, or that lies somewhere below a directory in which he may make and
remove names.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# As many as the kernel follows.
_MOST = 40


def astray(path: Path, key: str) -> str | None:
    """What speaks against following a path as root, and what to do; None where nothing does, and for anybody else.

    `key` is the one that says where it is. Raises OSError.
    """
    if os.geteuid() != 0:
        return None
    for link, owner in _on_the_way(path):
        real = Path(os.path.realpath(path))
        if owner != 0 and not _could_replace(owner, real):
            return (
                f"{link} is a symbolic link of user {owner}, who could not replace {real} himself. Nothing was done. "
                f"Look at the link; if it is right, make it root's (chown -h root {link}) or set {key} to {real}."
            )
    return None


def _could_replace(user: int, real: Path) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError):
        if real.lstat().st_uid == user:
            return True
    # What a link to a directory is for is making names in it.
    directories = (real, *real.parents) if real.is_dir() else real.parents
    return any(_may_rename_in(user, directory) for directory in directories)


def _may_rename_in(user: int, directory: Path) -> bool:
    try:
        facts = directory.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if facts.st_uid == user:
        return True
    is_in_group = facts.st_mode & stat.S_IWGRP and facts.st_gid in _groups(user)
    return not facts.st_mode & stat.S_ISVTX and bool(is_in_group or facts.st_mode & stat.S_IWOTH)


def _groups(user: int) -> list[int]:
    try:
        found = pwd.getpwuid(user)
    except KeyError:
        return []
    return os.getgrouplist(found.pw_name, found.pw_gid)


def _on_the_way(path: Path) -> Iterator[tuple[Path, int]]:
    """Each link that is followed, and whose it is."""
    place, rest = Path("/"), list(reversed(path.absolute().parts[1:]))
    followed = 0
    while rest and followed < _MOST:
        step = place / rest.pop()
        try:
            facts = step.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISLNK(facts.st_mode):
            yield step, facts.st_uid
            followed += 1
            to = Path(os.readlink(step))
            place = Path("/") if to.is_absolute() else place
            rest += reversed(to.parts[1:] if to.is_absolute() else to.parts)
        else:
            place = place.parent if step.name == ".." else step

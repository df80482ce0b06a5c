# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target: the live file that a restore replaces, and what SQLite may have left beside it."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import files, mounts, symlinks
from .config import Config
from .errors import TargetError
from .names import DATABASE, STATE, Kind
from .sqlite import COMPANIONS


@dataclass(frozen=True)
class Target:
    """Where the application's state lives: the path as it is configured. A drill has one that is not live."""

    kind: Kind
    path: Path
    is_live: bool = True

    @cached_property
    def real(self) -> Path:
        """The file itself: a symbolic link at `path` stays one, and what it points to is replaced."""
        return Path(os.path.realpath(self.path))

    @property
    def staging(self) -> Path:
        """Where a restore prepares what comes, on the same filesystem: one rename brings it into place."""
        return self.real.with_name(f".{self.real.name}.restore")

    def beside(self, suffix: str) -> Path:
        """The database itself ("") or a companion of it."""
        return Path(f"{self.real}{suffix}")

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Everything that belongs to the target: "" and, of a database, its companions."""
        return ("", *COMPANIONS) if self.kind == DATABASE else ("",)

    def present(self) -> dict[str, os.stat_result]:
        """What is there, by its suffix. An application may be making or removing its log at this moment."""
        found = {}
        for suffix in self.suffixes:
            with suppress(FileNotFoundError):
                found[suffix] = self.beside(suffix).lstat()
        return found


def of(config: Config, kind: Kind) -> Target:
    """The target for backups of a kind: a database never lands on the state's path, nor the reverse."""
    return Target(kind, config.database_path if kind == DATABASE else config.state_path)


def both(config: Config) -> tuple[Target, Target]:
    """The targets that the configuration knows."""
    return of(config, DATABASE), of(config, STATE)


def require_replaceable(target: Target) -> None:
    """Find out, without writing, whether a rename could bring another file there. Raises TargetError."""
    require_followable(target)
    for suffix, facts in target.present().items():
        if not stat.S_ISREG(facts.st_mode):
            raise TargetError(
                f"{target.beside(suffix)} is {files.kind_of(facts.st_mode)}, not a file. Look at it; move it away, or "
                f"correct {target.kind}_path."
            )
    if mounts.is_mounted(target.real):
        raise TargetError(
            f"{target.real} is itself a mount, as a container makes of a single file: nothing can be renamed onto it. "
            "Mount its directory instead, or restore where it is mounted from."
        )
    files.require_usable(target.real.parent, of=f"{target.kind}_path")


def require_followable(target: Target) -> None:
    """Raises TargetError where a link leads to what is not its owner's, or elsewhere than it did."""
    astray = symlinks.astray(target.path, f"{target.kind}_path")
    if astray is None and os.path.realpath(target.path) != str(target.real):
        astray = f"{target.path} led to {target.real} when the restore began, and leads elsewhere now. Run again."
    if astray is not None:
        raise TargetError(astray)


def make_directory(target: Target) -> None:
    """Make the directory of a target that lost everything, owned like the nearest directory that is there."""
    directory = target.real.parent
    nearest = files.require_usable(directory, of=f"{target.kind}_path")
    facts = nearest.stat()
    try:
        missing = [step for step in (directory, *directory.parents) if not step.exists()]
        for step in reversed(missing):
            step.mkdir(mode=0o755)
            # Whoever owns the directory above may have put a link there meanwhile.
            os.chown(step, facts.st_uid, facts.st_gid, follow_symlinks=False)
            files.fsync_path(step.parent)
    except OSError as exc:
        raise TargetError(
            f"{directory} cannot be made: {files.reason(exc)}. Correct {target.kind}_path, or the rights there."
        ) from exc


def dress(target: Target, staged: Path) -> None:
    """Give what comes the owner, the mode and the extended attributes (security labels, ACLs) of what is there.

    Where nothing is there it belongs to the owner and the group of the directory. Raises OSError.

    The owner of the directory may at any moment put a link to a file of the host where the staging was: so it is asked
    for once, and what is opened is what is dressed.
    """
    there = target.present().get("")
    like = there or target.real.parent.stat()
    with files.opened_in(staged.parent, staged.name) as descriptor:
        ours = os.fstat(descriptor)
        if (like.st_uid, like.st_gid) != (ours.st_uid, ours.st_gid) and (there or os.geteuid() == 0):
            os.chown(descriptor, like.st_uid, like.st_gid)
        os.chmod(descriptor, stat.S_IMODE(there.st_mode) if there else _mode_in(like, os.fstat(descriptor)))
        for name in _attributes(target.real) if there else ():
            os.setxattr(descriptor, name, os.getxattr(target.real, name, follow_symlinks=False))


def _mode_in(directory: os.stat_result, new: os.stat_result) -> int:
    """For its owner alone; also for the group, where the directory lets that group make and remove files in it.

    An application of a group works there, and SQLite itself has to: it keeps its log beside the database.
    """
    is_shared = directory.st_mode & 0o030 == 0o030 and directory.st_gid == new.st_gid
    return 0o660 if is_shared else 0o600


def _attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as exc:
        if exc.errno != errno.ENOTSUP:
            raise
        return []

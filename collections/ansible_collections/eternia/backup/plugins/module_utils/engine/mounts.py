# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the disk is there that the storage path is meant to lie on.

Where a mount is missing its empty directory lies on the root disk, and backups would fill that up. Looked at are
`storage_mount`, where it is given, and every mount point of fstab(5) that is the storage path or above it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from .config import Config
from .errors import ConfigError, StoreError

_FSTAB = Path("/etc/fstab")
# https://www.kernel.org/doc/html/latest/filesystems/proc.html#proc-pid-mountinfo-information-about-mounts
_MOUNTS = Path("/proc/self/mountinfo")


def require(config: Config, *, fstab: Path = _FSTAB, mounts: Path = _MOUNTS) -> None:
    """Refuse a storage path whose mount is missing, reading only.

    Raises StoreError naming the mount point, ConfigError where `storage_mount` is not above the storage path.
    """
    storage, configured = config.storage_path, config.storage_mount
    above = _above(storage)
    if configured is not None:
        if _plain(configured) not in above:
            raise ConfigError(
                f"backup.storage_mount is {configured}, and storage_path is {storage}, which does not lie there. Give "
                "the mount point that storage_path is on, or correct storage_path."
            )
        if not _is_mounted(configured, mounts):
            raise _missing(storage, configured, "backup.storage_mount", "storage_path or storage_mount")
    for point in _listed(fstab):
        if point in above and not _is_mounted(point, mounts):
            raise _missing(storage, point, str(fstab), f"storage_path or {fstab}")


def _missing(storage: Path, point: Path, source: str, correct: str) -> StoreError:
    return StoreError(
        f"{storage} is to be on {point} (says {source}), and nothing is mounted there: backups would fill up the disk "
        f"below it. Mount it (`mount {point}`), or correct {correct}; then run again."
    )


def _above(path: Path) -> set[Path]:
    """A path and every directory above it, as it is written and with its symbolic links followed."""
    ways = (_plain(path), Path(os.path.realpath(path)))
    return {step for way in ways for step in (way, *way.parents)}


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _listed(fstab: Path) -> list[Path]:
    """The mount points of fstab(5), the outer ones first; nothing for what is mounted nowhere, as swap."""
    try:
        entries = [line.split() for line in fstab.read_bytes().splitlines() if not line.lstrip().startswith(b"#")]
    except OSError:
        return []
    points = {_plain(_decoded(entry[1])) for entry in entries if len(entry) > 2 and entry[2] != b"swap"}
    return sorted(point for point in points if point.is_absolute() and point != Path("/"))


def is_mounted(point: Path) -> bool:
    """Whether something is mounted right there."""
    return _is_mounted(point, _MOUNTS)


def _is_mounted(point: Path, mounts: Path) -> bool:
    real = Path(os.path.realpath(point))
    types = _mounted(mounts)
    if types is None:
        return os.path.ismount(real)
    if any(types.get(step) == b"autofs" for step in (real, *real.parents)):
        # It is mounted when somebody looks inside.
        with suppress(OSError):
            os.scandir(real).close()
        types = _mounted(mounts) or {}
    return real in types


def _mounted(mounts: Path) -> dict[Path, bytes] | None:
    """The type of the filesystem by mount point; None where the system does not tell."""
    try:
        entries = [line.partition(b" - ") for line in mounts.read_bytes().splitlines()]
    except OSError:
        return None
    # Of several in one place the last is on top.
    return {_decoded(left.split()[4]): right.split()[0] for left, _separator, right in entries}


def _decoded(field: bytes) -> Path:
    r"""A path of fstab or mountinfo with its octal escapes taken back: `\040` is a space."""
    return Path(os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 255]), field)))

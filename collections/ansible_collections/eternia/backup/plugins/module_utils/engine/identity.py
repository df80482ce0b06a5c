# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file it is, whatever its name, and whether somebody wrote to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """A file within its filesystem, as it was last written to: size in bytes, time in nanoseconds since 1970.

    Without the device: its number may be another one after a reboot.
    """

    inode: int
    bytes: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> Identity:
        """Of what lies there now, be it a symbolic link. Raises OSError."""
        return cls.from_stat(path.lstat())

    @classmethod
    def from_stat(cls, facts: os.stat_result) -> Identity:
        """Of what was found there."""
        return cls(facts.st_ino, facts.st_size, facts.st_mtime_ns)

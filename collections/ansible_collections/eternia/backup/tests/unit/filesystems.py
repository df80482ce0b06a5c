# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filesystems that this machine's own is not, each in a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1024 * 1024


@contextmanager
def mounted(folder: Path, kind: str) -> Iterator[Path]:
    """A filesystem of 4 GiB in a file that is as large as what lies in it, `xfs` or `btrfs`.

    Skips with the reason where there can be none.
    """
    maker = shutil.which(f"mkfs.{kind}")
    if os.geteuid() != 0 or maker is None:
        pytest.skip(f"needs root and mkfs.{kind} (Debian: {kind}progs or {kind}-progs)")
    image, place = folder / "image", folder / "mounted"
    with image.open("wb") as file:
        file.truncate(4096 * MIB)
    subprocess.run([maker, "-q", str(image)], check=True, capture_output=True)
    place.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{kind} cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # A test that fails may have left a file of it open.
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        image.unlink()

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the Python interpreters of this machine, behind version managers' shims and virtual environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Fails where an environment with pip cannot be made; otherwise prints the binary behind shims and environments.
ASK_INTERPRETER = """\
import ensurepip, os, sys, venv
print("%d.%d" % sys.version_info[:2], os.path.realpath(sys.executable))
"""


def find_interpreter(version: str) -> str | None:
    """The real binary of a Python version that can make environments, wherever it is installed."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], check=True, capture_output=True, text=True).stdout.strip()
        folders += sorted(Path(root, "versions").glob(f"{version}.*/bin"), reverse=True)
    for folder in [Path(sys.executable).parent, *folders]:
        candidate = shutil.which(f"python{version}", path=folder)
        if candidate:
            asked = subprocess.run([candidate, "-c", ASK_INTERPRETER], capture_output=True, text=True, check=False)
            said, _, path = asked.stdout.strip().partition(" ")
            if asked.returncode == 0 and said == version:
                return path
    return None

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host without a package index installs from: an archive of wheels, pip and what a requirements file pins."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

import test_hosts_machine as machines
from dev_processes import ServicesError
from packaging.requirements import Requirement
from test_hosts_root import GLIBC, PYTHON

# The host's Debian has none. Any that runs on its Python will do; it is named so that all runs have the same.
PIP = "pip==26.3"


def fetch(requirements: Path, archive: Path) -> int:
    """Fetch the wheels into the archive, unless they are there already; how many they are."""
    if not requirements.exists():
        raise ServicesError(f"{requirements} is not there; it would pin what the hosts install.")
    command = [*(PIP, *pins_of(requirements)), *host_options()]
    digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()
    remembered = archive.with_suffix(".digest")
    if not (archive.exists() and remembered.exists() and remembered.read_text() == digest):
        remembered.unlink(missing_ok=True)
        folder = archive.with_suffix(".new")
        machines.remove(folder)
        download(command, folder)
        with tarfile.open(archive, "w") as packed:
            for wheel in sorted(folder.glob("*.whl")):
                packed.add(wheel, wheel.name)
        machines.remove(folder)
        remembered.write_text(digest)
    with tarfile.open(archive) as packed:
        return len(packed.getnames())


def pins_of(requirements: Path) -> list[str]:
    """The lines that hold on a host. pip would ask the Python that it runs on itself, which may be another."""
    environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    wanted = [Requirement(line) for line in lines if line]
    return [f"{pin.name}{pin.specifier}" for pin in wanted if pin.marker is None or pin.marker.evaluate(environment)]


def host_options() -> list[str]:
    major, newest = GLIBC
    tags = ["manylinux2014", *(f"manylinux_{major}_{minor}" for minor in range(17, newest + 1))]
    platforms = [f"--platform={tag}_{platform.machine()}" for tag in tags]
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", *platforms]


def download(command: list[str], target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", f"--dest={target}"]
    fetched = subprocess.run([*pip, *command], text=True, capture_output=True, check=False, timeout=900)
    if fetched.returncode:
        raise ServicesError(f"The wheels cannot be fetched:\n{fetched.stderr.strip()}")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `test_hosts.py` says before it boots anything: what is missing on this machine, and what cannot be meant."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from development import CHECKOUT

SUPERUSERS_PROGRAMS = "/usr/sbin:/sbin"
# The user that owns nothing. All is imported before, because root's Python may lie where nobody else may look.
AS_NOBODY = """
import os, sys
sys.path.insert(0, "scripts")
import test_hosts
os.geteuid() or os.setuid(65534)
sys.exit(test_hosts.main(["check"]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts in a checkout of their own, where there never was a host."""
    shutil.copytree(CHECKOUT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(checkout: Path, *arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env={"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def missing(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert (result.returncode, result.stdout) == (1, ""), result
    first, *lines = result.stderr.splitlines()
    assert first == "Test hosts cannot be booted here. What is missing:"
    return [line.removeprefix("  ") for line in lines]


def test_who_is_not_root_is_told_how_to_be(checkout: Path) -> None:
    assert "root: run it as root, for example with sudo" in missing(run(checkout, "-c", AS_NOBODY))
    assert not (checkout / "build").exists()


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("debootstrap", "debootstrap"),
        ("systemd-nspawn", "systemd-container"),
        ("ip", "iproute2"),
        ("ssh", "openssh-client"),
        ("ssh-keygen", "openssh-client"),
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
        ("mount", "mount"),
        ("promtool", "prometheus"),
    ],
)
def test_a_program_that_is_missing_is_named_with_its_package(checkout: Path, program: str, package: str) -> None:
    lines = missing(run(checkout, "scripts/test_hosts.py", "check", path=""))
    # It looks where root's programs are too, whatever PATH says.
    is_there = bool(shutil.which(program, path=SUPERUSERS_PROGRAMS))
    assert (f"{program}: apt-get install {package}" in lines) is not is_there
    assert not (checkout / "build").exists()


def test_a_machine_is_fit_or_says_why_not(checkout: Path) -> None:
    result = run(checkout, "scripts/test_hosts.py", "check")
    if result.returncode:
        pytest.skip("; ".join(missing(result)))
    assert (result.stdout, result.stderr) == ("Test hosts can be booted here.\n", "")
    # What it tried is gone.
    assert list((checkout / "build/hosts").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("up", "web1", "Web_2"), "'Web_2' is no name for a host: small letters, digits and hyphens, 32 at most."),
        (("reset", "web1"), "There is no host web1 to lose. Boot it: test_hosts.py up web1"),
        (("crash", "web1"), "There is no host web1 to lose. Boot it: test_hosts.py up web1"),
        (("store", "up"), "There is no bridge for the store. Boot a host first: test_hosts.py up NAME"),
        (("wheels", "nowhere.txt"), "nowhere.txt is not there; it would pin what the hosts install."),
    ],
)
def test_what_cannot_be_meant_is_refused(checkout: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(checkout, "scripts/test_hosts.py", *arguments)
    assert (result.returncode, result.stderr) == (1, f"{message}\n")


def test_there_may_be_nothing_to_end(checkout: Path) -> None:
    result = run(checkout, "scripts/test_hosts.py", "down")
    assert (result.returncode, result.stdout) == (0, "There are no test hosts.\n")

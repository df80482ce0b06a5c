# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this machine must have before hosts can be booted and tested on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import test_hosts_groups as groups

# Program: the Debian package that has it.
PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    # What reads the metrics that the hosts write.
    "promtool": "prometheus",
}
# What the kernel must do, each tried in a namespace that ends with the trial.
TRIALS = {
    "overlayfs, on the filesystem of this checkout": (
        "unshare --mount mount -t overlay -o lowerdir=root,upperdir=upper,workdir=work overlay disk"
    ),
    "network bridges": "unshare --net ip link add trial type bridge",
    "virtual Ethernet": "unshare --net ip link add trial type veth",
}


def what_is_missing(home: Path) -> list[str]:
    """A line for each thing."""
    missing = [] if os.geteuid() == 0 else ["root: run it as root, for example with sudo"]
    for program, package in PROGRAMS.items():
        if not shutil.which(program):
            missing.append(f"{program}: apt-get install {package}")
    if not groups.hierarchies():
        missing.append("control groups: neither cgroup2 nor the hierarchy name=systemd is mounted")
    # Only root can ask the kernel, and only with the programs.
    return missing or what_the_kernel_refuses(home)


def what_the_kernel_refuses(home: Path) -> list[str]:
    refused = []
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        for name in ("root", "upper", "work", "disk"):
            Path(scratch, name).mkdir()
        for what, command in TRIALS.items():
            tried = subprocess.run(
                command.split(), cwd=scratch, text=True, capture_output=True, check=False, timeout=30
            )
            if tried.returncode:
                refused.append(f"{what}: {' '.join(tried.stderr.split())}")
    return refused

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root that all test hosts share: a small Debian with systemd, sshd and Python, made once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import test_hosts_machine as machines
from dev_processes import ServicesError

SECONDS_TO_MAKE = 1800.0
# All that makes a root what it is: its digest is part of the cache's name.
RECIPE: dict[str, Any] = {
    "suite": "bookworm",
    "variant": "minbase",
    # No python3-venv and no pip: an agent must install itself where there is nothing but Python and SSH.
    "packages": [
        *("python3", "systemd", "systemd-sysv", "dbus", "cron", "openssh-server", "iproute2", "sudo", "procps"),
        # What the manual way of docs/disaster-recovery.md needs: tools of Debian, none of ours.
        *("sqlite3", "zstd"),
        # The hosts share this machine's clock: a daemon that is to see another time runs under it.
        "faketime",
    ],
    "wanted": {"systemd-networkd.service": "multi-user.target"},
    # They would look for a mirror at a time of their own.
    "masked": ["apt-daily.timer", "apt-daily-upgrade.timer"],
    # What debootstrap copies from this machine, what each host has of its own, and what only fills the disk.
    "removed": [
        *("etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/ssh/ssh_host_*"),
        *("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*", "var/log/bootstrap.log"),
    ],
}
PYTHON = "3.11"
GLIBC = (2, 36)


def make(home: Path) -> Path:
    """The root of this recipe, made where it is missing."""
    root = path_in(home)
    if root.exists():
        return root
    print(f"Making the Debian {RECIPE['suite']} that the hosts share (once, some minutes) ...", flush=True)
    started = time.monotonic()
    # Under another name until it is whole, so that an interrupted one is never taken for it.
    staged = root.with_name(f"{root.name}.new")
    machines.remove(staged)
    bootstrap(staged, log=home / "debootstrap.log")
    set_up_units(staged / "etc/systemd/system")
    for pattern in RECIPE["removed"]:
        for path in staged.glob(pattern):
            path.unlink()
    staged.rename(root)
    print(f"Made {root} in {time.monotonic() - started:.0f} s.")
    return root


def set_up_units(directory: Path) -> None:
    for unit, target in RECIPE["wanted"].items():
        (directory / f"{target}.wants" / unit).symlink_to(f"/lib/systemd/system/{unit}")
    for unit in RECIPE["masked"]:
        (directory / unit).symlink_to("/dev/null")


def remove_old(home: Path) -> None:
    """The roots of other recipes, and half-made ones."""
    for path in home.glob("root-*"):
        if path != path_in(home):
            machines.remove(path)


def path_in(home: Path) -> Path:
    digest = hashlib.sha256(json.dumps(RECIPE, sort_keys=True).encode()).hexdigest()
    return home / f"root-{digest[:12]}"


def bootstrap(target: Path, *, log: Path) -> None:
    # In namespaces of its own, and with the end of this process: nothing that it mounts or starts outlives either.
    command = ["setpriv", "--pdeathsig", "KILL"]
    command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += ["debootstrap", f"--variant={RECIPE['variant']}", f"--include={','.join(RECIPE['packages'])}"]
    with log.open("w") as output:
        try:
            result = subprocess.run(
                [*command, RECIPE["suite"], str(target)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=SECONDS_TO_MAKE,
            )
        except subprocess.TimeoutExpired:
            raise ServicesError(f"debootstrap did not end within {SECONDS_TO_MAKE:.0f} s. Its log: {log}") from None
    if result.returncode:
        last_lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise ServicesError("\n".join([f"debootstrap failed. The end of {log}:", *last_lines]))

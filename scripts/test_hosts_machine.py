# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One test host: its disk, its boot, and the way to it.

Its overlay is mounted in a mount namespace of its own, which ends with it, so no mount is ever left behind.
"""

from __future__ import annotations

import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import dev_processes
import test_hosts_groups as groups
import test_hosts_network as network
from dev_processes import ServicesError

SECONDS_TO_BOOT = 60.0
SECONDS_TO_CLEAN_UP = 20.0
OVERLAY = "lowerdir={},upperdir=upper,workdir=work"
LAUNCH = """\
set -e
for group; do echo $$ >"$group/cgroup.procs"; done
mount -t overlay -o "$OVERLAY" overlay disk
until systemd-nspawn --quiet --boot --directory=disk --machine="$LABEL" --register=no --keep-unit --link-journal=no \
    --resolv-conf=off --timezone=off --network-bridge="$BRIDGE"
do
    # This is how it says that the host wants to be booted again.
    test $? -eq 133 || exit 1
done
"""


@dataclass(frozen=True)
class Machine:
    """A host; `number` is the last one of its address, `home` is where all hosts of a checkout lie."""

    name: str
    number: int
    address: str
    home: Path

    @property
    def directory(self) -> Path:
        return self.home / "machines" / self.name

    @property
    def group(self) -> str:
        return f"{group_prefix(self.home)}{self.name}"

    @property
    def label(self) -> str:
        # Short, because the kernel allows 15 characters for the link `vb-<label>`.
        return f"{network.identity(self.home)}-{self.number}"


def group_prefix(home: Path) -> str:
    return f"eternia-{network.identity(home)}-"


def is_running(machine: Machine) -> bool:
    return groups.is_running(machine.group)


def make_disk(machine: Machine, prefix_length: int) -> None:
    """What the host has of its own, over the shared root; under another name until it is whole."""
    staged = machine.directory.with_name(f"{machine.name}.new")
    remove(staged)
    for name in ("upper", "work", "disk"):
        (staged / name).mkdir(parents=True)
    disk = staged / "upper"
    write(disk / "etc/hostname", f"{machine.name}\n")
    write(disk / "etc/hosts", f"127.0.0.1 localhost\n{machine.address} {machine.name}\n")
    write(disk / "etc/machine-id", f"{uuid.uuid4().hex}\n")
    write(disk / "etc/systemd/network/10-host0.network", network_settings(machine, prefix_length))
    (disk / "etc/ssh").mkdir()
    make_ssh_key(disk / "etc/ssh/ssh_host_ed25519_key", comment=f"root@{machine.name}")
    (disk / "root").mkdir(mode=0o700)
    (disk / "root/.ssh").mkdir(mode=0o700)
    write(disk / "root/.ssh/authorized_keys", (machine.home / "ssh/id_ed25519.pub").read_text(), mode=0o600)
    staged.rename(machine.directory)


def network_settings(machine: Machine, prefix_length: int) -> str:
    lines = ["[Match]", "Name=host0", "[Network]", f"Address={machine.address}/{prefix_length}"]
    # No gateway and no name server: there is nothing beyond the bridge.
    return "\n".join([*lines, "LinkLocalAddressing=no", "IPv6AcceptRA=no", ""])


def boot(machine: Machine, *, root: Path, bridge: str) -> None:
    # The link of a host that was killed lives until the kernel has cleaned up its network namespace.
    wait_for(lambda: not network.exists(f"vb-{machine.label}"), seconds=SECONDS_TO_CLEAN_UP)
    pid = dev_processes.start_detached(
        ["unshare", "--mount", "sh", "-c", LAUNCH, "launch", *map(str, groups.make(machine.group))],
        environment={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            # Relative, because a comma or a colon in a path would mean something to the kernel.
            "OVERLAY": OVERLAY.format(f"../../{root.name}"),
            "LABEL": machine.label,
            "BRIDGE": bridge,
        },
        directory=machine.directory,
        log=machine.directory / "console.log",
    )
    wait_for(lambda: is_running(machine) or dev_processes.start_time(pid) is None, seconds=SECONDS_TO_CLEAN_UP)


def wait_until_up(machine: Machine) -> None:
    """Until systemd says, over SSH, that all it had to start was started."""
    deadline = time.monotonic() + SECONDS_TO_BOOT
    while is_running(machine):
        asked = ssh(machine, "systemctl is-system-running --wait; systemctl --failed --no-legend --plain")
        state, *failed = asked.stdout.splitlines() or [""]
        if state == "running":
            return
        if state == "degraded":
            raise ServicesError("\n".join([f"{machine.name} booted, but these units failed:", *failed]))
        if time.monotonic() > deadline:
            problem = f"did not answer on {machine.address} within {SECONDS_TO_BOOT:.0f} s: {asked.stderr.strip()}"
            break
        time.sleep(0.1)
    else:
        problem = "ended while it was booting"
    log = machine.directory / "console.log"
    last_lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    raise ServicesError("\n".join([f"{machine.name} {problem}. The end of {log}:", *last_lines]))


def make_key(home: Path) -> dict[str, str]:
    """The key that all hosts let in as root, and the options with which any ssh reaches them."""
    remove(home / "ssh")
    (home / "ssh").mkdir(mode=0o700)
    make_ssh_key(home / "ssh/id_ed25519", comment="eternia test hosts")
    control_directory(home).mkdir(mode=0o700, exist_ok=True)
    return {
        "key": str(home / "ssh/id_ed25519"),
        "known_hosts": str(home / "ssh/known_hosts"),
        "control_directory": str(control_directory(home)),
        "options": shlex.join(ssh_options(home)),
    }


def make_ssh_key(path: Path, *, comment: str) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)


def write_known_hosts(home: Path, machines: Iterable[Machine]) -> None:
    """The hosts' keys, taken from their disks."""
    keys = {machine.address: machine.directory / "upper/etc/ssh/ssh_host_ed25519_key.pub" for machine in machines}
    lines = [f"{address} {key.read_text()}" for address, key in keys.items() if key.exists()]
    (home / "ssh/known_hosts").write_text("".join(lines))


def ssh_options(home: Path) -> list[str]:
    options = {
        "IdentityFile": f'"{home}/ssh/id_ed25519"',
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f'"{home}/ssh/known_hosts"',
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
    }
    # Nothing of the caller's own configuration of ssh.
    return ["-F", "none", *(f"-o{name}={value}" for name, value in options.items())]


def ssh(machine: Machine, command: str) -> subprocess.CompletedProcess[str]:
    options = [*ssh_options(machine.home), "-oConnectTimeout=2"]
    try:
        return subprocess.run(
            ["ssh", *options, f"root@{machine.address}", command],
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=SECONDS_TO_BOOT,
        )
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(error.cmd, 255, "", "no answer in time")


def control_directory(home: Path) -> Path:
    """Where Ansible keeps its open connections, each under the host's name; a socket's path is short: 107 bytes."""
    return Path(f"/run/eternia-{network.identity(home)}")


def close_connection(home: Path, name: str) -> None:
    """An ssh that keeps a connection to a host that is gone would make the next one hang."""
    socket = control_directory(home) / name
    if socket.exists():
        command = ["ssh", "-F", "none", f"-oControlPath={socket}", "-O", "exit", name]
        subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=30)
        socket.unlink(missing_ok=True)


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def remove(path: Path) -> None:
    """A file or a tree, but never what is mounted in it."""
    command = ["rm", "-rf", "--one-file-system", str(path)]
    removed = subprocess.run(command, text=True, capture_output=True, check=False, timeout=300)
    if removed.returncode:
        raise ServicesError(f"{path} cannot be removed: {removed.stderr.strip()}")


def wait_for(is_true: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.02)

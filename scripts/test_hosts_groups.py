# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Control groups: which processes a test host consists of, and how they end.

Each host has groups of its own, named after the checkout and the host. The kernel knows its processes by them, also
after a crash of whoever started it. And without them the systemds of two hosts would share one set of groups.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from dev_processes import ServicesError

SECONDS_TO_DIE = 10.0


def hierarchies() -> list[Path]:
    """Where systemd keeps its groups: cgroup2, the older hierarchy of its own, or both."""
    found = []
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, path, kind, options, *_ = line.split(" ")
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(path))
    return found


def groups_of(host: str) -> list[Path]:
    return [hierarchy / host for hierarchy in hierarchies()]


def hosts_with(prefix: str) -> list[str]:
    """The hosts that have groups with this prefix, whoever made them."""
    return sorted({path.name for hierarchy in hierarchies() for path in hierarchy.glob(f"{prefix}*")})


def make(host: str) -> list[Path]:
    for group in groups_of(host):
        group.mkdir(exist_ok=True)
    return groups_of(host)


def is_running(host: str) -> bool:
    return bool(processes_of(host))


def processes_of(host: str) -> set[int]:
    # Not rglob, which fails where a group ends while it looks.
    return processes_in(Path(folder) for group in groups_of(host) for folder, _, _ in os.walk(group))


def processes_in(groups: Iterable[Path]) -> set[int]:
    found: set[int] = set()
    for group in groups:
        try:
            found.update(map(int, (group / "cgroup.procs").read_text().split()))
        except OSError:  # the group ended meanwhile, or is not there yet
            continue
    # This is how the kernel shows a process of somebody else's namespace; as a target it means all of our own.
    return found - {0}


def end(hosts: list[str], *, patience: float) -> None:
    """Ask the hosts to shut down, and kill what still runs of them after `patience` seconds; with 0, kill at once."""
    if patience:
        for host in hosts:
            # systemd-nspawn is in the first or the second, and passes the wish on to the systemd inside.
            supervisors = [group / part for group in groups_of(host) for part in ("", "supervisor")]
            send(signal.SIGTERM, processes_in(supervisors))
        wait_until_ended(hosts, seconds=patience)
    deadline = time.monotonic() + SECONDS_TO_DIE
    while any(map(is_running, hosts)):
        for host in hosts:
            send(signal.SIGKILL, processes_of(host))
        if time.monotonic() > deadline:
            raise ServicesError(f"Processes of {', '.join(filter(is_running, hosts))} do not end.")
        time.sleep(0.02)
    for host in hosts:
        for group in groups_of(host):
            remove(group, deadline=deadline)


def wait_until_ended(hosts: list[str], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(is_running, hosts)) and time.monotonic() < deadline:
        time.sleep(0.02)


def send(number: int, processes: Iterable[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def remove(group: Path, *, deadline: float) -> None:
    """A group without processes and those in it, the inner ones first."""
    while group.exists():
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)
        except OSError as error:  # the kernel has not yet forgotten the last process
            if time.monotonic() > deadline:
                raise ServicesError(f"The control group {group} cannot be removed: {error}") from error
            time.sleep(0.02)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that outlive the command that started them, and the ports they answer on (Linux: /proc)."""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"


class ServicesError(Exception):
    """What went wrong and what to do about it, for a person."""


@dataclass(frozen=True)
class Process:
    """What a pid file remembers; the start time, in clock ticks since boot, tells the process from a later one."""

    pid: int
    started: int
    port: int


def start_detached(command: list[str], *, environment: Mapping[str, str], directory: Path, log: Path) -> int:
    """Start a process in a session of its own, its output appended to the log; its pid."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ).pid


def remember(pid: int, *, port: int, pid_file: Path) -> None:
    started = start_time(pid)
    staged = pid_file.with_suffix(".new")
    staged.write_text(json.dumps(asdict(Process(pid, started or 0, port))) + "\n", encoding="utf-8")
    staged.replace(pid_file)


def remembered(pid_file: Path) -> Process | None:
    """The process of the last start, whether it still runs or not."""
    try:
        return Process(**json.loads(pid_file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def running(pid_file: Path) -> Process | None:
    """The process that the pid file remembers, where that very process still runs."""
    process = remembered(pid_file)
    return process if process and start_time(process.pid) == process.started else None


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of the process; None where there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, also spaces and parentheses: proc(5).
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def stop_all(pid_files: list[Path], *, patience: float) -> None:
    """SIGTERM to each remembered process, SIGKILL to those that still run after `patience` seconds.

    The pid files stay, because they remember the ports.
    """
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + seconds
        for process in filter(None, map(running, pid_files)):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
        while any(map(running, pid_files)) and time.monotonic() < deadline:
            time.sleep(0.05)


def is_taken(port: int) -> bool:
    """Whether anybody has the port, on any address: `weed mini` refuses one that is not free on all of them."""
    family, everywhere = (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "")
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind((everywhere, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def listener_on(port: int) -> str:
    """`name, pid N` of the process that listens on the port; empty where only root may know."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{inode}]")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) in sockets:
                return f"{(descriptor.parents[1] / 'comm').read_text().strip()}, pid {descriptor.parents[1].name}"
        except OSError:  # it ended meanwhile, or it is somebody else's
            continue
    return ""


def healthy_answer(port: int, path: str, address: str = LOOPBACK) -> bytes | None:
    """The body of a 200; None for any other answer, and for none."""
    # Not urllib: it would ask a proxy of the caller's environment for this machine's own address.
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()

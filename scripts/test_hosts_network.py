# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bridge that the test hosts and their store share: a small subnet that leads nowhere."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import random
import subprocess
from pathlib import Path

from dev_processes import ServicesError


def identity(home: Path) -> str:
    """What the names of a checkout's own bridge, hosts and groups carry, so that two checkouts never meet."""
    return hashlib.sha256(str(home).encode()).hexdigest()[:6]


def bridge_of(home: Path) -> str:
    # The kernel allows 15 characters.
    return f"eternia-{identity(home)}"


def choose_subnet(home: Path) -> ipaddress.IPv4Network:
    """One that no route of this machine touches; the same one each time, where it is free."""
    routes = json.loads(ip("-json", "-4", "route", "show", "table", "all"))
    taken = [ipaddress.ip_network(route["dst"]) for route in routes if route["dst"] != "default"]
    draw = random.Random(identity(home))
    for _ in range(200):
        subnet = ipaddress.IPv4Network(f"10.{draw.randint(64, 250)}.{draw.randint(0, 255)}.0/24")
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise ServicesError("No subnet 10.x.y.0/24 is free: routes of this machine cover all that were tried.")


def address_in(subnet: str, number: int) -> str:
    return str(ipaddress.IPv4Network(subnet)[number])


def prefix_length(subnet: str) -> int:
    return ipaddress.IPv4Network(subnet).prefixlen


def make_bridge(name: str, address: str) -> None:
    if not exists(name):
        ip("link", "add", name, "type", "bridge")
    settings = Path("/proc/sys/net")
    # Whatever this machine forwards for others (containers, for example), nothing that comes from the hosts.
    (settings / f"ipv4/conf/{name}/forwarding").write_text("0")
    if (settings / f"ipv6/conf/{name}").exists():
        (settings / f"ipv6/conf/{name}/disable_ipv6").write_text("1")
    ip("address", "replace", f"{address}/24", "dev", name)
    ip("link", "set", name, "up")


def remove_bridge(name: str) -> None:
    if exists(name):
        ip("link", "delete", name)


def exists(link: str) -> bool:
    return Path("/sys/class/net", link).exists()


def ip(*arguments: str) -> str:
    result = subprocess.run(["ip", *arguments], text=True, capture_output=True, check=False, timeout=30)
    if result.returncode:
        raise ServicesError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout

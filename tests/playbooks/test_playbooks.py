# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the real playbooks as an operator would: several hosts, check mode, stale backups, hosts that collide."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from development import CHECKOUT, Checkout

# For every Python that Ansible starts: what goes to the system's log goes to the file $SYSTEM_LOG.
OVERHEAR = """
import os, pathlib, syslog

def syslog_(*words):
    with pathlib.Path(os.environ["SYSTEM_LOG"]).open("a") as log:
        log.write(f"{words[-1]}\\n")

syslog.syslog = syslog_
"""
# Who is told how runs end, by addresses and a command with tokens in them. Port 9 takes nothing.
TELLS = {
    "ping_url": "http://127.0.0.1:9/hunter2",
    "failure_webhook": "http://127.0.0.1:9/hook?key=hunter2",
    "failure_command": ["/bin/false", "--key", "hunter2"],
}


class Operator:
    """Somebody with an inventory of hosts on this machine, each with a home of its own."""

    def __init__(self, services: Checkout, directory: Path) -> None:
        self.services = services
        self.directory = directory
        self.inventory = directory / "hosts.yml"
        self.credentials = services.home / ".dev/aws/credentials"
        self.hosts: dict[str, Any] = {}
        self.environment = {**os.environ, "COLUMNS": "1000"}

    def overhear(self) -> Path:
        """From now on what would go to the system's log goes to a file: returns it."""
        (self.directory / "overhear").mkdir()
        (self.directory / "overhear/sitecustomize.py").write_text(OVERHEAR)
        log = self.directory / "overhear/log"
        self.environment.update(PYTHONPATH=str(log.parent), SYSTEM_LOG=str(log))
        return log

    def home(self, host: str) -> Path:
        return self.directory / host

    def add(self, host: str, prefix: str, **backup: Any) -> Path:
        """Add a host with a copy of the sample application's data; returns the directory of its backups."""
        data = self.home(host) / "data"
        data.mkdir(parents=True)
        for path in (self.services.home / "data").glob("eternia.db*"):
            shutil.copy(path, data)
        cloud = {
            "enabled": True,
            "bucket": "eternia-backups",
            "region": "us-west-2",
            "endpoint_url": f"http://127.0.0.1:{self.services.s3_port}",
            "prefix": prefix,
            "credentials_file": str(self.credentials),
        }
        self.hosts[host] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "eternia_environment": "staging",
            "eternia_home": str(self.home(host)),
            "backup": {"frequency": "hourly", "cloud_backup": cloud, **backup},
        }
        self.write()
        return self.home(host) / "backups/staging"

    def write(self) -> None:
        self.inventory.write_text(yaml.safe_dump({"all": {"hosts": self.hosts}}))

    def run(self, playbook: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.inventory)]
        return subprocess.run(
            [*command, f"playbooks/{playbook}.yml", *options],
            cwd=CHECKOUT,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=300,
        )

    def succeed(self, playbook: str, *options: str) -> str:
        result = self.run(playbook, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def fail(self, playbook: str, *options: str) -> str:
        result = self.run(playbook, *options)
        assert result.returncode == 2, result.stdout + result.stderr
        return " ".join((result.stdout + result.stderr).split())

    def objects(self) -> list[str]:
        bucket = self.services.s3()
        return [entry["Key"] for entry in bucket.list_objects_v2(Bucket="eternia-backups").get("Contents", ())]


@pytest.fixture
def operator(services: Checkout, tmp_path: Path) -> Operator:
    return Operator(services, tmp_path)


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}


def make_older(backups: Path, hours: int) -> str:
    """Give the only backup of a host an older name, with a manifest to match."""
    (path,) = backups.glob("eternia_backup_*.db")
    moment = datetime.now(timezone.utc) - timedelta(hours=hours)
    older = f"eternia_backup_{moment:%Y%m%d_%H%M%S}.db"
    manifest = json.loads(Path(f"{path}.manifest.json").read_text())
    manifest.update(name=older, created_at=f"{moment:%Y-%m-%dT%H:%M:%SZ}")
    Path(f"{path}.manifest.json").unlink()
    path.rename(backups / older)
    (backups / f"{older}.manifest.json").write_text(json.dumps(manifest))
    return older


def plain(output: str) -> str:
    """What a template printed, without the callback's indentation."""
    return "\n".join(line.removeprefix("        ") for line in output.splitlines())


def test_every_host_backs_up_to_its_own_place(operator: Operator) -> None:
    first, second = operator.add("first", "hosts/first"), operator.add("second", "hosts/second")
    output = operator.succeed("backup")
    for host, backups in (("first", first), ("second", second)):
        (path,) = backups.glob("eternia_backup_*.db")
        assert f"DONE: {host} has a proven backup" in output
        assert f"s3://eternia-backups/hosts/{host}/{path.name}" in output
        assert f"hosts/{host}/{path.name}.manifest.json" in operator.objects()
    assert "all backups stand" in output
    listed = operator.succeed("status")
    assert "first (staging): 1 backup\n" in listed
    assert "verified  local + s3" in listed


def test_check_mode_shows_the_plan_and_writes_nothing(operator: Operator) -> None:
    backups = operator.add("planned", "planned")
    before, keys = tree(operator.home("planned")), operator.objects()
    output = operator.succeed("backup", "--check", "--diff")
    assert "PLAN for planned (check mode: nothing was written)" in output
    assert "+newest backup: eternia_backup_" in output
    after = tree(operator.home("planned"))
    # SQLite itself opens its -wal and -shm to read; their bytes stay.
    assert {name: facts[0] for name, facts in after.items()} == {name: facts[0] for name, facts in before.items()}
    assert operator.objects() == keys
    assert not backups.exists()


def test_the_plan_to_prune_is_what_the_run_does(operator: Operator) -> None:
    backups = operator.add("pruned", "pruned", retention_days=1, minimum_kept=1)
    operator.succeed("backup")
    older = make_older(backups, hours=50)
    operator.hosts["pruned"]["backup"]["retention_days"] = 9
    operator.write()
    operator.succeed("backup")
    operator.hosts["pruned"]["backup"]["retention_days"] = 1
    operator.write()
    gone = f"1 backup\n              {older} (local, s3): older than 1 day and no keep rule wants it"
    assert f"would go  {gone}" in plain(operator.succeed("backup", "--check"))
    assert f"removed   {gone}" in plain(operator.succeed("backup"))
    assert not (backups / older).exists()


def test_status_names_the_host_that_has_no_backup(operator: Operator) -> None:
    operator.add("bare", "bare")
    message = operator.fail("status")
    command = f"ansible-playbook -i {operator.inventory} eternia.backup.backup --limit bare"
    assert f"bare has no verified backup. Take one: {command}" in message


def test_status_names_the_host_and_the_age_of_a_stale_backup(operator: Operator) -> None:
    backups = operator.add("late", "late")
    operator.hosts["late"]["backup"]["cloud_backup"]["enabled"] = False
    operator.write()
    operator.succeed("backup")
    older = make_older(backups, hours=30)
    message = operator.fail("status")
    assert f"late: the newest verified backup, {older}, is 30.0 hours old; hourly allows 1.5." in message


def test_a_second_host_under_the_same_prefix_is_refused_with_the_fix(operator: Operator) -> None:
    operator.add("owner", "shared")
    operator.succeed("backup")
    keys = operator.objects()
    operator.add("intruder", "shared")
    message = operator.fail("backup", "--limit", "intruder")
    assert "s3://eternia-backups/shared belongs to host owner" in message
    assert "Give each host its own prefix, for example cloud_backup.prefix: staging/intruder" in message
    assert operator.objects() == keys
    assert "belongs to host owner" in operator.fail("backup", "--limit", "intruder", "--check")
    assert "belongs to host owner" in operator.fail("status", "--limit", "intruder")


def test_switched_off_means_nothing_is_done(operator: Operator) -> None:
    backups = operator.add("off", "off", enabled=False)
    output = operator.succeed("backup")
    assert "SWITCHED OFF: backup.enabled is false for off, so nothing was done" in output
    assert "SWITCHED OFF: backup.enabled is false" in operator.succeed("status")
    assert not backups.exists()


def test_no_secret_is_shown_at_any_verbosity(operator: Operator) -> None:
    operator.add("quiet", "quiet", report=TELLS)
    log = operator.overhear()
    for playbook in ("backup", "status"):
        require_no_secret(operator, playbook)
    assert log.read_text().count(" config={") == 2


def test_no_secret_is_shown_when_s3_refuses(operator: Operator) -> None:
    canary = "canary-of-the-key"
    backups = operator.add("refused", "refused", report=TELLS)
    operator.credentials = operator.directory / "credentials"
    # The store knows the key, and not this secret: 403.
    known = (operator.services.home / ".dev/aws/credentials").read_text()
    operator.credentials.write_text(re.sub(r"(?m)^(aws_secret_access_key) = .*", rf"\1 = {canary}", known))
    operator.hosts["refused"]["backup"]["cloud_backup"]["credentials_file"] = str(operator.credentials)
    operator.write()
    # As somebody has them in his shell besides.
    operator.environment.update(AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY=canary, AWS_SESSION_TOKEN=canary)
    for playbook in ("backup", "restore_drill", "status"):
        result = operator.run(playbook, "-vvvv", "--diff")
        said = result.stdout + result.stderr
        assert result.returncode == 2, said
        assert "the secret key does not belong to the access key" in " ".join(said.split()), said
        assert [one for one in (canary, "hunter2") if one in said] == []
    assert (backups / "last-run.json").exists()
    for path in operator.directory.rglob("*"):
        if path.is_file() and path not in (operator.inventory, operator.credentials):
            assert [one for one in (canary, "hunter2") if one.encode() in path.read_bytes()] == [], path


def require_no_secret(operator: Operator, playbook: str) -> None:
    """Neither the key for S3 nor what `report` holds is shown, or kept anywhere but in the inventory."""
    credentials = configparser.ConfigParser()
    credentials.read(operator.credentials)
    secrets = (credentials["default"]["aws_secret_access_key"], "hunter2")
    result = operator.run(playbook, "-vvvv", "--diff")
    assert result.returncode == 0, result.stdout + result.stderr
    assert [one for one in secrets if one in result.stdout + result.stderr] == []
    for path in operator.directory.rglob("*"):
        if path.is_file() and path != operator.inventory:
            assert [one for one in secrets if one.encode() in path.read_bytes()] == [], path


def test_a_disk_of_backups_that_is_gone_keeps_no_data_from_coming_back(operator: Operator) -> None:
    backups = operator.add("diskless", "diskless")
    operator.succeed("backup")
    (path,) = backups.glob("eternia_backup_*.db")
    shutil.rmtree(backups)
    for lost in (operator.home("diskless") / "data").iterdir():
        lost.unlink()
    operator.hosts["diskless"]["backup"].update(storage_mount=str(backups), report=TELLS)
    operator.hosts["diskless"] |= {
        "eternia_stop_command": ["true"],
        "eternia_start_command": ["true"],
        "eternia_health_url": f"http://127.0.0.1:{operator.services.app_port}/health",
        "eternia_write_seconds": 0,
        "backup_reports": str(operator.directory / "reports"),
    }
    operator.write()
    operator.overhear()
    output = operator.succeed("disaster_recovery", "-e", "backup=latest", "-e", "confirm=staging", "-vvvv")
    words = " ".join(output.split())
    assert f"diskless is not held, and has no run that could work: {backups} is to be on {backups} (says " in words
    assert f"s3://eternia-backups/diskless/{path.name}" in output
    assert "RESTORED: diskless is back" in output
    assert (operator.home("diskless") / "data/eternia.db").exists()
    assert not (backups / "hold.json").exists()
    assert "hunter2" not in output + (operator.directory / "overhear/log").read_text()


def test_the_credentials_that_the_agent_was_given_are_the_playbooks_too(operator: Operator) -> None:
    """The block names no file: the role adds it on the host, and so does every playbook."""
    operator.add("web1", "given-web1")
    variables = operator.hosts["web1"]
    del variables["backup"]["cloud_backup"]["credentials_file"]
    etc = operator.directory / "etc"
    etc.mkdir()
    shutil.copy(operator.credentials, etc / "credentials")
    variables |= {"agent_etc": str(etc), "agent_credentials": operator.credentials.read_text()}
    operator.write()
    operator.succeed("backup")
    assert any(key.startswith("given-web1/eternia_backup_2") for key in operator.objects())
    operator.succeed("status")
    (etc / "credentials").rename(etc / "elsewhere")
    assert str(etc / "credentials") in operator.fail("status")


def test_what_is_compressed_is_looked_into_with_no_tool_of_ours(operator: Operator) -> None:
    backups = operator.add("web1", "small-web1", compression="zstd")
    output = operator.succeed("backup")
    (path,) = backups.glob("eternia_backup_2*.zst")
    assert f"zstd -d {path} -o /tmp/{path.stem}   the plain file, with no tool of ours" in output
    assert f"small-web1/{path.name}" in operator.objects()


def test_status_tells_bad_news(operator: Operator) -> None:
    backups = operator.add("sick", "sick")
    operator.succeed("backup")
    (path,) = backups.glob("eternia_backup_*.db")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert "sick has a verified backup that is young enough." in operator.succeed("status")
    message = operator.fail("status", "-e", "backup_verify=full", "-e", "backup_listed=1")
    assert f"DAMAGED in local: {path} is damaged" in message
    (operator.home("sick") / "data/eternia.db").unlink()
    assert "does not exist. If it was lost, restore it" in operator.fail("backup")
    operator.hosts["sick"]["backup"]["cloud_backup"]["endpoint_url"] = "http://127.0.0.1:9"
    operator.write()
    message = operator.fail("status")
    assert "LAST RUN: the run of " in message
    assert "sick: s3 could not be listed. " in message
    assert f"{path.name} " in message


def test_a_host_without_its_variables_is_told_which(operator: Operator) -> None:
    operator.add("bare", "bare")
    del operator.hosts["bare"]["eternia_home"]
    operator.write()
    assert "bare lacks eternia_home. Set it in group_vars/all.yml of the inventory (" in operator.fail("backup")


def make_agent(operator: Operator, host: str) -> Callable[[], int]:
    """An agent that is installed whole; returns how to ask how often its Python was started."""
    agent, started = operator.home(host) / "agent", operator.home(host) / "started"
    release = agent / "releases/1"
    venv.create(release, with_pip=False, symlinks=True)
    (packages,) = release.glob("lib/python3*/site-packages")
    (own,) = Path(sys.prefix).glob("lib/python3*/site-packages")
    note = f"import os, pathlib; pathlib.Path({str(started)!r}, str(os.getpid())).touch()"
    (packages / "agent.pth").write_text(f"{own}\n{note}\n")
    (release / "release.json").write_text("{}")
    (agent / "current").symlink_to(release)
    started.mkdir()
    operator.hosts[host]["agent_path"] = str(agent)
    operator.write()
    return lambda: len(list(started.iterdir()))


def test_the_modules_go_on_in_the_python_of_the_agent(operator: Operator) -> None:
    backups = operator.add("equipped", "equipped")
    started = make_agent(operator, "equipped")
    output = operator.succeed("backup", "--check")
    assert "PLAN for equipped (check mode: nothing was written)" in output
    assert started() == 1
    assert not backups.exists()
    operator.succeed("backup")
    assert len(list(backups.glob("eternia_backup_*.db"))) == 1
    assert started() == 2
    operator.hosts["equipped"]["backup"]["frequency"] = "often"
    operator.write()
    assert "backup.frequency is 'often'" in operator.fail("backup")
    assert started() == 3


def test_where_they_run_in_it_already_they_stay(operator: Operator) -> None:
    operator.add("direct", "direct", cloud_backup={})
    started = make_agent(operator, "direct")
    operator.hosts["direct"]["ansible_python_interpreter"] = f"{operator.home('direct')}/agent/current/bin/python"
    operator.write()
    operator.succeed("backup")
    assert started() == 1


def test_an_agent_that_is_not_whole_is_let_alone(operator: Operator) -> None:
    backups = operator.add("half", "half", cloud_backup={})
    started = make_agent(operator, "half")
    (operator.home("half") / "agent/current/release.json").unlink()
    operator.succeed("backup")
    assert len(list(backups.glob("eternia_backup_*.db"))) == 1
    assert started() == 0


@pytest.mark.parametrize(
    ("given", "what"),
    [("backup=hunter2", "a text"), ('{"backup": [{"ping_url": "hunter2"}]}', "a list"), ('{"backup": 7}', "int")],
)
def test_what_hides_the_block_of_the_inventory_is_refused_and_not_repeated(
    operator: Operator, given: str, what: str
) -> None:
    operator.add("hidden", "hidden")
    message = operator.fail("backup", "-e", given)
    assert f"backup is {what}, and has to be the block of the inventory that says how hidden is backed up." in message
    assert "hunter2" not in message

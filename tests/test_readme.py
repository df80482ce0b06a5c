# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does what README.md says, command by command, in a copy of the tree that has nothing installed."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from development import CHECKOUT, new_checkout
from test_repository import tracked

README = (CHECKOUT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", "\n".join(re.findall(r"```console\n(.*?)```", README, re.S)), re.M)

# What each command has to print. One that README.md has and this table has not fails the test.
EXPECTED = {
    "make backup": "DONE: eternia-dev has a proven backup",
    ".venv/bin/ansible-playbook playbooks/status.yml": "has a verified backup that is young enough",
    ".venv/bin/ansible-playbook playbooks/backup.yml --check --diff": "PLAN for eternia-dev",
    'sqlite3 "file:$(ls backups/development/*.db | tail -1)?immutable=1" .tables': "memories",
    'eval "$(make env)"': "",
    "make down": "stopped",
    "make up": "started",
    "rm data/eternia.db*": "",
    ".venv/bin/ansible-playbook playbooks/disaster_recovery.yml -e backup=latest": "RESTORED: eternia-dev is back",
    ".venv/bin/python scripts/restore_backup.py list": "eternia_backup_",
    ".venv/bin/python scripts/restore_backup.py verify": "0 damaged",
    ".venv/bin/python scripts/restore_backup.py download latest --to .dev": "eternia_backup_",
    ".venv/bin/python scripts/restore_backup.py restore latest --check": "eternia_backup_",
    ".venv/bin/ansible-playbook playbooks/restore_drill.yml": "DRILLED: eternia-dev",
    # There is no such host here: what can be run of them is that Ansible finds the play and the host.
    ".venv/bin/ansible-playbook -i inventories/production playbooks/schedule.yml": "eternia-production",
    ".venv/bin/ansible-playbook -i inventories/production playbooks/backup.yml": "eternia-production",
}
INSTEAD = {
    ".venv/bin/ansible-playbook -i inventories/production playbooks/schedule.yml": " --list-hosts",
    ".venv/bin/ansible-playbook -i inventories/production playbooks/backup.yml": " --list-hosts",
}
# The command that runs this test.
OURSELVES = "make test"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout as a stranger has it, on ports that nobody uses."""
    checkout = tmp_path_factory.mktemp("newcomer")
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, checkout / name)
    ports = new_checkout(checkout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETERNIA_S3_PORT", str(ports.s3_port))
        patch.setenv("ETERNIA_APP_PORT", str(ports.app_port))
        for variable in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VIRTUAL_ENV"):
            patch.delenv(variable, raising=False)
        yield checkout
        shell(checkout, "make down")


def shell(directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=directory, stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=500
    )


def output_of(directory: Path, command: str) -> str:
    result = shell(directory, command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def shape(line: str) -> str:
    """A line without what differs from run to run: digests, paths, numbers."""
    return re.sub(r"\d+(\.\d+)?", "#", re.sub(r"blake3 [0-9a-f]+|/\S*/(?:backups|data)", "", line)).strip()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.M))
    named = re.findall(r"`make ([a-z-]+)", README + (CHECKOUT / "CONTRIBUTING.md").read_text())
    assert named
    assert set(named) <= targets


def test_every_command_does_what_the_readme_says(newcomer: Path) -> None:
    assert OURSELVES in COMMANDS
    commands = [command for command in COMMANDS if command != OURSELVES]
    assert commands == list(EXPECTED)
    printed = {}
    for command in commands:
        if command.startswith("sqlite3 ") and not shutil.which("sqlite3"):
            print(f"Not run, for lack of the sqlite3 command: {command}")
            continue
        printed[command] = output_of(newcomer, command + INSTEAD.get(command, ""))
        assert EXPECTED[command] in printed[command], printed[command]

    runbook = next(command for command in commands if "disaster_recovery" in command)
    for first, command in (("DONE", "make backup"), ("RESTORED", runbook)):
        (shown,) = re.findall(rf"```text\n({first}.*?)```", README, re.S)
        real = _summary(printed[command], first)[: len(shown.splitlines())]
        assert [shape(line) for line in shown.splitlines()] == [shape(line) for line in real]

    names = {path.name for path in newcomer.iterdir()} - {path.partition("/")[0] for path in tracked()}
    assert names <= {".venv", ".dev", "data", "logs", "backups", "reports"}
    _prove_with_other_tools(newcomer)


def test_a_second_run_takes_a_second_backup_and_sends_it(newcomer: Path) -> None:
    without_ports = "env -u ETERNIA_S3_PORT -u ETERNIA_APP_PORT make backup"
    text = output_of(newcomer, f"make backup && {without_ports}")
    assert len(set(re.findall(r"in S3 +(s3://\S+)", text))) == 2


def _summary(text: str, first: str) -> list[str]:
    lines = text[text.index(first) :].splitlines()
    return lines[: next(number for number, line in enumerate(lines) if not line.strip())]


def _prove_with_other_tools(checkout: Path) -> None:
    """Plain sqlite3 opens the newest backup, plain boto3 with the lines of `make env` reads the same bytes."""
    path = max((checkout / "backups/development").glob("eternia_backup_*.db"))
    backup = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    assert backup.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    source = sqlite3.connect(f"file:{checkout}/data/eternia.db?mode=ro", uri=True)
    (last,) = backup.execute("SELECT max(id) FROM state").fetchone()
    for table in ("state", "memories"):
        key = "id" if table == "state" else "state_id"
        query = f"SELECT * FROM {table} WHERE {key} <= {last} ORDER BY rowid"
        assert backup.execute(query).fetchall() == source.execute(query).fetchall()
    with pytest.MonkeyPatch.context() as patch:
        for line in output_of(checkout, "make env").splitlines():
            patch.setenv(*line.removeprefix("export ").split("=", 1))
        bucket = boto3.Session().resource("s3").Bucket("eternia-backups")
        assert bucket.Object(f"development/{path.name}").get()["Body"].read() == path.read_bytes()
        manifest = json.loads(bucket.Object(f"development/{path.name}.manifest.json").get()["Body"].read())
        assert manifest.pop("transfer")["check"] == "crc64nvme, full object"
        assert manifest == json.loads(Path(f"{path}.manifest.json").read_text())

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/restore_backup.py does what Eternia's users know: list, download s3://…, restore PATH, which asks."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from development import CHECKOUT, Checkout

SCRIPT = CHECKOUT / "scripts/restore_backup.py"
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


class Person:
    """Somebody with the development services, a backup of what they hold, and the application stopped."""

    def __init__(self, services: Checkout) -> None:
        self.services = services
        self.live = services.home / "data/eternia.db"
        self.backups = services.home / "backups/development"
        self.environment = {**os.environ, "ETERNIA_HOME": str(services.home)}

    def type(self, *words: str | Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
        """Type a command far away from the checkout and from the application."""
        command = [python, str(SCRIPT), *map(str, words)]
        return subprocess.run(
            command,
            cwd="/",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def succeed(self, *words: str | Path) -> str:
        done = self.type(*words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def fail(self, code: int, *words: str | Path) -> str:
        done = self.type(*words)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def answer(self, answer: bytes, *words: str | Path) -> tuple[int, str]:
        """Type a command at a terminal and answer its question."""
        child, master = pty.fork()
        if child == 0:
            os.chdir("/")
            os.execve(sys.executable, [sys.executable, str(SCRIPT), *map(str, words)], self.environment)
        seen, asked = b"", False
        while True:
            try:
                seen += os.read(master, 4096)
            except OSError:
                break
            if not asked and b'Type "yes" to restore: ' in seen:
                asked = True
                os.write(master, answer)
        os.close(master)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen.decode().replace("\r\n", "\n")

    def newest(self) -> Path:
        return max(self.backups.glob("eternia_backup_*.db"))

    def rows(self) -> int:
        with closing(sqlite3.connect(self.live)) as connection:
            count: int = connection.execute("SELECT count(*) FROM memories").fetchone()[0]
        return count

    def forget(self) -> None:
        """What an operator regrets."""
        with closing(sqlite3.connect(self.live)) as connection, connection:
            connection.execute("DELETE FROM memories")


@pytest.fixture(scope="module")
def person(services: Checkout) -> Person:
    environment = {**os.environ, "ETERNIA_HOME": str(services.home)}
    services.succeed("stop")
    subprocess.run(
        [ANSIBLE_PLAYBOOK, "playbooks/backup.yml"], cwd=CHECKOUT, env=environment, check=True, capture_output=True
    )
    return Person(services)


@pytest.fixture
def loser(person: Person) -> Iterator[Person]:
    """The same person, who has just lost every memory."""
    person.forget()
    assert person.rows() == 0
    yield person
    newest = f"file:{person.newest()}?immutable=1"
    with closing(sqlite3.connect(newest, uri=True)) as backup, closing(sqlite3.connect(person.live)) as live:
        backup.backup(live)


def test_list_shows_what_lies_on_the_disk_and_in_s3(person: Person) -> None:
    out = person.succeed("list")
    assert out.startswith("eternia-dev (development): 1 backup, newest first\n")
    (line,) = (line for line in out.splitlines() if line.startswith("eternia_backup_"))
    assert line.split()[0] == person.newest().name
    assert line.split()[-3:] == ["verified", "local,", "s3"]
    (found,) = json.loads(person.succeed("list", "--json"))["backups"]
    assert [copy["store"] for copy in found["copies"]] == ["local", "s3"]


def test_status_says_how_things_stand_in_the_words_of_monitoring_systems(person: Person) -> None:
    name = person.newest().name
    assert person.succeed("status").startswith(f"OK: eternia-dev (development): {name} is ")
    found = json.loads(person.succeed("status", "--json"))
    assert (found["status"], found["code"], found["newest_verified"]) == ("OK", 0, name)
    stale = person.type("status", "--max-age", "1")
    assert (stale.returncode, stale.stderr) == (2, "")
    assert stale.stdout.startswith("CRITICAL: eternia-dev (development): The newest verified backup is ")
    nobody = person.type("--host", "nobody", "status")
    assert (nobody.returncode, nobody.stderr) == (3, "")
    assert nobody.stdout == (
        "UNKNOWN: inventories/development has the hosts eternia-dev. Name one of them with --host.\n"
    )


def test_download_brings_what_an_s3_address_names(person: Person, tmp_path: Path) -> None:
    name = person.newest().name
    out = person.succeed("download", f"s3://eternia-backups/development/{name}", "--to", tmp_path)
    assert out.startswith(f"DONE: {tmp_path}/{name}, ")
    assert (tmp_path / name).read_bytes() == person.newest().read_bytes()
    assert json.loads((tmp_path / f"{name}.manifest.json").read_text())["name"] == name
    missing = "s3://eternia-backups/development/eternia_backup_20200101_000000.db"
    assert f"There is no backup {missing}" in person.fail(10, "download", missing, "--to", tmp_path)


def test_restore_asks_and_only_yes_goes_on(loser: Person) -> None:
    code, seen = loser.answer(b"no\n", "restore", loser.newest())
    assert code == 3
    assert seen.endswith("Restore cancelled.\n")
    assert loser.rows() == 0

    code, seen = loser.answer(b"yes\n", "restore", loser.newest())
    assert code == 0, seen
    assert f"RESTORED: {loser.live} is {loser.newest().name} now" in seen
    assert loser.rows() > 0
    (way_back,) = (line.strip() for line in seen.splitlines() if "scripts/restore_backup.py restore" in line)
    assert loser.succeed(*way_back.split()[1:], "--yes")
    assert loser.rows() == 0


@pytest.mark.parametrize("what", ["latest", "{path}", "{name}", "s3://eternia-backups/development/{name}"])
def test_a_script_says_yes(loser: Person, what: str) -> None:
    newest = loser.newest()
    assert "RESTORED: " in loser.succeed("restore", what.format(path=newest, name=newest.name), "--yes")
    assert loser.rows() > 0


def test_what_does_not_exist_is_told_in_the_words_of_old(person: Person) -> None:
    message = person.fail(10, "restore", "/nowhere/eternia_backup_20200101_000000.db", "--yes")
    assert "Backup file not found: /nowhere/eternia_backup_20200101_000000.db" in message


def test_nobody_is_asked_who_cannot_answer(person: Person) -> None:
    assert "in a script say --yes" in person.fail(2, "restore", "latest")


def test_an_application_that_runs_keeps_its_data(person: Person) -> None:
    person.services.succeed("start")
    try:
        assert "Stop the application, then run again" in person.fail(11, "restore", "latest", "--yes")
    finally:
        person.services.succeed("stop")


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_another_machine_is_refused_with_the_way_that_works(person: Person, environment: str) -> None:
    for words in (["restore", "latest", "--yes"], ["list"], ["verify"]):
        error = person.fail(2, *words, "--environment", environment)
        assert f"eternia-{environment} is another machine (ssh)" in error
        assert f"-i inventories/{environment} playbooks/disaster_recovery.yml --limit eternia-{environment} -e" in error
        assert f"itself: eternia-backup {words[0]}." in error


INVENTORIES = [
    ("all: {hosts: {a: {ansible_connection: local}}}", [], "does not say where the backups of a are: "),
    ("all: {hosts: {a: {}, b: {}}}", [], "has the hosts a, b. Name one of them with --host."),
    ("all: {hosts: {a: {}, b: {}}}", ["--host", "c"], "has the hosts a, b. Name one of them with --host."),
    ("all: [", [], "cannot be read: "),
]


@pytest.mark.parametrize(("inventory", "words", "message"), INVENTORIES)
def test_an_inventory_that_does_not_say(
    person: Person, tmp_path: Path, inventory: str, words: list[str], message: str
) -> None:
    copy = small_checkout(tmp_path)
    hosts = copy / "inventories/staging/hosts.yml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(inventory)
    command = [sys.executable, copy / "scripts/restore_backup.py", "list", "--environment", "staging", *words]
    done = subprocess.run(command, env=person.environment, capture_output=True, text=True)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_configuration_file_is_as_good_as_an_inventory(person: Person, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(f"environment: development\nhost: eternia-dev\nbase_dir: {person.services.home}\n")
    assert person.newest().name in person.succeed("list", "--config", file)


def test_any_python_will_do_because_the_checkouts_own_takes_over(person: Person, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    bare = str(tmp_path / "bare/bin/python")
    copy = small_checkout(tmp_path / "copy")
    done = subprocess.run([bare, copy / "scripts/restore_backup.py", "list"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.endswith(f"In {copy}: make install\n")) == (1, True), done.stderr
    if Path(sys.prefix) == CHECKOUT / ".venv":
        done = person.type("list", python=bare)
        assert (done.returncode, done.stderr) == (0, "")
        assert person.newest().name in done.stdout


def small_checkout(directory: Path) -> Path:
    """What the script needs of a checkout, without an environment of its own."""
    shutil.copytree(CHECKOUT / "collections", directory / "collections")
    (directory / "scripts").mkdir()
    shutil.copy(SCRIPT, directory / "scripts")
    shutil.copy(CHECKOUT / "ansible.cfg", directory)
    return directory

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook on the development inventory: the sample application loses its data under itself and gets it back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from development import CHECKOUT, DEV_SERVICES, Checkout
from recovery import PLAYBOOK, RUNBOOK, Site

# For every Python that an Ansible here starts: kills the process that is about to give a file the name in $KILL_NAMING.
KILL_NAMING = """
import os, signal, sys

def watch(event, arguments):
    if event in ("os.rename", "os.link") and os.fspath(arguments[1]) == os.environ.get("KILL_NAMING"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
"""
# Python -c this DATABASE COMMAND...: an application that loses something while it starts.
LOSE_ROWS = """
import os, sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute("DELETE FROM discoveries")
connection.close()
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def site(services: Checkout) -> Iterator[Site]:
    made = Site(services)
    services.succeed("start")
    yield made
    (made.backups / "hold.json").unlink(missing_ok=True)


def in_backup(site: Site, name: str) -> set[int]:
    with contextlib.closing(sqlite3.connect(f"file:{site.backups / name}?immutable=1", uri=True)) as connection:
        return {number for (number,) in connection.execute("SELECT id FROM state")}


def test_data_that_was_deleted_under_the_application_comes_back(site: Site) -> None:
    name = site.back_up()
    site.lose()
    output = site.succeed("-e", "backup=latest")
    assert "RESTORED: eternia-dev is back, healthy" in output
    assert re.search(r"RTO +\d+\.\d s from the stop until it was healthy \(\d+\.\d s of it stopped\)", output)
    assert re.search(r"RPO +\d+ s: the data is of 20", output)
    assert site.health() == "healthy"
    assert site.saves() > in_backup(site, name)
    evidence = site.evidence()
    assert (evidence["result"], evidence["backup"], evidence["safety_backup"]) == ("restored", name, None)
    assert evidence["rows_after"]["state"] == len(in_backup(site, name))
    assert 0 < evidence["downtime_seconds"] <= evidence["rto_seconds"] < evidence["seconds"]
    assert sum(step["seconds"] for step in evidence["steps"]) == pytest.approx(evidence["seconds"], abs=0.1)
    assert re.search(rf"backup +{name}, \d+\.\d MB\n", output)
    steps = [step["step"] for step in evidence["steps"]]
    assert steps == [
        *("preflight", "hold", "fetch and prove", "stop", "restore", "start", "become healthy", "prove", "release")
    ]
    assert not (site.backups / "hold.json").exists()


def test_a_copy_at_a_path_too_long_for_a_holds_line_comes_back(site: Site, tmp_path: Path) -> None:
    name = site.back_up()
    copy = tmp_path / ("moved " * 25).strip() / ("by hand " * 15).strip() / "copy.db"
    copy.parent.mkdir(parents=True)
    shutil.copy(site.backups / name, copy)
    assert len(str(copy)) > 255
    site.lose()
    wanted = ("-e", json.dumps({"backup": str(copy)}))
    assert "allow it: -e backup_allow_unverified=true." in site.fail(*wanted)
    output = site.succeed(*wanted, "-e", "backup_allow_unverified=true")
    assert "RESTORED: eternia-dev is back, healthy" in output
    assert site.saves() > in_backup(site, name)
    assert site.evidence()["backup"] == str(copy)
    assert not (site.backups / "hold.json").exists()


def test_check_mode_prints_the_plan_and_touches_nothing(site: Site) -> None:
    name = site.back_up()
    pid = site.services.pid("eternia")
    output = site.succeed("-e", "backup=latest", "--check", "--diff")
    assert "PLAN for eternia-dev (check mode: nothing was written)" in output
    assert name in output
    assert re.search(rf"open in +process {pid} \(\S+\) has {site.database} open", output)
    assert site.services.pid("eternia") == pid
    assert site.health() == "healthy"
    assert not (site.backups / "hold.json").exists()
    assert not list(site.database.parent.glob(".eternia.db.restore"))


def test_an_application_that_does_not_become_healthy_gets_its_own_data_back(site: Site) -> None:
    site.back_up()
    before = site.saves()
    message = site.fail(
        *("-e", "backup=latest", "-e", "eternia_health_url=http://127.0.0.1:9/health", "-e", "eternia_health_seconds=2")
    )
    assert "FAILED: eternia-dev was not restored" in message
    assert "Wait until the application says that it is healthy" in message
    assert "What was there before was put back. The application was started again" in message
    assert site.saves() >= before
    assert site.health() == "healthy"
    evidence = site.evidence()
    assert evidence["result"] == "failed"
    assert Path(evidence["safety_backup"]).exists()


def test_what_an_application_lost_while_it_started_is_the_reason(site: Site) -> None:
    site.back_up()
    lose_and_start = [sys.executable, "-c", LOSE_ROWS, str(site.database), sys.executable, str(DEV_SERVICES), "start"]
    message = site.fail("-e", "backup=latest", "-e", json.dumps({"eternia_start_command": lose_and_start}))
    # It goes on writing.
    lost = (
        r"7\. Prove that every row that was restored is there: discoveries has \d+ rows, \d{3} were restored\. What was"
    )
    assert re.match(lost, site.evidence()["reason"])
    assert re.search(lost, message)
    assert site.health() == "healthy"


def test_the_last_words_of_a_command_that_fails_are_the_reason(site: Site) -> None:
    site.back_up()
    stop = ["sh", "-c", "echo Access denied >&2; exit 4"]
    site.fail("-e", "backup=latest", "-e", json.dumps({"eternia_stop_command": stop}))
    assert site.evidence()["reason"] == (
        "Run the command of the inventory: non-zero return code: Access denied The data is as it was before. The "
        "application was started again and is healthy."
    )


def test_an_application_that_does_not_stop_is_named_and_left_alone(site: Site) -> None:
    site.back_up()
    pid = site.services.pid("eternia")
    message = site.fail(
        *("-e", "backup=latest", "-e", '{"eternia_stop_command": ["true"]}', "-e", "eternia_stop_seconds=2")
    )
    assert "4. Prove that nobody has its data open any more" in message
    assert "The data is as it was before." in message
    assert site.services.pid("eternia") == pid
    assert site.health() == "healthy"


def test_an_engine_that_is_killed_each_time_has_a_reason_and_nothing_is_started_on_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = site.back_up()
    site.lose()
    (tmp_path / "sitecustomize.py").write_text(KILL_NAMING)
    monkeypatch.setitem(site.environment, "PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(site.environment, "KILL_NAMING", str(site.database))
    message = site.fail("-e", "backup=latest")
    evidence = site.evidence()
    assert re.fullmatch(
        r"5\. Put the backup into place: the process on eternia-dev ended before it could say anything, with exit code "
        r"(-9|137), so it was killed; where memory ran out, `journalctl -k` there says so\. The engine was killed "
        r"before it could say how the data stands: run the same command again\. There is no data, so the application "
        r"was not started: it would begin anew\.",
        evidence["reason"],
    )
    assert evidence["reason"] in message
    assert "was not restored" in message
    assert not site.database.exists()
    assert site.health() == ""
    monkeypatch.delitem(site.environment, "KILL_NAMING")
    output = site.succeed("-e", "backup=latest")
    assert f"The restore of {name} into {site.database} was taken back" in " ".join(output.split())
    assert site.health() == "healthy"
    assert site.saves() > in_backup(site, name)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_is_finished_by_the_next(site: Site, tmp_path: Path, by: signal.Signals) -> None:
    name = site.back_up()
    site.lose()
    # A start that lasts: the run is cut off while the application is down, however late the signal arrives.
    reached = tmp_path / "starting"
    start = json.dumps({"eternia_start_command": ["sh", "-c", f"touch {reached} && sleep 60"]})
    running = subprocess.Popen(
        [*PLAYBOOK, RUNBOOK, "-e", "backup=latest", "-e", start],
        cwd=CHECKOUT,
        env=site.environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not reached.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running.poll() is None
    deadline = time.monotonic() + 20
    # Python may lose the interrupt of a person, who then presses Ctrl-C once more.
    while running.poll() is None and time.monotonic() < deadline:
        os.killpg(running.pid, by)
        time.sleep(0.2)
    running.wait(timeout=20)
    assert (site.backups / "hold.json").exists()
    assert site.health() == ""
    assert "held by the disaster recovery runbook" in " ".join(site.play("playbooks/backup.yml").stdout.split())
    left = (
        f"a run of the runbook was cut off; the backups are held by the disaster recovery runbook until \\S+: {name} "
        "is being restored\\. The application may be stopped"
    )
    assert re.search(rf"found {left}", " ".join(site.succeed("-e", "backup=latest", "--check").split()))
    output = site.succeed("-e", "backup=latest")
    assert re.search(left, " ".join(output.split()))
    assert "UNCHANGED: eternia-dev has the content of" in output
    assert site.health() == "healthy"
    assert site.saves() > in_backup(site, name)
    assert not (site.backups / "hold.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Say which backup: -e backup=latest, a time such as"),
        (("-e", "backup=latest", "-e", "runbook_confirm=true"), "Confirm it with -e confirm=development"),
        (("-e", "backup=latest", "-e", "runbook_confirm=true", "-e", "confirm=yes"), "Confirm it with"),
        (("-e", "backup=eternia_backup_20200101_000000.db"), "There is no backup eternia_backup_20200101_000000.db"),
        (
            ("-e", "backup=/nowhere/x.db"),
            "not found: /nowhere/x.db. List the backups: .venv/bin/ansible-playbook playbooks/status.yml --limit etern",
        ),
        (
            ("-e", "backup=latest", "-e", '{"eternia_start_command": []}'),
            "eternia-dev has eternia_stop_command and no eternia_start_command. Give both, or neither",
        ),
        (("-e", "backup=yesterday"), "'yesterday' is no backup. Give latest, a time"),
    ],
)
def test_what_is_wrong_is_said_before_anything_stops(site: Site, options: tuple[str, ...], message: str) -> None:
    site.back_up()
    pid = site.services.pid("eternia")
    assert message in site.fail(*options)
    assert site.services.pid("eternia") == pid
    assert site.health() == "healthy"


def test_the_manual_way_works_as_it_is_written(site: Site) -> None:
    """The lines of the document, with this machine's places in them."""
    name = site.back_up()
    site.lose()
    document = (CHECKOUT / "docs/disaster-recovery.md").read_text()
    (script,) = re.findall(r"```sh\n(systemctl stop.*?)```", document, re.S)
    services = f"{sys.executable} {CHECKOUT}/scripts/dev_services.py"
    script = script.replace("/opt/eternia/data", str(site.database.parent)).replace("systemctl", services)
    script = re.sub(r"/backups/eternia_backup_\d+_\d+\.db", str(site.backups / name), script)
    script = script.replace("chown eternia:eternia", f"chown {os.getuid()}:{os.getgid()}")
    script = re.sub(r"(stop|start) eternia", r"\1", script).replace("mv eternia.db*", "mv -f eternia.db*")
    # Everything was deleted: there is nothing to move away.
    site.database.touch()
    if not any(Path(folder, "sqlite3").exists() for folder in os.environ["PATH"].split(os.pathsep)):
        print("Without the sqlite3 command: that line is left out.")
        script = re.sub(r"^sqlite3 .*$", "", script, flags=re.M)
    result = subprocess.run(
        ["bash", "-euc", script], env=site.environment, text=True, capture_output=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert site.health() == "healthy"
    assert site.saves() >= in_backup(site, name)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the zstd command is not installed")
def test_a_compressed_backup_is_opened_by_hand_as_the_document_says(site: Site, tmp_path: Path) -> None:
    name = site.back_up()
    subprocess.run(["zstd", "-q", str(site.backups / name), "-o", str(tmp_path / f"{name}.zst")], check=True)
    document = (CHECKOUT / "docs/disaster-recovery.md").read_text()
    (command,) = re.findall(r"`(zstd -d) NAME`", document)
    subprocess.run([*command.split(), "-q", f"{name}.zst"], cwd=tmp_path, check=True)
    assert (tmp_path / name).read_bytes() == (site.backups / name).read_bytes()

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduled commands as cron types them, where their log goes, and the commands that keep them away."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import cli_log, cli_run, hold, lock, log, names
from ansible_collections.eternia.backup.tests.unit.builders import in_child, tree
from ansible_collections.eternia.backup.tests.unit.command_line import MODULE, child_environment

COMMANDS = ("run", "prune", "drill")


@pytest.fixture
def log_file(host):
    """Where the host's application keeps its log."""
    path = host.base / "logs/eternia.log"
    path.parent.mkdir()
    host.configure(backup={"report": {"log_file": "logs/eternia.log"}})
    return path


def names_of(host):
    return sorted(path.name for path in host.backups.glob("*.db"))


def hold_of(host):
    return json.loads((host.backups / "hold.json").read_text())


def test_a_run_backs_up_and_prunes(host):
    host.configure(backup={"retention": {"keep_last": 1}, "minimum_kept": 1})
    older = host.back_up(2)
    out = host.succeed("run")
    (newest,) = names_of(host)
    assert newest > older.name
    size = (host.backups / newest).stat().st_size
    assert out == (
        "DONE: web1 is backed up\n"
        f"  backup    {host.backups}/{newest}, {size / 1000:.1f} kB\n"
        "  removed   1 copy\n"
        f"              {older}: no keep rule wants it\n"
    )


def test_a_run_says_what_went_to_s3(both):
    both.back_up(1)
    out = both.succeed("run")
    assert re.search(r"^  to S3     1 backup, \d+\.\d kB sent$", out, re.MULTILINE)


def test_a_check_shows_what_a_run_would_do_and_does_nothing(host, tmp_path):
    told = {"failure_command": ["/bin/touch", str(tmp_path / "told")], "metrics_file": str(tmp_path / "x.prom")}
    host.configure(backup={"retention": {"keep_last": 1}, "minimum_kept": 1, "report": told})
    older = host.back_up(2)
    before = tree(host.base)
    out = host.succeed("run", "--check")
    assert out.startswith("PLAN (nothing was written yet)\n  backup    ")
    assert f"  removed   1 copy\n              {older}: no keep rule wants it\n" in out
    host.live.unlink()
    assert "does not exist" in host.fail(1, "run", "--check")
    assert not (tmp_path / "told").exists()
    assert not (tmp_path / "x.prom").exists()
    host.live.write_bytes(before[str(host.live)][-1])
    assert set(tree(host.base)) == set(before)


def test_a_prune_removes_and_a_check_of_it_does_not(host):
    host.back_up(3)
    host.back_up(2)
    host.configure(backup={"retention": {"keep_last": 1}, "minimum_kept": 1})
    assert host.succeed("prune", "--check").startswith("PLAN (nothing was removed yet)\n  removed   1 copy\n")
    assert len(names_of(host)) == 2
    assert host.succeed("prune").startswith("DONE: web1 is pruned\n  removed   1 copy\n")
    assert len(names_of(host)) == 1
    assert host.succeed("prune") == "DONE: web1 is pruned\n  removed   nothing\n"


def test_a_prune_that_may_remove_nothing_says_why(host):
    host.back_up(3)
    host.back_up(2)
    host.configure(backup={"retention": {"keep_last": 1}, "minimum_kept": 1})
    record = host.backups / "last-run.json"
    record.write_text("{")
    why = f"nothing is removed: The record of the last run ({record}) cannot be read"
    assert host.succeed("prune").startswith(f"DONE: web1 is pruned\n  removed   nothing\n  kept      2 copies: {why}")
    assert len(names_of(host)) == 2


def test_a_drill_says_what_came_back(host):
    path = host.back_up(2)
    out = host.succeed("drill")
    assert re.fullmatch(rf"DONE: everything came back\n  drilled   {path}, in \d+\.\d s\n", out)
    path.write_bytes(b"damaged")
    assert f"{path} is damaged: " in host.fail(1, "drill")


@pytest.mark.parametrize("command", COMMANDS)
def test_where_backups_are_switched_off_nothing_is_done(host, command):
    host.configure(backup={"enabled": False})
    before = tree(host.base)
    assert host.succeed(command) == "SWITCHED OFF: backup.enabled is false, so nothing was done.\n"
    assert tree(host.base) == before


FAILURES = [
    (lambda host: host.configure(backup={"frequnecy": "daily"}), 2, "backup.frequnecy is not a key that exists"),
    (lambda host: host.live.unlink(), 1, "There is nothing to back up"),
    (lambda host: host.live.write_bytes(b"x" * 5000), 1, "eternia.db"),
]


@pytest.mark.parametrize(("arrange", "code", "words"), FAILURES)
def test_a_run_that_fails_says_why_and_exits_with_the_code(host, arrange, code, words):
    arrange(host)
    found, out, err = host.type("run")
    assert (found, out, words in err) == (code, "", True), err
    assert err.startswith("eternia-backup: ")


def test_what_somebody_should_look_at_goes_to_the_standard_error(host):
    report = {"metrics_file": str(host.base / "none/x.prom"), "log_file": "none/log"}
    host.configure(backup={"report": report})
    code, out, err = host.type("run")
    assert (code, out.startswith("DONE: ")) == (0, True)
    log_line, metrics_line = err.splitlines()
    assert log_line.startswith(f"WARNING: The log {host.base}/none/log cannot be written: no such file or directory.")
    assert metrics_line.startswith(f"WARNING: The metrics {host.base}/none/x.prom could not be written: no such file")
    warnings = json.loads((host.backups / "last-run.json").read_text())["warnings"]
    assert [f"WARNING: {warning}" for warning in warnings] == [log_line, metrics_line]


HEAVY = ("asyncio", "awscrt", "boto3", "botocore", "concurrent.futures", "http.client", "rich", "ssl", "urllib.request")
LOADED = f"""
import sys
from {MODULE} import main
main(["--config", sys.argv[1], "run"])
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_a_run_loads_only_what_it_needs(host):
    """What it costs is measured by `make bench`; this is what that comes from."""
    command = [sys.executable, "-c", LOADED, str(host.file)]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# The log


def test_the_log_of_what_is_scheduled_goes_to_the_applications_log(host, log_file):
    log_file.write_text("of the application\n")
    for command in COMMANDS:
        host.succeed(command)
    host.succeed("status", "--report")
    host.live.unlink()
    host.fail(1, "run")
    first, *lines = log_file.read_text().splitlines()
    assert first == "of the application"
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) \[backup_(manager|recovery)\] .+"
    assert [line for line in lines if not re.fullmatch(form, line)] == []
    for words in (
        "check quick: ok",
        "[backup_manager] run ended with 0",
        "came back in a drill",
        "status ended with 0",
    ):
        assert any(words in line for line in lines), words
    # Why it failed is said once.
    assert [line.split(" ", 1)[1] for line in lines if "ERROR" in line] == [
        f"ERROR [backup_manager] {host.live} does not exist. If it was lost, restore it"
        + lines[-1].partition("restore it")[2]
    ]


@pytest.mark.parametrize("words", [["run", "--check"], ["prune", "--check"], ["status"], ["list"], ["verify"]])
def test_who_only_looks_leaves_no_trace_there(host, log_file, words):
    host.back_up()
    host.succeed(*words)
    assert not log_file.exists()


def test_a_log_that_was_rotated_away_is_begun_anew(host, log_file):
    host.succeed("run")
    log_file.rename(f"{log_file}.1")
    host.succeed("prune")
    assert "prune ended with 0" in log_file.read_text()


def test_who_names_a_log_gets_it_instead(host, log_file, tmp_path):
    host.succeed("run", "--log-file", tmp_path / "log")
    assert "run ended with 0" in (tmp_path / "log").read_text()
    assert not log_file.exists()


def test_verbose_shows_it_as_well(host, log_file):
    _code, _out, err = host.type("run", "-v")
    assert err.splitlines() == log_file.read_text().splitlines()


def test_a_log_that_is_full_is_a_warning(host):
    host.configure(backup={"report": {"log_file": "/dev/full"}})
    code, out, err = host.type("run")
    assert (code, out.startswith("DONE: ")) == (0, True)
    assert err.startswith("WARNING: The log /dev/full cannot be written: no space left on device. No backup depends on")
    assert len(err.splitlines()) == 1


@pytest.fixture
def system_log(tmp_path, monkeypatch):
    """A real socket that listens as journald does."""
    path = tmp_path / "log.socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        monkeypatch.setattr(cli_log, "_SOCKET", str(path))
        yield listening


def heard(listening):
    """What has come so far, in its order."""
    lines = []
    listening.setblocking(False)
    while True:
        try:
            lines.append(listening.recv(10_000).decode().rstrip("\0"))
        except BlockingIOError:
            return lines


def test_without_a_log_of_its_own_it_is_the_systems(host, system_log):
    host.succeed("run")
    host.live.unlink()
    host.fail(1, "run")
    lines = heard(system_log)
    # 24 is the facility of daemons, 6 and 3 are info and error.
    form = r"<(30|27)>eternia-backup: \[backup_manager\] .+"
    assert [line for line in lines if not re.fullmatch(form, line)] == []
    assert "<30>eternia-backup: [backup_manager] run ended with 0" in lines
    assert lines[-1].startswith(f"<27>eternia-backup: [backup_manager] {host.live} does not exist.")


def test_that_the_configuration_is_wrong_is_in_the_systems_log(host, system_log):
    host.configure(backup={"frequency": "sometimes"})
    host.fail(2, "run")
    (line,) = heard(system_log)
    assert line.startswith("<27>eternia-backup: [backup_manager] run failed: ")
    assert "backup.frequency is 'sometimes'" in line
    host.fail(2, "list")
    assert heard(system_log) == []


@pytest.mark.parametrize("there", [False, True])
def test_where_nobody_listens_nothing_is_said(host, tmp_path, monkeypatch, there):
    path = tmp_path / "log.socket"
    if there:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
            gone.bind(str(path))
    monkeypatch.setattr(cli_log, "_SOCKET", str(path))
    assert path.exists() == there
    host.succeed("run")


def test_afterwards_nothing_is_left_of_it(host, log_file):
    host.succeed("run")
    assert log.logger.handlers[1:] == []


# Holding


def test_a_hold_keeps_what_is_scheduled_away_until_it_is_released(host):
    host.back_up()
    out = host.succeed("hold", "--why", "a new disk", "--hours", "2")
    until = names.from_iso(hold_of(host)["until"])
    assert out == (
        f"HELD: no scheduled run, prune or drill until {names.iso(until)}. End it: eternia-backup --config {host.file} "
        "release\n"
    )
    assert timedelta(hours=1.9) < until - datetime.now(timezone.utc) <= timedelta(hours=2)
    assert hold_of(host)["why"] == "a new disk"
    before = names_of(host)
    for command in COMMANDS:
        assert f" are held by {hold_who()} until {names.iso(until)}: a new disk. " in host.fail(11, command)
    assert names_of(host) == before
    assert f"  hold      held by {hold_of(host)['who']} until {names.iso(until)}: a new disk\n" in host.succeed(
        "status"
    )
    assert host.succeed("release") == "RELEASED: the next scheduled run goes ahead.\n"
    assert host.succeed("run")
    assert host.succeed("release") == "NOT HELD: there was nothing to release.\n"


def test_a_hold_of_ones_own_can_be_made_longer_and_shorter(host):
    for hours in (1, 5, 2):
        host.succeed("hold", "--why", "a new disk", "--hours", str(hours))
        left = names.from_iso(hold_of(host)["until"]) - datetime.now(timezone.utc)
        assert timedelta(hours=hours - 0.1) < left <= timedelta(hours=hours)


def test_a_hold_of_somebody_else_is_let_alone(host):
    host.back_up()
    theirs = hold.Hold("runbook on ansible1", "a restore", datetime.now(timezone.utc) + timedelta(hours=1))
    hold.put(host.backups, theirs)
    before = hold_of(host)
    assert "are held by runbook on ansible1 until " in host.fail(11, "hold", "--why", "a new disk")
    error = host.fail(11, "release")
    assert (
        f"a restore. You are {hold_who()}. Ask there; only if that is over, remove {host.backups}/hold.json." in error
    )
    assert hold_of(host) == before


def hold_who():
    return f"{pwd.getpwuid(os.geteuid()).pw_name}@{os.uname().nodename}"


def test_a_hold_ends_by_itself(host):
    host.back_up()
    hold.put(host.backups, hold.Hold("ann", "repairs", datetime.now(timezone.utc) - timedelta(seconds=1)))
    assert host.succeed("run")
    assert host.succeed("release") == "NOT HELD: there was nothing to release.\n"


def test_what_lies_in_the_place_of_a_hold_is_removed_by_its_release(host):
    host.back_up()
    wrong = datetime.now(timezone.utc) + timedelta(days=730)
    hold.put(host.backups, hold.Hold("runbook", "a restore", wrong))
    path = host.backups / hold.NAME
    assert host.succeed("release") == f"NOT HELD: {path} was no hold, and is removed.\n"
    assert not path.exists()
    assert host.succeed("release") == "NOT HELD: there was nothing to release.\n"


def test_a_hold_of_a_clock_that_was_wrong_ends_with_it(host, log_file):
    host.back_up()
    wrong = datetime.now(timezone.utc) + timedelta(days=730)
    hold.put(host.backups, hold.Hold("runbook", "a restore", wrong + timedelta(hours=4)))
    code, _out, err = host.type("run")
    words = f"{host.backups}/hold.json is no hold (it ends at {names.iso(wrong)[:8]}"
    assert (code, err.startswith(f"WARNING: {words}")) == (0, True)
    assert f"[backup_manager] {words}" in log_file.read_text()
    assert f"succeeded, with a warning: {words}" in host.succeed("status")
    # What is held anew is held.
    host.succeed("hold", "--why", "a restore")
    assert host.fail(11, "run")


def test_a_run_that_goes_on_is_not_ended_by_a_hold(host):
    host.back_up()
    with lock.held(host.backups):
        code, out, err = host.type("hold", "--why", "a new disk")
    assert (code, out.startswith("HELD: ")) == (0, True)
    assert err.startswith("WARNING: What is under way comes to its end, and removes nothing more.")
    assert host.fail(11, "run")


def test_a_run_that_goes_on_is_not_ended_by_the_hold_of_a_module(host):
    pytest.importorskip("ansible", reason="there is no Ansible for this Python, so no module runs here")
    host.back_up()
    arguments = {key: host.fields[key] for key in ("environment", "base_dir", "host")}
    arguments |= {"config": host.fields["backup"], "who": "ann", "why": "a new disk"}
    with lock.held(host.backups):
        module = subprocess.run(
            [sys.executable, "-m", "ansible_collections.eternia.backup.plugins.modules.eternia_hold"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env=child_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    answer = json.loads(module.stdout)
    assert (answer["changed"], answer["until"]) == (True, hold_of(host)["until"])
    (warning,) = answer["warnings"]
    # Ansible gives it as a text or, from 2.19 on, as a block.
    assert "What is under way comes to its end, and removes nothing more. Another run (process " in str(warning)


WRONG = [
    (["hold"], 2, "the following arguments are required: --why"),
    (["hold", "--why", ""], 2, "why is empty or not one line of text"),
    (["hold", "--why", " "], 2, "why is empty or not one line of text"),
    (["hold", "--why", "a\nb"], 2, "why is empty or not one line of text"),
    (["hold", "--why", "a" * 256], 2, "why is empty or not one line of text; say it, in 255 characters at most"),
    (
        ["hold", "--why", "a", "--hours", "0"],
        2,
        "A hold of 0 hours is asked for; it must last longer than 0, and 168 hours at most (10080 minutes).",
    ),
    (["hold", "--why", "a", "--hours", "-1"], 2, "A hold of -1 hours is asked for"),
    (["hold", "--why", "a", "--hours", "nan"], 2, "A hold of nan hours is asked for"),
    (["hold", "--why", "a", "--hours", "1e9"], 2, "A hold of 1e+09 hours is asked for"),
    (["hold", "--why", "a", "--hours", "soon"], 2, "invalid float value: 'soon'"),
    (["drill", "--check"], 2, "unrecognized arguments: --check"),
]


@pytest.mark.parametrize(("words", "code", "message"), WRONG)
def test_what_is_typed_wrong_is_refused(host, words, code, message):
    assert message in host.fail(code, *words)
    assert not (host.backups / "hold.json").exists()


def test_a_hold_is_not_put_where_the_disk_is_missing(host):
    host.configure(backup={"storage_mount": str(host.base / "backups")})
    assert "nothing is mounted there" in host.fail(1, "hold", "--why", "a new disk")
    assert not host.backups.exists()


def test_a_user_without_a_name_holds_as_his_number():
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who has no name")

    def nameless():
        os.setuid(54321)
        assert cli_run._who() == f"54321@{os.uname().nodename}"

    assert in_child(nameless) == 0


def test_where_the_time_went(both):
    code, out, err = both.type("run", "--timings")
    assert (code, out.startswith("DONE: ")) == (0, True)
    steps, proving = re.fullmatch(r"TIMINGS: (.*) \(proving, side by side: (.*)\)\n", err).groups()
    for listed, names_ in ((steps, "snapshot prove store send prune"), (proving, "digest flush check rows")):
        assert re.sub(r" [0-9.]+ s", "", listed).split(", ") == names_.split()
    assert sum(map(float, re.findall(r"[0-9.]+(?= s)", steps))) > 0


def test_where_the_time_went_until_it_failed(host):
    host.live.write_bytes(b"")
    code, _out, err = host.type("run", "--timings")
    assert (code, err.splitlines()[0]) == (1, "TIMINGS: snapshot 0.00 s")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cron runs: the same backup as the modules', recorded and told of whatever fails; who is told fails nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    drill,
    exit_code,
    hold,
    judgement,
    lock,
    metrics,
    notify,
    prune,
    record,
    run,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import Clock
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import HeldError, LockedError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.exit_code import ExitCode
from ansible_collections.eternia.backup.plugins.module_utils.engine.retention import Decision
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.tests.unit import web as web_
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    SetClock,
    configuration,
    database,
    process,
    tree,
)
from ansible_collections.eternia.backup.tests.unit.command_line import COLLECTIONS, MODULE, child_environment

FIRST = "eternia_backup_20261122_120000.db"


@pytest.fixture
def base(tmp_path):
    database(tmp_path / "data" / "eternia.db")
    return tmp_path


@pytest.fixture
def told(base):
    """Where the failure command puts what it is told."""
    return base / "told"


@pytest.fixture
def config(base, told, web):
    """A host that tells everybody."""
    report = {
        "metrics_file": "eternia_backup.prom",
        "ping_url": f"{web.url}/hunter2",
        "failure_webhook": f"{web.url}/hook",
        "failure_command": ["/bin/sh", "-c", f"cat >> {told}"],
    }
    return configuration(base, retention={"keep_last": 1}, minimum_kept=1, report=report)


def scheduled(config, hours=0, **keywords):
    return run.run(config, clock=SetClock(NOON + timedelta(hours=hours)).clock(), **keywords)


def fields(config):
    return json.loads((config.storage_path / record.NAME).read_text())


def metric(config, name):
    for line in config.report.metrics_file.read_text().splitlines():
        if line.startswith(f"eternia_backup_{name}{{"):
            return float(line.split()[-1])
    return None


def paths(web):
    return [f"{one.method} {one.path}" for one in web.asked]


def notice(told):
    return json.loads(told.read_text())


# The same as the modules


def manifest(config):
    """A backup's manifest without what differs from one minute to the next."""
    (path,) = config.storage_path.glob("*.manifest.json")
    found = json.loads(path.read_text())
    for key in ("name", "created_at"):
        del found[key]
    del found["verified"]["at"]
    return found


def test_the_command_and_the_module_write_the_same_manifest(base):
    pytest.importorskip("ansible", reason="there is no Ansible for this Python, so no module runs here")
    config = configuration(base)
    block = {"storage_path": "by-module"}
    module_args = {"config": block, "environment": "staging", "base_dir": str(base), "host": "web1"}
    module = subprocess.run(
        [sys.executable, "-m", "ansible_collections.eternia.backup.plugins.modules.eternia_backup"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": module_args}),
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(module.stdout)["changed"], module.stdout + module.stderr
    fields_ = {"environment": "staging", "host": "web1", "base_dir": str(base), "backup": {}}
    (base / "config.yml").write_text(json.dumps(fields_))
    command = [sys.executable, "-m", MODULE, "--config", str(base / "config.yml"), "run"]
    subprocess.run(command, env=child_environment(), capture_output=True, check=True)
    assert manifest(config) == manifest(configuration(base, **block))


def test_it_prunes_behind_the_backup_and_says_so(config):
    assert scheduled(config).pruned.removed == []
    outcome = scheduled(config, 1)
    assert [str(one.decision.copy.name) for one in outcome.pruned.removed] == [FIRST]
    assert not (config.storage_path / FIRST).exists()
    assert (outcome.error, outcome.all_warnings) == (None, ())
    assert (fields(config)["result"], fields(config)["removed"]) == ("succeeded", 1)


# Who is told


def test_a_run_that_goes_well_pings_twice_and_calls_nobody(config, web, told):
    seen = []
    web.answer = lambda handler: (seen.append(config.storage_path.exists()), web_.answer(handler, 200))
    scheduled(config)
    assert paths(web) == ["GET /hunter2/start", "GET /hunter2"]
    # The first came before anything was done.
    assert seen == [False, True]
    assert not told.exists()
    assert (metric(config, "last_run_success"), metric(config, "status")) == (1, 0)


def test_a_run_that_fails_tells_everybody_why(config, web, told):
    scheduled(config)
    config.database_path.unlink()
    web.asked.clear()
    outcome = scheduled(config, 1)
    assert isinstance(outcome.error, backup.RunFailedError)
    assert paths(web) == ["GET /hunter2/start", "POST /hunter2/fail", "POST /hook"]
    found = notice(told)
    assert json.loads(web.asked[2].body) == found
    assert found == {
        "command": "run",
        "environment": "staging",
        "host": "web1",
        "at": "2026-11-22T13:00:00Z",
        "exit_code": 1,
        "failure": "source",
        "reason": str(outcome.error),
        "tool_version": found["tool_version"],
    }
    assert web.asked[1].body == str(outcome.error)
    assert (fields(config)["result"], fields(config)["error"]) == ("failed", str(outcome.error))
    assert (metric(config, "last_run_success"), metric(config, "status")) == (0, 2)
    assert metric(config, "last_success_timestamp_seconds") == NOON.timestamp()


def spoil(config, tmp_path):
    config.database_path.write_bytes(b"damaged" * 1000)


def lose(config, tmp_path):
    config.database_path.unlink()


def no_store(config, tmp_path):
    config.storage_path.rmdir()
    config.storage_path.write_text("mine")


def another_host(config, tmp_path):
    (config.storage_path / "eternia_backup.host.json").write_text(
        json.dumps({"environment": "staging", "host": "web2", "storage_path": "/backups"})
    )


FAILURES = [
    (lose, "source", ExitCode.FAILED, "There is nothing to back up"),
    (spoil, "source", ExitCode.FAILED, "eternia.db"),
    (no_store, "store", ExitCode.FAILED, "cannot be "),
    (another_host, "store", ExitCode.FAILED, "belongs to host web2"),
]


@pytest.mark.parametrize(("arrange", "kind", "code", "words"), FAILURES)
def test_whatever_fails_everybody_is_told(config, web, told, tmp_path, arrange, kind, code, words):
    config.storage_path.mkdir(parents=True)
    arrange(config, tmp_path)
    outcome = scheduled(config)
    assert exit_code.of(outcome.error) == code
    assert words in str(outcome.error)
    assert paths(web) == ["GET /hunter2/start", "POST /hunter2/fail", "POST /hook"]
    found = notice(told)
    assert (found["failure"], found["exit_code"], found["reason"]) == (kind, code, str(outcome.error))
    assert metric(config, "last_run_success") == 0
    # What is in its place may be another's, and so may its counts.
    counts = {} if arrange in (no_store, another_host) else {kind: 1}
    assert counted(config) == counts


def counted(config):
    """The failures by kind, those of which there were any."""
    pattern = r'eternia_backup_failures_total\{.*kind="(.*)"\} ([1-9]\d*)'
    return {kind: int(count) for kind, count in re.findall(pattern, config.report.metrics_file.read_text())}


def test_failures_that_could_not_be_written_down_are_not_counted(config, base):
    scheduled(config)
    config.database_path.rename(base / "away")
    for hours in (1, 2):
        scheduled(config, hours)
        assert counted(config) == {"source": hours}
    missing = replace(config, storage_mount=config.storage_path)
    scheduled(missing, 3)
    assert (metric(config, "last_run_success"), metric(config, "failures_total")) == (0, None)
    # Too full for a record, and then mended: at no time does a counter go down.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(record, "write", refused)
        scheduled(config, 4)
    assert (metric(config, "last_run_success"), counted(config)) == (0, {"source": 2})
    (base / "away").rename(config.database_path)
    scheduled(config, 5)
    # That one was cut off, as far as anybody can know.
    assert counted(config) == {"source": 2, "other": 1}


def test_in_the_storage_of_another_host_nothing_is_written(config, tmp_path):
    config.storage_path.mkdir(parents=True)
    another_host(config, tmp_path)
    before = tree(config.storage_path)
    scheduled(config)
    assert tree(config.storage_path) == before


def test_where_the_mount_is_missing_nothing_is_written_and_everybody_is_told(base, told, web):
    report_ = {"metrics_file": "x.prom", "failure_command": ["/bin/sh", "-c", f"cat >> {told}"]}
    config = configuration(base, storage_mount=str(base / "backups"), report=report_)
    outcome = scheduled(config)
    assert "nothing is mounted there" in str(outcome.error)
    assert not config.storage_path.exists()
    assert (notice(told)["failure"], metric(config, "last_run_success")) == ("store", 0)
    # It is red, too, when somebody asks later.
    assert "nothing is mounted there" in status.read(config, now=NOON).obstacle


def test_s3_that_is_down_fails_the_run_and_the_backup_is_there(config, base, told):
    cloud = {"enabled": True, "bucket": "b-1", "endpoint_url": "http://127.0.0.1:9", "credentials_file": "none"}
    config = replace(configuration(base, cloud_backup=cloud), report=config.report)
    outcome = scheduled(config)
    assert "is valid on the disk, but S3 has not got everything" in str(outcome.error)
    assert (notice(told)["failure"], fields(config)["failure"], fields(config)["backup"]) == ("s3", "s3", FIRST)
    assert (outcome.taken.path, outcome.pruned) == (str(config.storage_path / FIRST), None)
    assert metric(config, "last_run_success") == 0
    assert metric(config, "last_stored_bytes") == outcome.taken.bytes


def refused(*_):
    raise StoreError("It cannot be removed. Correct the rights.")


def test_a_prune_that_fails_fails_the_run_and_the_backup_is_there(config, told, monkeypatch):
    scheduled(config)
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "remove", refused)
        outcome = scheduled(config, 1)
    assert isinstance(outcome.error.__cause__, prune.PruneFailedError)
    found = fields(config)
    assert (found["result"], found["failure"], found["failures"]) == ("failed", "store", {"store": 1})
    assert (found["error"], found["backup"]) == (str(outcome.error), outcome.taken.manifest.name)
    # The backup itself went well.
    assert found["last_success_at"] == "2026-11-22T13:00:00Z"
    assert notice(told)["reason"] == str(outcome.error)
    assert metric(config, "last_run_success") == 0
    assert scheduled(config, 2).error is None


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_fault_of_ours_is_told_too(config, web, told, monkeypatch, error):
    def ended(*_, **__):
        raise error

    monkeypatch.setattr(backup.snapshot, "take", ended)
    outcome = scheduled(config)
    assert outcome.error is error
    assert (notice(told)["failure"], fields(config)["result"]) == ("other", "failed")
    assert paths(web)[1] == "POST /hunter2/fail"
    assert metric(config, "last_run_success") == 0


# Who has to wait


def test_a_host_that_is_held_does_nothing_and_calls_nobody(config, web, told):
    scheduled(config)
    hold.put(config.storage_path, hold.Hold("ann", "repairs", NOON + timedelta(hours=9)))
    before, asked = (config.storage_path / record.NAME).read_text(), len(web.asked)
    outcome = scheduled(config, 2)
    assert isinstance(outcome.error, HeldError)
    assert exit_code.of(outcome.error) == ExitCode.LOCKED
    assert "held by ann until 2026-11-22T21:00:00Z: repairs" in str(outcome.error)
    assert (config.storage_path / record.NAME).read_text() == before
    assert (len(web.asked), told.exists()) == (asked, False)
    # Its metrics are as fresh as ever.
    assert (metric(config, "held"), metric(config, "last_run_success")) == (1, 1)
    assert metric(config, "newest_verified_age_seconds") == 7200


def test_the_second_of_two_runs_leaves_the_first_alone_and_says_so(config, web, told):
    scheduled(config)
    web.asked.clear()
    with lock.held(config.storage_path):
        record.begin(config.storage_path, NOON + timedelta(hours=1))
        before = (config.storage_path / record.NAME).read_text()
        outcome = scheduled(config, 1)
        assert (config.storage_path / record.NAME).read_text() == before
    assert isinstance(outcome.error, LockedError)
    assert exit_code.of(outcome.error) == ExitCode.LOCKED
    # The run that goes on pings; but somebody should know that it takes longer than there is time.
    assert paths(web) == ["POST /hook"]
    assert (notice(told)["failure"], notice(told)["exit_code"]) == ("locked", 11)
    assert metric(config, "last_run_success") is None


@pytest.mark.parametrize("who", ["another run", "a hold"])
def test_who_comes_between_backup_and_prune_fails_nothing(config, web, told, monkeypatch, who):
    scheduled(config)
    really = prune.run

    def late(config, *, now):
        if who == "a hold":
            hold.put(config.storage_path, hold.Hold("ann", "repairs", now + timedelta(hours=1)))
            return really(config, now=now)
        with lock.held(config.storage_path):
            record.write(
                config.storage_path,
                record.Record("running", "2026-11-22T13:00:00Z"),
                staging=config.storage_path.parent,
            )
            return really(config, now=now)

    monkeypatch.setattr(prune, "run", late)
    outcome = scheduled(config, 1)
    assert (outcome.error, outcome.pruned) == (None, None)
    (warning,) = outcome.all_warnings
    assert warning.startswith("Nothing was pruned. ")
    assert not told.exists()
    assert fields(config)["result"] == ("running" if who == "another run" else "succeeded")
    assert fields(config)["warnings"] == ([] if who == "another run" else [warning])


# Who does not listen


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(notify, "SECONDS", 0.3)


def refuse(web, config):
    return replace(config.report, ping_url="http://127.0.0.1:9/hunter2", failure_webhook=None)


def fail_with_500(web, config):
    web.answer = lambda handler: web_.answer(handler, 500)
    return config.report


def hang(web, config):
    web.answer = web.hang
    return config.report


@pytest.mark.parametrize("arrange", [refuse, fail_with_500, hang])
def test_a_ping_that_nobody_takes_is_a_warning(config, web, hurried, arrange):
    config = replace(config, report=arrange(web, config))
    started = time.monotonic()
    outcome = scheduled(config)
    assert time.monotonic() - started < 8
    assert (outcome.error, fields(config)["result"]) == (None, "succeeded")
    assert len(outcome.warnings) == 2
    assert all(one.startswith("The ping was not taken by 127.0.0.1: ") for one in outcome.warnings)
    assert fields(config)["warnings"] == outcome.warnings
    assert "hunter2" not in " ".join(outcome.warnings)
    assert metric(config, "last_run_success") == 1


def test_a_page_that_cannot_be_written_is_a_warning(config):
    config = replace(config, report=replace(config.report, metrics_file=config.storage_path / "none" / "x.prom"))
    outcome = scheduled(config)
    assert (outcome.error, fields(config)["result"]) == (None, "succeeded")
    (warning,) = fields(config)["warnings"]
    assert f"The metrics {config.storage_path}/none/x.prom could not be written: no such file or directory" in warning


def test_a_command_that_fails_is_a_warning_beside_the_failure(config, caplog):
    config = replace(config, report=replace(config.report, failure_command=("/bin/false", "hunter2")))
    config.database_path.unlink()
    outcome = scheduled(config)
    assert isinstance(outcome.error, backup.RunFailedError)
    (warning,) = fields(config)["warnings"]
    assert warning.startswith("The notice was not taken by /bin/false: it ended with 1. No backup depends on that; ")
    assert "hunter2" not in caplog.text


def test_a_fault_in_telling_does_not_fail_a_backup(config, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a bug")

    monkeypatch.setattr(metrics, "render", broken)
    outcome = scheduled(config)
    assert (outcome.error, fields(config)["result"]) == (None, "succeeded")
    assert fields(config)["warnings"] == ["A fault of this program: TypeError: a bug. Report it, with the log."]


def test_what_went_wrong_before_is_in_the_record(config):
    outcome = scheduled(config, warnings=["the log cannot be written"])
    assert outcome.all_warnings == ("the log cannot be written",)
    assert fields(config)["warnings"] == ["the log cannot be written"]


def test_no_log_line_has_a_secret(config, web, caplog):
    caplog.set_level("DEBUG")
    web.answer = lambda handler: web_.answer(handler, 500)
    scheduled(config)
    config.database_path.unlink()
    scheduled(config, 1)
    assert "was not taken" in caplog.text
    for secret in ("hunter2", "/hook"):
        assert secret not in caplog.text


# Pruning and drilling alone


def test_a_prune_alone_tells_of_its_failure(config, told, monkeypatch):
    scheduled(config)
    clock = SetClock(NOON + timedelta(hours=1)).clock()
    assert run.prune_alone(config, clock=clock).error is None
    assert not told.exists()
    monkeypatch.setattr(LocalStore, "remove", refused)
    monkeypatch.setattr(
        judgement, "apply_policy", lambda copies, *_, **__: [Decision(one, False, ()) for one in copies]
    )
    outcome = run.prune_alone(config, clock=clock)
    assert isinstance(outcome.error, prune.PruneFailedError)
    reason = "It cannot be removed. Correct the rights. Removed all the same: 0."
    assert (notice(told)["command"], notice(told)["failure"], notice(told)["reason"]) == ("prune", "store", reason)


def test_a_drill_tells_of_its_failure_and_pings_nobody(config, web, told):
    path = Path(scheduled(config).taken.path)
    web.asked.clear()
    outcome = run.drill_all(config, clock=SetClock(NOON + timedelta(hours=1)).clock())
    assert (outcome.error, len(outcome.drilled.drilled), told.exists()) == (None, 1, False)
    assert metric(config, "last_drill_success") == 1
    path.write_bytes(b"damaged")
    outcome = run.drill_all(config, clock=SetClock(NOON + timedelta(hours=2)).clock())
    assert isinstance(outcome.error, drill.DrillFailedError)
    assert (notice(told)["command"], notice(told)["failure"]) == ("drill", "other")
    assert metric(config, "last_drill_success") == 0
    assert paths(web) == ["POST /hook"]


def test_a_drill_waits_while_the_host_is_held(config, told):
    scheduled(config)
    hold.put(config.storage_path, hold.Hold("ann", "repairs", NOON + timedelta(hours=9)))
    outcome = run.drill_all(config, clock=SetClock(NOON + timedelta(hours=1)).clock())
    assert isinstance(outcome.error, HeldError)
    assert not told.exists()


def backed_up(config, clock):
    with pytest.raises(HeldError):
        backup.run(config, clock=clock)


@pytest.mark.parametrize("act", [run.run, run.drill_all, backed_up], ids=["run", "drill", "backup"])
def test_under_a_hold_too_nothing_plain_stays_of_a_drill_that_was_killed(config, act):
    scheduled(config)
    hold.put(config.storage_path, hold.Hold("ann", "key stolen", NOON + timedelta(hours=24)))
    left = config.storage_path / ".drill/host/eternia.db"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"an older backup, plain")
    soon = SetClock(NOON + timedelta(hours=1)).clock()
    # Neither that of a drill that goes on, nor another host's.
    with lock.held_drill(config.storage_path):
        act(config, clock=soon)
    if act is not backed_up:
        act(replace(config, host="web2"), clock=soon)
    assert left.exists()
    act(config, clock=soon)
    assert not (config.storage_path / ".drill").exists()
    assert hold.read(config.storage_path, NOON) is not None


# Told to end


def test_sigterm_in_the_middle_takes_back_what_is_under_way_and_tells_of_it(base, web, told):
    """A real process, stopped while it pins a database that does not let go."""
    report_ = {
        "metrics_file": str(base / "x.prom"),
        "ping_url": f"{web.url}/hunter2",
        "failure_command": ["/bin/sh", "-c", f"cat >> {told}"],
    }
    fields_ = {"environment": "staging", "host": "web1", "base_dir": str(base), "backup": {"report": report_}}
    (base / "config.yml").write_text(json.dumps(fields_))
    with process(STUCK, base / "config.yml") as running:
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 1
    config = configuration(base, report=report_)
    found = fields(config)
    assert (found["result"], found["failure"]) == ("failed", "other")
    assert found["error"].startswith("It was told to end (SIGTERM).")
    assert sorted(path.name for path in config.storage_path.iterdir()) == [
        ".lock",
        "eternia_backup.host.json",
        "last-run.json",
    ]
    assert notice(told)["reason"] == found["error"]
    assert paths(web) == ["GET /hunter2/start", "POST /hunter2/fail"]
    assert metric(config, "last_run_success") == 0
    assert run.run(config, clock=Clock()).error is None


# The command, but for one step that waits to be stopped.
STUCK = f"""
import sys
sys.path.insert(0, {str(COLLECTIONS)!r})
import time
from ansible_collections.eternia.backup.plugins.module_utils.engine import cli, snapshot
def stuck(*_, **__):
    print("ready", flush=True)
    time.sleep(60)
snapshot.take = stuck
sys.exit(cli.main(["--config", sys.argv[1], "run"]))
"""

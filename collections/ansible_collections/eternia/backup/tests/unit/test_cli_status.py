# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`status`: the exit codes and the first line that monitoring systems read, and what `--report` does beside."""

from __future__ import annotations

import errno
import json
import os
import socket
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, hold, lock, names, status
from ansible_collections.eternia.backup.tests.unit.builders import SetClock
from ansible_collections.eternia.backup.tests.unit.command_line import cut_off

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def nothing(host):
    host.back_up()


def no_backup(host):
    pass


def stale(host):
    host.back_up(24 * 30)


def switched_off(host):
    host.back_up(24 * 30)
    host.configure(backup={"enabled": False})


def failed_run(host):
    host.back_up()
    write_record(host, result="failed", error="no space", failure="store")


def killed_run(host):
    host.back_up()
    write_record(host, result="running")


def warned_run(host):
    host.back_up()
    write_record(host, result="succeeded", warnings=["the ping was not taken"])


def unreadable_record(host):
    host.back_up()
    (host.backups / "last-run.json").write_text("{")


def run_in_the_future(host):
    host.back_up()
    write_record(host, result="succeeded", at="2190-01-01T00:00:00Z")


def backup_in_the_future(host):
    backup.run(host.config, clock=SetClock(datetime(2190, 1, 1, tzinfo=timezone.utc)).clock())
    host.back_up()


def bucket_that_overwrites(host):
    host.back_up()
    cloud = {"enabled": True, "bucket": "b-1", "endpoint_url": "http://127.0.0.1:9", "credentials_file": "none"}
    host.configure(backup={"cloud_backup": cloud})
    write_record(host, result="succeeded", create_only=False)


def held(host):
    host.back_up()
    hold.put(host.backups, hold.Hold("ann", "repairs", datetime.now(timezone.utc) + timedelta(hours=1)))


def held_for_long(host):
    host.back_up(hours_ago=60)
    hold.put(host.backups, hold.Hold("ann", "repairs", datetime.now(timezone.utc) + timedelta(hours=1)))


def all_cut_off(host):
    for hours_ago in (2, 1):
        host.back_up(hours_ago).write_bytes(b"")


def newest_cut_off(host):
    host.back_up(2)
    host.back_up(1).write_bytes(b"")


def manifest_alone(host):
    taken = host.back_up()
    host.back_up(0.5)
    taken.unlink()


def drilled_long_ago(host):
    host.back_up()
    write_drill(host, days=11, succeeded=True)


def never_drilled(host):
    host.back_up()
    host.back_up(11 * 24)


def failed_drill(host):
    host.back_up()
    write_drill(host, days=1, succeeded=False)


def good_drill(host):
    host.back_up()
    write_drill(host, days=2, succeeded=True)


def another_hosts_storage(host):
    host.back_up()
    host.configure(host="web2")


def unmounted(host):
    host.back_up()
    host.configure(backup={"storage_mount": str(host.base)})


def unreadable_storage(host):
    host.backups.parent.mkdir(parents=True)
    host.backups.write_text("mine")


def no_configuration(host):
    host.file.unlink()


def wrong_configuration(host):
    host.configure(backup={"frequency": "sometimes"})


def write_record(host, **fields):
    now = names.iso(datetime.now(timezone.utc))
    (host.backups / "last-run.json").write_text(json.dumps({"at": now, "error": "", **fields}))


def write_drill(host, *, days, succeeded):
    at = names.iso(datetime.now(timezone.utc) - timedelta(days=days))
    fields = {"format": 1, "last": {"at": at, "succeeded": succeeded}, "drills": []}
    (host.backups / "drills.json").write_text(json.dumps(fields))


# What is arranged, how bad it is, and what is said of it.
STANDS = [
    (nothing, OK, "OK: web1 (staging): eternia_backup_"),
    (nothing, OK, ".db is 1 h old; daily allows 1 d 12 h\n"),
    (nothing, OK, "  newest    eternia_backup_"),
    (nothing, OK, "last run  succeeded\n"),
    (nothing, OK, "drill     none yet\n"),
    (nothing, OK, "local     1 backup, 24.6 kB\n"),
    (warned_run, OK, "last run  succeeded, with a warning: the ping was not taken\n"),
    (good_drill, OK, "drill     2 d ago, everything came back\n"),
    (switched_off, OK, "OK: web1 (staging): switched off, backup.enabled is false"),
    (held, OK, "hold      held by ann until "),
    (no_backup, CRITICAL, "CRITICAL  There is no verified backup. Take one.\n"),
    (no_backup, CRITICAL, "CRITICAL: web1 (staging): There is no verified backup. Take one. (and 1 more trouble)\n"),
    (no_backup, CRITICAL, "CRITICAL  Last run: no run has succeeded here yet.\n"),
    (stale, CRITICAL, "CRITICAL  The newest verified backup is 30 d old; daily allows 1 d 12 h. Find out why"),
    (failed_run, CRITICAL, "CRITICAL  Last run: the run of 20"),
    (failed_run, CRITICAL, "Z failed: no space.\n"),
    (killed_run, CRITICAL, "Z was cut off, or still goes on.\n"),
    (unreadable_record, CRITICAL, "CRITICAL  Last run: The record of the last run ("),
    (cut_off, CRITICAL, "CRITICAL  The restore of eternia_backup_"),
    (all_cut_off, CRITICAL, "CRITICAL  There is no verified backup. Take one.\n"),
    (all_cut_off, CRITICAL, " is damaged: it has 0 bytes, its manifest says "),
    (newest_cut_off, CRITICAL, " is damaged: it has 0 bytes, its manifest says "),
    (newest_cut_off, CRITICAL, ".db, 2 h old; daily allows 1 d 12 h\n"),
    (manifest_alone, CRITICAL, " is damaged: its data is missing. Look at the stores.\n"),
    (failed_drill, CRITICAL, "not everything came back. Look at the log, then drill again.\n"),
    (another_hosts_storage, CRITICAL, " belongs to host web1 (environment staging, "),
    (unmounted, CRITICAL, ", and nothing is mounted there: backups would fill up the disk"),
    (drilled_long_ago, WARNING, "WARNING   The last drill was 11 d ago. Find out why there was none since.\n"),
    (never_drilled, WARNING, "WARNING   No drill has ever shown that these backups come back. Drill: playbooks/rest"),
    (held_for_long, WARNING, ": repairs. End that as soon as it may be: eternia-backup release.\n"),
    (run_in_the_future, WARNING, "The last run was at 2190-01-01T00:00:00Z, in the future: the clock is wrong, or was"),
    (backup_in_the_future, WARNING, "1 backup dated in the future, the latest is eternia_backup_21900101_000000.db: "),
    (bucket_that_overwrites, WARNING, "WARNING   s3 could not be listed. "),
    (bucket_that_overwrites, WARNING, "WARNING   s3 overwrites what it was asked not to, so whoever"),
    (unreadable_storage, UNKNOWN, "UNKNOWN: web1 (staging): "),
    (unreadable_storage, UNKNOWN, "UNKNOWN   local could not be listed. "),
    (no_configuration, UNKNOWN, "UNKNOWN: There is no configuration file "),
    (wrong_configuration, UNKNOWN, "backup.frequency is 'sometimes'; it must be one of hourly"),
]


@pytest.mark.parametrize(("arrange", "code", "line"), STANDS)
def test_the_first_word_the_exit_code_and_the_reason(host, arrange, code, line):
    arrange(host)
    found, out, err = host.type("status")
    assert (found, err, line in out) == (code, "", True), out
    assert out.startswith(f"{WORDS[code]}: ")


READABLE = {arrange: code for arrange, code, _line in STANDS if "configuration" not in arrange.__name__}


@pytest.mark.parametrize(("arrange", "code"), READABLE.items())
def test_json_says_everything_that_the_text_says(host, arrange, code):
    arrange(host)
    _code, out, _err = host.type("status")
    found, text, err = host.type("status", "--json")
    fields = json.loads(text)
    assert (found, err, fields["status"], fields["code"]) == (code, "", WORDS[code], code)
    assert (fields["environment"], fields["host"]) == ("staging", host.config.host)
    told = [f"  {trouble['level']:<9} {trouble['message']}\n" for trouble in fields["troubles"]]
    assert [line for line in told if line not in out] == []
    assert bool(told) == (code != OK)
    known = [fields["newest_verified"], fields["held"], *fields["interrupted"]]
    assert [words for words in known if words and words not in out] == []
    for store in fields["stores"]:
        assert f"  {store['name']:<9} {store['kept']} backup" in out


@pytest.mark.parametrize("arrange", [no_configuration, wrong_configuration])
def test_json_says_also_that_nothing_is_known(host, arrange):
    arrange(host)
    code, out, err = host.type("status", "--json")
    fields = json.loads(out)
    assert (code, err, fields["status"], fields["code"]) == (UNKNOWN, "", "UNKNOWN", UNKNOWN)
    assert f"UNKNOWN: {fields['troubles'][0]['message']}\n" == host.type("status")[1]


def test_a_disk_that_cannot_read_is_no_reason_to_fall_silent(host, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    host.back_up()
    monkeypatch.setattr(status.target, "both", broken)
    code, out, err = host.type("status")
    assert (code, out, err) == (UNKNOWN, "UNKNOWN: [Errno 5] Input/output error\n", "")


@pytest.mark.parametrize(("age", "code"), [("7200", OK), ("2h", OK), ("120m", OK), ("59m", CRITICAL), ("1", CRITICAL)])
def test_max_age_stands_in_for_the_frequency(host, age, code):
    host.back_up(1)
    found, out, _err = host.type("status", "--max-age", age)
    assert found == code
    assert "; --max-age allows " in out


def test_an_age_that_is_none_is_no_reason_to_call_anybody(host):
    host.back_up()
    code, out, err = host.type("status", "--max-age", "soon")
    assert (code, err) == (UNKNOWN, "")
    assert out.startswith(
        "UNKNOWN: --max-age is 'soon'; it must be an age such as 90m, 26h or 2d, or a number of seconds"
    )


def test_a_run_that_goes_on_is_no_trouble(host):
    killed_run(host)
    with lock.held(host.backups):
        out = host.succeed("status")
        assert out.startswith("OK: ")
        assert "  last run  goes on\n" in out


def test_s3_that_lacks_a_backup_is_a_warning_until_the_next_run(both, object_store):
    both.back_up(2)
    key = f"{both.config.cloud.prefix}/{both.back_up(1).name}"
    assert "  s3        2 backups, " in both.succeed("status")
    for suffix in ("", ".manifest.json"):
        object_store.client().delete_object(Bucket=both.config.cloud.bucket, Key=f"{key}{suffix}")
    code, out, _err = both.type("status")
    assert (code, "WARNING   s3 lacks 1 verified backup that the policy wants there." in out) == (WARNING, True)
    both.back_up(0.5)
    assert both.succeed("status")


def test_what_is_older_than_all_local_backups_nobody_misses_there(both):
    older, newer = both.back_up(3), both.back_up(2)
    third = both.back_up(1)
    for path in (older, newer):
        path.unlink()
        os.unlink(f"{path}.manifest.json")
    assert both.succeed("status")
    (stores,) = [json.loads(both.succeed("status", "--json"))["stores"]]
    assert [(one["name"], one["kept"], one["missing"]) for one in stores] == [("local", 1, 0), ("s3", 3, 0)]
    assert third.exists()


def test_a_store_that_does_not_answer_is_a_warning_and_says_nothing_of_what_is_missing(host):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    host.back_up()
    cloud = {"enabled": True, "bucket": "b-1", "endpoint_url": endpoint, "credentials_file": "none"}
    host.configure(backup={"cloud_backup": cloud})
    code, out, _err = host.type("status", "--json")
    assert code == WARNING
    assert [(one["name"], one["missing"]) for one in json.loads(out)["stores"]] == [("local", None)]


def test_the_report_tells_the_command_and_writes_the_metrics(host, tmp_path):
    page = tmp_path / "eternia_backup.prom"
    command = ["/bin/sh", "-c", f"cat > {tmp_path}/told"]
    report = {"metrics_file": str(page), "failure_command": command}
    host.configure(backup={"report": report})
    code, _out, err = host.type("status", "--report")
    assert (code, err) == (CRITICAL, "")
    told = json.loads((tmp_path / "told").read_text())
    assert (told["command"], told["host"], told["exit_code"]) == ("status", "web1", CRITICAL)
    assert told["reason"].startswith("CRITICAL: There is no verified backup. Take one. ")
    assert 'eternia_backup_status{environment="staging",host="web1"} 2\n' in page.read_text()

    (tmp_path / "told").unlink()
    host.back_up()
    assert host.succeed("status", "--report")
    assert not (tmp_path / "told").exists()
    assert 'eternia_backup_status{environment="staging",host="web1"} 0\n' in page.read_text()


def test_without_report_nobody_is_told(host, tmp_path):
    report = {"metrics_file": str(tmp_path / "x.prom"), "failure_command": ["/bin/touch", str(tmp_path / "told")]}
    host.configure(backup={"report": report})
    assert host.type("status")[0] == CRITICAL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yml", "eternia"]


def test_a_report_that_goes_nowhere_is_a_warning(host, tmp_path):
    host.back_up()
    host.configure(backup={"report": {"metrics_file": str(tmp_path / "none/x.prom"), "log_file": "none/log"}})
    code, _out, err = host.type("status", "--report")
    assert code == OK
    assert f"WARNING: The metrics {tmp_path}/none/x.prom could not be written: no such file or directory" in err
    assert f"WARNING: The log {host.base}/none/log cannot be written: no such file or directory" in err

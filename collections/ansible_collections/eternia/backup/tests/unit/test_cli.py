# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: what it prints, what it asks, and the exit codes that scripts rely on."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import pytest
import yaml
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    cli,
    cli_output,
    cli_parser,
    config_file,
    download,
    lock,
    restore,
    status,
    units,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import Clock
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import ConfigError, EngineError
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import VERSION
from ansible_collections.eternia.backup.tests.unit.builders import (
    SetClock,
    at_call,
    connect,
    die,
    flip,
    in_child,
    process,
    query,
    tree,
)
from ansible_collections.eternia.backup.tests.unit.command_line import MODULE, ROWS, child_environment, cut_off

HOLD_OPEN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM memories").fetchone()
print("ready", flush=True)
sys.stdin.read()
"""


def in_bucket(host, path):
    cloud = host.config.cloud
    return f"s3://{cloud.bucket}/{cloud.prefix}/{path.name}"


def at_terminal(host, *words, answer=None, meanwhile=lambda _child: None):
    """Type a command at a real terminal, answer its question; returns its exit code and what the screen got."""
    child, master = pty.fork()
    if child == 0:
        command = [sys.executable, "-m", MODULE, "--config", str(host.file), *words]
        os.execve(sys.executable, command, child_environment())
    seen = b""
    while True:
        try:
            seen += os.read(master, 4096)
        except OSError:
            break
        if answer is not None and b'Type "yes" to restore: ' in seen:
            meanwhile(child)
            os.write(master, answer)
            answer = None
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen.decode().replace("\r\n", "\n")


def nothing(host):
    host.back_up()


def no_backup(host):
    pass


def legacy(host):
    host.back_up().with_name(host.back_up(2).name + ".manifest.json").unlink()
    (legacy_one,) = (path for path in host.backups.glob("*.db") if not Path(f"{path}.manifest.json").exists())
    legacy_one.rename(host.backups / "eternia_backup_20200101_000000.db")


def foreign(host):
    host.back_up()
    host.configure(host="web2")


def damaged(host):
    flip(host.back_up())


def key_that_does_not_exist(host):
    host.configure(backup={"frequnecy": "daily"})


# What is wrong, what is typed, and what comes of it. `{home}` is the application's directory, `{name}` a backup's name.
FAILURES = [
    (nothing, 2, ["restore", "latest"], "no terminal, so nobody can be asked; in a script say --yes"),
    (nothing, 2, ["list", "--bogus"], "unrecognized arguments: --bogus"),
    (nothing, 2, [], "required: COMMAND"),
    (nothing, 2, ["restore", "nonsense", "--yes"], "'nonsense' is no backup. Give latest, a time such as"),
    (nothing, 2, ["download", "{home}/x.db"], "is a path on this host already. Give latest"),
    (nothing, 2, ["download", "latest", "--to", "{home}/none"], "none is not a directory. Make it, or name another"),
    (nothing, 2, ["list", "--log-file", "{home}/none/log"], "none/log cannot be written: no such file or directory"),
    (key_that_does_not_exist, 2, ["list"], "config.yml: backup.frequnecy is not a key that exists. Did you mean"),
    (no_backup, 10, ["restore", "latest", "--yes"], "latest means a verified backup, and there is none"),
    (no_backup, 10, ["download", "latest"], "latest means a verified backup, and there is none"),
    (no_backup, 10, ["verify"], "There is no verified backup. Take one, then verify again."),
    (nothing, 10, ["restore", "{home}/x.db", "--yes"], "Backup file not found: {home}/x.db."),
    (nothing, 10, ["restore", "eternia_backup_20200101_000000.db", "--yes"], "There is no backup eternia_backup_2020"),
    (nothing, 10, ["verify", "2020-01-01T00:00:00Z"], "no verified backup from 2020-01-01T00:00:00Z or before"),
    (legacy, 1, ["restore", "eternia_backup_20200101_000000.db", "--yes"], "allow it: --allow-unverified."),
    (legacy, 1, ["restore", "eternia_backup_20200101_000000.db", "--check"], "allow it: --allow-unverified."),
    (foreign, 1, ["restore", "{name}", "--yes"], "is of host web1 in staging; this is host web2"),
    (foreign, 1, ["restore", "{name}", "--yes"], "allow it: --allow-foreign."),
    (damaged, 12, ["restore", "latest", "--yes"], "is damaged: "),
    (damaged, 12, ["download", "latest", "--to", "{home}"], "is damaged: "),
]


@pytest.mark.parametrize(("arrange", "code", "words", "message"), FAILURES)
def test_failures(host, arrange, code, words, message):
    arrange(host)
    before = tree(host.live.parent)
    names = [path.name for path in host.backups.glob("*.db")]
    known = {"home": host.base, "name": max(names, default="")}
    error = host.fail(code, *(word.format_map(known) for word in words))
    assert message.format_map(known) in error
    assert tree(host.live.parent) == before


def test_the_latest_that_turns_out_to_be_damaged_is_passed_over_where_nobody_is_asked(host):
    """What is stored is whole, and is not what its manifest says of the source."""
    older, newest = host.back_up(2), host.back_up(1)
    sidecar = newest.with_name(f"{newest.name}.manifest.json")
    fields = json.loads(sidecar.read_text())
    fields["source"]["tables"] = {"memories": 7}
    sidecar.write_text(json.dumps(fields))
    code, out, err = host.type("restore", "latest", "--yes")
    assert (code, err) == (0, "")
    assert f"RESTORED: {host.live} is {older.name} now" in out
    assert newest.name in out[out.index("RESTORED") :]


def test_a_message_is_one_line_that_begins_with_who_says_it(host):
    assert re.fullmatch(r"eternia-backup: [^\n]+\n", host.fail(10, "restore", "latest", "--yes"))


def test_another_run_and_an_application_that_goes_on_are_locks(host):
    host.back_up()
    with lock.held(host.backups):
        assert f"Another run (process {os.getpid()})" in host.fail(11, "restore", "latest", "--yes")
    with process(HOLD_OPEN, host.live) as application:
        code, out, err = host.type("restore", "latest", "--yes")
    assert code == 11
    assert f"open in   process {application.pid} (python" in out
    assert "Stop it first" in out
    assert "Stop the application, then run again" in err
    assert host.rows() == 51


def test_a_bug_shows_where_it_is(host, monkeypatch):
    monkeypatch.setattr(restore, "plan", lambda *_args, **_keywords: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        host.type("restore", "latest", "--yes")


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_what_needs_no_configuration(host, flag):
    host.file.unlink()
    out = host.succeed(flag)
    assert VERSION in out or "exit codes: 0 done, 1 failed, 2 usage or configuration, 3 cancelled, 10 no such" in out


@pytest.mark.parametrize("command", ["list", "download", "restore", "verify", "status"])
def test_every_command_has_help_and_takes_the_common_options_on_either_side(host, command):
    assert "--config FILE" in host.succeed(command, "--help")
    what = ["latest"][: command[-1] in "de"]
    args = cli_parser.parse(["--config", "a", command, "-v", *what], cli.FILE, "x")
    assert (args.config, args.verbose, args.log_file) == ("a", True, None)


# The list


def test_the_list_shows_every_backup_newest_first(both):
    older, newer = both.back_up(30), both.back_up(2.5)
    Path(f"{older}.pin").touch()
    out = both.succeed("list")
    lines = [line.split() for line in out.splitlines()]
    size = units.size(newer.stat().st_size).split()
    assert out.startswith("web1 (staging): 2 backups, newest first\n")
    assert lines[2] == ["name", "size", "age", "status", "copies", "pinned"]
    assert lines[3] == [newer.name, *size, "2", "h", "30", "min", "verified", "local,", "s3"]
    assert lines[4][0] == older.name
    assert lines[4][3:] == ["1", "d", "6", "h", "verified", "local,", "s3", "yes"]
    assert len(lines) == 5


def test_the_list_for_programs_is_json_with_everything(both):
    path = both.back_up()
    found = json.loads(both.succeed("list", "--json", "--verify", "full"))
    assert (found["environment"], found["host"], found["stale"], found["unlisted"]) == ("staging", "web1", False, {})
    (one,) = found["backups"]
    assert [copy["location"] for copy in one["copies"]] == [str(path), in_bucket(both, path)]
    assert all(copy["verified"] for copy in one["copies"])
    assert found["safety"] == []


def test_the_list_of_nothing_says_so(host):
    assert host.succeed("list") == "web1 (staging): 0 backups\n"


def test_the_list_shows_what_restores_kept(host):
    host.back_up()
    host.succeed("restore", "latest", "--yes")
    host.live.write_bytes(host.live.read_bytes()[:5000])
    host.succeed("restore", "latest", "--yes")
    out = host.succeed("list")
    assert "2 safety backups, what restores replaced. Bring one back: eternia-backup --config" in out
    kept = json.loads(host.succeed("list", "--json"))["safety"]
    assert [one["status"] for one in kept] in (["raw", "verified"], ["verified", "raw"])
    for one in kept:
        assert one["copies"][0]["location"] in out
        assert Path(one["copies"][0]["location"]).exists()


def test_what_can_be_listed_is_listed_although_a_store_cannot(host):
    path = host.back_up()
    cloud = {"enabled": True, "bucket": "b-1", "endpoint_url": "http://127.0.0.1:9", "credentials_file": "none"}
    host.configure(backup={"cloud_backup": cloud})
    code, out, err = host.type("list")
    assert (code, path.name in out) == (1, True)
    assert err.startswith("NOT LISTED: s3. ")
    code, out, err = host.type("list", "--json")
    assert (code, list(json.loads(out)["unlisted"])) == (1, ["s3"])


def test_damage_that_a_check_finds_is_listed(host):
    path = host.back_up()
    flip(path)
    assert "DAMAGED" not in host.succeed("list", "--verify", "manifest")
    code, out, _err = host.type("list", "--verify", "full")
    assert code == 12
    assert f"DAMAGED: {path} ({path} is damaged: " in out
    path.unlink()
    out = host.succeed("list")
    assert f"DAMAGED: {path} (its data is missing)\n" in out
    assert "damaged  local (damaged)" in out


def test_a_reader_that_had_enough_gets_no_traceback(host):
    host.back_up()
    command = shlex.join([sys.executable, "-m", MODULE, "--config", str(host.file), "list"])
    piped = subprocess.run(
        f"{command} | true", shell=True, capture_output=True, text=True, env=child_environment(), check=False
    )
    assert piped.stderr == ""


# The download


def test_a_download_brings_the_file_and_its_manifest(both, tmp_path):
    path = both.back_up()
    wanted = in_bucket(both, path)
    out = both.succeed("download", wanted, "--to", tmp_path)
    brought = tmp_path / path.name
    assert out.startswith(f"DONE: {brought}, ")
    assert wanted in out
    assert brought.read_bytes() == path.read_bytes()
    assert json.loads(Path(f"{brought}.manifest.json").read_text())["transfer"]
    assert both.succeed("download", wanted, "--to", tmp_path).startswith(f"ALREADY THERE: {brought} has the bytes of")
    Path(f"{brought}.manifest.json").unlink()
    both.succeed("download", path.name, "--to", tmp_path)
    assert sorted(one.name for one in tmp_path.glob("*eternia_*")) == [path.name, f"{path.name}.manifest.json"]


def test_a_download_goes_where_the_person_stands(host, tmp_path, monkeypatch):
    path = host.back_up()
    monkeypatch.chdir(tmp_path)
    host.succeed("download", "latest")
    (tmp_path / "below").mkdir()
    host.succeed("download", path.name, "--to", "below")
    assert (tmp_path / path.name).read_bytes() == (tmp_path / "below" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("wanted", ["latest", "{name}", "{s3}"])
def test_a_download_takes_the_copy_that_is_whole(both, tmp_path, wanted):
    path = both.back_up()
    content = path.read_bytes()
    flip(path)
    out = both.succeed("download", wanted.format(name=path.name, s3=in_bucket(both, path)), "--to", tmp_path)
    assert (tmp_path / path.name).read_bytes() == content
    assert ("WARNING" in out) == (wanted != "{s3}")


@pytest.mark.parametrize("what", ["", ".manifest.json"])
@pytest.mark.parametrize("occupy", [Path.mkdir, lambda path: path.write_text("{}"), lambda path: path.symlink_to("x")])
def test_a_download_never_overwrites(host, tmp_path, what, occupy):
    path = host.back_up()
    taken = tmp_path / f"{path.name}{what}"
    occupy(taken)
    before = taken.lstat()
    error = host.fail(1, "download", "latest", "--to", tmp_path)
    assert f"{taken} exists already, holds something else, and is never overwritten" in error
    assert taken.lstat() == before


def test_a_download_without_a_manifest_says_what_that_is_worth(host, tmp_path):
    legacy(host)
    out = host.succeed("download", "eternia_backup_20200101_000000.db", "--to", tmp_path)
    assert "WARNING   eternia_backup_20200101_000000.db has no manifest: it was checked as far as that goes" in out
    assert query(tmp_path / "eternia_backup_20200101_000000.db", ROWS)
    (host.backups / "eternia_backup_20200101_000000.db").write_bytes(b"garbage" * 1000)
    (tmp_path / "again").mkdir()
    host.fail(12, "download", "eternia_backup_20200101_000000.db", "--to", tmp_path / "again")
    assert not list((tmp_path / "again").iterdir())


def test_a_download_of_another_hosts_backup_needs_no_permission(host, tmp_path):
    foreign(host)
    assert host.succeed("download", "latest", "--to", tmp_path).startswith("DONE: ")


def test_a_download_that_is_killed_leaves_nothing_under_a_final_name(host, tmp_path):
    path = host.back_up()
    content = path.read_bytes()

    def killed_at(step, directory):
        at_call(step, die)
        download.run(host.config, "latest", directory=directory, clock=Clock())

    for step in itertools.count(1):
        directory = tmp_path / str(step)
        directory.mkdir()
        code = in_child(lambda step=step, directory=directory: killed_at(step, directory))
        final = directory / path.name
        assert not final.exists() or final.read_bytes() == content
        if Path(f"{final}.manifest.json").exists():
            assert json.loads(Path(f"{final}.manifest.json").read_text())["name"] == path.name
        download.run(host.config, "latest", directory=directory, clock=Clock())
        assert sorted(one.name for one in directory.iterdir()) == [path.name, f"{path.name}.manifest.json"]
        if code == 0:
            assert step > 8
            return
        assert code == -signal.SIGKILL


# The restore


def test_a_restore_shows_the_plan_and_then_what_happened(both):
    path = both.back_up(2)
    path.unlink()
    out = both.succeed("restore", "latest", "--yes")
    plan, _unused, done = out.partition("RESTORED: ")
    size = units.size(both.live.stat().st_size)
    for line in (
        f"  backup    {path.name}, {size}, taken ",
        " (2 h ago)\n",
        f"  from      {in_bucket(both, path)} ({size} to fetch)\n",
        f"  into      {both.live} (",
        "  rows      51 now, 50 then\n",
        f"              {'memories':<20}        51 →        50\n",
        "  open in   no process\n",
        f"  kept      what is there, as a safety backup in {both.backups}/safety\n",
    ):
        assert line in plan
    (kept,) = both.safety()
    for line in (
        f"{both.live} is {path.name} now\n",
        f"  from      {in_bucket(both, path)} ({size}, {size} fetched)\n",
        "  proven    blake3 ",
        "  rows      51 before, 50 after\n",
        f"  kept      {kept}\n",
        "  steps     select ",
        f"  eternia-backup --config {both.file} restore {kept}\n",
    ):
        assert line in done
    assert both.rows() == 50


def test_the_way_back_that_is_printed_leads_back(host):
    host.back_up()
    way_back = host.succeed("restore", "latest", "--yes").splitlines()[-1]
    assert host.rows() == 50
    assert cli.main([*shlex.split(way_back)[1:], "--yes"]) == 0
    assert host.rows() == 51


def test_the_way_back_to_something_damaged_leads_back_too(host):
    host.back_up()
    host.live.write_bytes(b"damaged" * 1000)
    out = host.succeed("restore", "latest", "--yes")
    assert "  rows      none that can be read now, 50 then\n" in out
    assert " restore --allow-unverified " in out.splitlines()[-1]
    assert cli.main([*shlex.split(out.splitlines()[-1])[1:], "--yes"]) == 0
    assert host.live.read_bytes() == b"damaged" * 1000
    # Nobody claims that it is sound.
    (raw,) = (host.backups / "safety").glob("*.raw")
    out = host.capsys.readouterr().out
    assert f"  backup    {raw}, 7.0 kB, taken " in out
    assert f"  from      {raw} (7.0 kB to fetch)" in out
    assert "  proven    nothing: it was kept byte for byte, and is back byte for byte, sound or not\n" in out
    host.type("restore", "latest", "--yes")
    error = host.fail(1, "verify", raw)
    assert (
        f"{raw} holds, byte for byte, what was too damaged to be a backup, and has no manifest to be compared" in error
    )


def test_a_restore_into_nothing_says_that_nothing_is_kept(host):
    host.back_up()
    shutil.rmtree(host.live.parent)
    out = host.succeed("restore", "latest", "--yes")
    for line in ("  rows      nothing there now, 50 then\n", "  kept      nothing: there is nothing\n"):
        assert line in out
    assert "  kept      nothing was there\n" in out
    assert "go back" not in out
    assert host.rows() == 50


def test_a_state_is_told_by_its_keys(host):
    host.configure(backup={"source": "state"})
    state = host.base / "logs/state_snapshot.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"memories": [1, 2], "version": 1}))
    backup.run(host.config, clock=SetClock(datetime.now(timezone.utc)).clock())
    state.write_text(json.dumps({"memories": [1, 2, 3], "version": 1}))
    out = host.succeed("restore", "latest", "--yes")
    assert "  keys      2 now, 2 then\n" in out
    assert re.search(r"memories +3 → +2\n", out)


def test_a_check_shows_the_plan_and_changes_nothing(host):
    host.back_up()
    before = tree(host.base)
    assert host.succeed("restore", "latest", "--check").startswith("PLAN (nothing was written yet)\n")
    assert tree(host.base) == before


def test_what_is_there_already_is_not_restored(host):
    host.back_up()
    host.succeed("restore", "latest", "--yes")
    out = host.succeed("restore", "latest", "--yes")
    assert re.fullmatch(rf"UNCHANGED: {host.live} has the content of eternia_backup_\w+\.db already\n", out)
    assert len(host.safety()) == 1


@pytest.mark.parametrize("answer", [b"no\n", b"y\n", b"Yes\n", b" yes\n", b"\n", b"\x04", b"\x03", b"yes\x04\x04"])
def test_only_yes_goes_on(host, answer):
    host.back_up()
    code, seen = at_terminal(host, "restore", "latest", answer=answer)
    assert code == (0 if answer.startswith(b"yes") else 3), seen
    assert ("Restore cancelled.\n" in seen) == (code == 3)
    assert "Traceback" not in seen
    assert host.rows() == (50 if code == 0 else 51)


@pytest.mark.parametrize("options", [[], ["--yes"]])
def test_nobody_is_asked_while_an_application_has_the_data_open(host, options):
    host.back_up()
    with process(HOLD_OPEN, host.live) as application:
        code, seen = at_terminal(host, "restore", "latest", *options, answer=b"yes\n")
        assert code == 11
        assert 'Type "yes"' not in seen
        who = rf"process {application.pid} \(python[\d.]*\) has {host.live}\S* open"
        assert re.search(rf"  open in   {who}\n", seen)
        assert re.search(rf"eternia-backup: {who}\. Stop the application, then run again", seen.replace("\n", " "))
        assert host.type("restore", "latest", "--check")[0] == 0
    assert host.rows() == 51


def test_what_advises_to_list_the_backups_names_the_command_that_was_typed(host):
    host.back_up()
    for command in (["restore", "/nowhere/x.db", "--check"], ["verify", "eternia_backup_20200101_000000.db"]):
        error = host.fail(10, *command)
        assert error.endswith(f" List the backups: eternia-backup --config {host.file} list\n")


def test_at_a_terminal_a_bar_shows_the_rate_and_what_was_answered_counts(host):
    host.back_up(2)

    def another_backup(_child):
        host.back_up()

    code, seen = at_terminal(host, "restore", "latest", answer=b"yes\n", meanwhile=another_backup)
    assert code == 0, seen
    assert "━" in seen
    assert re.search(r"\d+\.\d/\d+\.\d kB", seen)
    assert "RESTORED: " in seen
    assert host.rows() == 50


def test_an_interrupt_is_told(host, monkeypatch):
    def interrupted(*_args, **_keywords):
        raise KeyboardInterrupt

    host.back_up()
    monkeypatch.setattr(restore, "run", interrupted)
    code, _out, err = host.type("restore", "latest", "--yes")
    assert code == 3
    assert f"Interrupted. `eternia-backup --config {host.file} status` says whether a restore was cut off" in err


def tell(told, number, _call):
    told.append(number)
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_at_any_call_a_restore_says_truly_how_it_stands(host, monkeypatch, number):
    """It is taken back, or from the swap on too late to be."""
    host.back_up()
    staging = host.live.with_name(".eternia.db.restore")
    found = []
    for step in itertools.count(1):
        told = []
        with monkeypatch.context() as patched:
            at_call(step, partial(tell, told, number), patched.setattr)
            code, out, err = host.type("restore", "latest", "--yes")
        assert not staging.exists(), step
        if code == 0:
            assert (host.rows(), out.count("RESTORED: ")) == (50, 1), step
            host.write()
        else:
            assert (code, host.rows()) == (1, 51), step
            assert f"It was told to end ({number.name}). What was not finished counts for nothing; run it" in err
        if not told:
            break
        found.append(code)
    assert len(found) > 40
    # Never again once it was too late.
    assert found == sorted(found, reverse=True)
    assert set(found) == {0, 1}


def test_who_is_told_to_end_while_he_is_asked_says_so(host):
    host.back_up()
    code, seen = at_terminal(host, "restore", "latest", answer=b"", meanwhile=lambda child: os.kill(child, 15))
    assert code == 1
    assert "It was told to end (SIGTERM)." in seen
    assert host.rows() == 51


def test_a_status_that_is_told_to_end_is_not_known(host, monkeypatch):
    monkeypatch.setattr(status, "read", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    code, out, _err = host.type("status")
    assert (code, out.splitlines()[0].partition(".")[0]) == (3, "UNKNOWN: It was told to end (SIGTERM)")


def test_what_is_ignored_stays_ignored_and_what_was_there_comes_back(host, monkeypatch):
    """As under nohup."""
    host.back_up()
    run = restore.run

    def hung_up(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGHUP)
        return run(*arguments, **keywords)

    monkeypatch.setattr(restore, "run", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert "RESTORED: " in host.succeed("restore", "latest", "--yes")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_paths_that_are_typed_begin_where_the_person_stands(host, monkeypatch, tmp_path):
    path = host.back_up()
    monkeypatch.chdir(host.backups.parent)
    assert f"  from      {path} (" in host.succeed("restore", f"staging/{path.name}", "--check")
    monkeypatch.chdir(host.backups)
    shutil.copy(path, "latest")
    shutil.copy(path, "some.db")
    assert f"  from      {path} (" in host.succeed("restore", path.name, "--check")
    assert f"  from      {path} (" in host.succeed("restore", "latest", "--check")
    out = host.succeed("restore", "some.db", "--check", "--allow-unverified")
    assert f"  backup    {host.backups}/some.db, " in out


@pytest.mark.parametrize("command", ["list", "list --json", "status", "verify", "restore latest --check"])
def test_nothing_depends_on_the_current_directory(host, command, tmp_path, monkeypatch):
    host.back_up()
    printed = set()
    for directory in (tmp_path, host.backups, Path("/")):
        monkeypatch.chdir(directory)
        printed.add(re.sub(r"\d+ s\b|age_seconds.*|\d+\.\d [GT]B free", "", host.succeed(*command.split())))
    assert len(printed) == 1


# Verify


def test_verify_looks_at_every_copy(both):
    paths = [both.back_up(1), both.back_up(2)]
    out = both.succeed("verify")
    for path in paths:
        assert f"whole     {path} (" in out
        assert f"whole     {in_bucket(both, path)} (" in out
    assert out.endswith("4 copies whole, 0 damaged, 0 not known\n")


def test_verify_names_what_is_damaged(both, object_store, tmp_path):
    newer, older = both.back_up(1), both.back_up(2)
    flip(older)
    code, out, _err = both.type("verify")
    assert code == 12
    assert f"DAMAGED   {older} is damaged: " in out
    assert out.endswith("3 copies whole, 1 damaged, 0 not known\n")
    assert both.succeed("verify", newer.name).endswith("2 copies whole, 0 damaged, 0 not known\n")
    both.fail(12, "verify", older.name)

    damaged = Path(shutil.copy(newer, tmp_path))
    flip(damaged)
    key = f"{both.config.cloud.prefix}/{newer.name}"
    object_store.client().put_object(Bucket=both.config.cloud.bucket, Key=key, Body=damaged.read_bytes())
    for depth in ([], ["--full"]):
        code, out, _err = both.type("verify", in_bucket(both, newer), *depth)
        assert (code, f"DAMAGED   {in_bucket(both, newer)} is damaged: " in out) == (12, True)


def test_verify_does_not_call_damaged_what_it_cannot_know(host):
    host.back_up()
    legacy(host)
    code, out, _err = host.type("verify", "eternia_backup_20200101_000000.db")
    assert code == 1
    assert "UNKNOWN   " in out
    assert "has no manifest that says what it should be. Verify another, or download it: it is checked " in out
    cloud = {"enabled": True, "bucket": "b-1", "endpoint_url": "http://127.0.0.1:9", "credentials_file": "none"}
    host.configure(backup={"cloud_backup": cloud})
    code, out, err = host.type("verify")
    assert (code, " 0 damaged" in out) == (1, True)
    assert err.startswith("NOT LISTED: s3. ")


def test_a_restore_that_was_cut_off_is_settled_even_where_nothing_changes(host):
    cut_off(host)
    assert "WARNING   The restore of " in host.type("restore", "latest", "--yes")[1]
    assert not list(host.live.parent.glob(".*"))
    assert host.rows() == 50


# Beside the point


def test_the_log_goes_where_it_is_asked_to(host, tmp_path):
    host.back_up()
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|ERROR) \[backup_(recovery|manager)\] .+"
    _code, _out, err = host.type("restore", "latest", "--yes", "-v")
    assert all(re.fullmatch(line, one) for one in err.splitlines())
    assert f"[backup_recovery] {host.live} is eternia_backup_" in err
    file = tmp_path / "log"
    for code in (0, 10):
        what = "latest" if code == 0 else "/none.db"
        host.type("restore", what, "--yes", "--log-file", file)
    lines = file.read_text().splitlines()
    assert all(re.fullmatch(line, one) for one in lines)
    assert "ERROR [backup_recovery] restore failed: Backup file not found: /none.db" in lines[-1]
    assert cli.log.logger.handlers[1:] == []


def test_without_rich_only_what_needs_it_is_an_error(host, monkeypatch):
    host.back_up()
    monkeypatch.setitem(sys.modules, "rich", None)
    assert json.loads(host.succeed("list", "--json"))
    host.succeed("status")
    host.succeed("restore", "latest", "--yes")
    error = host.fail(1, "list")
    assert f"A table needs the Python library rich, which {sys.executable} cannot import" in error
    assert "Install rich there, or ask for --json." in error
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(EngineError, match=r"A progress bar needs .* rich.*\(2>restore.log\)"):
        cli_output.require_progress_bar()


def test_a_terminal_without_the_character_does_not_end_a_restore(host):
    host.back_up()
    command = [sys.executable, "-m", MODULE, "--config", str(host.file), "restore", "latest", "--yes"]
    environment = child_environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"51 \u2192" in done.stdout


def test_no_name_gives_orders_to_the_terminal(host):
    with closing(connect(host.live)) as application:
        application.execute('CREATE TABLE "\x1b[2Jgone" (id)')
    host.back_up()
    out = host.succeed("restore", "latest", "--yes")
    assert "\x1b" not in out
    assert "\ufffd[2Jgone" in out


FILES = [
    ("environment: staging\n  x: [", "is not YAML (line 2, column 4: mapping values are not allowed "),
    ("enviroment: staging", "config.enviroment is not a key that exists. Did you mean 'environment'?"),
    ("- environment: staging", "config is a list; it must be a block of keys and values."),
    ("", "environment is None; it must be one of development, staging, production."),
    ("environment: test", "environment is 'test'; it must be one of"),
    ("environment: staging\nhost: 3", "config.host is 3; it must be the host's name."),
    ("environment: staging\nbase_dir: opt", "base_dir is 'opt'; it must be an absolute path on the host."),
    ('environment: staging\nbase_dir: /opt\nbackup: {enabled: "false"}', "backup.enabled is 'false'; it must be true"),
    ("environment: staging\nbackup: {}", "there is no base_dir to begin at"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_a_configuration_file_that_is_wrong(tmp_path, text, message):
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as failed:
        config_file.read(path)
    assert str(failed.value).startswith(f"{path}")
    assert message in str(failed.value)


def test_the_configuration_file_is_found(host, monkeypatch, tmp_path):
    monkeypatch.setattr(config_file, "DEFAULT", tmp_path / "default.yml")
    monkeypatch.delenv(config_file.VARIABLE, raising=False)
    assert cli.main(["list"]) == 2
    assert f"There is no configuration file {tmp_path}/default.yml. Name the one" in host.capsys.readouterr().err
    shutil.copy(host.file, tmp_path / "default.yml")
    assert cli.main(["list"]) == 0
    monkeypatch.setenv(config_file.VARIABLE, str(tmp_path / "none.yml"))
    assert cli.main(["list"]) == 2
    monkeypatch.setenv(config_file.VARIABLE, str(host.file))
    assert cli.main(["list"]) == 0


def test_without_a_name_the_host_is_what_it_calls_itself(host):
    fields = host.fields
    del fields["host"]
    host.file.write_text(yaml.safe_dump(fields))
    assert host.config.host == os.uname().nodename

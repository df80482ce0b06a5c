# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Promises 1, 2, 4 and 5 on a real directory: a backup is whole and described, or there is none and it is said why."""

from __future__ import annotations

import base64
import errno
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import blake3
import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    claim,
    digest,
    files,
    lock,
    machine,
    prune,
    record,
    sqlite,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import EngineError, LockedError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.manifest import MOST_BYTES
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import VERSION
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    SetClock,
    add_rows,
    at_call,
    configuration,
    connect,
    database,
    die,
    flip,
    in_child,
    leave_in_log,
    open_directory,
    process,
    query,
    tree,
    unprivileged,
)

FIRST = "eternia_backup_20261122_120000.db"
COLLECTIONS = str(Path(backup.__file__).parents[6])


@pytest.fixture
def config(tmp_path):
    """A closed database of 50 rows in WAL mode, and no backups yet."""
    database(tmp_path / "data" / "eternia.db")
    return configuration(tmp_path, retention={"keep_last": 1}, minimum_kept=1)


def run(config, moment=NOON, **options):
    return backup.run(config, clock=SetClock(moment).clock(), **options)


def plan(config, moment=NOON, **options):
    return backup.plan(config, clock=SetClock(moment).clock(), **options)


def later(hours=1):
    return NOON + timedelta(hours=hours)


def add_row(config):
    with closing(connect(config.database_path)) as application:
        add_rows(application)


def manifest_of(config, name=FIRST):
    return json.loads((config.storage_path / f"{name}.manifest.json").read_bytes())


def stored(config):
    return sorted(entry.name for entry in config.storage_path.iterdir())


def check(config, level="full", moment=NOON):
    """By name: the status, and the problems of the copies."""
    found = status.read(config, now=moment, verify=level).backups
    return {one.name: (one.status, [copy.problem for copy in one.copies if copy.problem]) for one in found}


def test_plain_sqlite_reads_every_row_that_was_committed_before(config):
    with closing(connect(config.database_path)) as application:
        add_rows(application, 7)
        outcome = run(config)
    path = Path(outcome.path)
    assert path == config.storage_path / FIRST
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "SELECT count(*), max(description) FROM memories") == [(57, "m9" * 100)]
    assert (outcome.changed, outcome.unchanged, outcome.previous, outcome.warnings) == (True, False, None, [])
    assert outcome.bytes == path.stat().st_size
    assert check(config) == {FIRST: ("verified", [])}


def test_the_manifest_is_complete_and_its_digests_are_those_of_other_tools(config, monkeypatch):
    monkeypatch.setattr(machine, "identity", lambda: "5f" * 16)
    with closing(connect(config.database_path)) as application:
        application.execute("INSERT INTO memories (description) VALUES (?)", (random.Random(1).randbytes(20_000_000),))
    run(config)
    manifest = manifest_of(config)
    data = (config.storage_path / FIRST).read_bytes()
    assert len(data) > 16 * 1024 * 1024
    both = {"algorithm": "blake3", "value": blake3.blake3(data).hexdigest()}
    assert list(manifest) == [
        *("format", "name", "kind", "environment", "host", "machine", "created_at", "tool_version"),
        *("source", "content", "stored", "verified"),
    ]
    assert manifest == {
        "format": 1,
        "name": FIRST,
        "kind": "database",
        "environment": "staging",
        "host": "web1",
        "machine": "5f" * 16,
        "created_at": "2026-11-22T12:00:00Z",
        "tool_version": VERSION,
        "source": {
            "path": str(config.database_path),
            "bytes": len(data),
            "journal_mode": "wal",
            "page_size": 4096,
            "schema_digest": "sha256:" + schema_digest(config.storage_path / FIRST),
            "tables": {"memories": 51},
        },
        "content": {
            "bytes": len(data),
            "digest": both,
            "parts": {
                "bytes": 1 << 24,
                "digests": [blake3.blake3(part).hexdigest() for part in (data[: 1 << 24], data[1 << 24 :])],
            },
        },
        "stored": {
            "bytes": len(data),
            "digest": both,
            "crc64nvme": manifest["stored"]["crc64nvme"],
            "encoding": [],
            "frames": [],
        },
        "verified": {"check": "quick", "at": "2026-11-22T12:00:00Z", "result": "ok"},
    }


def schema_digest(path):
    rows = query(path, "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master ORDER BY 1, 2, 3")
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def test_the_checksum_is_s3s_crc64nvme(config, s3_settings):
    run(replace(config, cloud=s3_settings))
    # Bit by bit, as the catalogue of CRC algorithms defines CRC-64/NVME.
    value = 2**64 - 1
    for byte in (config.storage_path / FIRST).read_bytes():
        value ^= byte
        for _unused in range(8):
            value = value >> 1 ^ (0x9A6C9329AC4BC9B5 if value & 1 else 0)
    expected = base64.b64encode((value ^ (2**64 - 1)).to_bytes(8, "big")).decode()
    assert manifest_of(config)["stored"]["crc64nvme"] == expected


def test_where_backups_stay_on_the_host_no_time_is_spent_on_what_s3_needs(config):
    run(config)
    assert manifest_of(config)["stored"]["crc64nvme"] is None


def test_without_the_optional_libraries_it_is_sha256_and_no_checksum(config, monkeypatch, s3_settings):
    monkeypatch.setattr(digest, "blake3", lambda: None)
    monkeypatch.setattr(digest, "crc64nvme", lambda: None)
    run(replace(config, cloud=s3_settings))
    data = (config.storage_path / FIRST).read_bytes()
    assert manifest_of(config)["stored"] == {
        "bytes": len(data),
        "digest": {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()},
        "crc64nvme": None,
        "encoding": [],
        "frames": [],
    }
    assert check(config) == {FIRST: ("verified", [])}


@pytest.mark.parametrize("level", ["quick", "full"])
def test_the_manifest_says_which_check_it_was(config, level):
    run(replace(config, verify=level))
    assert manifest_of(config)["verified"]["check"] == level


def test_a_state(tmp_path):
    config = configuration(tmp_path)
    config.state_path.parent.mkdir()
    config.state_path.write_text('{"memories": [1, 2], "emotion": "joy"}')
    outcome = run(config)
    assert str(outcome.name) == "eternia_state_20261122_120000.json"
    assert Path(outcome.path).read_text() == config.state_path.read_text()
    manifest = manifest_of(config, str(outcome.name))
    assert manifest["kind"] == "state"
    assert manifest["source"] == {"path": str(config.state_path), "bytes": 38, "keys": {"memories": 2, "emotion": 3}}
    assert check(config, moment=later()) == {str(outcome.name): ("verified", [])}


def test_only_the_owner_may_look(config):
    umask = os.umask(0)
    try:
        run(config)
    finally:
        os.umask(umask)
    assert config.storage_path.stat().st_mode & 0o777 == 0o700
    assert config.storage_path.parent.stat().st_mode & 0o777 == 0o700
    assert {name: (config.storage_path / name).stat().st_mode & 0o777 for name in stored(config)} == {
        ".lock": 0o600,
        claim.CLAIM: 0o600,
        "last-run.json": 0o600,
        FIRST: 0o600,
        f"{FIRST}.manifest.json": 0o600,
    }


@pytest.mark.parametrize("taken", ["", ".manifest.json", ".pin", ".seen.json"])
def test_a_name_that_is_taken_waits_for_the_next_second(config, taken):
    config.storage_path.mkdir(parents=True)
    (config.storage_path / f"{FIRST}{taken}").write_text("theirs")
    clock = SetClock(NOON + timedelta(milliseconds=750))
    planned = backup.plan(config, clock=clock.clock())
    assert clock.waited == []
    outcome = backup.run(config, clock=clock.clock())
    assert (planned.name, planned.path) == (outcome.name, outcome.path)
    assert str(outcome.name) == "eternia_backup_20261122_120001.db"
    assert clock.waited == [0.25]
    assert (config.storage_path / f"{FIRST}{taken}").read_text() == "theirs"


def test_two_backups_in_one_second(config):
    names = [str(run(config).name) for _unused in range(3)]
    assert names == [f"eternia_backup_20261122_12000{second}.db" for second in range(3)]
    assert set(check(config)) == set(names)


def test_a_name_that_is_taken_at_the_last_moment_is_not_overwritten(config, monkeypatch):
    commit = files.commit

    def late(staged, final):
        if final.name == FIRST:
            final.write_text("theirs")
        commit(staged, final)

    monkeypatch.setattr(files, "commit", late)
    with pytest.raises(backup.RunFailedError, match=rf"{FIRST} exists already and is never overwritten"):
        run(config)
    assert (config.storage_path / FIRST).read_text() == "theirs"


@pytest.mark.parametrize("taken", [False, True])
def test_a_filesystem_without_links(config, monkeypatch, taken):
    def refused(_staged, final):
        if taken and final.name == FIRST:
            (config.storage_path / FIRST).write_text("theirs")
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    if taken:
        with pytest.raises(backup.RunFailedError, match=rf"{FIRST} exists already and is never overwritten"):
            run(config)
        assert (config.storage_path / FIRST).read_text() == "theirs"
    else:
        run(config)
        assert check(config) == {FIRST: ("verified", [])}


def test_a_clock_that_was_moved_back_is_told_and_the_backup_is_taken(config):
    run(config, later())
    planned = plan(config)
    outcome = run(config)
    assert (
        planned.warnings
        == outcome.warnings
        == [
            "The clock says 2026-11-22T12:00:00Z, but eternia_backup_20261122_130000.db is later: the clock was moved "
            "back, or was wrong then. The backup is taken; check the clock, and remove what is dated in the future."
        ]
    )
    assert set(check(config)) == {FIRST, "eternia_backup_20261122_130000.db"}


def test_unchanged(config):
    run(config, skip_unchanged=True)
    before = tree(config.storage_path)
    outcome = run(config, later(), skip_unchanged=True)
    assert (outcome.changed, outcome.unchanged, str(outcome.name)) == (False, True, FIRST)
    assert outcome.path == str(config.storage_path / FIRST)
    seen = config.storage_path / f"{FIRST}.seen.json"
    assert json.loads(seen.read_bytes()) == {"unchanged_at": "2026-11-22T13:00:00Z"}
    after = tree(config.storage_path)
    different = {Path(path).name for path in after if after[path] != before.get(path)}
    assert different == {".lock", "last-run.json", seen.name}
    # The age is that of the knowledge, not of the file.
    assert status.read(config, now=later(2)).age_seconds == 3600

    add_row(config)
    outcome = run(config, later(3), skip_unchanged=True)
    assert (outcome.changed, outcome.unchanged, outcome.manifest.source["tables"]) == (True, False, {"memories": 51})
    assert run(config, later(4)).changed


def test_a_row_that_is_only_in_the_log_is_a_change(config):
    run(config)
    with closing(connect(config.database_path)) as application:
        add_rows(application)
        assert plan(config, later(), skip_unchanged=True).changed
        assert run(config, later(), skip_unchanged=True).changed


@pytest.mark.parametrize("damage", ["cut", "a bit", "manifest", "gone"])
def test_unchanged_is_not_said_of_a_backup_that_is_no_longer_whole(config, damage):
    run(config)
    path = config.storage_path / FIRST
    if damage == "cut":
        os.truncate(path, 1000)
    elif damage == "a bit":
        flip(path, 5000)
    elif damage == "manifest":
        (config.storage_path / f"{FIRST}.manifest.json").write_text("{")
    else:
        path.unlink()
    planned = plan(config, later(), skip_unchanged=True)
    outcome = run(config, later(), skip_unchanged=True)
    assert (planned.unchanged, outcome.unchanged, outcome.changed) == (False, False, True)
    assert planned.warnings == outcome.warnings
    assert [FIRST in warning for warning in outcome.warnings] == ([] if damage == "gone" else [True])
    assert check(config, moment=later(2))["eternia_backup_20261122_130000.db"] == ("verified", [])


@pytest.mark.parametrize("skip_unchanged", [False, True])
@pytest.mark.parametrize("change", ["nothing", "a row", "another algorithm", "the first backup"])
def test_the_plan_is_the_run_and_writes_nothing(config, monkeypatch, skip_unchanged, change):
    monkeypatch.setattr(digest, "blake3", lambda: None)
    if change != "the first backup":
        run(config)
    if change == "another algorithm":
        monkeypatch.undo()
    # As on a host: the application is running.
    with closing(connect(config.database_path)) as application:
        add_rows(application, 1 if change == "a row" else 0)
        application.execute("SELECT count(*) FROM memories").fetchone()
        before = without_index(tree(config.storage_path.parents[1]))
        planned = plan(config, later(), skip_unchanged=skip_unchanged)
        assert without_index(tree(config.storage_path.parents[1])) == before
        outcome = run(config, later(), skip_unchanged=skip_unchanged)
    assert (planned.name, planned.path, planned.previous) == (outcome.name, outcome.path, outcome.previous)
    assert (planned.changed, planned.unchanged) == (outcome.changed, outcome.unchanged)
    assert outcome.unchanged == (skip_unchanged and change == "nothing")
    assert (planned.manifest is None) is planned.changed


def without_index(found):
    """Readers note in the index of the log where they are."""
    return {path: facts for path, facts in found.items() if not path.endswith("-shm")}


def test_storage_is_made_where_it_is_missing(config):
    deep = replace(config, storage_path=config.storage_path / "a" / "b")
    run(deep)
    assert check(deep) == {FIRST: ("verified", [])}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("mine"), r"{path} cannot be used: {path} is a file, not a directory. Correct"),
        (lambda path: path.symlink_to("/nowhere"), r"{path} cannot be used: file exists"),
        (lambda path: made(path / ".staging").write_text("mine"), r"{path}/.staging is not a directory. Remove it"),
        (lambda path: made(path / ".lock").symlink_to("/etc/x"), r"{path}/.lock cannot be opened: too many levels"),
        (lambda path: made(path / "last-run.json").mkdir(), r"{path}/last-run.json could not be written: is a dir"),
    ],
)
def test_storage_that_cannot_be_used(config, make, message):
    config.storage_path.parent.mkdir()
    make(config.storage_path)
    before = without_lock(config)
    with pytest.raises(StoreError, match=message.format(path=config.storage_path)):
        run(config)
    assert without_lock(config) == before


def made(path):
    path.parent.mkdir()
    return path


def without_lock(config):
    return {path: facts for path, facts in tree(config.storage_path).items() if not path.endswith(".lock")}


def test_storage_below_a_file(config):
    config.storage_path.parent.write_text("mine")
    for attempt in (plan, run):
        with pytest.raises(StoreError, match=rf"The directory {config.storage_path} cannot be used: .*not a directory"):
            attempt(config)


@pytest.mark.parametrize(
    ("mode", "message"),
    [(0o555, r"\.lock cannot be opened: permission denied. Correct the rights on"), (0o000, r"permission denied")],
)
def test_storage_that_may_not_be_written(mode, message):
    with open_directory() as base:
        config = configuration(base)
        database(config.database_path, mode="delete")
        config.storage_path.mkdir(parents=True)
        config.storage_path.chmod(mode)
        for attempt in (plan, run):
            with unprivileged(), pytest.raises(StoreError, match=message if attempt is run else r"permission denied"):
                attempt(config)
        config.storage_path.chmod(0o755)
        assert stored(config) == []


def test_behind_a_staging_that_is_a_link_nothing_is_deleted(config, tmp_path):
    config.storage_path.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    (config.storage_path / ".staging").symlink_to(precious)
    with pytest.raises(StoreError, match=r"/\.staging is not a directory\. Remove it, then run again"):
        run(config)
    assert (precious / "file").read_text() == "mine"


def test_links_inside_a_staging_that_a_crash_left_are_not_followed(config, tmp_path):
    run(config)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    (config.storage_path / ".staging").mkdir()
    (config.storage_path / ".staging" / "link").symlink_to(precious)
    (config.storage_path / ".staging" / FIRST).write_text("half")
    run(config, later())
    assert (precious / "file").read_text() == "mine"
    assert not (config.storage_path / ".staging").exists()


@pytest.mark.parametrize("act", [run, plan, lambda config: prune.run(config, now=NOON)])
def test_while_another_run_goes_on(config, act):
    run(config)
    before = without_lock(config)
    message = rf"Another run \(process {os.getpid()}\) works on {config.storage_path}\. Wait for it to end"
    with lock.held(config.storage_path), pytest.raises(LockedError, match=message):
        act(config)
    assert without_lock(config) == before
    act(config)


def test_a_run_that_fails_is_recorded_and_then_nothing_is_removed(config):
    run(config)
    run(config, later())
    os.truncate(config.database_path, 5000)
    with pytest.raises(backup.RunFailedError, match=r"is damaged: SQLite says") as failed:
        run(config, later(2))
    assert (failed.value.outcome.changed, failed.value.outcome.manifest) == (False, None)
    assert ".staging" not in stored(config)
    before = tree(config.storage_path)
    for judged in (prune.plan(config, now=later(3)), prune.run(config, now=later(3))):
        assert judged.removed == []
        assert {one.decision.reasons for one in judged.verdicts} == {
            (f"nothing is removed: the run of 2026-11-22T14:00:00Z failed: {failed.value}",)
        }
    after = tree(config.storage_path)
    assert {Path(path).name for path in after if after[path] != before[path]} <= {".lock"}

    config.database_path.unlink()
    database(config.database_path)
    run(config, later(4))
    assert len(prune.run(config, now=later(5)).removed) == 2


EXCLUSIVE = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("ready", flush=True)
time.sleep(60)
"""
# A transaction that is too large for its memory, so that a part of it goes to the disk before its end.
UNFINISHED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in ("PRAGMA cache_size = 2", "BEGIN", "UPDATE memories SET description = zeroblob(9000)"):
    connection.execute(statement)
os.kill(os.getpid(), 9)
"""


def corrupt(config, held):
    os.truncate(config.database_path, 5000)


def locked_exclusively(config, held):
    held.enter_context(process(EXCLUSIVE, config.database_path))


def left_with_a_hot_journal(config, held):
    subprocess.run([sys.executable, "-c", UNFINISHED, config.database_path], check=False)


def empty(config, held):
    with closing(connect(config.database_path)) as application:
        application.execute("DROP TABLE memories")


def gone(config, held):
    config.database_path.unlink()


def already_running(config, held):
    config.storage_path.mkdir()
    held.enter_context(lock.held(config.storage_path))


def without_locks(config, held):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    config.storage_path.mkdir()
    (config.storage_path / ".lock").touch()
    held.enter_context(pytest.MonkeyPatch.context()).setattr(lock.fcntl, "flock", refused)


def behind_a_link(config, held):
    config.storage_path.mkdir()
    (config.storage_path / ".lock").symlink_to("/nowhere/lock")


def in_the_way(config, held):
    config.storage_path.write_text("mine")


OBSTACLES = {
    corrupt: r"is damaged: SQLite says .*malformed",
    locked_exclusively: r"is locked: another process has held it",
    left_with_a_hot_journal: r"has a hot journal",
    empty: r"has no tables\. Nothing was backed up",
    gone: r"There is nothing to back up: neither .* exists",
    already_running: r"Another run \(process \d+\) works on",
    without_locks: r"/\.lock cannot be locked: no locks available\. Move storage_path to a filesystem that has locks\.",
    behind_a_link: r"/\.lock cannot be opened: too many levels",
    in_the_way: r"is a file, not a directory\. Correct storage_path",
}


@pytest.mark.parametrize(("obstacle", "message"), OBSTACLES.items(), ids=[one.__name__ for one in OBSTACLES])
def test_the_plan_fails_where_the_run_would_and_with_its_words(tmp_path, monkeypatch, obstacle, message):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    config = configuration(tmp_path)
    database(config.database_path, mode="delete", rows=200)
    config.storage_path.parent.mkdir()
    with ExitStack() as held:
        obstacle(config, held)
        before = tree(tmp_path)
        planned = failure_of(lambda: plan(config))
        assert tree(tmp_path) == before
        assert re.search(message, planned)
        assert failure_of(lambda: run(config)) == planned


def test_the_plan_too_says_that_there_is_no_room(config, monkeypatch):
    needed = config.database_path.stat().st_size
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9**9, 9**9, needed - 1))
    # The directory is still to be made, and its nearest parent is where there has to be room.
    message = f"{config.storage_path.parents[1]} has {needed - 1:,} bytes free and {needed:,} are needed"
    with pytest.raises(StoreError, match=re.escape(message)):
        plan(config)
    with pytest.raises(backup.RunFailedError, match=rf"has {needed - 1:,} bytes free and {needed:,} are needed"):
        run(config)


def test_the_plan_fails_on_a_filesystem_that_is_read_only(config, monkeypatch):
    # What the kernel says of one; mounting it needs rights that a developer has not.
    real = os.statvfs(config.database_path.parent)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:8], os.ST_RDONLY, real[9])))
    with pytest.raises(StoreError, match=r"cannot be used: read-only file system\. Correct storage_path"):
        plan(config)


def test_a_lost_database_is_an_error_although_there_is_a_state(config):
    run(config)
    config.database_path.unlink()
    config.state_path.parent.mkdir()
    config.state_path.write_text('{"version": 1}')
    for attempt in (plan, run):
        with pytest.raises(EngineError, match=rf"{config.database_path} does not exist\. If it was lost, restore it"):
            attempt(config, later())
    assert set(check(config)) == {FIRST}
    # Whoever means it says so.
    assert run(replace(config, source="state"), later()).name.kind == "state"


@pytest.mark.parametrize("lost", ["a byte of the copy", "a row of the copy"])
def test_a_copy_that_is_not_what_the_source_was_is_no_backup(config, monkeypatch, lost):
    take = backup.snapshot.take

    def damaged(source, target, **keywords):
        taken = take(source, target, **keywords)
        if lost == "a row of the copy":
            with closing(connect(target)) as connection:
                connection.execute("PRAGMA journal_mode = delete")
                connection.execute("DELETE FROM memories WHERE id = 7")
        else:
            with target.open("r+b") as stream:
                stream.seek(4096)
                stream.write(b"\xff" * 8)
        return taken

    monkeypatch.setattr(backup.snapshot, "take", damaged)
    message = r"tables is .*49.*, the source had .*50" if "row" in lost else r"is damaged: .* says"
    with pytest.raises(backup.RunFailedError, match=message):
        run(config)
    assert stored(config) == [".lock", claim.CLAIM, "last-run.json"]


SITUATIONS = {
    "the first run": {"earlier": False},
    "a later run": {"earlier": True},
    "an unchanged source": {"earlier": True, "skip_unchanged": True},
}


def prepared(tmp_path, number, earlier):
    """A host of its own, with an earlier backup or without."""
    base = tmp_path / str(number)
    database(base / "data" / "eternia.db")
    config = configuration(base, retention={"keep_last": 1}, minimum_kept=1)
    if earlier:
        run(config)
    return config


def assert_nothing_is_half(config, earlier):
    found = check(config, moment=later(5))
    assert not earlier or found[FIRST] == ("verified", [])
    for name, (is_status, problems) in found.items():
        # Data without a manifest is a crash between the two, and is whole.
        assert (is_status in ("verified", "legacy"), problems) == (True, [])
        assert query(config.storage_path / name, "PRAGMA integrity_check") == [("ok",)]
        assert query(config.storage_path / name, "SELECT count(*) FROM memories") == [(50,)]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_short_reads_are_continued(tmp_path, monkeypatch, compression):
    """What the kernel gives of less than was asked for is not the end of a file."""
    config = configuration(tmp_path, retention={"keep_last": 1}, minimum_kept=1, compression=compression)
    database(config.database_path, rows=3000)
    leave_in_log(config.database_path)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, start: pread(descriptor, max(1, size // 2), start))
    backup.run(config, clock=SetClock(NOON).clock())
    second = backup.run(config, clock=SetClock(NOON + timedelta(hours=1)).clock())
    assert second.record.result == "succeeded"
    pruned = prune.run(config, now=NOON + timedelta(hours=1))
    assert [str(one.decision.copy.name) for one in pruned.removed] == [FIRST + ".zst" * (compression == "zstd")]
    found = status.read(config, now=NOON + timedelta(hours=2), verify="full")
    assert found.newest_verified == str(second.name)


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_killed_at_any_call_nothing_is_half_and_the_next_run_succeeds(tmp_path, monkeypatch, situation):
    earlier, options = situation["earlier"], {key: situation[key] for key in situation if key != "earlier"}
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def killed(config, step):
        at_call(step, die)
        run(config, later(), **options)

    for step in itertools.count(1):
        config = prepared(tmp_path, step, earlier)
        ended = in_child(lambda config=config, step=step: killed(config, step))
        assert ended in (0, -signal.SIGKILL)
        assert_nothing_is_half(config, earlier)
        assert not prune.plan(config, now=later(2)).removed or succeeded(config, later())
        run(config, later(2), **options)
        assert_nothing_is_half(config, earlier)
        assert ".staging" not in stored(config)
        assert record.trouble(config.storage_path) is None
        if ended == 0:
            break
        shutil.rmtree(tmp_path / str(step))
    assert step > 20


def succeeded(config, moment):
    """Whether the record says so of the run of that time."""
    found = json.loads((config.storage_path / "last-run.json").read_bytes())
    return (found["result"], found["at"]) == ("succeeded", f"{moment:%Y-%m-%dT%H:%M:%SZ}")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_refused_at_any_call_it_is_said_and_nothing_is_half(tmp_path, monkeypatch, situation, error):
    earlier, options = situation["earlier"], {key: situation[key] for key in situation if key != "earlier"}
    monkeypatch.setattr(os, "fsync", lambda _: None)
    met = []

    def refuse(name):
        met.append(name)
        raise OSError(error, os.strerror(error))

    for step in itertools.count(1):
        config = prepared(tmp_path, step, earlier)
        before = set(stored(config)) if earlier else set()
        met.clear()
        with monkeypatch.context() as patched:
            at_call(step, refuse, patched.setattr)
            failure = failure_of(lambda config=config: run(config, later(), **options))
        assert_nothing_is_half(config, earlier)
        if failure is not None:
            # It says what to do, too.
            assert re.search(r"\. [A-Z][a-z]+ ", failure), f"{met}: {failure}"
            assert not prune.plan(config, now=later(2)).removed, f"{met}: {record.trouble(config.storage_path)}"
            assert not earlier or before <= set(stored(config))
        run(config, later(3), **options)
        assert record.trouble(config.storage_path) is None
        shutil.rmtree(tmp_path / str(step))
        if not met:
            break
    assert step > 20


def test_data_is_on_the_disk_before_it_has_a_name_and_before_its_manifest(config, monkeypatch):
    calls = []

    def noted(name, real):
        def call(first, *others, **keywords):
            where = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else first
            calls.append((name, os.path.relpath(where, config.storage_path)))
            return real(first, *others, **keywords)

        return call

    for name in ("fsync", "link", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    run(config)
    manifest = f"{FIRST}.manifest.json"
    order = [
        ("fsync", f".staging/{FIRST}"),
        ("fsync", f".staging/{manifest}"),
        ("link", f".staging/{FIRST}"),
        ("fsync", "."),
        ("link", f".staging/{manifest}"),
        ("fsync", "."),
        ("fsync", ".staging/last-run.json"),
        ("replace", ".staging/last-run.json"),
    ]
    at = -1
    for call in order:
        at = calls.index(call, at + 1)


IN_A_SMALL_FILESYSTEM = """
import os, subprocess, sys
from pathlib import Path
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, files, prune, status
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import EngineError
from ansible_collections.eternia.backup.tests.unit.builders import NOON, SetClock, configuration
from datetime import timedelta

config = configuration(Path(sys.argv[1]), retention={"keep_last": 1}, minimum_kept=1)
def run(hours):
    try:
        backup.run(config, clock=SetClock(NOON + timedelta(hours=hours)).clock())
        print("ok")
    except EngineError as exc:
        print(exc)
    found = status.read(config, now=NOON + timedelta(days=1), verify="full").backups
    print(len(found), {one.status for one in found})
    print(len(prune.plan(config, now=NOON + timedelta(days=1)).removed))

run(0)
run(1)
run(2)
files.need_space = lambda directory, size: None
run(3)
full = config.storage_path / "somebody's file"
try:
    full.write_bytes(bytes(2 << 20))
except OSError:
    pass
run(4)
full.unlink()
subprocess.run(["mount", "-o", "remount,ro", config.storage_path], check=True)
run(5)
"""


def test_a_filesystem_that_is_full_or_read_only(tmp_path):
    config = configuration(tmp_path)
    database(config.database_path, mode="delete", rows=800)
    assert 300_000 < config.database_path.stat().st_size < 400_000
    config.storage_path.mkdir(parents=True)
    mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, str(config.storage_path)]
    probe = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no filesystem of our own can be mounted here: {probe.stderr.strip()}")
    done = subprocess.run(
        [*command, sys.executable, "-c", IN_A_SMALL_FILESYSTEM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": COLLECTIONS},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [
        *(r"ok", r"1 {'verified'}", "0"),
        *(r"ok", r"2 {'verified'}", "1"),
        *(r"/backups/staging/\.staging has [\d,]+ bytes free and [\d,]+ are needed\. Free", r"2 {'verified'}", "0"),
        *(r"The snapshot .* could not be written: no space left on device", r"2 {'verified'}", "0"),
        *(r"no space left on device", r"2 {'verified'}", "0"),
        *(r"read-only file system", r"2 {'verified'}", "0"),
    ]
    lines = done.stdout.splitlines()
    for line, pattern in itertools.zip_longest(lines, expected, fillvalue=""):
        assert re.search(pattern, line), done.stdout


def test_full_from_the_start_what_went_well_before_no_longer_counts(config, monkeypatch):
    run(config)
    run(config, later())
    assert [str(one.decision.copy.name) for one in prune.plan(config, now=later(2)).removed] == [FIRST]
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full_disk)
        with pytest.raises(StoreError, match=r"no space left on device"):
            run(config, later(3))
    assert prune.plan(config, now=later(4)).removed == []


def failure_of(act):
    try:
        act()
    except EngineError as exc:
        return str(exc)
    return None


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_listing_is_whole_while_files_come_and_go(config):
    run(config)
    run(config, later())
    store = LocalStore(config.storage_path)
    stop = threading.Event()

    def come_and_go():
        for number in itertools.count():
            path = config.storage_path / f"{number}"
            path.touch()
            path.unlink()
            if stop.is_set():
                return

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert {len(list(store.copies())) for _unused in range(3000)} == {2}
    finally:
        stop.set()
        thread.join()


def test_what_eternias_own_manager_left_is_listed_and_pruned_only_in_the_storage_path(config, tmp_path):
    for place, name in (
        (config.storage_path, "eternia_backup_20260101_000000.db"),
        (tmp_path / "data/backups", "eternia_backup_20260102_000000.db"),
        (tmp_path / "logs/backups", "eternia_state_20260103_000000.json"),
    ):
        place.mkdir(parents=True)
        shutil.copyfile(config.database_path, place / name)
    run(config)
    assert {name: found[0] for name, found in check(config).items()} == {
        FIRST: "verified",
        "eternia_state_20260103_000000.json": "legacy",
        "eternia_backup_20260102_000000.db": "legacy",
        "eternia_backup_20260101_000000.db": "legacy",
    }
    removed = [one.location for one in prune.run(config, now=later()).removed]
    assert removed == [str(config.storage_path / "eternia_backup_20260101_000000.db")]
    assert len(check(config)) == 3


OTHER = "eternia_backup_20261122_110000.db"
DAMAGES = {
    "another backup's": (lambda fields: {**fields, "name": OTHER}, rf"describes '{OTHER}', not {FIRST}"),
    "another time's": (lambda fields: {**fields, "created_at": "2026-11-22T11:00:00Z"}, rf"describes '{FIRST}', not"),
    "another kind's": (lambda fields: {**fields, "kind": "state"}, rf"describes '{FIRST}', not"),
    "another encoding's": (
        lambda fields: {**fields, "stored": {**fields["stored"], "encoding": ["zst"]}},
        rf"describes '{FIRST}', not",
    ),
    "a path for a name": (lambda fields: {**fields, "name": "../../etc/passwd"}, r"describes '../../etc/passwd', not"),
    "a later format": (lambda fields: {**fields, "format": 2}, r"has manifest format 2; this version .* reads form"),
    "no format": (lambda fields: {**fields["stored"]}, r"is not a manifest \(KeyError: 'format'\)"),
    "a list": (lambda fields: [fields], r"is not a manifest \(TypeError"),
    "other bytes than are stored": (
        lambda fields: {**fields, "content": {**fields["content"], "bytes": fields["content"]["bytes"] + 1}},
        r"what is stored as it is has other bytes than the content",
    ),
    "a digest of something else": (
        lambda fields: {
            **fields,
            "content": {**fields["content"], "digest": {"algorithm": "sha256", "value": "0" * 64}},
        },
        r"what is stored as it is has other bytes than the content",
    ),
    "a crowd of nothing": (
        lambda fields: {**fields, "source": [{}] * 2_000_001},
        r"or 2000000 brackets, which no manifest has",
    ),
    "no digest": (
        lambda fields: {**fields, "stored": {key: fields["stored"][key] for key in ("bytes", "crc64nvme", "encoding")}},
        r"is not a whole manifest \(KeyError: 'digest'\)",
    ),
    "true for a size": (
        lambda fields: {**fields, "stored": {**fields["stored"], "bytes": True}},
        r"is not a whole manifest \(ValueError: a number of bytes or rows expected, found True",
    ),
    "a negative size": (
        lambda fields: {**fields, "content": {**fields["content"], "bytes": -1}},
        r"a number of bytes or rows expected, found -1",
    ),
    "a digest that is none": (
        lambda fields: {**fields, "stored": {**fields["stored"], "digest": {"algorithm": "blake3", "value": "xyz"}}},
        r"is not a whole manifest \(ValueError: a digest of 64 hexadecimal digits expected, found 'xyz'\)",
    ),
    "md5": (
        lambda fields: {**fields, "stored": {**fields["stored"], "digest": {"algorithm": "md5", "value": "00"}}},
        r"unknown digest algorithm 'md5'",
    ),
    "two lines": (
        lambda fields: {**fields, "host": "web1\nall is well"},
        r"a short line of text expected, found 'web1\\n",
    ),
    "what a terminal obeys": (
        lambda fields: {**fields, "tool_version": "\x1b[2J"},
        r"a short line of text expected, fou",
    ),
    "a long line": (lambda fields: {**fields, "machine": "x" * 256}, r"a short line of text expected, found 'xxx"),
    "another size": (
        lambda fields: {**fields, **{key: {**fields[key], "bytes": 5} for key in ("stored", "content")}},
        rf"{FIRST} is damaged: it has \d+ bytes, its manifest says 5\. Choose another backup",
    ),
}


@pytest.mark.parametrize(("bend", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_manifest_that_is_not_this_backups_is_reported(config, bend, message):
    run(config)
    path = config.storage_path / f"{FIRST}.manifest.json"
    path.write_text(json.dumps(bend(json.loads(path.read_bytes()))))
    found, [problem] = check(config, "manifest")[FIRST]
    assert found == "damaged"
    assert re.search(message, problem)
    assert str(config.storage_path) in problem
    assert status.read(config, now=NOON, verify="manifest").stale


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_manifest_that_is_no_json_is_reported(config, content):
    run(config)
    (config.storage_path / f"{FIRST}.manifest.json").write_bytes(content)
    found, [problem] = check(config, "manifest")[FIRST]
    assert found == "damaged"
    assert "is not a manifest" in problem
    assert check(config, "none")[FIRST] == ("verified", [])


def test_a_manifest_that_is_larger_than_any_of_ours_is_not_read_to_its_end(config):
    run(config)
    path = config.storage_path / f"{FIRST}.manifest.json"
    path.write_bytes(path.read_bytes().ljust(MOST_BYTES + 1))
    found, [problem] = check(config, "manifest")[FIRST]
    assert found == "damaged"
    assert re.search(
        rf"{path} has more than 16777216 bytes, or 2000000 brackets, which no manifest has\. .* choose another", problem
    )
    path.write_bytes(path.read_bytes()[:MOST_BYTES])
    assert check(config, "manifest")[FIRST] == ("verified", [])


def test_a_source_whose_manifest_nobody_could_read_is_not_backed_up(tmp_path):
    config = configuration(tmp_path)
    config.state_path.parent.mkdir()
    config.state_path.write_text(json.dumps({"x" * MOST_BYTES: 1}))
    with pytest.raises(
        EngineError,
        match="and no more than 16777216, or 2000000 brackets, are ever read: its source has too many tables, or keys",
    ):
        run(config)
    assert check(config) == {}


@pytest.mark.parametrize("offset", [0, 100, 5000, -1])
def test_a_flipped_bit_is_found_by_a_full_check(config, offset):
    run(config)
    run(config, later())
    flip(config.storage_path / FIRST, offset)
    assert check(config, "manifest")[FIRST] == ("verified", [])
    found, [problem] = check(config)[FIRST]
    assert found == "damaged"
    assert re.search(rf"{FIRST} is damaged: \d+ bytes with blake3 \w+, its manifest says .* Choose another", problem)
    # The other one is a comfort, if an older one.
    assert status.read(config, now=later(), verify="full").newest_verified == "eternia_backup_20261122_130000.db"


def test_data_that_is_missing_is_reported(config):
    run(config)
    (config.storage_path / FIRST).unlink()
    assert check(config, "none") == {FIRST: ("damaged", ["its data is missing"])}


def test_age_and_staleness(config):
    config = replace(config, frequency="hourly")
    found = status.read(config, now=NOON)
    assert (found.newest_verified, found.age_seconds, found.stale) == (None, None, True)
    run(config)
    for minutes, stale in ((0, False), (90, False), (91, True)):
        found = status.read(config, now=NOON + timedelta(minutes=minutes))
        assert (found.newest_verified, found.age_seconds, found.stale) == (FIRST, minutes * 60, stale)
    # What comes from the future proves nothing about today.
    run(config, later(24))
    assert status.read(config, now=later(2)).newest_verified == FIRST


def test_names_say_utc(config):
    assert parse(FIRST).created_at == NOON
    zone = NOON.astimezone(None).tzinfo
    assert str(plan(config, NOON.astimezone(zone)).name) == FIRST

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores on a real directory and a real S3 server: all comes back whole, or all stays and it is said why."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import threading
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    copying,
    fetch,
    files,
    gate,
    hold,
    placing,
    prune,
    restore,
    safety,
    snapshot,
    staging,
    status,
    swap,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    ConfigError,
    DamagedError,
    EngineError,
    LockedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TargetError,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.hold import Hold
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE, STATE
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOBODY,
    NOON,
    SetClock,
    add_rows,
    configuration,
    connect,
    database,
    die,
    flip,
    in_child,
    open_directory,
    process,
    query,
    tree,
    unprivileged,
)

FIRST, SECOND = "eternia_backup_20261122_120000.db", "eternia_backup_20261122_130000.db"
STATE_NAME = "eternia_state_20261122_120000.json"
SAFETY = "eternia_backup_20261123_120000.db"


def clock(hours=24):
    return SetClock(NOON + timedelta(hours=hours)).clock()


def run(config, wanted="latest", act=restore.run, hours=24, **allowed):
    return act(config, Request(wanted, **allowed), clock=clock(hours))


def plan(config, wanted="latest", **allowed):
    return run(config, wanted, act=restore.plan, **allowed)


def take_two(config):
    """A host with backups of 50 and of 51 rows, and 58 rows in the live database."""
    database(config.database_path)
    for hours, rows in ((0, 1), (1, 7)):
        backup.run(config, clock=clock(hours))
        with closing(connect(config.database_path)) as application:
            add_rows(application, rows)
    return config


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(snapshot, "_STATE_PAUSE", 0)


@pytest.fixture
def config(tmp_path):
    return take_two(configuration(tmp_path))


@pytest.fixture
def both(tmp_path, s3_settings):
    return take_two(replace(configuration(tmp_path), cloud=s3_settings))


@pytest.fixture
def state(tmp_path):
    """A host with a backup of one state, and another one live."""
    config = configuration(tmp_path)
    config.state_path.parent.mkdir()
    config.state_path.write_text('{"version": 1}')
    backup.run(config, clock=clock(0))
    config.state_path.write_text('{"version": 2}')
    return config


def rows(path):
    return query(path, "SELECT count(*) FROM memories")[0][0]


def kept(config):
    place = config.storage_path / "safety"
    return sorted(path.name for path in place.iterdir()) if place.exists() else []


def quiet(config):
    """All that a restore might touch, but for the lock, which says who held it."""
    everything = {**tree(config.database_path.parents[1]), **tree(config.storage_path)}
    return {path: facts for path, facts in everything.items() if not path.endswith(".lock")}


def flip_in_s3(config, object_store, name):
    place = {"Bucket": config.cloud.bucket, "Key": f"{config.cloud.prefix}/{name}"}
    data = bytearray(object_store.client().get_object(**place)["Body"].read())
    data[5000] ^= 1
    object_store.client().put_object(**place, Body=bytes(data))


def remove_from_s3(config, object_store, name):
    for suffix in ("", ".manifest.json"):
        object_store.client().delete_object(Bucket=config.cloud.bucket, Key=f"{config.cloud.prefix}/{name}{suffix}")


def cut_off(config, wanted, at=lambda *_: die("")):
    """A restore that dies right before its rename, or wherever `at` is put."""

    def child():
        swap._bring_companions = at
        run(config, wanted)

    assert in_child(child) == -signal.SIGKILL


def cut_off_before(config, wanted=FIRST):
    def child():
        swap.commit = lambda *_: die("")
        run(config, wanted)

    assert in_child(child) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("latest", SECOND),
        (FIRST, FIRST),
        (f"{FIRST}.manifest.json", FIRST),
        ("{storage}/" + FIRST, FIRST),
        ("{storage}/" + f"{FIRST}.manifest.json", FIRST),
        ("s3://{bucket}/{prefix}/" + FIRST, FIRST),
        ("2026-11-22T12:59:59Z", FIRST),
        ("2026-11-22T13:00:00Z", SECOND),
        ("2030-01-01T00:00:00Z", SECOND),
    ],
)
def test_every_way_to_say_what_is_wanted(both, wanted, name):
    wanted = wanted.format(storage=both.storage_path, bucket=both.cloud.bucket, prefix=both.cloud.prefix)
    planned = plan(both, wanted)
    outcome = run(both, wanted)
    assert rows(both.database_path) == (50 if name == FIRST else 51)
    assert (Path(outcome.name).name, outcome.changed, outcome.target) == (name, True, str(both.database_path))
    assert outcome.before["tables"] == {"memories": 58}
    assert outcome.after["tables"] == {"memories": rows(both.database_path)}
    assert outcome.store == ("s3" if wanted.startswith("s3:") else "local")
    assert outcome.safety == str(both.storage_path / "safety" / SAFETY)
    assert rows(Path(outcome.safety)) == 58
    assert outcome.warnings == []
    for field in ("name", "store", "location", "before", "after", "changed", "target", "created_at", "bytes", "kind"):
        assert getattr(planned, field) == getattr(outcome, field), field


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ("yesterday", ConfigError, r"'yesterday' is no backup\. Give latest, a time such as 2026-11-22T12:00:00Z"),
        ("2026-13-01T00:00:00Z", ConfigError, r"is no time; give it in UTC"),
        (
            "2020-01-01T00:00:00Z",
            NotFoundError,
            r"there is no verified backup from 2020.* or before\. List",
        ),
        ("eternia_backup_20200101_000000.db", NotFoundError, r"There is no backup .* \(looked in .*\)\. List"),
        ("{base}/nothing.db", NotFoundError, r"Backup file not found: .*/nothing\.db\. List"),
        ("s3://bucket", ConfigError, r"is no backup in S3, such as s3://bucket/prefix/eternia"),
    ],
)
def test_what_does_not_exist_or_means_nothing(config, tmp_path, wanted, error, message):
    before = quiet(config)
    for attempt in (plan, run):
        with pytest.raises(error, match=message):
            attempt(config, wanted.format(base=tmp_path))
    assert quiet(config) == before


def test_owner_mode_and_attributes_stay(config):
    path = config.database_path
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, 12345)
    try:
        os.setxattr(path, "user.eternia", b"mine")
        attributes = {"user.eternia": b"mine"}
    except OSError as exc:
        print(f"without extended attributes: {exc}")
        attributes = {}
    before = path.stat()
    run(config, FIRST)
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")} == attributes
    assert after.st_ino != before.st_ino


def test_a_link_stays_a_link(config, tmp_path):
    real = tmp_path / "volume" / "real.db"
    real.parent.mkdir()
    config.database_path.rename(real)
    config.database_path.symlink_to(real)
    run(config, FIRST)
    assert config.database_path.is_symlink()
    assert (rows(real), os.listdir(real.parent)) == (50, ["real.db"])


def test_a_target_that_lost_everything(config):
    shutil.rmtree(config.database_path.parent)
    planned, outcome = plan(config), run(config)
    assert (planned.before, outcome.before, outcome.safety) == (None, None, None)
    assert rows(config.database_path) == 51
    assert stat.S_IMODE(config.database_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.database_path.parent.stat().st_mode) == 0o755
    assert kept(config) == []


@pytest.mark.parametrize(
    ("directory", "expected"), [(0o700, 0o600), (0o755, 0o600), (0o750, 0o600), (0o770, 0o660), (0o2775, 0o660)]
)
def test_who_may_work_in_the_directory_may_work_on_what_comes_back(config, directory, expected):
    config.database_path.unlink()
    place = config.database_path.parent
    place.chmod(directory)
    if os.geteuid() == 0:
        os.chown(place, NOBODY, 12345)
        place.chmod(directory)
    run(config)
    there, of_directory = config.database_path.stat(), place.stat()
    assert stat.S_IMODE(there.st_mode) == expected
    assert (there.st_uid, there.st_gid) == (of_directory.st_uid, of_directory.st_gid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be of another group than the directory, and own the file")
def test_a_group_that_is_not_the_directorys_gets_nothing():
    with open_directory() as base:
        os.chown(base, NOBODY, NOBODY)
        with unprivileged():
            config = take_two(configuration(base))
            config.database_path.unlink()
        os.chown(config.database_path.parent, NOBODY, 12345)
        config.database_path.parent.chmod(0o770)
        with unprivileged():
            run(config)
        there = config.database_path.stat()
        assert (stat.S_IMODE(there.st_mode), there.st_gid) == (0o600, NOBODY)


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_link_that_somebody_lays_where_the_staging_was_is_not_followed(config, tmp_path, monkeypatch, what):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "eternia.db").write_text("precious")
    (precious / "eternia.db").chmod(0o600)
    config.database_path.chmod(0o666)
    dress = placing.dress

    def swap_and_dress(target, staged):
        if what == "directory":
            staged.parent.rename(tmp_path / "away")
            staged.parent.symlink_to(precious)
        else:
            staged.unlink()
            staged.symlink_to(precious / "eternia.db")
        dress(target, staged)

    monkeypatch.setattr(placing, "dress", swap_and_dress)
    with pytest.raises(TargetError, match=r"cannot be put into the place of .*Nothing was changed"):
        run(config)
    assert stat.S_IMODE((precious / "eternia.db").stat().st_mode) == 0o600
    assert rows(config.database_path) == 58


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_directory_that_is_made_is_not_given_away_through_a_link(config, tmp_path, monkeypatch):
    shutil.rmtree(config.database_path.parent)
    os.chown(tmp_path, NOBODY, NOBODY)
    precious = tmp_path / "precious"
    precious.mkdir()
    mkdir = Path.mkdir

    def replaced(path, *arguments, **keywords):
        mkdir(path, *arguments, **keywords)
        if path == config.database_path.parent:
            path.rmdir()
            path.symlink_to(precious)

    monkeypatch.setattr(Path, "mkdir", replaced)
    with suppress(EngineError):
        run(config)
    assert precious.stat().st_uid == 0


def make_directory(path):
    path.unlink()
    path.mkdir()


def make_fifo(path):
    path.unlink()
    os.mkfifo(path)


def make_link_beside(path):
    Path(f"{path}-wal").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            make_directory,
            r"eternia\.db is a directory, not a file\. Look at it; move it away, or correct data",
        ),
        (make_fifo, r"eternia\.db is a FIFO, not a file"),
        (make_link_beside, r"eternia\.db-wal is a symbolic link, not a file"),
    ],
)
def test_a_target_that_is_no_file(config, make, message):
    make(config.database_path)
    before = sorted(os.listdir(config.database_path.parent))
    for attempt in (plan, run):
        with pytest.raises(TargetError, match=message):
            attempt(config)
    assert sorted(os.listdir(config.database_path.parent)) == before


def test_a_target_that_may_not_be_replaced():
    with open_directory() as base:
        if os.geteuid() == 0:
            os.chown(base, NOBODY, NOBODY)
        with unprivileged():
            config = take_two(configuration(base))
            config.database_path.parent.chmod(0o555)
            try:
                before = quiet(config)
                for attempt in (plan, run):
                    with pytest.raises(StoreError, match=r"data cannot be used: permission denied\. Correct data"):
                        attempt(config)
                assert quiet(config) == before
            finally:
                config.database_path.parent.chmod(0o755)
            run(config)
            assert rows(config.database_path) == 51


OPEN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("SELECT * FROM memories").fetchone()
print("ready", flush=True)
sys.stdin.readline()
"""
OPEN_FILE = """
import sys
stream = open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("script", [OPEN, OPEN_FILE])
def test_an_application_that_has_it_open(config, script):
    with process(script, config.database_path) as application:
        live = config.database_path.stat()
        message = rf"process {application.pid} \(python[\d.]*\) has {config.database_path}\S* open\. Stop the app"
        with pytest.raises(LockedError, match=message):
            run(config)
        assert [one.pid for one in plan(config).holders] == [application.pid]
        assert (config.database_path.stat().st_ino, kept(config)) == (live.st_ino, [])
    run(config)
    assert rows(config.database_path) == 51


def test_an_application_that_has_the_state_open(state):
    with process(OPEN_FILE, state.state_path), pytest.raises(LockedError, match=r"has .*state_snapshot\.json open"):
        run(state)
    assert state.state_path.read_text() == '{"version": 2}'


STARTS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
try:
    connection.execute("INSERT INTO memories (description) VALUES ('mine')")
    said = "written"
except sqlite3.OperationalError as exc:
    said = str(exc)
open(sys.argv[2], "w").write(said)
if sys.argv[3] == "goes":
    connection.close()
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("what", ["goes", "stays"])
@pytest.mark.parametrize("moment", ["before the rename", "after it"])
def test_who_may_not_shut_files_finds_an_application_that_starts_in_the_middle(
    config, tmp_path, monkeypatch, what, moment
):
    """Only root may: see test_gate.py."""
    monkeypatch.setattr(gate, "shut", lambda *_paths: nullcontext(False))
    commit = swap.commit
    with ExitStack() as held:

        def start(*arguments):
            if moment == "after it":
                commit(*arguments)
            held.enter_context(process(STARTS, config.database_path, tmp_path / "said", what))
            if moment != "after it":
                commit(*arguments)

        monkeypatch.setattr(swap, "commit", start)
        if (what, moment) == ("stays", "before the rename"):
            with pytest.raises(LockedError, match=r"has .*eternia\.db open: it was started while the restore went on"):
                run(config, FIRST)
            assert rows(config.database_path) == 58
            # He has what was there open, and may write to it.
            assert rows(config.storage_path / "safety" / SAFETY) == 58
        else:
            run(config, FIRST)
            assert rows(config.database_path) == 50
    assert (tmp_path / "said").read_text() == "database is locked"
    assert config.database_path.stat().st_nlink == 1
    monkeypatch.undo()
    with closing(connect(config.database_path)) as application:
        add_rows(application)


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_what_somebody_writes_between_the_check_and_the_lock_is_not_lost(config, monkeypatch, ended):
    fold = safety.fold

    def write():
        application = connect(config.database_path)
        add_rows(application)
        if ended == "killed":
            die("")
        application.close()

    def folded(*arguments):
        found = fold(*arguments)
        in_child(write)
        return found

    monkeypatch.setattr(safety, "fold", folded)
    with suppress(LockedError):
        run(config, FIRST)
    monkeypatch.undo()
    if rows(config.database_path) == 50:
        [name] = [name for name in kept(config) if not name.endswith(".manifest.json")]
        run(config, str(config.storage_path / "safety" / name), hours=25, allow_unverified=True)
    with closing(connect(config.database_path)) as application:
        assert application.execute("SELECT count(*) FROM memories").fetchone() == (59,)


def test_a_stale_log_beside_the_target_goes_with_what_was_there(config):
    shutil.copy(config.database_path, other := config.database_path.with_name("other.db"))

    def write():
        application = connect(other)
        add_rows(application, 5)
        die("")

    in_child(write)
    for suffix in ("-wal", "-shm"):
        Path(f"{other}{suffix}").rename(f"{config.database_path}{suffix}")
    other.unlink()
    run(config, FIRST)
    with closing(connect(config.database_path)) as application:
        assert application.execute("SELECT count(*) FROM memories").fetchone() == (50,)
    assert os.listdir(config.database_path.parent) == ["eternia.db"]
    # As an application would have seen it, the stale log included.
    assert rows(config.storage_path / "safety" / SAFETY) == 63


def test_the_safety_backup_holds_the_log_too_and_brings_everything_back(config):
    def write():
        application = connect(config.database_path)
        add_rows(application, 5)
        die("")

    in_child(write)
    outcome = run(config, FIRST)
    assert rows(config.database_path) == 50
    assert kept(config) == [SAFETY, f"{SAFETY}.manifest.json"]
    assert stat.S_IMODE(Path(outcome.safety).stat().st_mode) == 0o600
    back = run(config, SAFETY, hours=25)
    assert (rows(config.database_path), back.name, back.warnings) == (63, SAFETY, [])
    assert run(config, outcome.safety, hours=26).unchanged
    # It is no backup among the others.
    assert run(config, hours=27).name == SECOND


@pytest.mark.parametrize("log", [None, b"garbage" * 1000])
def test_what_is_too_damaged_is_kept_byte_for_byte_and_can_be_put_back(config, log):
    path, wal = config.database_path, Path(f"{config.database_path}-wal")
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    if log:
        wal.write_bytes(log)
    was = path.read_bytes()
    outcome = run(config, FIRST)
    assert outcome.before is None
    raw = config.storage_path / "safety" / f"{SAFETY}.raw"
    assert outcome.safety == str(raw)
    # Whoever looks at a log makes an index of it.
    found = {one.name: one.read_bytes() for one in raw.iterdir() if not one.name.endswith("-shm")}
    assert found == {path.name: was, **({wal.name: log} if log else {})}
    with pytest.raises(RefusedError, match=r"is a copy of something damaged.*allow it: allow_unverified"):
        run(config, str(raw), hours=25)
    assert rows(path) == 50
    planned = plan(config, str(raw), allow_unverified=True)
    assert (planned.store, planned.location) == ("raw", str(raw))
    assert planned.bytes_to_fetch == planned.space_needed == sum(one.stat().st_size for one in raw.iterdir())
    run(config, str(raw), hours=25, allow_unverified=True)
    assert (path.read_bytes(), wal.read_bytes() if log else wal.exists()) == (was, log or False)
    run(config, FIRST, hours=26)
    assert rows(path) == 50


@pytest.mark.parametrize("room", [True, False], ids=["room for a copy", "a full disk"])
@pytest.mark.parametrize("log", [None, b"garbage" * 1000])
def test_what_is_damaged_and_has_other_names_keeps_their_mode_and_owner(config, tmp_path, monkeypatch, log, room):
    """As `cp -al` and rsnapshot make them: who writes by the other name must not change what was kept, nor we his."""
    path, wal = config.database_path, Path(f"{config.database_path}-wal")
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    if log:
        wal.write_bytes(log)
    others = tmp_path / "snapshot"
    others.mkdir()
    was = {}
    for one in (path, wal) if log else (path,):
        one.chmod(0o644)
        if os.geteuid() == 0:
            os.chown(one, NOBODY, NOBODY)
        os.link(one, others / one.name)
        was[one.name] = one.read_bytes()
    before = tree(others)
    copy_file = copying.copy_file

    def full(source, target):
        if target.parent.name.endswith(".raw"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy_file(source, target)

    if not room:
        monkeypatch.setattr(copying, "copy_file", full)
    raw = Path(run(config, FIRST).safety)
    assert {name: (raw / name).read_bytes() for name in was} == was
    assert tree(others) == before
    # Rather by a link than not at all.
    assert [os.path.samefile(raw / name, others / name) for name in was] == [not room] * len(was)
    if room:
        assert {stat.S_IMODE((raw / name).stat().st_mode) for name in was} == {0o600}


def test_a_raw_copy_whose_log_alone_is_lacking_is_put_back_too(config):
    path, wal = config.database_path, Path(f"{config.database_path}-wal")
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    wal.write_bytes(b"garbage" * 1000)
    raw = run(config, FIRST).safety
    shutil.copyfile(Path(raw) / path.name, path)
    run(config, raw, hours=25, allow_unverified=True)
    assert wal.read_bytes() == b"garbage" * 1000


def test_a_name_that_somebody_takes_for_the_safety_backup_is_not_overwritten(config, monkeypatch):
    commit = files.commit

    def late(staged, final):
        final.write_text("theirs")
        commit(staged, final)

    monkeypatch.setattr(files, "commit", late)
    with pytest.raises(EngineError, match=rf"{SAFETY} exists already and is never overwritten"):
        run(config)
    assert ((config.storage_path / "safety" / SAFETY).read_text(), rows(config.database_path)) == ("theirs", 58)
    monkeypatch.undo()
    assert run(config).safety.endswith("eternia_backup_20261123_120001.db")


def local_damaged(config, _store):
    flip(config.storage_path / FIRST)


def local_short(config, _store):
    os.truncate(config.storage_path / FIRST, 9000)


def local_data_gone(config, _store):
    (config.storage_path / FIRST).unlink()


def local_gone(config, _store):
    local_data_gone(config, _store)
    (config.storage_path / f"{FIRST}.manifest.json").unlink()


def local_manifest_gone(config, _store):
    (config.storage_path / f"{FIRST}.manifest.json").unlink()


def local_manifest_damaged(config, _store):
    (config.storage_path / f"{FIRST}.manifest.json").write_text("{")


def local_unreadable(config, _store):
    (config.storage_path / FIRST).unlink()
    (config.storage_path / FIRST).symlink_to("/nowhere")


@pytest.mark.parametrize(
    "damage",
    [
        local_damaged,
        local_short,
        local_data_gone,
        local_gone,
        local_manifest_gone,
        local_manifest_damaged,
        local_unreadable,
    ],
)
def test_a_local_copy_that_is_not_whole_gives_way_to_the_one_in_s3(both, object_store, damage):
    damage(both, object_store)
    planned, outcome = plan(both, FIRST), run(both, FIRST)
    assert (planned.store, outcome.store, rows(both.database_path)) == ("s3", "s3", 50)


@pytest.mark.parametrize("damage", [flip_in_s3, remove_from_s3])
def test_a_copy_in_s3_that_is_not_whole_gives_way_to_the_local_one(both, object_store, damage):
    damage(both, object_store, FIRST)
    outcome = run(both, f"s3://{both.cloud.bucket}/{both.cloud.prefix}/{FIRST}")
    assert (rows(both.database_path), outcome.store) == (50, "local")
    assert [SECOND in one or FIRST in one for one in outcome.warnings] == [True] * (damage is flip_in_s3)


def test_one_that_is_damaged_everywhere_is_never_replaced_by_another(both, object_store):
    flip(both.storage_path / SECOND)
    flip_in_s3(both, object_store, SECOND)
    before = both.database_path.read_bytes()
    for attempt in (plan, run):
        with pytest.raises(DamagedError, match=rf"{SECOND} is damaged.*s3://.*{SECOND} is damaged"):
            attempt(both, SECOND)
    assert both.database_path.read_bytes() == before
    # Who asks for the latest gets the one before, and is told.
    planned, outcome = plan(both), run(both)
    assert (planned.name, outcome.name, rows(both.database_path)) == (FIRST, FIRST, 50)
    for told in (planned.warnings, outcome.warnings):
        assert any(f"{SECOND} is passed over, and an older backup is tried." in one for one in told)


def test_when_no_backup_is_whole(config):
    for name in (FIRST, SECOND):
        flip(config.storage_path / name)
    before = quiet(config)
    for attempt in (plan, run):
        with pytest.raises(DamagedError, match=rf"None of the 2 backups .*{SECOND} is passed over.*{FIRST} is passed"):
            attempt(config)
    assert quiet(config) == before


def test_while_s3_cannot_be_reached_it_is_not_said_that_nothing_is_whole(both):
    flip(both.storage_path / SECOND)
    away = replace(both, cloud=replace(both.cloud, endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(StoreError, match=r"is damaged.*Another store may have it whole: .*127\.0\.0\.1:9"):
        run(away, SECOND)
    outcome = run(away, FIRST)
    assert (outcome.store, rows(both.database_path)) == ("local", 50)
    assert any("127.0.0.1:9" in one for one in outcome.warnings)


@pytest.mark.parametrize("wanted", ["latest", "2026-11-22T13:00:00Z"])
def test_while_a_store_cannot_be_asked_no_older_backup_takes_the_place_of_a_damaged_one(both, wanted):
    away = replace(both, cloud=replace(both.cloud, endpoint_url="http://127.0.0.1:9"))
    assert run(away, wanted, act=restore.plan).name == SECOND
    flip(both.storage_path / SECOND)
    before = quiet(both)
    message = rf"{SECOND} is damaged.*may have it whole: .*127\.0\.0\.1:9.* Or ask for an older one by name: {FIRST}\."
    for attempt in (plan, run):
        with pytest.raises(StoreError, match=message):
            attempt(away, wanted)
    assert quiet(both) == before
    # When S3 answers again, its copy of the same name is the one.
    outcome = run(both, wanted)
    assert (outcome.name, outcome.store, rows(both.database_path)) == (SECOND, "s3", 51)


def test_while_a_store_cannot_be_asked_what_is_only_refused_is_passed_over_all_the_same(both):
    change_manifest(host="web2")(both.storage_path / f"{SECOND}.manifest.json")
    away = replace(both, cloud=replace(both.cloud, endpoint_url="http://127.0.0.1:9"))
    assert run(away).name == FIRST


@pytest.fixture
def cut_downloads():
    """Starts a proxy that cuts what is sent of an object after so many bytes of its answer; everything else passes."""
    listeners = []

    def start(endpoint, name, limit):
        there = urlsplit(endpoint)
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve(near):
            with near, socket.create_connection((there.hostname, there.port)) as far, suppress(OSError):
                armed = threading.Event()

                def answer():
                    left = limit
                    with suppress(OSError):
                        while data := far.recv(65536):
                            if armed.is_set():
                                near.sendall(data[:left])
                                left -= len(data)
                                if left <= 0:
                                    break
                            else:
                                near.sendall(data)
                        near.shutdown(socket.SHUT_RDWR)

                threading.Thread(target=answer, daemon=True).start()
                while data := near.recv(65536):
                    if data.startswith(b"GET ") and f"{name} HTTP".encode() in data:
                        armed.set()
                    far.sendall(data)

        def accept():
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        # Closing alone does not wake accept().
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_download_that_is_cut(tmp_path, s3_settings, object_store, cut_downloads, share):
    config = replace(configuration(tmp_path), cloud=s3_settings)
    database(config.database_path, rows=1500)
    backup.run(config, clock=clock(0))
    size = (config.storage_path / FIRST).stat().st_size
    local_gone(config, None)
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    before = config.database_path.read_bytes()
    endpoint = cut_downloads(object_store.endpoint, FIRST, int(size * share))
    with pytest.raises(StoreError, match=rf"{FIRST}"):
        run(replace(config, cloud=replace(s3_settings, endpoint_url=endpoint)), FIRST)
    assert config.database_path.read_bytes() == before
    assert sorted(os.listdir(config.database_path.parent)) == [".eternia.db.restore", "eternia.db"]
    run(config, FIRST)
    assert rows(config.database_path) == 1500
    assert os.listdir(config.database_path.parent) == ["eternia.db"]


def change_manifest(**changes):
    def change(path):
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))

    return change


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (Path.unlink, RefusedError, r"has no manifest, so nothing proves it whole\. .*allow it: allow_unverified"),
        (lambda path: path.write_text("{"), DamagedError, r"is not a manifest"),
        (lambda path: path.write_bytes(b""), DamagedError, r"is not a manifest"),
        (change_manifest(name=SECOND), DamagedError, rf"describes '{SECOND}', not {FIRST}"),
        (change_manifest(format=2), DamagedError, r"has manifest format 2; this version"),
        (
            change_manifest(environment="production"),
            RefusedError,
            r"of host web1 in production; this .* allow_foreign",
        ),
        (
            change_manifest(host="web2"),
            RefusedError,
            r"of host web2 in staging; this is host web1.*allow_foreign",
        ),
    ],
)
def test_a_manifest_that_does_not_speak_for_it(config, damage, error, message):
    damage(config.storage_path / f"{FIRST}.manifest.json")
    before = quiet(config)
    for attempt in (plan, run):
        with pytest.raises(error, match=message):
            attempt(config, FIRST)
    assert quiet(config) == before
    # It stands in nobody's way.
    assert run(config).name == SECOND


def test_what_has_to_be_allowed_can_be(config):
    (config.storage_path / f"{FIRST}.manifest.json").unlink()
    change_manifest(host="web2")(config.storage_path / f"{SECOND}.manifest.json")
    assert run(config, FIRST, allow_unverified=True).manifest is None
    assert rows(config.database_path) == 50
    run(config, SECOND, hours=25, allow_foreign=True)
    assert rows(config.database_path) == 51
    with pytest.raises(RefusedError, match=r"allow_foreign"):
        run(config, hours=26, allow_unverified=True)


def test_a_legacy_backup_is_checked_as_far_as_that_goes(config, tmp_path):
    place = tmp_path / "data/backups"
    place.mkdir()
    for name, source in (("eternia_backup_20260101_000000.db", FIRST), ("eternia_backup_20260102_000000.db", SECOND)):
        shutil.copyfile(config.storage_path / source, place / name)
    flip(place / "eternia_backup_20260102_000000.db", offset=30)
    with closing(sqlite3.connect(place / "eternia_backup_20260103_000000.db")) as empty:
        empty.execute("PRAGMA journal_mode = wal")
    with pytest.raises(RefusedError, match=r"allow_unverified"):
        run(config, "eternia_backup_20260101_000000.db")
    run(config, "eternia_backup_20260101_000000.db", allow_unverified=True)
    assert rows(config.database_path) == 50
    with pytest.raises(DamagedError, match=r"has no tables: the -wal file that belonged to it is missing\. Choose"):
        run(config, "eternia_backup_20260103_000000.db", allow_unverified=True)
    assert rows(config.database_path) == 50


@pytest.mark.parametrize("name", [FIRST, "foreign.db", "foreign.json"])
@pytest.mark.parametrize("content", [DATABASE, STATE, "garbage", "nothing"])
def test_by_its_content_too_a_backup_lands_only_where_its_kind_belongs(tmp_path, name, content):
    config = configuration(tmp_path)
    place = tmp_path / "elsewhere" / name
    if content == DATABASE:
        database(place, mode="delete")
    else:
        place.parent.mkdir()
        place.write_text({STATE: '{"version": 7}', "garbage": "garbage", "nothing": ""}[content])
    fits = content == DATABASE or (content == STATE and name != FIRST)
    if fits:
        run(config, str(place), allow_unverified=True)
    else:
        with pytest.raises(DamagedError, match=r"is damaged|is neither a SQLite|has no tables"):
            run(config, str(place), allow_unverified=True)
    assert config.database_path.exists() == (fits and content == DATABASE)
    assert config.state_path.exists() == (fits and content == STATE)


@pytest.mark.parametrize(("source", "wanted"), [("state", FIRST), ("database", STATE_NAME)])
def test_a_backup_of_the_other_kind_is_refused(config, source, wanted):
    (config.storage_path / STATE_NAME).write_text('{"version": 1}')
    message = rf"{wanted} is a backup of a \w+, and source says that this host has a {source}\. Choose another backup"
    for attempt in (plan, run):
        with pytest.raises(RefusedError, match=message):
            attempt(replace(config, source=source), wanted, allow_unverified=True)
    assert rows(config.database_path) == 58


def test_a_state(state):
    outcome = run(state)
    assert state.state_path.read_text() == '{"version": 1}'
    assert Path(outcome.safety).read_text() == '{"version": 2}'
    run(state, Path(outcome.safety).name, hours=25)
    assert state.state_path.read_text() == '{"version": 2}'


@pytest.mark.parametrize("damage", ['{"version": ', "", "[]"])
def test_a_damaged_state_is_kept_byte_for_byte(state, damage):
    state.state_path.write_text(damage)
    outcome = run(state)
    assert (Path(outcome.safety) / "state_snapshot.json").read_text() == damage
    assert state.state_path.read_text() == '{"version": 1}'


def test_what_is_there_already_is_not_written_again(config):
    run(config)
    before = quiet(config)
    for attempt in (plan, run):
        outcome = attempt(config)
        assert (outcome.unchanged, outcome.changed, outcome.name, outcome.safety) == (True, False, SECOND, None)
        assert outcome.before == outcome.after
    assert quiet(config) == before
    with closing(connect(config.database_path)) as application:
        application.execute("SELECT count(*) FROM memories").fetchone()
    assert run(config).unchanged
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    assert run(config, hours=25).changed


# Where SQLite finds nothing wrong, and where it stumbles: the kind of a page.
@pytest.mark.parametrize("offset", [5000, 3 * 4096])
@pytest.mark.parametrize(
    ("there", "wanted", "name"), [(SECOND, "latest", SECOND), (SECOND, SECOND, SECOND), (FIRST, "latest", FIRST)]
)
def test_the_plan_says_as_the_run_that_it_is_there_already_although_a_backup_is_damaged(
    config, there, wanted, name, offset
):
    run(config, there)
    flip(config.storage_path / SECOND, offset)
    planned, outcome = plan(config, wanted), run(config, wanted, hours=25)
    assert (planned.unchanged, planned.name) == (outcome.unchanged, outcome.name) == (True, name)
    assert planned.warnings == outcome.warnings


def test_what_cannot_be_remembered_as_staged_is_an_error_that_says_what_to_do(config, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = quiet(config)
    monkeypatch.setattr(staging.documents, "write", full)
    words = (
        r"\.eternia\.db\.restore/staged\.json could not be written: no space left on device\. Nothing was changed\. "
    )
    with pytest.raises(TargetError, match=rf"{words}Free some space or correct the rights there, then run again\.$"):
        run(config, FIRST, act=restore.stage)
    after = quiet(config)
    assert {path for path in before | after if before.get(path) != after.get(path)} <= {
        str(config.database_path.parent)
    }


def test_what_was_staged_may_be_there_already(config):
    staged = run(config, FIRST, act=restore.stage)
    shutil.copyfile(config.storage_path / FIRST, config.database_path)
    assert run(config, staged.location).unchanged
    assert os.listdir(config.database_path.parent) == ["eternia.db"]


def test_a_plan_writes_nothing(both):
    before = quiet(both)
    for wanted in ("latest", FIRST, f"s3://{both.cloud.bucket}/{both.cloud.prefix}/{FIRST}"):
        plan(both, wanted)
    with process(OPEN, both.database_path) as application:
        assert [one.pid for one in plan(both).holders] == [application.pid]
    for suffix in ("-wal", "-shm"):
        # The application's own.
        with suppress(FileNotFoundError):
            os.unlink(f"{both.database_path}{suffix}")
            os.utime(both.database_path.parent)
    after = quiet(both)
    assert {path for path in before | after if before.get(path) != after.get(path)} <= {str(both.database_path.parent)}


def nothing_is_fetched(*_unused, **_keywords):
    raise AssertionError("fetched again")


@pytest.mark.parametrize("store", ["local", "s3"])
def test_what_was_staged_is_put_into_place_and_nothing_is_fetched_again(both, monkeypatch, store):
    before = both.database_path.read_bytes()
    wanted = FIRST if store == "local" else f"s3://{both.cloud.bucket}/{both.cloud.prefix}/{FIRST}"
    staged = run(both, wanted, act=restore.stage)
    assert (staged.staged, staged.changed, staged.store, both.database_path.read_bytes()) == (True, True, store, before)
    monkeypatch.setattr(fetch, "bring", nothing_is_fetched)
    away = replace(both, cloud=replace(both.cloud, endpoint_url="http://127.0.0.1:9"))
    outcome = run(away, staged.location)
    assert (rows(both.database_path), outcome.name, outcome.location) == (50, FIRST, staged.location)
    assert os.listdir(both.database_path.parent) == ["eternia.db"]
    assert rows(Path(outcome.safety)) == 58


def written_to(path):
    flip(path)


def replaced(path):
    path.unlink()
    database(path, rows=3)


def linked(path):
    path.rename(path.with_name("x"))
    path.symlink_to(path.with_name("x"))


@pytest.mark.parametrize("tamper", [written_to, replaced, linked, os.unlink])
def test_a_staged_file_that_was_tampered_with_is_not_trusted(config, monkeypatch, tamper):
    staged = run(config, FIRST, act=restore.stage)
    tamper(config.database_path.with_name(".eternia.db.restore") / "eternia.db")
    run(config, staged.location)
    assert rows(config.database_path) == 50


def test_what_was_staged_stays_while_the_application_still_runs(config, monkeypatch):
    staged = run(config, FIRST, act=restore.stage)
    monkeypatch.setattr(fetch, "bring", nothing_is_fetched)
    with process(OPEN, config.database_path), pytest.raises(LockedError):
        run(config, staged.location)
    run(config, staged.location)
    assert rows(config.database_path) == 50


@pytest.mark.parametrize("by", ["a restore", "a backup", "a stage"])
@pytest.mark.parametrize("at", ["before", "after"])
def test_a_restore_that_was_cut_off_is_settled_by_the_next_run(config, by, at):
    cut_off_before(config) if at == "before" else cut_off(config, FIRST)
    assert rows(config.database_path) == (58 if at == "before" else 50)
    before = quiet(config)
    words = "will be taken back first" if at == "before" else "will be finished first"
    planned = plan(config, FIRST)
    assert any(words in one for one in planned.warnings)
    # Whatever lies there now: the next run has something to do.
    assert (planned.unchanged, planned.changed) == (False, True)
    status.read(config, now=NOON + timedelta(days=1))
    prune.run(config, now=NOON + timedelta(days=1))
    assert quiet(config) == before
    if by == "a backup":
        backup.run(config, clock=clock(26))
        assert rows(config.database_path) == (58 if at == "before" else 50)
        assert os.listdir(config.database_path.parent) == ["eternia.db"]
    else:
        outcome = run(config, FIRST, act=restore.stage if by == "a stage" else restore.run, hours=26)
        words = "was taken back: all is as it was" if at == "before" else "had been cut off; it is finished now"
        assert any(words in one for one in outcome.warnings)
    assert config.database_path.stat().st_nlink == 1
    run(config, FIRST, hours=27)
    assert rows(config.database_path) == 50
    assert 58 in {rows(config.storage_path / "safety" / name) for name in kept(config) if name.endswith(".db")}


def test_a_state_that_was_replaced_after_a_cut_off_restore_is_left_as_it_is(state):
    cut_off_before(state, STATE_NAME)
    staged = state.state_path.with_name("new")
    staged.write_text('{"version": 3}')
    staged.rename(state.state_path)
    outcome = run(state, STATE_NAME)
    assert any("was replaced or written to by somebody" in one for one in outcome.warnings)
    assert Path(outcome.safety).read_text() == '{"version": 3}'


def test_a_path_that_is_no_text(tmp_path):
    """A name is bytes to Linux, whatever they mean."""
    path = database(tmp_path / os.fsdecode(b"caf\xe9") / "eternia.db")
    config = configuration(tmp_path, database_path=str(path))
    backup.run(config, clock=clock(0))
    with closing(connect(path)) as application:
        add_rows(application)
    assert restore.run(config, restore.Request(), clock=clock(1)).changed
    assert query(path, "SELECT count(*) FROM memories") == [(50,)]


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"[]", b"\xff"])
def test_a_journal_that_cannot_be_read_stops_everything(config, content):
    cut_off_before(config)
    journal = config.database_path.with_name(".eternia.db.restore") / "journal.json"
    journal.write_bytes(content)
    before = tree(config.database_path.parent)
    for attempt in (run, lambda config: backup.run(config, clock=clock())):
        with pytest.raises(EngineError, match=rf"The journal {journal} .* cannot be read .*Nothing was touched\. Look"):
            attempt(config)
    assert tree(config.database_path.parent) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that belongs to another user")
def test_a_journal_that_another_user_put_there_is_not_followed(config, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    cut_off_before(config)
    journal = config.database_path.with_name(".eternia.db.restore") / "journal.json"
    fields = json.loads(journal.read_bytes())
    journal.write_text(json.dumps({**fields, "place": str(precious), "kept": {"": "/etc/shadow"}}))
    os.chown(journal, NOBODY, NOBODY)
    with pytest.raises(EngineError, match=rf"{journal} belongs to user {NOBODY}, not to user 0 who runs this"):
        backup.run(config, clock=clock())
    assert precious.exists()


def test_a_hold_stops_backups_and_no_restore(config):
    hold.put(config.storage_path, Hold("runbook", "disaster recovery", NOON + timedelta(days=2)))
    for attempt in (lambda: backup.run(config, clock=clock()), lambda: prune.run(config, now=NOON + timedelta(days=1))):
        with pytest.raises(LockedError, match=r"held by runbook until 2026-11-24T12:00:00Z: disaster recovery\. Wait"):
            attempt()
    run(config)
    assert rows(config.database_path) == 51


def unheld(config):
    """What is said of what lies in the place of a hold, and keeps no backup away."""
    assert hold.read(config.storage_path, NOON) is None
    (planned,), (done,) = (one(config, clock=clock()).warnings for one in (backup.plan, backup.run))
    assert planned == done
    told = rf"{config.storage_path}/hold\.json is no hold \((.*)\), so backups go on\. Remove it; if they are to be "
    return re.fullmatch(told + r"held, hold them again \(`eternia-backup hold`\)\.", done)[1]


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        ('"who"', '"no one"', "'who'"),
        ("2026", "when", "'when-11-24T12:00:00Z' is not a time of the form"),
        ("}", "", "Expecting"),
        ("{", "[", "Expecting"),
        ("}", "}}", "Extra data"),
        # What its author would have root's log say.
        ("runbook", r"ann\n[backup_manager] x.db was removed: age", r"a short line of text expected, found 'ann\n["),
        ("disaster", r"\u001b[2Jdisaster", r"a short line of text expected, found '\x1b[2Jdisaster"),
        ("disaster", "d" * 300, "a short line of text expected"),
        ('"runbook"', "7", "text expected, found 7"),
        # As one that was set while the clock was wrong.
        ("2026", "2028", "it ends at 2028-11-24T12:00:00Z, and a hold lasts 168 hours at most"),
        ("11-24T12:00:00", "12-01T12:10:00", "it ends at 2026-12-01T12:10:00Z, and"),
    ],
)
def test_what_is_no_hold_keeps_no_backup_away(config, right, wrong, why):
    """A host without backups would be the worse end."""
    hold.put(config.storage_path, Hold("runbook", "disaster recovery", NOON + timedelta(days=2)))
    path = config.storage_path / hold.NAME
    path.write_text(path.read_text().replace(right, wrong))
    assert why in unheld(config)


@pytest.mark.parametrize(("plant", "why"), [(os.mkfifo, "it is a FIFO"), (os.mkdir, "it is a directory")])
def test_nor_does_what_is_no_file(config, plant, why):
    plant(config.storage_path / hold.NAME)
    assert why in unheld(config)


def test_the_longest_hold_is_one(config):
    hold.put(config.storage_path, hold.wanted(config, who="w" * 255, why="w" * 255, hours=168, now=NOON))
    # Set back a little, the clock makes it look longer.
    for days in (-0.9, 0, 6.9):
        assert hold.read(config.storage_path, NOON + timedelta(days=days)) is not None
    assert hold.void(config.storage_path, NOON) is None
    with pytest.raises(LockedError, match="held by www"):
        backup.run(config, clock=clock())


def test_what_is_over_is_no_hold_and_nothing_is_wrong_with_it(config):
    hold.put(config.storage_path, Hold("runbook", "disaster recovery", NOON - timedelta(days=200)))
    assert backup.run(config, clock=clock()).warnings == []


def test_a_hold_of_a_later_release_is_one(config):
    hold.put(config.storage_path, Hold("runbook", "disaster recovery", NOON + timedelta(days=2)))
    path = config.storage_path / hold.NAME
    path.write_text(path.read_text().replace('"format": 1', '"format": 2, "ticket": 7'))
    with pytest.raises(LockedError, match="held by runbook"):
        backup.run(config, clock=clock())


def test_one_at_a_time(config, tmp_path, monkeypatch):
    bring = fetch.bring
    elsewhere = replace(config, storage_path=tmp_path / "other")
    tried = {
        "Another run": [
            lambda: run(config),
            lambda: plan(config),
            lambda: backup.run(config, clock=clock()),
            lambda: prune.run(config, now=NOON + timedelta(days=1)),
        ],
        "Another restore": [lambda: run(elsewhere, str(config.storage_path / FIRST))],
    }
    seen = []

    def busy(*arguments, **keywords):
        for words, attempts in tried.items():
            for attempt in attempts:
                with pytest.raises(LockedError, match=rf"{words} .*Wait for it to end, then run again"):
                    attempt()
                seen.append(words)
        return bring(*arguments, **keywords)

    monkeypatch.setattr(fetch, "bring", busy)
    run(config, FIRST)
    assert (rows(config.database_path), len(seen)) == (50, 5)


def test_a_target_that_is_damaged_where_it_lies_goes_back(config, monkeypatch):
    commit = swap.commit

    def damaging(place, *rest):
        commit(place, *rest)
        os.truncate(place.real, 8192)

    monkeypatch.setattr(swap, "commit", damaging)
    with pytest.raises(DamagedError):
        run(config, FIRST)
    assert (rows(config.database_path), kept(config)) == (58, [])
    assert config.database_path.stat().st_nlink == 1


def test_without_room_nothing_is_begun(config, monkeypatch):
    needed = (config.storage_path / FIRST).stat().st_size
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9**9, 9**9, needed - 1))
    before = quiet(config)
    for attempt in (plan, run):
        with pytest.raises(StoreError, match=rf"has {needed - 1:,} bytes free and {needed:,} are needed\. Free some"):
            attempt(config, FIRST)
    assert quiet(config) == before


def test_a_local_copy_that_the_disk_no_longer_reads_gives_way_to_the_one_in_s3(both, monkeypatch):
    def unreadable(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    class Broken:
        """A descriptor of a file whose sectors are gone."""

        def __getattr__(self, name):
            return unreadable

        def __exit__(self, *_):
            return None

        def __enter__(self):
            return self

    opened = LocalStore._opened
    monkeypatch.setattr(LocalStore, "_opened", lambda store, name: Broken() if name == FIRST else opened(store, name))
    outcome = run(both, FIRST)
    assert (outcome.store, rows(both.database_path)) == ("s3", 50)


def test_a_disk_of_backups_that_is_gone_keeps_nothing_from_coming_back(both):
    """It was not mounted: the copy in S3 is brought, and what was there is kept on the disk below."""
    run(both, FIRST)
    shutil.rmtree(both.storage_path)
    unmounted = replace(both, storage_mount=both.storage_path.parent)
    with closing(connect(both.database_path)) as application:
        add_rows(application)
    for outcome in (restore.plan(unmounted, Request(FIRST), clock=clock()), run(unmounted, FIRST)):
        warning = outcome.warnings[0]
        assert "nothing is mounted there" in warning
        assert warning.endswith("The restore goes on without the backups there; what it keeps lies on the disk below.")
    assert (outcome.store, rows(both.database_path)) == ("s3", 50)
    assert Path(outcome.safety).is_relative_to(both.storage_path)

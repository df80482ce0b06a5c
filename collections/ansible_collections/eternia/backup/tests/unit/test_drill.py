# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills: what comes back is told and marked, what does not is told too, and the live system notices nothing."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import resource
import shutil
import signal
import socket
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    copying,
    drill,
    files,
    history,
    lock,
    prune,
    sqlite,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import LockedError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.history import Entry
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import from_iso, iso
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
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
    open_directory,
    process,
    tree,
    unprivileged,
)

NAMES = [f"eternia_backup_202611{day}_120000.db" for day in (22, 23, 24)]
NOW = NOON + timedelta(days=3)


def clock(moment=NOW):
    return SetClock(moment).clock()


def three_backups(base, **block):
    """A host with three backups, each with one row more than the one before."""
    path = database(base / "data" / "eternia.db")
    config = configuration(base, **block)
    take_three(config, path)
    return config


def take_three(config, path):
    for day in range(3):
        backup.run(config, clock=clock(NOON + timedelta(days=day)))
        with closing(connect(path)) as application:
            add_rows(application)


@pytest.fixture
def config(tmp_path):
    return three_backups(tmp_path)


@pytest.fixture
def both(tmp_path, s3_settings):
    """The same host with everything in S3 too."""
    config = replace(configuration(tmp_path), cloud=s3_settings)
    take_three(config, database(tmp_path / "data" / "eternia.db"))
    return config


def oldest(choices):
    return min(choices, key=lambda choice: (choice.copy.name, choice.store.name))


def run(config, choose=oldest, now=NOW):
    return drill.run(config, clock=clock(now), choose=choose)


def fail(config, choose=oldest, act=drill.run):
    with pytest.raises(drill.DrillFailedError) as failed:
        act(config, clock=clock(), choose=choose)
    return failed.value


def told(outcome):
    return [(one.store, one.name, one.newest, one.problem is None) for one in outcome.drilled]


def marked(config):
    return sorted(path.name.removesuffix(".drilled.json") for path in config.storage_path.glob("*.drilled.json"))


def mark_of(config, name):
    return json.loads((config.storage_path / f"{name}.drilled.json").read_text())


def in_s3(config, object_store, suffix=".drilled.json"):
    """The bodies of the sidecars that plain boto3 finds, by the backup's name."""
    client = object_store.client()
    where = {"Bucket": config.cloud.bucket}
    found = client.list_objects_v2(**where, Prefix=f"{config.cloud.prefix}/eternia_backup_2").get("Contents", ())
    keys = [one["Key"] for one in found if one["Key"].endswith(suffix)]
    return {
        Path(key).name.removesuffix(suffix): client.get_object(**where, Key=key)["Body"].read().decode() for key in keys
    }


def test_the_newest_of_every_store_and_an_older_one_come_back(both, object_store):
    outcome = run(both)
    assert told(outcome) == [
        ("local", NAMES[2], True, True),
        ("s3", NAMES[2], True, True),
        ("local", NAMES[0], False, True),
    ]
    assert outcome.changed
    assert (outcome.undrilled, outcome.warnings, outcome.problems) == ({}, [], [])
    for one in outcome.drilled:
        rows = 52 if one.newest else 50
        assert one.facts["tables"] == {"memories": rows}
        assert one.bytes == (both.storage_path / one.name).stat().st_size
        assert list(one.steps) == ["fetch", "prove", "place", "open"]
        assert one.seconds >= sum(one.steps.values()) > 0
    assert outcome.drilled[1].location == f"s3://{both.cloud.bucket}/{both.cloud.prefix}/{NAMES[2]}"
    assert [(one.store, one.name, one.earlier, one.trend) for one in outcome.predicted] == [
        ("local", NAMES[2], 0, None),
        ("s3", NAMES[2], 0, None),
    ]
    for predicted, drilled in zip(outcome.predicted, outcome.drilled):
        steps = sum(seconds for step, seconds in drilled.steps.items() if step != "open")
        assert predicted.seconds == pytest.approx(steps, abs=1e-6)
    assert marked(both) == [NAMES[0], NAMES[2]]
    assert list(in_s3(both, object_store)) == [NAMES[2]]
    assert mark_of(both, NAMES[2]).keys() == {"at", "seconds"}
    assert mark_of(both, NAMES[2])["at"] == "2026-11-25T12:00:00Z"
    assert not (both.storage_path / ".drill").exists()


def test_the_plan_names_what_the_run_drills_and_writes_nothing(both, object_store):
    everything = tree(both.storage_path.parents[1])
    planned = drill.plan(both, clock=clock())
    assert tree(both.storage_path.parents[1]) == everything
    assert in_s3(both, object_store) == {}
    done = drill.run(both, clock=clock())
    assert told(planned) == told(done)
    assert [one.facts for one in planned.drilled] == [one.facts for one in done.drilled]
    assert (planned.predicted, planned.changed) == ([], True)
    # After a drill the lot is drawn anew, and again the plan knows it.
    assert told(drill.plan(both, clock=clock())) == told(drill.run(both, clock=clock()))


def test_every_older_one_has_its_turn(config):
    chosen = [run(config, choose=lambda choices, at=at: choices[at]).drilled[1].name for at in range(2)]
    assert chosen == [NAMES[1], NAMES[0]]
    drawn = {drill.run(config, clock=clock(NOW + timedelta(weeks=week))).drilled[1].name for week in range(12)}
    assert drawn == {NAMES[0], NAMES[1]}


def test_a_host_with_one_backup_drills_that(tmp_path):
    database(tmp_path / "data" / "eternia.db")
    config = configuration(tmp_path)
    backup.run(config, clock=clock(NOON))
    assert told(run(config)) == [("local", NAMES[0], True, True)]


def test_a_state_comes_back(tmp_path):
    config = configuration(tmp_path, source="state")
    config.state_path.parent.mkdir()
    config.state_path.write_text('{"last_zone": "harbour", "memories": [1, 2]}')
    backup.run(config, clock=clock(NOON))
    [one] = run(config).drilled
    assert (one.name, one.facts) == ("eternia_state_20261122_120000.json", {"keys": {"last_zone": 7, "memories": 2}})


def test_what_is_from_the_future_or_of_another_kind_or_not_verified_is_not_drilled(config):
    backup.run(config, clock=clock(NOW + timedelta(days=1)))
    for name in ("eternia_state_20261125_110000.json", "eternia_backup_20261125_110000.db"):
        (config.storage_path / name).write_text('{"last_zone": "harbour"}')
    for suffix in ("", ".manifest.json"):
        shutil.copy(config.storage_path / f"{NAMES[0]}{suffix}", config.storage_path / f"kept{suffix}")
    assert told(run(config)) == [("local", NAMES[2], True, True), ("local", NAMES[0], False, True)]


def without_manifest_of(client, where, name):
    client.put_object(**where, Key=f"{name}.manifest.json", Body=b"{")


def shorter(client, where, name):
    client.put_object(**where, Key=name, Body=b"SQLite")


def gone(client, where, name):
    client.delete_object(**where, Key=name)


def other_bytes(client, where, name):
    body = bytearray(client.get_object(**where, Key=name)["Body"].read())
    body[-1] ^= 1
    client.put_object(**where, Key=name, Body=bytes(body))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (other_bytes, r"KEY is damaged: .* its manifest says"),
        (shorter, r"KEY is damaged: it has 6 bytes, its manifest says"),
        (without_manifest_of, r"KEY\.manifest\.json is not a manifest"),
        (gone, r"KEY is gone; only what describes it is left\. Find out who removed it"),
    ],
)
def test_a_copy_in_s3_that_is_damaged_is_told_although_the_local_one_is_whole(both, object_store, harm, message):
    key = f"{both.cloud.prefix}/{NAMES[2]}"
    harm(object_store.client(), {"Bucket": both.cloud.bucket}, key)
    failed = fail(both)
    assert told(failed.outcome) == [
        ("local", NAMES[2], True, True),
        ("s3", NAMES[2], True, False),
        ("local", NAMES[0], False, True),
    ]
    assert re.search(message.replace("KEY", re.escape(f"s3://{both.cloud.bucket}/{key}")), str(failed))
    assert str(failed).startswith("1 of 3 drills failed. s3://")
    assert [one.store for one in failed.outcome.predicted] == ["local"]
    assert marked(both) == [NAMES[0], NAMES[2]]
    assert in_s3(both, object_store) == {}
    assert failed.outcome.changed


def test_a_copy_on_the_disk_that_is_damaged_is_told_although_the_one_in_s3_is_whole(both, object_store):
    run(both)
    flip(both.storage_path / NAMES[2])
    failed = fail(both)
    assert told(failed.outcome) == [
        ("local", NAMES[2], True, False),
        ("s3", NAMES[2], True, True),
        ("local", NAMES[0], False, True),
    ]
    assert str(failed).startswith(f"1 of 3 drills failed. {both.storage_path / NAMES[2]} is damaged: ")
    # What no longer comes back is marked no longer.
    assert marked(both) == [NAMES[0]]
    (both.storage_path / f"{NAMES[2]}.drilled.json").mkdir()
    again = fail(both)
    assert f"{NAMES[2]}.drilled.json could not be removed: is a directory" in again.outcome.warnings[0]
    assert str(again).startswith(f"1 of 3 drills failed. {both.storage_path / NAMES[2]} is damaged: ")
    assert NAMES[2] in in_s3(both, object_store)
    assert not (both.storage_path / ".drill").exists()


def test_all_that_is_damaged_is_told(both):
    flip(both.storage_path / NAMES[2])
    flip(both.storage_path / NAMES[0])
    failed = fail(both)
    assert str(failed).startswith("2 of 3 drills failed. ")
    assert [one.name for one in failed.outcome.drilled if one.problem] == [NAMES[2], NAMES[0]]
    assert all(one.problem in str(failed) for one in failed.outcome.drilled if one.problem)


def test_the_plan_tells_what_can_be_seen_now(both):
    os.truncate(both.storage_path / NAMES[2], 4096)
    everything = tree(both.storage_path)
    planned = fail(both, act=drill.plan)
    assert tree(both.storage_path) == everything
    assert told(planned.outcome) == told(fail(both).outcome)


def test_a_store_that_cannot_be_reached_keeps_no_other_from_its_drill(both):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    failed = fail(replace(both, cloud=replace(both.cloud, endpoint_url=endpoint)))
    assert f"no whole answer from {endpoint}" in failed.outcome.undrilled["s3"]
    assert str(failed).startswith("1 of 3 drills failed. ")
    assert told(failed.outcome) == [("local", NAMES[2], True, True), ("local", NAMES[0], False, True)]


def test_a_store_without_a_verified_backup_fails_the_drill(both):
    shutil.rmtree(both.storage_path)
    failed = fail(both)
    assert failed.outcome.undrilled == {
        "local": f"{both.storage_path} has no verified backup of the database. Take one, then drill again."
    }
    assert told(failed.outcome) == [("s3", NAMES[2], True, True), ("s3", NAMES[0], False, True)]


def test_the_backups_of_another_host_prove_nothing(both, tmp_path):
    failed = fail(replace(both, host="web2", storage_path=tmp_path / "web2"))
    assert "belongs to host web1" in failed.outcome.undrilled["s3"]
    assert failed.outcome.drilled == []


def test_on_the_storage_path_of_another_host_nothing_is_drilled(config):
    before = tree(config.storage_path)
    for act in (drill.plan, drill.run):
        with pytest.raises(StoreError, match=rf"^{config.storage_path} belongs to host web1 .*this is host web2"):
            act(replace(config, host="web2"), clock=clock())
    assert tree(config.storage_path) == before


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO memories (description) VALUES ('not yet')")
print("ready", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("done", flush=True)
"""
BUSY_WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
connection.execute("INSERT INTO memories (description) VALUES ('first')")
print("ready", flush=True)
count = 1
while not os.path.exists(sys.argv[2]):
    # Nobody may ever keep it waiting.
    connection.execute("INSERT INTO memories (description) VALUES ('one more')")
    count += 1
print(count, flush=True)
"""


def test_the_live_system_stays_as_it_is_to_the_byte(both):
    with process(WRITER, both.database_path) as writer:
        before = tree(both.database_path.parent)
        run(both)
        drill.plan(both, clock=clock())
        assert tree(both.database_path.parent) == before
        print(file=writer.stdin, flush=True)
        assert writer.stdout.readline() == "done\n"


def test_a_writer_at_full_speed_is_never_kept_waiting(both, tmp_path):
    live = both.database_path
    inode = live.stat().st_ino
    with process(BUSY_WRITER, live, tmp_path / "stop") as writer:
        beside = sorted(path.name for path in live.parent.iterdir())
        for _again in range(5):
            run(both)
        assert sorted(path.name for path in live.parent.iterdir()) == beside
        (tmp_path / "stop").touch()
        assert int(writer.stdout.readline()) > 5
    assert live.stat().st_ino == inode
    with closing(connect(live)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_lost_live_database_keeps_no_drill_from_its_work(config):
    shutil.rmtree(config.database_path.parent)
    run(config)
    assert not config.database_path.parent.exists()


def test_two_drills_at_once_are_refused(config):
    with lock.held_drill(config.storage_path):
        before = tree(config.storage_path)
        for act in (drill.run, drill.plan):
            with pytest.raises(LockedError, match=rf"^Another drill \(process {os.getpid()}\) works on .* Wait for it"):
                act(config, clock=clock())
        assert tree(config.storage_path) == before
    assert run(config).changed


def test_backups_and_pruning_go_on_during_a_drill(config, monkeypatch):
    fetch, seen = LocalStore.fetch, []

    def fetch_while_somebody_backs_up(store, copy, *arguments):
        if not seen:
            seen.append(backup.run(config, clock=clock()).name)
            prune.run(config, now=NOW)
            # What a drill needs is not what a killed one left.
            assert (config.storage_path / ".drill").is_dir()
        fetch(store, copy, *arguments)

    monkeypatch.setattr(LocalStore, "fetch", fetch_while_somebody_backs_up)
    assert told(run(config))[0] == ("local", NAMES[2], True, True)
    assert [str(name) for name in seen] == ["eternia_backup_20261125_120000.db"]


def test_a_drill_goes_on_during_a_backup(config):
    with lock.held(config.storage_path):
        assert run(config).changed


@pytest.mark.parametrize("removed", [NAMES[2], NAMES[0]])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_prune_removes_meanwhile_is_told_and_another_is_taken(config, monkeypatch, removed, when):
    fetch = LocalStore.fetch

    def fetch_while_somebody_prunes(store, copy, *arguments):
        if str(copy.name) == removed and when == "before":
            list(store.remove([copy.name]))
        fetch(store, copy, *arguments)
        if str(copy.name) == removed:
            list(store.remove([copy.name]))

    monkeypatch.setattr(LocalStore, "fetch", fetch_while_somebody_prunes)
    outcome = run(config)
    if when == "before":
        # The bytes were not to be had any more.
        expected = {
            NAMES[2]: [("local", NAMES[1], True, True), ("local", NAMES[0], False, True)],
            NAMES[0]: [("local", NAMES[2], True, True), ("local", NAMES[1], False, True)],
        }
        assert told(outcome) == expected[removed]
        assert outcome.warnings == [
            f"{config.storage_path / removed} was removed while it was drilled; another is taken."
        ]
    else:
        assert [one.problem for one in outcome.drilled] == [None, None]
    # A mark without its backup would stay for ever.
    assert removed not in marked(config)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_prune_removes_from_s3_meanwhile_is_no_damage(both, object_store, monkeypatch, when):
    fetch = S3Store.fetch_parts

    def fetch_while_somebody_prunes(store, copy, *arguments):
        if str(copy.name) == NAMES[2] and when == "before":
            list(store.remove([copy.name]))
        fetch(store, copy, *arguments)
        if str(copy.name) == NAMES[2]:
            list(store.remove([copy.name]))

    monkeypatch.setattr(S3Store, "fetch_parts", fetch_while_somebody_prunes)
    outcome = run(both)
    assert outcome.problems == []
    assert outcome.drilled[1].name == (NAMES[1] if when == "before" else NAMES[2])
    assert NAMES[2] not in in_s3(both, object_store)


def test_when_prune_removes_the_last_one_nothing_is_left_to_drill(config, monkeypatch):
    monkeypatch.setattr(
        LocalStore, "fetch", lambda store, copy, *_: list(store.remove([copy.name])) and store.open(copy.name)
    )
    failed = fail(config)
    assert failed.outcome.undrilled["local"].startswith(f"{config.storage_path} has no verified backup of the database")
    assert failed.outcome.drilled == []
    assert not failed.outcome.changed


def test_what_a_killed_drill_left_is_removed_by_the_next_run_of_any_kind(config):
    def killed():
        LocalStore.fetch = lambda *_: die("")
        run(config)

    for act in (run, lambda config: backup.run(config, clock=clock(NOW + timedelta(hours=1)))):
        assert in_child(killed) == -signal.SIGKILL
        assert (config.storage_path / ".drill/host/.eternia.db.restore").is_dir()
        act(config)
        assert not (config.storage_path / ".drill").exists()


def test_a_backup_lets_the_scratch_of_a_drill_alone(config):
    (config.storage_path / ".drill/host").mkdir(parents=True)
    with lock.held_drill(config.storage_path):
        backup.run(config, clock=clock())
    assert (config.storage_path / ".drill/host").exists()


def test_killed_at_any_call_nothing_is_lost_and_the_next_drill_succeeds(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    template = three_backups(tmp_path / "template").storage_path.parents[1]

    run(configuration(tmp_path / "template"))
    known, before = history.read(template / "backups/staging"), history.last(template / "backups/staging")
    lasts = []

    def killed(config, step):
        at_call(step, die)
        run(config, now=NOW + timedelta(weeks=1))

    for step in itertools.count(1):
        base = tmp_path / str(step)
        shutil.copytree(template, base)
        config = configuration(base)
        live = tree(base / "data")
        ended = in_child(lambda config=config, step=step: killed(config, step))
        assert ended in (0, -signal.SIGKILL)
        assert tree(base / "data") == live
        found = status.read(config, now=NOW, verify="full").backups
        assert [(one.name, one.status) for one in found] == [(name, "verified") for name in reversed(NAMES)]
        # What is under a final name is whole.
        for path in (*config.storage_path.glob("*.drilled.json"), *config.storage_path.glob("drills*.json")):
            json.loads(path.read_text())
        assert history.read(config.storage_path)[:1] == known
        lasts.append(history.last(config.storage_path))
        assert run(config).warnings == []
        assert history.read(config.storage_path)[:1] == known
        assert history.last(config.storage_path).succeeded
        assert marked(config) == [NAMES[0], NAMES[2]]
        shutil.rmtree(base)
        if ended == 0:
            break
    assert step > 20
    # What is said of the drill before holds until this one begins; nothing good is said until it has come to its end.
    succeeded = [found.succeeded for found in lasts]
    began = succeeded.index(False)
    came_to_its_end = succeeded.index(True, began)
    assert set(lasts[:began]) == {before}
    assert not any(succeeded[began:came_to_its_end])
    assert set(lasts[came_to_its_end:]) == {history.Last(iso(NOW + timedelta(weeks=1)), succeeded=True)}


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("/etc")])
def test_what_is_no_scratch_of_ours_is_not_touched(config, make):
    path = config.storage_path / ".drill"
    make(path)
    with pytest.raises(StoreError, match=rf"^{path} is not a directory\. Remove it, then run again\."):
        run(config)
    backup.run(config, clock=clock(NOW + timedelta(hours=1)))
    assert os.path.lexists(path)


def test_there_has_to_be_room_for_a_backup_too(config, monkeypatch):
    size = (config.storage_path / NAMES[2]).stat().st_size
    monkeypatch.setattr(files, "free_bytes", lambda _: 2 * size - 1)
    for act in (drill.plan, drill.run):
        failed = fail(config, act=act)
        assert f"bytes free and {2 * size:,} are needed. Free some space there" in str(failed)
    assert marked(config) == []


def test_a_full_disk_is_told(config, monkeypatch):
    def full(*_arguments, **_keywords):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(copying, "copy_bytes", full)
    assert "no space left on device. Nothing was changed" in str(fail(config))


def test_without_the_right_to_write_there():
    with open_directory() as base:
        config = three_backups(base)
        for entry in (config.storage_path.parent, *config.storage_path.iterdir()):
            entry.chmod(0o755)
        config.storage_path.chmod(0o555)
        for act in (drill.plan, drill.run):
            with unprivileged(), pytest.raises(StoreError, match=r"Correct .*the rights on"):
                act(config, clock=clock())


def test_what_the_application_could_not_open_does_not_come_back(config, monkeypatch):
    begin_to_write = sqlite.begin_to_write

    def on_a_read_only_directory(path):
        # What root would still be let.
        connection = connect(path)
        connection.execute("BEGIN EXCLUSIVE")
        try:
            begin_to_write(path)
        finally:
            connection.close()

    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0)
    monkeypatch.setattr(sqlite, "begin_to_write", on_a_read_only_directory)
    assert "cannot be written to: SQLite says database is locked. Choose another backup." in str(fail(config))


def test_a_mark_on_the_disk_is_the_last_and_in_s3_the_first(both, object_store):
    run(both)
    first = in_s3(both, object_store)
    run(both, now=NOW + timedelta(days=7))
    assert mark_of(both, NAMES[2])["at"] == "2026-12-02T12:00:00Z"
    assert in_s3(both, object_store) == first
    assert json.loads(first[NAMES[2]])["at"] == "2026-11-25T12:00:00Z"


def test_a_mark_that_s3_refuses_is_a_warning(both, object_store, credentials_file):
    reading = replace(both, cloud=replace(both.cloud, credentials_file=credentials_file(object_store.reader)))
    outcome = run(reading)
    assert all(one.problem is None for one in outcome.drilled)
    [warning] = outcome.warnings
    location = f"s3://{both.cloud.bucket}/{both.cloud.prefix}/{NAMES[2]}"
    assert warning.startswith(f"{location} came back, but could not be marked as drilled. Writing {location}.drilled")
    assert "access denied" in warning
    assert marked(both) == [NAMES[0], NAMES[2]]


def test_a_mark_that_the_disk_refuses_is_a_warning(config):
    place = config.storage_path / f"{NAMES[2]}.drilled.json"
    place.mkdir()
    outcome = run(config)
    assert outcome.problems == []
    [unmarked] = outcome.warnings
    assert f"could not be marked as drilled. {place} could not be written: is a directory" in unmarked


def test_a_history_that_cannot_be_written_is_a_warning(config):
    path = config.storage_path / "drills.json"

    def while_somebody_is_in_the_way(choices):
        path.mkdir(exist_ok=True)
        return oldest(choices)

    outcome = run(config, choose=while_somebody_is_in_the_way)
    assert outcome.problems == []
    assert outcome.warnings == [
        f"{path} could not be written: is a directory. This drill counts as one that was cut off, and the next lacks "
        "it in its trend. Free some space or correct the rights there; then drill again."
    ]


def test_a_history_that_cannot_be_renamed_refuses_the_drill(config):
    run(config)
    (config.storage_path / "drills.begun.json").mkdir()
    path = config.storage_path / "drills.json"
    before = path.read_bytes()
    message = rf"^{path} could not be renamed to drills\.begun\.json: is a directory\. Nothing was drilled\. Correct"
    with pytest.raises(StoreError, match=message):
        run(config)
    assert path.read_bytes() == before


def test_a_drilled_backup_stays_before_others(config):
    run(config)
    strict = replace(config, policy=replace(config.policy, retention_days=None, keep_last=1, minimum_kept=2))
    removed = prune.run(strict, now=NOW).removed
    assert [str(one.decision.copy.name) for one in removed] == [NAMES[1]]
    assert marked(config) == [NAMES[0], NAMES[2]]


def entries(*seconds, store="local", size=1 << 20):
    return [Entry("2026-11-22T12:00:00Z", store, NAMES[0], size, one) for one in seconds]


@pytest.mark.parametrize(
    ("earlier", "now", "expected"),
    [
        ([], (1.0, 1 << 20), (0, None, None)),
        (entries(1.0), (1.12, 1 << 20), (1, 12, 12)),
        (entries(1.0, 9.0, 2.0), (1.0, 1 << 20), (3, -50, -50)),
        (entries(1.0, 3.0), (2.0, 1 << 20), (2, 0, 0)),
        # The data has doubled, the store is as fast as it was.
        (entries(1.0), (2.0, 2 << 20), (1, 100, 0)),
        # The store takes twice as long for the same data.
        (entries(1.0), (2.0, 1 << 20), (1, 100, 100)),
        (entries(1.0, store="s3"), (2.0, 1 << 20), (0, None, None)),
        (entries(0.0), (2.0, 1 << 20), (1, None, None)),
        (entries(1.0, size=0), (1.0, 0), (1, 0, 0)),
    ],
)
def test_the_trend(earlier, now, expected):
    seconds, size = now
    found = history.predict(Entry("2026-11-29T12:00:00Z", "local", NAMES[1], size, seconds), earlier)
    assert (found.store, found.name, found.bytes, found.seconds) == ("local", NAMES[1], size, seconds)
    assert (found.earlier, found.trend, found.trend_per_mib) == expected


def test_drills_are_compared_with_those_before(both):
    for week in range(3):
        outcome = run(both, now=NOW + timedelta(weeks=week))
        assert [one.earlier for one in outcome.predicted] == [week, week]
        assert [one.trend is None for one in outcome.predicted] == [week == 0] * 2
    kept = history.read(both.storage_path)
    assert [(one.at, one.store) for one in kept] == [
        (f"{NOW + timedelta(weeks=week):%Y-%m-%dT%H:%M:%SZ}", store) for week in range(3) for store in ("local", "s3")
    ]
    assert kept[-1].seconds == outcome.predicted[1].seconds


def test_it_is_remembered_whether_everything_came_back(config):
    assert history.last(config.storage_path) is None
    run(config)
    assert history.last(config.storage_path) == history.Last(iso(NOW), succeeded=True)
    (config.storage_path / NAMES[2]).write_bytes(b"damaged")
    with pytest.raises(drill.DrillFailedError):
        run(config, now=NOW + timedelta(weeks=1))
    assert history.last(config.storage_path) == history.Last(iso(NOW + timedelta(weeks=1)), succeeded=False)


def last_of(config):
    """The last drill, as the status has it."""
    return status.read(config, now=NOW).drill


def require_cut_off(config, since):
    """The last drill did not come to its end, and began after `since`."""
    last = last_of(config)
    assert not last.succeeded
    assert since - timedelta(seconds=1) <= from_iso(last.at) <= datetime.now(timezone.utc)


def kill_a_drill(config):
    def killed():
        LocalStore.fetch = lambda *_: die("")
        run(config)

    assert in_child(killed) == -signal.SIGKILL


def test_a_drill_that_was_killed_did_not_succeed_and_the_next_one_knows_all_of_before(config):
    run(config)
    known, since = history.read(config.storage_path), datetime.now(timezone.utc)
    for _again in range(2):
        kill_a_drill(config)
        require_cut_off(config, since)
        assert history.read(config.storage_path) == known
    later = NOW + timedelta(weeks=1)
    assert run(config, now=later).predicted[0].earlier == 1
    assert last_of(config) == history.Last(iso(later), succeeded=True)
    assert history.read(config.storage_path)[:-1] == known
    assert not (config.storage_path / "drills.begun.json").exists()


def test_a_first_drill_that_was_killed_is_none_that_came_back(config):
    kill_a_drill(config)
    assert last_of(config) is None
    assert run(config).warnings == []
    assert last_of(config) == history.Last(iso(NOW), succeeded=True)


def drill_on_a_full_disk(config, mkdir):
    def filled():
        # As on a full disk: not a byte more, in any file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        Path.mkdir = mkdir
        run(config)

    assert in_child(filled) == 1


def no_room(*_arguments, **_keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("mkdir", [Path.mkdir, no_room])
def test_a_drill_on_a_full_disk_did_not_succeed_though_nobody_can_write_that_down(config, mkdir):
    run(config)
    known, since = history.read(config.storage_path), datetime.now(timezone.utc)
    for _again in range(2):
        drill_on_a_full_disk(config, mkdir)
        require_cut_off(config, since)
        assert history.read(config.storage_path) == known
    run(config)
    assert last_of(config) == history.Last(iso(NOW), succeeded=True)
    assert history.read(config.storage_path)[:-1] == known


def test_while_a_drill_goes_on_the_last_one_is_the_one_before(config, monkeypatch):
    run(config)
    fetch, seen = LocalStore.fetch, []

    def fetch_while_somebody_looks(*arguments):
        seen.append(last_of(config))
        fetch(*arguments)

    monkeypatch.setattr(LocalStore, "fetch", fetch_while_somebody_looks)
    run(config, now=NOW + timedelta(weeks=1))
    assert seen == [history.Last(iso(NOW), succeeded=True)] * 2


def test_a_drill_that_ends_while_somebody_looks_is_seen(config, monkeypatch):
    run(config)
    history.begin(config.storage_path)
    read_small = files.read_small

    def read_when_it_has_ended(path):
        if path.name == "drills.begun.json":
            path.rename(config.storage_path / "drills.json")
        return read_small(path)

    monkeypatch.setattr(files, "read_small", read_when_it_has_ended)
    assert history.last(config.storage_path) == history.Last(iso(NOW), succeeded=True)


def test_what_was_cut_off_between_two_names_counts_for_nothing(config):
    """A drill wrote how it ended, and could not remove the other name any more."""
    run(config)
    shutil.copy(config.storage_path / "drills.json", config.storage_path / "drills.begun.json")
    flip(config.storage_path / NAMES[2])
    fail(config)
    assert last_of(config) == history.Last(iso(NOW), succeeded=False)
    assert not (config.storage_path / "drills.begun.json").exists()


def test_a_history_of_before_holds_only_drills_that_went_well(config):
    run(config)
    path = config.storage_path / "drills.json"
    fields = json.loads(path.read_text())
    del fields["last"]
    path.write_text(json.dumps(fields))
    assert history.last(config.storage_path) == history.Last(iso(NOW), succeeded=True)


def test_the_history_is_bounded(config):
    for week in range(2):
        last = history.Last("2026-11-22T12:00:00Z", succeeded=True)
        history.write(config.storage_path, entries(*range(1, 60)), last, staging=config.storage_path.parent)
        outcome = run(config, now=NOW + timedelta(weeks=week))
        assert outcome.predicted[0].earlier == 50
        kept = history.read(config.storage_path)
        assert [one.seconds for one in kept[:-1]] == list(range(11, 60))
        assert kept[-1].name == NAMES[2]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "drills": []}',
        '{"format": 1}',
        '{"format": 1, "drills": [{}]}',
        '{"format": 1, "drills": [{"at": "noon", "store": "s3", "name": "n", "bytes": 1, "seconds": 1}]}',
        '{"format": 1, "drills": [{"at": "2026-11-22T12:00:00Z", "store": "", "name": "", "bytes": [], "seconds": 1}]}',
        '{"format": 1, "drills": [{"at": "2026-11-22T12:00:00Z", "store": "", "name": "", "bytes": -1, "seconds": 1}]}',
        '{"format": 1, "drills": [{"at": "2026-11-22T12:00:00Z", "store": "", "name": "", "bytes": 1, "seconds":NaN}]}',
    ],
)
def test_a_history_that_cannot_be_read_is_started_anew(config, content):
    path = config.storage_path / "drills.json"
    path.write_text(content)
    outcome = run(config)
    [warning] = outcome.warnings
    begun = config.storage_path / "drills.begun.json"
    assert warning.startswith(f"The history of the drills ({begun}) cannot be read (")
    assert "It is started anew" in warning
    assert [one.earlier for one in outcome.predicted] == [0]
    assert [one.name for one in history.read(config.storage_path)] == [NAMES[2]]


def test_a_failed_drill_is_no_measure_of_time(config):
    run(config)
    before = history.read(config.storage_path)
    flip(config.storage_path / NAMES[2])
    assert fail(config).outcome.predicted == []
    assert history.read(config.storage_path) == before


def test_what_a_drill_leaves(config):
    before = {entry.name for entry in config.storage_path.iterdir()}
    run(config)
    left = {entry.name for entry in config.storage_path.iterdir()} - before
    assert left == {".drill.lock", "drills.json", f"{NAMES[0]}.drilled.json", f"{NAMES[2]}.drilled.json"}
    assert {(config.storage_path / name).stat().st_mode & 0o777 for name in left} == {0o600}
    # Nothing of it counts as a backup.
    assert len(status.read(config, now=NOW).backups) == 3

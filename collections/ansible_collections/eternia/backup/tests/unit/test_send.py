# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending: what an outage kept from S3 comes there later, and nothing that is rotten or not wanted there."""

from __future__ import annotations

import json
import os
import shutil
import socket
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, catalog, prune, record, send, status
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import DamagedError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_errors import S3Error
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_objects import Objects
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    SetClock,
    add_rows,
    configuration,
    connect,
    database,
)
from ansible_collections.eternia.backup.tests.unit.test_scale import counted


def days(number):
    return NOON + timedelta(days=number)


def name_of(day):
    return f"eternia_backup_{days(day):%Y%m%d_%H%M%S}.db"


def act(verb, config, day):
    return verb(config, clock=SetClock(days(day)).clock())


def sent(outcome):
    return [str(name) for name in outcome.transfers]


@pytest.fixture
def config(tmp_path, s3_settings):
    """A host that keeps everything, and has taken no backup yet."""
    database(tmp_path / "data" / "eternia.db")
    return replace(configuration(tmp_path), cloud=s3_settings)


@pytest.fixture
def out_of_reach(config):
    """The same host while nobody answers where S3 should be."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    return replace(config, cloud=replace(config.cloud, endpoint_url=endpoint))


def in_s3(config, object_store):
    """What plain boto3 finds, by name."""
    client = object_store.client()
    where = {"Bucket": config.cloud.bucket}
    listed = client.list_objects_v2(**where, Prefix=f"{config.cloud.prefix}/eternia_backup_2").get("Contents", ())
    return {Path(one["Key"]).name: client.get_object(**where, Key=one["Key"])["Body"].read() for one in listed}


def test_what_an_outage_kept_back_is_sent_later_newest_first(config, out_of_reach, object_store):
    path = config.storage_path / name_of(0)
    message = rf"^{path} is valid on the disk, but S3 has not got everything\. .*Check that it is up"
    with pytest.raises(backup.RunFailedError, match=message) as failed:
        act(backup.run, out_of_reach, 0)
    outcome = failed.value.outcome
    assert (outcome.path, outcome.changed, sent(outcome)) == (str(path), True, [])
    assert outcome.manifest.stored.bytes == path.stat().st_size
    act(backup.run, replace(config, cloud=None), 1)
    found = status.read(replace(config, cloud=None), now=days(1), verify="full").backups
    assert [one.status for one in found] == ["verified", "verified"]

    planned = act(backup.plan, config, 2)
    outcome = act(backup.run, config, 2)
    assert sent(planned) == sent(outcome) == [name_of(2), name_of(1), name_of(0)]
    for name, body in in_s3(config, object_store).items():
        if name.endswith(".db"):
            assert body == (config.storage_path / name).read_bytes()
    assert set(in_s3(config, object_store)) == {
        f"{name_of(day)}{suffix}" for day in range(3) for suffix in ("", ".manifest.json")
    }
    assert sent(act(backup.run, config, 3)) == [name_of(3)]


def test_after_a_send_that_fails_half_way_the_outcome_holds_what_was_sent(config, monkeypatch):
    act(backup.run, replace(config, cloud=None), 0)
    put = S3Store.put

    def once(store, path, manifest, **base):
        if manifest.name == name_of(0):
            raise StoreError("The line is cut. Mend it.")
        return put(store, path, manifest, **base)

    monkeypatch.setattr(S3Store, "put", once)
    with pytest.raises(backup.RunFailedError, match=r"S3 has not got everything\. The line is cut\.") as failed:
        act(backup.run, config, 1)
    assert sent(failed.value.outcome) == [name_of(1)]


def test_a_run_whose_own_backup_cannot_be_read_to_be_sent_has_failed(config, monkeypatch, object_store):
    manifest = LocalStore.manifest

    def unreadable(store, name):
        if str(name) == name_of(1):
            raise DamagedError("The disk cannot be read. Look at the disk.")
        return manifest(store, name)

    act(backup.run, config, 0)
    monkeypatch.setattr(LocalStore, "manifest", unreadable)
    with pytest.raises(backup.RunFailedError, match=r"S3 has not got everything\. The disk cannot be read\.") as failed:
        act(backup.run, config, 1)
    assert (sent(failed.value.outcome), failed.value.outcome.record.result) == ([], "failed")
    assert set(in_s3(config, object_store)) == {name_of(0), f"{name_of(0)}.manifest.json"}
    monkeypatch.undo()
    assert sent(act(backup.run, config, 2)) == [name_of(2), name_of(1)]


def test_what_was_taken_while_nobody_wanted_it_in_s3_comes_there_with_s3s_own_checksum(config, object_store):
    act(backup.run, replace(config, cloud=None), 0)
    assert catalog.local(config).manifest(parse(name_of(0))).stored.crc64nvme is None
    strict = replace(config, cloud=replace(config.cloud, checksum="crc64nvme"))
    taken = act(backup.run, strict, 1)
    assert {transfer.check for transfer in taken.transfers.values()} == {"crc64nvme, full object"}
    for day in (0, 1):
        key = f"{config.cloud.prefix}/{name_of(day)}"
        head = object_store.client().head_object(Bucket=config.cloud.bucket, Key=key, ChecksumMode="ENABLED")
        stored = catalog.remote(config).manifest(parse(name_of(day))).stored
        assert head["ChecksumCRC64NVME"] == stored.crc64nvme


def rotten(path):
    with path.open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"rot")


def cut(path):
    os.truncate(path, 4096)


def bent(path):
    Path(f"{path}.manifest.json").write_text("{")


@pytest.mark.parametrize("harm", [rotten, cut, bent])
def test_what_is_no_longer_whole_is_warned_about_and_only_that_is_not_sent(config, object_store, harm):
    for day in range(3):
        act(backup.run, replace(config, cloud=None), day)
    harm(config.storage_path / name_of(1))
    planned = act(backup.plan, config, 3)
    outcome = act(backup.run, config, 3)
    assert sent(planned) == sent(outcome) == [name_of(3), name_of(2), name_of(0)]
    assert planned.warnings == outcome.warnings
    [warning] = outcome.warnings
    assert str(config.storage_path / name_of(1)) in warning
    assert warning.endswith(" It is not sent to S3.")
    assert name_of(1) not in in_s3(config, object_store)


def test_what_retention_would_remove_from_s3_at_once_is_not_sent(config, tmp_path):
    config = replace(config, policy=replace(config.policy, retention_days=None, keep_daily=7, keep_monthly=12))
    # The host had another disk before, and has one backup of then that never went to S3.
    for day in (-20, *range(-10, 0)):
        act(backup.run, config, day)
    config.storage_path.rename(tmp_path / "lost")
    act(backup.run, replace(config, cloud=None), -12)
    planned = act(backup.plan, config, 0)
    outcome = act(backup.run, config, 0)
    assert sent(planned) == sent(outcome) == [name_of(0)]
    # On the disk alone it is wanted, and stays.
    prune.run(config, now=days(0))
    assert (config.storage_path / name_of(-12)).exists()


@pytest.fixture
def keeps_one(config):
    """A host that keeps the last backup alone, and has one that never went to S3."""
    config = replace(config, policy=replace(config.policy, retention_days=None, keep_last=1, minimum_kept=1))
    act(backup.run, replace(config, cloud=None), 0)
    return config


def test_what_the_backup_to_come_supersedes_is_not_planned(keeps_one):
    local, remote = catalog.local(keeps_one), catalog.remote(keeps_one)

    def planned(**upcoming):
        found = send.plan(keeps_one, local, remote, now=days(1), previous=None, warn=pytest.fail, **upcoming)
        return [str(name) for name, _transfer in found]

    assert planned() == [name_of(0)]
    assert planned(upcoming=parse(name_of(1))) == []
    assert sent(act(backup.run, keeps_one, 1)) == [name_of(1)]


def test_a_drill_of_the_copy_on_the_disk_makes_none_wanted_in_s3(keeps_one):
    for day in (1, 2):
        assert sent(act(backup.run, keeps_one, day)) == [name_of(day)]
    (keeps_one.storage_path / f"{name_of(0)}.drilled.json").touch()
    config = replace(keeps_one, policy=replace(keeps_one.policy, minimum_kept=2))
    assert sent(act(backup.run, config, 3)) == [name_of(3)]


def test_the_plan_counts_the_backup_that_is_to_come(keeps_one):
    config = keeps_one
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    planned = act(backup.plan, config, 1)
    assert sent(planned) == sent(act(backup.run, config, 1)) == [name_of(1)]


def test_an_unchanged_source_brings_what_s3_lacks_all_the_same(config):
    act(backup.run, replace(config, cloud=None), 0)
    clock = SetClock(days(1)).clock()
    planned = backup.plan(config, clock=clock, skip_unchanged=True)
    outcome = backup.run(config, clock=clock, skip_unchanged=True)
    assert (outcome.unchanged, outcome.changed) == (planned.unchanged, planned.changed) == (True, True)
    assert sent(planned) == sent(outcome) == [name_of(0)]
    again = backup.run(config, clock=clock, skip_unchanged=True)
    assert (again.changed, sent(again)) == (False, [])


def test_a_run_sends_only_what_changed_since_the_newest_backup_there(config, object_store):
    with closing(connect(config.database_path)) as application:
        application.execute("CREATE TABLE blobs (content)")
        application.executemany("INSERT INTO blobs VALUES (randomblob(1048576))", [()] * 40)
        application.commit()
    first = act(backup.run, config, 0)
    with closing(connect(config.database_path)) as application:
        add_rows(application, 1)
    second = act(backup.run, config, 1)
    (everything,), (little,) = first.transfers.values(), second.transfers.values()
    assert (everything.bytes_sent, everything.bytes_copied) == (first.bytes, 0)
    assert little.bytes_sent + little.bytes_copied == second.bytes
    assert 0 < little.bytes_sent < second.bytes
    assert in_s3(config, object_store)[name_of(1)] == Path(second.path).read_bytes()


@pytest.mark.parametrize("is_whole", [False, True], ids=["garbage", "whole and false"])
def test_a_name_that_somebody_took_before_us_is_no_success(config, object_store, is_whole):
    """With the key of the host he can create, and knows what the next backup is going to be called."""
    act(backup.run, config, 0)
    with closing(connect(config.database_path)) as application:
        add_rows(application, 1)
    true = in_s3(config, object_store)
    for suffix in ("", ".manifest.json"):
        body = true[f"{name_of(0)}{suffix}"].replace(name_of(0).encode(), name_of(1).encode()) if is_whole else b"{}"
        key = f"{config.cloud.prefix}/{name_of(1)}{suffix}"
        object_store.client().put_object(Bucket=config.cloud.bucket, Key=key, Body=body)
    with pytest.raises(backup.RunFailedError, match=rf"{name_of(1)} is taken: there is a ") as failed:
        act(backup.run, config, 1)
    assert (config.storage_path / name_of(1)).exists()
    assert sent(failed.value.outcome) == []


def test_a_manifest_that_somebody_put_there_first_is_no_success(config, object_store, monkeypatch):
    """It describes the very bytes, in the moment between them and ours, so that no restore could use them."""
    created = Objects.created

    def slip_in(objects, name, body, *lock):
        if name.endswith(".manifest.json"):
            false = json.loads(body)
            false["source"]["tables"] = {"memories": 7}
            key, false = objects.key(name), json.dumps(false)
            object_store.client().put_object(Bucket=config.cloud.bucket, Key=key, Body=false)
        return created(objects, name, body, *lock)

    monkeypatch.setattr(Objects, "created", slip_in)
    with pytest.raises(
        backup.RunFailedError, match="is taken: there is a manifest that tells something else of the sam"
    ):
        act(backup.run, config, 0)
    assert record.trouble(config.storage_path) is not None


def test_s3_copies_from_what_the_disk_has_alone(config):
    """A copy that is altered, has the same checksum and a newer name would ruin all that comes after it."""
    for day in range(2):
        act(backup.run, config, day)
    local, remote = catalog.local(config), catalog.remote(config)
    there = list(remote.copies())
    forged = [replace(there[0], name=replace(there[0].name, created_at=days(day))) for day in (2, 999)]
    name = replace(there[0].name, created_at=days(3))
    base = (parse(name_of(1)), local.manifest(parse(name_of(1))).stored.digest)
    assert send._base(local, local.copies(), [*there, *forged], name) == base
    (config.storage_path / f"{name_of(1)}.manifest.json").unlink()
    assert send._base(local, local.copies(), [*there, *forged], name)[0] == parse(name_of(0))
    assert send._base(local, [], there, name) == (None, None)


def test_a_false_history_leaves_in_s3_what_the_disk_keeps(tmp_path, config, object_store):
    """One later in the same day stands for that day, for all that its name says."""
    config = replace(config, policy=configuration(tmp_path, retention={"keep_daily": 9}, minimum_kept=1).policy)
    for day in range(3):
        act(backup.run, config, day)
    true = in_s3(config, object_store)
    for day in range(3):
        false = name_of(day).replace("_120000", "_235959")
        for suffix in ("", ".manifest.json"):
            key = f"{config.cloud.prefix}/{false}{suffix}"
            object_store.client().put_object(Bucket=config.cloud.bucket, Key=key, Body=b"{}")
    act(backup.run, config, 4)
    outcome = prune.run(config, now=days(4))
    assert outcome.removed == []
    assert true.keys() <= in_s3(config, object_store).keys()
    kept = [one.decision.reasons for one in outcome.verdicts if one.store == "s3" and "_120000" in one.location]
    assert kept.count(("the disk keeps it",)) == 2


# Pins


def pin(config, day):
    (config.storage_path / f"{name_of(day)}.pin").touch()


def pins_in_s3(config, object_store):
    return {name for name in in_s3(config, object_store) if name.endswith(".pin")}


@pytest.fixture
def pinned(config):
    """A host that keeps one backup, and what is pinned on its disk: the older of two that S3 has, too."""
    config = replace(config, policy=replace(config.policy, retention_days=None, keep_last=1, minimum_kept=1))
    for day in (0, 1):
        act(backup.run, config, day)
    pin(config, 0)
    return config


def test_a_pin_on_the_disk_comes_to_s3_with_the_next_run_and_by_one_request(pinned, object_store):
    with counted(pinned) as asked_to_plan:
        planned = act(backup.plan, pinned, 2)
    with counted(pinned) as asked:
        outcome = act(backup.run, pinned, 2)
    assert sent(planned) == sent(outcome) == [name_of(2)]
    assert (asked_to_plan.get("db.pin"), asked["db.pin"]) == (None, 1)
    assert in_s3(pinned, object_store)[f"{name_of(0)}.pin"] == b""
    with counted(pinned) as asked_again:
        assert act(backup.run, pinned, 3).warnings == outcome.warnings == []
    assert asked_again == {what: times for what, times in asked.items() if what != "db.pin"}


def test_what_was_pinned_outlives_the_disk(pinned, object_store):
    act(backup.run, pinned, 2)
    shutil.rmtree(pinned.storage_path)
    act(backup.run, pinned, 3)
    outcome = prune.run(pinned, now=days(3))
    assert [str(one.decision.copy.name) for one in outcome.removed] == [name_of(1), name_of(2)]
    assert name_of(0) in in_s3(pinned, object_store)
    assert ("pinned",) in [one.decision.reasons for one in outcome.verdicts]


def test_who_lets_go_of_a_pin_in_every_store_lets_go_of_the_backup(pinned, object_store):
    act(backup.run, pinned, 2)
    (pinned.storage_path / f"{name_of(0)}.pin").unlink()
    key = f"{pinned.cloud.prefix}/{name_of(0)}.pin"
    object_store.client().delete_object(Bucket=pinned.cloud.bucket, Key=key)
    act(backup.run, pinned, 3)
    prune.run(pinned, now=days(3))
    assert in_s3(pinned, object_store).keys() == {name_of(3), f"{name_of(3)}.manifest.json"}


def test_a_pin_that_lies_alone_on_the_disk_comes_to_s3(pinned, object_store):
    for suffix in ("", ".manifest.json"):
        (pinned.storage_path / f"{name_of(0)}{suffix}").unlink()
    act(backup.run, pinned, 2)
    assert pins_in_s3(pinned, object_store) == {f"{name_of(0)}.pin"}


def test_of_what_s3_lacks_no_pin_is_sent(config, object_store):
    act(backup.run, replace(config, cloud=None), 0)
    rotten(config.storage_path / name_of(0))
    pin(config, 0)
    pin(config, -1)
    with counted(config) as asked:
        assert sent(act(backup.run, config, 1)) == [name_of(1)]
    assert "db.pin" not in asked
    assert pins_in_s3(config, object_store) == set()


def test_what_is_sent_late_takes_its_pin_with_it(config, object_store):
    for day in (0, 1):
        act(backup.run, replace(config, cloud=None), day)
    pin(config, 0)
    with counted(config) as asked:
        assert sent(act(backup.run, config, 2)) == [name_of(2), name_of(1), name_of(0)]
    assert (asked["db.pin"], pins_in_s3(config, object_store)) == (1, {f"{name_of(0)}.pin"})


def test_a_pin_that_is_in_s3_alone_is_not_sent_again_with_its_backup(pinned, object_store):
    act(backup.run, pinned, 2)
    for suffix in ("", ".manifest.json"):
        key = f"{pinned.cloud.prefix}/{name_of(0)}{suffix}"
        object_store.client().delete_object(Bucket=pinned.cloud.bucket, Key=key)
    with counted(pinned) as asked:
        assert sent(act(backup.run, pinned, 3)) == [name_of(3), name_of(0)]
    assert "db.pin" not in asked


def test_what_may_not_leave_the_host_any_more_is_pinned_where_it_lies(pinned, object_store):
    """Before backups were encrypted it went to S3 as it was."""
    recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    act(backup.run, replace(pinned, recipients=(recipient,)), 2)
    assert pins_in_s3(pinned, object_store) == {f"{name_of(0)}.pin"}


def failing(monkeypatch, *errors):
    """Let the pins that are put meet these one after the other; returns those that were tried."""
    created, tried = Objects.created, []

    def put(objects, name, *rest):
        if name.endswith(".pin"):
            tried.append(name)
            if len(tried) <= len(errors):
                raise errors[len(tried) - 1]
        return created(objects, name, *rest)

    monkeypatch.setattr(Objects, "created", put)
    return tried


def test_a_pin_that_cannot_be_put_is_a_warning_and_keeps_no_other_back(pinned, object_store, monkeypatch):
    pin(pinned, 1)
    failing(monkeypatch, S3Error("Writing failed. Allow it.", "AccessDenied"))
    outcome = act(backup.run, pinned, 2)
    assert outcome.warnings == [
        "1 backup pinned on the disk could not be pinned in S3: should the disk be lost, retention lets go of what it "
        "alone pins. Writing failed. Allow it. The next run tries again."
    ]
    assert (outcome.record.result, outcome.record.warnings) == ("succeeded", tuple(outcome.warnings))
    assert pins_in_s3(pinned, object_store) == {f"{name_of(1)}.pin"}
    # Meanwhile the pin on the disk counts.
    prune.run(pinned, now=days(2))
    assert {name_of(day) for day in range(3)} <= in_s3(pinned, object_store).keys()
    assert act(backup.run, pinned, 3).warnings == []
    assert pins_in_s3(pinned, object_store) == {f"{name_of(day)}.pin" for day in (0, 1)}


def test_where_nobody_answers_no_other_pin_is_tried(pinned, monkeypatch):
    pin(pinned, 1)
    tried = failing(monkeypatch, S3Error("No answer. Look at the store.", no_answer=True))
    (warning,) = act(backup.run, pinned, 2).warnings
    assert warning.startswith("2 backups pinned on the disk could not be pinned in S3: ")
    assert len(tried) == 1

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets that keep versions: what stays billed is said, what may go goes for good, nothing comes back by itself."""

from __future__ import annotations

import json
import re
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from ansible_collections.eternia.backup.plugins.module_utils import pruning
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    hold,
    metrics,
    noncurrent,
    prune,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.health import Level
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_client import S3Client
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_versions import Removal, Version, Versions
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    SetClock,
    configuration,
    database,
)

NAMES = [f"eternia_backup_202611{day}_120000.db" for day in (22, 23, 24, 25)]
NOW = NOON + timedelta(days=4)


def hosted(base, settings, **block):
    """A host with four backups here and in S3, of which the newest is to stay."""
    database(base / "data" / "eternia.db")
    config = configuration(base, **{"retention": {"keep_last": 1}, "minimum_kept": 1, **block})
    config = replace(config, cloud=settings)
    for day in range(4):
        # So that all of them go to S3, although the policy would keep one there.
        generous = replace(config, policy=replace(config.policy, keep_last=9))
        backup.run(generous, clock=SetClock(NOON + timedelta(days=day)).clock())
    return config


@pytest.fixture
def settings(s3_settings, versioned_bucket):
    return replace(s3_settings, bucket=versioned_bucket)


@pytest.fixture
def config(tmp_path, settings):
    return hosted(tmp_path, settings)


@pytest.fixture
def thorough(config):
    return removing(config)


def removing(config):
    return replace(config, cloud=replace(config.cloud, remove_versions=True))


@pytest.fixture
def look(object_store):
    """Everything under the prefix by plain boto3: (name, "version" or "marker", is it the latest); not the claim."""

    def found(config):
        pages = object_store.client().get_paginator("list_object_versions")
        listed = []
        for page in pages.paginate(Bucket=config.cloud.bucket, Prefix=f"{config.cloud.prefix}/"):
            for kind, what in (("Versions", "version"), ("DeleteMarkers", "marker")):
                listed += [(one["Key"].rsplit("/", 1)[1], what, one["IsLatest"]) for one in page.get(kind, ())]
        return sorted(one for one in listed if one[0] != "eternia_backup.host.json")

    return found


def delete(object_store, config, *names):
    """As somebody does who deletes by mistake, or has the key: all that is seen goes."""
    for name in names:
        for suffix in ("", ".manifest.json"):
            key = f"{config.cloud.prefix}/{name}{suffix}"
            object_store.client().delete_object(Bucket=config.cloud.bucket, Key=key)


def seen(listed):
    return {name for name, what, latest in listed if what == "version" and latest}


def kept(*names):
    """What is there of backups that nobody removed."""
    return sorted((f"{name}{suffix}", "version", True) for name in names for suffix in ("", ".manifest.json"))


def bytes_of(config, names):
    return sum((config.storage_path / name).stat().st_size for name in names)


def test_without_the_option_everything_stays_and_it_is_said_once(config, look):
    size = bytes_of(config, NAMES[:3])
    planned = prune.plan(config, now=NOW)
    outcome = prune.run(config, now=NOW)
    assert outcome == planned
    assert outcome.noncurrent == noncurrent.Noncurrent(billed_bytes=size)
    assert re.fullmatch(r"[\d.]+ [kM]B of what was removed stay in the bucket and are billed", str(outcome.noncurrent))
    assert outcome.warnings == []
    listed = look(config)
    assert seen(listed) == {name for name, _what, _latest in kept(NAMES[3])}
    assert {(name, "version", False) for name in NAMES[:3]} <= set(listed)
    # Nothing goes now, so there is nothing to say.
    assert prune.run(config, now=NOW).noncurrent is None


def test_with_the_option_nothing_is_left_of_what_goes(thorough, look):
    planned = prune.plan(thorough, now=NOW)
    before = look(thorough)
    assert before == kept(*NAMES)
    outcome = prune.run(thorough, now=NOW)
    assert outcome == planned
    assert (outcome.noncurrent.removed, outcome.noncurrent.billed_bytes, outcome.warnings) == (6, 0, [])
    assert look(thorough) == kept(NAMES[3])
    again = prune.run(thorough, now=NOW)
    assert (again.noncurrent, again.changed) == (None, False)


def test_what_earlier_runs_left_goes_too(config, look):
    prune.run(config, now=NOW)
    assert len(look(config)) > 2
    planned = prune.plan(removing(config), now=NOW)
    outcome = prune.run(removing(config), now=NOW)
    assert outcome == planned
    assert (outcome.removed, outcome.changed, outcome.noncurrent.removed) == ([], True, 6)
    assert look(config) == kept(NAMES[3])
    assert pruning.reported(outcome)["changed"] is True
    assert pruning.reported(outcome)["noncurrent"]["removed"] == 6


def test_of_what_the_policy_would_keep_no_version_goes(tmp_path, settings, object_store, look):
    """Somebody deleted it all; the versions are the only copies that are left."""
    config = removing(hosted(tmp_path, settings, retention={"keep_last": 3}))
    for name in NAMES:
        for suffix in ("", ".manifest.json"):
            (config.storage_path / f"{name}{suffix}").unlink()
    delete(object_store, config, *NAMES)
    outcome = prune.run(config, now=NOW)
    left = {name for name, what, _latest in look(config) if what == "version"}
    assert left == {name for name, _what, _latest in kept(*NAMES[1:])}
    assert outcome.noncurrent.removed == 2
    # With a new backup one more goes, as it would have.
    backup.run(config, clock=SetClock(NOW).clock())
    prune.run(config, now=NOW)
    left = {name for name, what, _latest in look(config) if what == "version"}
    assert left == {name for name, _what, _latest in kept(*NAMES[2:], "eternia_backup_20261126_120000.db")}


def test_a_pin_keeps_versions_also_where_it_was_deleted_with_all_the_rest(thorough, object_store, look):
    (thorough.storage_path / f"{NAMES[0]}.pin").touch()
    key = f"{thorough.cloud.prefix}/{NAMES[1]}.pin"
    object_store.client().put_object(Bucket=thorough.cloud.bucket, Key=key, Body=b"")
    delete(object_store, thorough, NAMES[0], NAMES[1])
    object_store.client().delete_object(Bucket=thorough.cloud.bucket, Key=key)
    prune.run(thorough, now=NOW)
    left = {name for name, what, _latest in look(thorough) if what == "version"}
    assert left == {name for name, _what, _latest in kept(NAMES[0], NAMES[1], NAMES[3])} | {f"{NAMES[1]}.pin"}
    assert seen(look(thorough)) == {name for name, _what, _latest in kept(NAMES[3])}


def test_of_what_somebody_overwrote_no_version_goes(tmp_path, settings, object_store, look):
    """It is damaged now, and not kept; what lies below is the newest backup that there is."""
    config = removing(hosted(tmp_path, settings, retention={"keep_last": 1}))
    for suffix in ("", ".manifest.json"):
        (config.storage_path / f"{NAMES[3]}{suffix}").unlink()
    key = f"{config.cloud.prefix}/{NAMES[3]}"
    object_store.client().put_object(Bucket=config.cloud.bucket, Key=key, Body=b"overwritten")
    for _run in range(2):
        outcome = prune.run(config, now=NOW)
        versions = sorted(name for name, what, _latest in look(config) if what == "version")
        assert [name for name in versions if name.startswith(NAMES[3])].count(NAMES[3]) == 2
        assert {name for name, _what, _latest in kept(NAMES[2])} <= set(versions)
    delete(object_store, config, NAMES[3])
    outcome = prune.run(config, now=NOW)
    assert [name for name, what, _latest in look(config) if what == "version"].count(NAMES[3]) == 2
    message = f"Old versions of {NAMES[3]}, of which somebody overwrote the data, stay: one of them may be the backup"
    assert any(message in warning for warning in outcome.warnings)


def test_names_that_are_not_ours_and_versions_behind_what_is_kept_are_let_alone(thorough, object_store, look):
    client, where = object_store.client(), {"Bucket": thorough.cloud.bucket}
    foreign = ("somebody.iso", "eternia_backup_20269999_220000.db", f"deeper/{NAMES[0]}", f"{NAMES[0]}.bak")
    for name in foreign:
        client.put_object(**where, Key=f"{thorough.cloud.prefix}/{name}", Body=b"1")
        client.delete_object(**where, Key=f"{thorough.cloud.prefix}/{name}")
    client.put_object(**where, Key=f"{thorough.cloud.prefix}2/{NAMES[0]}", Body=b"1")
    client.delete_object(**where, Key=f"{thorough.cloud.prefix}2/{NAMES[0]}")
    # Overwritten by somebody, with the same bytes.
    body = (thorough.storage_path / NAMES[3]).read_bytes()
    client.put_object(**where, Key=f"{thorough.cloud.prefix}/{NAMES[3]}", Body=body)
    prune.run(thorough, now=NOW)
    listed = look(thorough)
    for name in foreign:
        assert (name.rsplit("/", 1)[-1], "version", False) in listed
    assert (NAMES[3], "version", False) in listed
    other = client.list_object_versions(**where, Prefix=f"{thorough.cloud.prefix}2/")
    assert len(other["Versions"]) == 1


def test_nothing_goes_while_the_last_run_has_failed_or_somebody_holds(config, look, monkeypatch):
    prune.run(config, now=NOW)
    thorough, before = removing(config), look(config)
    monkeypatch.setattr(prune.record, "trouble", lambda _path: "it failed")
    for outcome in (prune.plan(thorough, now=NOW), prune.run(thorough, now=NOW)):
        assert (outcome.noncurrent, outcome.changed) == (None, False)
    monkeypatch.undo()
    real = hold.require_none
    asked = []

    def held_later(path, now):
        asked.append(path)
        if len(asked) > 1:
            hold.put(config.storage_path, hold.wanted(config, who="me", why="look", hours=1, now=now))
        real(path, now)

    monkeypatch.setattr(hold, "require_none", held_later)
    outcome = prune.run(thorough, now=NOW)
    assert look(config) == before
    assert [("held by me" in one, "has stopped" in one) for one in outcome.warnings] == [(True, True)]


def test_what_is_locked_stays_and_it_is_said_until_when(tmp_path, s3_settings, locked_bucket, object_store, look):
    config = removing(hosted(tmp_path, replace(s3_settings, bucket=locked_bucket)))
    outcome = prune.run(config, now=NOW)
    (warning,) = outcome.warnings
    assert re.fullmatch(
        r"6 old versions of removed backups, [\d.]+ [kM]B, stay and are billed: s3://.*\.db\.manifest\.json is locked "
        r"until 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\. Later runs try again\.",
        warning,
    )
    assert outcome.noncurrent.removed == 0
    assert outcome.noncurrent.billed_bytes > bytes_of(config, [NAMES[3]])
    assert [one.store for one in outcome.removed].count("s3") == 3
    listed = look(config)
    assert seen(listed) == {name for name, _what, _latest in kept(NAMES[3])}
    # The markers stay above them: without those the versions would be backups again.
    assert {(name, "marker", True) for name, _what, _latest in kept(*NAMES[:3])} <= set(listed)
    assert {(name, "version", False) for name, _what, _latest in kept(*NAMES[:3])} <= set(listed)
    assert [str(copy.name) for copy in S3Store(config.cloud).copies()] == [NAMES[3]]


def test_what_is_locked_keeps_nothing_else(tmp_path, settings, object_store, look, monkeypatch):
    """One manifest is refused, and one file of data: what belongs to them stays, the rest goes."""
    config = removing(hosted(tmp_path, settings))
    call = S3Client.call

    def refusing(self, operation, key, **params):
        if operation != "delete_objects" or "VersionId" not in params["Delete"]["Objects"][0]:
            return call(self, operation, key, **params)
        locked = (f"{NAMES[0]}.manifest.json", NAMES[1])
        wanted = params["Delete"]["Objects"]
        bad = [one for one in wanted if one["Key"].rsplit("/", 1)[1] in locked]
        good = [one for one in wanted if one not in bad]
        if good:
            call(self, operation, key, Delete={"Objects": good, "Quiet": True})
        return {"Errors": [{**one, "Code": "AccessDenied", "Message": "Locked"} for one in bad]}

    monkeypatch.setattr(S3Client, "call", refusing)
    outcome = prune.run(config, now=NOW)
    assert outcome.noncurrent.removed == 3
    assert len(outcome.warnings) == 1
    assert "Allow s3:DeleteObject (and s3:DeleteObjectVersion, for old versions)" in outcome.warnings[0]
    left = {(name, what) for name, what, _latest in look(config)} - {(one, two) for one, two, _3 in kept(NAMES[3])}
    assert left == {
        *((f"{NAMES[0]}{suffix}", what) for suffix in ("", ".manifest.json") for what in ("version", "marker")),
        (NAMES[1], "version"),
        (NAMES[1], "marker"),
    }
    assert seen(look(config)) == {name for name, _what, _latest in kept(NAMES[3])}


@pytest.mark.parametrize("step", range(1, 5))
def test_cut_off_at_any_request_nothing_comes_back(tmp_path, settings, look, monkeypatch, step):
    config = removing(hosted(tmp_path, settings))
    call, asked = S3Client.call, []

    class Killed(BaseException):
        pass

    def dying(self, operation, *arguments, **params):
        asked.extend([operation] * (operation == "delete_objects"))
        if len(asked) > step:
            raise Killed
        return call(self, operation, *arguments, **params)

    with monkeypatch.context() as patch:
        patch.setattr(S3Client, "call", dying)
        with suppress(Killed):
            prune.run(config, now=NOW)
    assert len(asked) > step
    whole = {str(copy.name) for copy in S3Store(config.cloud).copies() if copy.verified}
    assert whole == {NAMES[3]}
    prune.run(config, now=NOW)
    assert look(config) == kept(NAMES[3])


@pytest.mark.parametrize("operation", ["get_bucket_versioning", "list_object_versions"])
@pytest.mark.parametrize("code", ["AccessDenied", "NotImplemented", ""])
def test_what_the_store_does_not_tell_is_unknown_and_fails_nothing(config, monkeypatch, operation, code):
    call = S3Client.call

    def refusing(self, name, key, **params):
        if name == operation:
            raise self.refusal(name, key or "", code, "Not you")
        return call(self, name, key, **params)

    monkeypatch.setattr(S3Client, "call", refusing)
    store = next(one for one in status.read(config, now=NOW, versions=True).stores if one.name == "s3")
    assert (store.versioned, store.noncurrent_bytes) == (None if operation == "get_bucket_versioning" else True, None)
    outcome = prune.run(config, now=NOW)
    assert [one.store for one in outcome.removed].count("s3") == 3
    if operation == "get_bucket_versioning":
        assert outcome.noncurrent.billed_bytes is None
        assert str(outcome.noncurrent).endswith(
            "is not known: allow s3:GetBucketVersioning and s3:ListBucketVersions to this key"
        )
    thorough = prune.run(removing(config), now=NOW)
    if operation == "list_object_versions":
        assert thorough.noncurrent.billed_bytes is None
        (warning,) = thorough.warnings
        assert warning.startswith("Old versions were not removed for good. Listing the versions of s3://")
    else:
        # Whoever may list them, and remove them, need not be told whether they are kept.
        assert (thorough.warnings, thorough.noncurrent.removed) == ([], 6)


def test_a_newest_backup_that_cannot_be_read_is_a_warning_and_nothing_goes(config, look, monkeypatch):
    prune.run(config, now=NOW)
    before = look(config)

    def away(*_):
        raise StoreError("S3 is away.")

    monkeypatch.setattr(S3Store, "prove", away)
    outcome = prune.run(removing(config), now=NOW)
    assert outcome.warnings == ["Old versions were not removed for good. S3 is away."]
    assert look(config) == before


def test_behind_a_newest_backup_that_has_rotted_the_one_before_stays(config, object_store, look):
    prune.run(config, now=NOW)
    key = f"{config.cloud.prefix}/{NAMES[3]}"
    size = (config.storage_path / NAMES[3]).stat().st_size
    object_store.client().put_object(Bucket=config.cloud.bucket, Key=key, Body=bytes(size))
    outcome = prune.run(removing(config), now=NOW)
    assert [NAMES[3] in one for one in outcome.warnings] == [True]
    left = {name for name, what, _latest in look(config) if what == "version"}
    assert left == {name for name, _what, _latest in kept(*NAMES[2:])}


def test_a_bucket_without_versions_has_none_to_remove(tmp_path, s3_settings):
    config = removing(hosted(tmp_path, s3_settings))
    outcome = prune.run(config, now=NOW)
    assert (outcome.noncurrent, outcome.warnings, len(outcome.removed)) == (None, [], 6)
    store = next(one for one in status.read(config, now=NOW, versions=True).stores if one.name == "s3")
    assert (store.versioned, store.noncurrent_bytes) == (False, 0)


def test_versioning_that_was_switched_off_leaves_versions(tmp_path, settings, object_store, look):
    config = removing(hosted(tmp_path, settings))
    client = object_store.client()
    client.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Suspended"})
    try:
        outcome = prune.run(config, now=NOW)
    finally:
        client.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    assert outcome.noncurrent.removed == 6
    # Markers that have no version id of their own this server keeps, whatever it says. They take no room.
    assert [one for one in look(config) if one[1] == "version"] == kept(NAMES[3])


def test_status_says_what_is_billed(config):
    def of_s3(**options):
        return next(one for one in status.read(config, now=NOW, **options).stores if one.name == "s3")

    assert (of_s3().versioned, of_s3().noncurrent_bytes) == (True, None)
    assert of_s3(versions=True).noncurrent_bytes == 0
    size = bytes_of(config, NAMES[:3])
    prune.run(config, now=NOW)
    assert size < of_s3(versions=True).noncurrent_bytes < size + 10_000
    assert of_s3(verify="full").noncurrent_bytes == of_s3(versions=True).noncurrent_bytes
    found = status.read(config, now=NOW, versions=True)
    page = metrics.render(config, found, Level.OK)
    assert re.search(r'^eternia_backup_noncurrent_bytes\{.*store="s3"\} [1-9]\d+$', page, re.MULTILINE)
    assert "noncurrent" not in metrics.render(config, status.read(config, now=NOW), Level.OK)


def test_the_command_says_it(both, versioned_bucket):
    fields = both.fields["backup"]
    cloud = {**fields["cloud_backup"], "bucket": versioned_bucket}
    kept_one = {**fields, "cloud_backup": cloud, "retention": {"keep_last": 1}, "minimum_kept": 1}
    both.configure(backup={**fields, "cloud_backup": cloud})
    both.back_up(hours_ago=0.3)
    both.back_up(hours_ago=0.2)
    assert re.search(r"^  s3 +2 backups, .*, old versions are kept$", both.succeed("status"), re.MULTILINE)
    both.configure(backup=kept_one)
    both.back_up(hours_ago=0.1)
    assert re.search(r"^  versions  [\d.]+ kB of what was removed stay in the bucket", both.succeed("prune"), re.M)
    words = both.succeed("status", "--versions")
    assert re.search(r"^  s3 +1 backup, .*, and [\d.]+ kB of old versions that are billed$", words, re.MULTILINE)
    stores = json.loads(both.succeed("status", "--versions", "--json"))["stores"]
    assert [(one["versioned"], bool(one["noncurrent_bytes"])) for one in stores] == [(None, False), (True, True)]
    both.configure(backup={**kept_one, "cloud_backup": {**cloud, "remove_versions": True}})
    assert re.search(r"^  versions  4 old versions gone for good, [\d.]+ kB$", both.succeed("prune", "--check"), re.M)
    assert re.search(r"^  versions  4 old versions gone for good, [\d.]+ kB$", both.succeed("prune"), re.MULTILINE)
    assert "versions" not in both.succeed("prune")


class Client:
    """A store with so many pages of a thousand versions, which takes note of what it is asked to delete."""

    def __init__(self, pages=0):
        self.pages, self.deleted = pages, []

    delete = S3Client.delete

    def call(self, operation, _key, **params):
        if operation == "delete_objects":
            self.deleted.append(params["Delete"]["Objects"])
            return {}
        at = int(params.get("KeyMarker", 0))
        keys = (f"x/eternia_backup_202611{at % 28 + 1:02}_12{n // 60:02}{n % 60:02}.db" for n in range(1000))
        listed = [{"Key": key, "VersionId": "1", "Size": 3, "IsLatest": False} for key in keys]
        return {"Versions": listed, "IsTruncated": at + 1 < self.pages, "NextKeyMarker": str(at + 1)}


def test_many_versions_are_counted_a_page_at_a_time():
    tracemalloc.start()
    try:
        assert Versions(Client(pages=100), "x/").noncurrent_bytes() == 300_000
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_of_many_versions_each_request_takes_a_thousand_and_manifests_go_first():
    name = parse(NAMES[0])
    versions = [
        Version(name, suffix, f"x/{name}{suffix}", str(number), 1, False, False)
        for suffix in ("", ".manifest.json")
        for number in range(1500)
    ]
    marker = Version(name, "", f"x/{name}", "m", 0, True, True)
    client, done = Client(), Removal()
    Versions(client, "x/").remove([marker, *versions], done, lambda: None)
    assert [len(batch) for batch in client.deleted] == [1000, 500, 1000, 500, 1]
    assert [batch[0]["Key"].endswith(".manifest.json") for batch in client.deleted] == [True, True, False, False, False]
    assert client.deleted[-1] == [{"Key": marker.key, "VersionId": "m"}]
    assert len(done.gone) == 3000

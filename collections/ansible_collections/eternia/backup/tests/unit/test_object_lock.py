# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent is locked, what is kept stays locked, and what nobody could delete is not said to be removed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    catalog,
    files,
    health,
    hold,
    lock,
    object_lock,
    prune,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    run as scheduled,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import EngineError, HeldError
from ansible_collections.eternia.backup.plugins.module_utils.engine.manifest import Digest
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import from_iso, iso, parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_lock import Lock
from ansible_collections.eternia.backup.tests.unit.builders import SetClock, configuration, database
from ansible_collections.eternia.backup.tests.unit.stores.test_every_store import FIRST, LARGE, PART, some
from ansible_collections.eternia.backup.tests.unit.stores.test_every_store import backup as file_of
from botocore.exceptions import ClientError

# The store's own clock is the real one: a lock that has ended is refused.
NOW = datetime.now(timezone.utc).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAYS = 2


@pytest.fixture
def settings(s3_settings, lockable_bucket):
    return replace(s3_settings, bucket=lockable_bucket, object_lock_days=DAYS)


@pytest.fixture
def config(tmp_path, settings):
    database(tmp_path / "data/eternia.db")
    block = {"frequency": "hourly", "retention": {"keep_last": 1}, "minimum_kept": 1}
    return replace(configuration(tmp_path, **block), cloud=settings)


@pytest.fixture
def locks(object_store):
    """By plain boto3: the mode and the end of the lock of everything under the prefix, None where there is none."""

    def look(config):
        client, found = object_store.client(), {}
        where = {"Bucket": config.cloud.bucket}
        for entry in client.list_objects_v2(**where, Prefix=f"{config.cloud.prefix}/").get("Contents", ()):
            head = client.head_object(**where, Key=entry["Key"])
            until = head.get("ObjectLockRetainUntilDate")
            name = entry["Key"].rsplit("/", 1)[1]
            found[name] = None if until is None else (head["ObjectLockMode"], until.astimezone(timezone.utc))
        return found

    return look


def run(config, moment):
    return backup.run(config, clock=SetClock(moment).clock())


def of(taken):
    return [f"{taken.name}{suffix}" for suffix in ("", ".manifest.json")]


@pytest.mark.parametrize("mode", ["COMPLIANCE", "GOVERNANCE"])
def test_data_and_manifest_are_locked_and_the_claim_is_not(config, locks, mode, object_store):
    config = replace(config, cloud=replace(config.cloud, object_lock_mode=mode))
    taken = run(config, NOW)
    found = locks(config)
    assert found == {**dict.fromkeys(of(taken), (mode, NOW + DAYS * DAY)), "eternia_backup.host.json": None}
    key = f"{config.cloud.prefix}/{taken.name}"
    version = object_store.client().head_object(Bucket=config.cloud.bucket, Key=key)["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        object_store.client().delete_object(Bucket=config.cloud.bucket, Key=key, VersionId=version)
    assert taken.warnings == []


def test_what_is_sent_by_parts_is_locked_too(tmp_path, settings, object_store):
    store = S3Store(settings)
    store.claim(Owner("staging", "web1", "/backups"))
    path, manifest = file_of(tmp_path, FIRST, some(LARGE))
    store.put(path, manifest, lock_until=NOW + DAY)
    assert store.lock_of(FIRST) == Lock(NOW + DAY, "COMPLIANCE")
    store.prove(next(iter(store.copies())))
    assert store.lock_of(parse("eternia_backup_20261122_230000.db")) is None


def test_an_upload_that_was_found_open_does_not_choose_the_lock(tmp_path, settings, object_store):
    """Nothing tells the lock of one, and whoever steals the key may have begun it, for a second to come."""
    path, manifest = file_of(tmp_path, FIRST, some(LARGE))
    thief, where = object_store.client(), {"Bucket": settings.bucket, "Key": f"{settings.prefix}/{FIRST}"}
    crc, his = {"ChecksumAlgorithm": "CRC64NVME"}, {"ObjectLockMode": "GOVERNANCE"}
    begun = thief.create_multipart_upload(
        **where, **crc, **his, ChecksumType="FULL_OBJECT", ObjectLockRetainUntilDate=NOW + HOUR
    )
    thief.upload_part(**where, **crc, UploadId=begun["UploadId"], PartNumber=1, Body=some(LARGE)[:PART])
    store = S3Store(settings)
    store.claim(Owner("staging", "web1", "/backups"))
    transfer = store.put(path, manifest, lock_until=NOW + DAY)
    head = thief.head_object(**where)
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", NOW + DAY)
    assert transfer.bytes_sent == LARGE
    assert "Uploads" not in thief.list_multipart_uploads(Bucket=where["Bucket"], Prefix=where["Key"])


@pytest.mark.parametrize("half", [0, 1], ids=["the data", "the manifest"])
def test_prune_hides_nothing_of_which_a_half_is_locked(config, locks, object_store, half):
    config = replace(config, cloud=replace(config.cloud, object_lock_days=0))
    first = run(config, NOW - 2 * HOUR)
    run(config, NOW - HOUR)
    object_store.client().put_object_retention(
        Bucket=config.cloud.bucket,
        Key=f"{config.cloud.prefix}/{of(first)[half]}",
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": NOW + DAY},
    )
    config = replace(config, cloud=replace(config.cloud, object_lock_days=DAYS))
    outcome = prune.run(config, now=NOW)
    assert [one.store for one in outcome.removed] == ["local"]
    assert set(of(first)) <= set(locks(config))


def test_prune_keeps_what_is_locked_and_says_until_when(config, locks):
    first, second = run(config, NOW), None
    second = run(config, NOW + HOUR)
    planned = prune.plan(config, now=NOW + HOUR)
    outcome = prune.run(config, now=NOW + HOUR)
    assert outcome == planned
    assert [one.store for one in outcome.removed] == ["local"]
    (kept,) = [one for one in outcome.verdicts if one.store == "s3" and one.decision.copy.name == first.name]
    assert kept.decision.keep
    assert kept.decision.reasons == (f"locked until {iso(NOW + DAYS * DAY)}",)
    assert set(of(first)) | set(of(second)) < set(locks(config))


def test_once_the_lock_has_ended_it_goes(config, locks):
    first, later = run(config, NOW), NOW + DAYS * DAY + HOUR
    run(config, NOW + HOUR)
    run(config, later)
    outcome = prune.run(config, now=later)
    assert first.name in {one.decision.copy.name for one in outcome.removed if one.store == "s3"}
    assert not set(of(first)) & set(locks(config))


def test_what_is_kept_is_locked_for_longer_before_the_lock_ends_and_nothing_else_is(config, locks):
    config = replace(config, policy=replace(config.policy, keep_last=0, keep_daily=1, minimum_kept=1))
    first = run(config, NOW)
    end = NOW + DAYS * DAY
    assert object_lock.margin(config) == DAY
    # The newest is kept; the first no more.
    soon = run(config, end - DAY - HOUR)
    assert locks(config)[str(first.name)][1] == end
    last = run(config, end - DAY + HOUR)
    found = locks(config)
    assert found[str(first.name)][1] == end
    assert found[str(last.name)][1] == end - DAY + HOUR + DAYS * DAY
    assert found[str(soon.name)][1] == end - DAY - HOUR + DAYS * DAY


def test_a_backup_that_is_kept_for_long_is_locked_again_and_again(config, locks):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first, moment = run(config, NOW), NOW
    for _time in range(3):
        moment += DAY + HOUR
        run(config, moment)
        assert {locks(config)[name] for name in of(first)} == {("COMPLIANCE", moment + DAYS * DAY)}
    (config.storage_path / object_lock.NAME).unlink()
    moment += DAY + HOUR
    run(config, moment)
    assert locks(config)[str(first.name)][1] == moment + DAYS * DAY


def test_a_pin_keeps_it_locked(config, locks):
    first = run(config, NOW)
    (config.storage_path / f"{first.name}.pin").touch()
    moment = NOW + DAY + HOUR
    run(config, moment)
    assert locks(config)[str(first.name)][1] == moment + DAYS * DAY
    # Whoever lets go of the backup has to be able to remove the pin.
    assert locks(config)[f"{first.name}.pin"] is None


def test_what_was_sent_before_there_were_locks_is_locked_when_it_is_kept(config, locks):
    unlocked = replace(config, cloud=replace(config.cloud, object_lock_days=0))
    first = run(unlocked, NOW)
    assert locks(config)[str(first.name)] is None
    kept = replace(config, policy=replace(config.policy, keep_last=9))
    run(kept, NOW + HOUR)
    assert {locks(config)[name] for name in of(first)} == {("COMPLIANCE", NOW + HOUR + DAYS * DAY)}


def test_what_is_known_is_not_asked_again(config, monkeypatch):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    for hour in range(4):
        run(config, NOW + hour * HOUR)
    asked = []
    real = S3Store.lock_of
    monkeypatch.setattr(S3Store, "lock_of", lambda store, name: asked.append(name) or real(store, name))
    last = run(config, NOW + 4 * HOUR)
    assert asked == [last.name]
    known = json.loads((config.storage_path / object_lock.NAME).read_text())["until"]
    assert len(known) == 5
    assert (config.storage_path / object_lock.NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"until": {"x": "y"}}', '{"until": []}', '{"format": 99}'])
def test_a_file_that_cannot_be_read_is_asked_for_anew(config, locks, content):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    run(config, NOW)
    (config.storage_path / object_lock.NAME).write_text(content)
    taken = run(config, NOW + HOUR)
    assert taken.warnings == []
    assert len(json.loads((config.storage_path / object_lock.NAME).read_text())["until"]) == 2


def test_a_bucket_without_a_lock_is_refused_before_anything_is_sent(config, s3_settings, object_store):
    config = replace(config, cloud=replace(config.cloud, bucket=s3_settings.bucket))
    message = (
        f"The bucket {s3_settings.bucket} has no Object Lock, and cloud_backup.object_lock_days is 2. Nothing was sent."
    )
    for attempt in (backup.plan, backup.run):
        with pytest.raises(Exception, match=message):
            attempt(config, clock=SetClock(NOW).clock())
    listed = object_store.client().list_objects_v2(Bucket=s3_settings.bucket, Prefix=f"{s3_settings.prefix}/")
    assert listed["KeyCount"] == 0


def test_a_lock_that_cannot_be_made_longer_is_a_warning(config, monkeypatch, object_store, credentials_file):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    run(config, NOW)

    def denied(store, name, until, **_expected):
        raise store._client.refusal("put_object_retention", store._objects.key(name), "AccessDenied", "No.")

    monkeypatch.setattr(S3Store, "lock", denied)
    taken = run(config, NOW + DAY + HOUR)
    (warning,) = taken.warnings
    assert warning.startswith("1 backup to be kept in S3 could not be locked for longer: a lock may end. ")
    assert "Allow s3:PutObjectRetention there" in warning
    assert taken.record.result == "succeeded"


def test_a_lock_that_the_store_only_says_it_made_longer_is_a_warning(config, monkeypatch):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    where = f"s3://{config.cloud.bucket}/{config.cloud.prefix}/{run(config, NOW).name}"
    monkeypatch.setattr(S3Store, "lock", lambda *_, **__: None)
    (warning,) = run(config, NOW + DAY + HOUR).warnings
    assert warning == (
        f"1 backup to be kept in S3 could not be locked for longer: a lock may end. {where} was to be locked, the "
        "store said yes, and it is not. Look at the store: eternia-backup check-store."
    )


def test_one_that_cannot_be_locked_keeps_no_other_from_it(config, locks, monkeypatch):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first, second = run(config, NOW), run(config, NOW + HOUR)
    real = S3Store.lock

    def denied(store, name, until, **expected):
        if name == second.name:
            raise store._client.refusal("put_object_retention", str(name), "AccessDenied", "No.")
        real(store, name, until, **expected)

    monkeypatch.setattr(S3Store, "lock", denied)
    moment = NOW + DAY + 2 * HOUR
    (warning,) = run(config, moment).warnings
    assert warning.startswith("1 backup to be kept in S3 could not be locked")
    ends = {name: locks(config)[str(name)][1] for name in (first.name, second.name)}
    assert ends == {first.name: moment + DAYS * DAY, second.name: NOW + HOUR + DAYS * DAY}


def test_a_harder_lock_stays_as_hard(config, locks):
    """Compliance cannot become governance, and would not be extended by a request that asks for it."""
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first, moment = run(config, NOW), NOW + DAY + HOUR
    softer = replace(config, cloud=replace(config.cloud, object_lock_mode="GOVERNANCE"))
    taken = run(softer, moment)
    assert {locks(config)[name] for name in of(first)} == {("COMPLIANCE", moment + DAYS * DAY)}
    assert taken.warnings == []


@pytest.mark.parametrize("half", [0, 1], ids=["the data", "the manifest"])
def test_a_softer_lock_than_is_configured_is_told_of(config, object_store, half):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first = run(replace(config, cloud=replace(config.cloud, object_lock_days=0)), NOW)
    for name, mode in zip(of(first), ("COMPLIANCE", "GOVERNANCE") if half else ("GOVERNANCE", "COMPLIANCE")):
        object_store.client().put_object_retention(
            Bucket=config.cloud.bucket,
            Key=f"{config.cloud.prefix}/{name}",
            Retention={"Mode": mode, "RetainUntilDate": NOW + DAYS * DAY},
        )
    key = f"{config.cloud.prefix}/{first.name}"
    assert run(config, NOW + HOUR).warnings == [
        f"Of 1 backup in s3://{config.cloud.bucket}/{config.cloud.prefix}/ the lock is in GOVERNANCE, and "
        "cloud_backup.object_lock_mode is COMPLIANCE: whoever may bypass it can delete what it holds, "
        f"{first.name} for one. Where GOVERNANCE was never configured, find out who else has this host's key. An "
        "administrator makes the lock as hard, that of the data and that of the manifest: aws s3api "
        f"put-object-retention --bucket {config.cloud.bucket} --key {key} --retention Mode=COMPLIANCE,"
        f"RetainUntilDate={iso(NOW + DAYS * DAY)} --bypass-governance-retention, and the same with "
        f"--key {key}.manifest.json."
    ]
    # It is known now, and S3 not asked again before the lock has to be made longer.
    assert run(config, NOW + 2 * HOUR).warnings == []
    wants_no_more = replace(config, cloud=replace(config.cloud, object_lock_mode="GOVERNANCE"))
    (config.storage_path / object_lock.NAME).unlink()
    assert run(wants_no_more, NOW + 3 * HOUR).warnings == []


def test_a_softer_lock_does_not_end_and_what_the_warning_says_makes_it_harder(config, locks, object_store):
    """No store here lets a host's key change the mode of a lock that holds, not even to a harder one."""
    config = replace(config, policy=replace(config.policy, keep_last=9))
    softer = replace(config, cloud=replace(config.cloud, object_lock_mode="GOVERNANCE"))
    first, moment = run(softer, NOW), NOW + DAY + HOUR
    (warning,) = run(config, moment).warnings
    assert {locks(config)[name] for name in of(first)} == {("GOVERNANCE", moment + DAYS * DAY)}
    keys = [f"{config.cloud.prefix}/{name}" for name in of(first)]
    assert all(f" --key {key}" in warning for key in keys)
    until = re.search(r"RetainUntilDate=(\S+) --bypass", warning)[1]
    for key in keys:
        object_store.client().put_object_retention(
            Bucket=config.cloud.bucket,
            Key=key,
            Retention={"Mode": "COMPLIANCE", "RetainUntilDate": from_iso(until)},
            BypassGovernanceRetention=True,
        )
    moment += DAY + HOUR
    assert run(config, moment).warnings == []
    assert {locks(config)[name] for name in of(first)} == {("COMPLIANCE", moment + DAYS * DAY)}


def test_a_lock_on_the_data_that_is_longer_keeps_the_manifest_from_nothing(config, locks, object_store):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first, moment, far = run(config, NOW), NOW + DAY + HOUR, NOW + 9 * DAY
    object_store.client().put_object_retention(
        Bucket=config.cloud.bucket,
        Key=f"{config.cloud.prefix}/{first.name}",
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": far},
    )
    taken = run(config, moment)
    data, manifest = of(first)
    assert (locks(config)[data][1], locks(config)[manifest][1]) == (far, moment + DAYS * DAY)
    assert taken.warnings == []


@pytest.mark.parametrize(
    ("forged", "words"),
    [
        ("data of another size", "it has 700 bytes, ours "),
        ("data of the same size", "its "),
        ("data and manifest", "it has the sha256 "),
        ("the manifest alone", "its manifest tells something else of the same bytes than the one on the disk"),
        ("a manifest that we could not write", "its manifest tells something else of the same bytes than the one on"),
    ],
)
def test_what_somebody_put_on_top_is_not_locked_in_its_place(config, locks, object_store, forged, words):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first = run(config, NOW)
    key = f"{config.cloud.prefix}/{first.name}"
    client, where = object_store.client(), {"Bucket": config.cloud.bucket}
    garbage = b"g" * (700 if forged == "data of another size" else first.bytes)
    described, manifest = Digest("sha256", hashlib.sha256(garbage).hexdigest()), first.manifest
    if "manifest" in forged and "data" not in forged:
        # As UTF-8 it is a third of what it would be with our escapes.
        source = {**manifest.source, "x": "€" * (3_000_000 if "could not" in forged else 1)}
        fields = replace(manifest, source=source).fields()
        body = json.dumps(fields, ensure_ascii=False).encode()
        client.put_object(**where, Key=f"{key}.manifest.json", Body=body)
    else:
        client.put_object(**where, Key=key, Body=garbage)
    if forged == "data and manifest":
        stored = replace(manifest.stored, digest=described, crc64nvme=None)
        body = replace(manifest, stored=stored, content=replace(manifest.content, digest=described)).to_json()
        client.put_object(**where, Key=f"{key}.manifest.json", Body=body)
    (warning,) = run(config, NOW + DAY + HOUR).warnings
    assert f"{first.name} is damaged: {words}" in warning
    assert "Look at its versions there." in warning
    assert locks(config)[of(first)["data" not in forged]] is None


def no_source(config, _monkeypatch):
    config.database_path.unlink()


def held_by_somebody(config, _monkeypatch):
    hold.put(config.storage_path, hold.Hold("somebody", "an incident", NOW + 2 * DAY))


def a_disk_that_only_reads(_config, monkeypatch):
    def refused(*_arguments, **_keywords):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "make_private_dirs", refused)
    monkeypatch.setattr(files, "replace", refused)


OBSTACLES = {"no source": no_source, "a hold": held_by_somebody, "a read-only disk": a_disk_that_only_reads}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_run_that_fails_keeps_locked_what_there_is(config, locks, monkeypatch, obstacle):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first, moment = run(config, NOW), NOW + DAY + HOUR
    OBSTACLES[obstacle](config, monkeypatch)
    with pytest.raises(EngineError):
        run(config, moment)
    assert {locks(config)[name] for name in of(first)} == {("COMPLIANCE", moment + DAYS * DAY)}


def test_a_false_history_lets_no_lock_end_of_what_the_disk_keeps(config, locks, object_store):
    """One that is later in the same day stands for that day, for all that its name says."""
    config = replace(config, policy=replace(config.policy, keep_last=0, keep_daily=9))
    noon = (NOW - DAY).replace(hour=12, minute=0, second=0)
    first = run(config, noon)
    false = str(first.name).replace("_120000", "_235959")
    for suffix in ("", ".manifest.json"):
        key, checked = f"{config.cloud.prefix}/{false}{suffix}", {"ChecksumAlgorithm": "SHA256"}
        object_store.client().put_object(Bucket=config.cloud.bucket, Key=key, Body=b"{}", **checked)
    run(config, NOW)
    # Whether it was renewed a day before depends on the hour; more than a day later it has to be.
    moment = NOW + DAY + HOUR
    run(config, moment)
    assert {locks(config)[name] for name in of(first)} == {("COMPLIANCE", moment + DAYS * DAY)}


def test_a_scheduled_run_that_is_held_keeps_locked_what_there_is(config, locks):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first, moment = run(config, NOW), NOW + DAY + HOUR
    held_by_somebody(config, None)
    outcome = scheduled.run(config, clock=SetClock(moment).clock())
    assert isinstance(outcome.error, HeldError)
    assert outcome.warnings == []
    assert {locks(config)[name] for name in of(first)} == {("COMPLIANCE", moment + DAYS * DAY)}


def test_locks_that_no_run_renews_are_told_of_before_they_end(config):
    config = replace(config, policy=replace(config.policy, keep_last=9))
    first = run(config, NOW)
    late = NOW + DAYS * DAY - object_lock.margin(config) / 4 + HOUR

    def told(moment):
        found = status.read(config, now=moment)
        assert found.locks_ending == ({} if moment < late else {str(first.name): iso(NOW + DAYS * DAY)})
        return [str(one.message) for one in health.troubles(config, found, moment) if "The lock of" in one.message]

    assert told(late - 2 * HOUR) == []
    (message,) = told(late)
    with lock.held(config.storage_path):
        # Whoever hangs, or only holds it, renews nothing.
        assert told(late) == [message]
    assert message.startswith("The lock of 1 backup in s3 ends soon, or has ended, and no run renews it: that of ")
    assert f" {first.name}, {iso(NOW + DAYS * DAY)}. " in message
    (config.storage_path / object_lock.NAME).unlink()
    found = status.read(config, now=NOW + HOUR)
    assert found.locks_ending == {str(first.name): None}
    assert f"{first.name}, at a time that is not known" in str(health.troubles(config, found, NOW + HOUR))
    going_on = health.troubles(config, replace(found, running=True), NOW + HOUR)
    assert "not known" not in str(going_on)


def test_a_false_history_hides_no_lock_that_ends_of_what_the_disk_keeps(config, object_store):
    first = run(config, NOW)
    false = parse((NOW + HOUR).strftime("eternia_backup_%Y%m%d_%H%M%S.db"))
    for suffix in ("", ".manifest.json"):
        key, checked = f"{config.cloud.prefix}/{false}{suffix}", {"ChecksumAlgorithm": "SHA256"}
        object_store.client().put_object(Bucket=config.cloud.bucket, Key=key, Body=b"{}", **checked)
    end = NOW + DAYS * DAY
    assert status.read(config, now=end).locks_ending == {str(first.name): iso(end), str(false): None}


def test_a_claim_that_somebody_took_away_is_told_of(config, locks, object_store):
    first = run(config, NOW)
    where = {"Bucket": config.cloud.bucket, "Key": f"{config.cloud.prefix}/eternia_backup.host.json"}
    object_store.client().delete_object(**where)
    config.database_path.unlink()
    with pytest.raises(backup.RunFailedError) as failed:
        run(config, NOW + DAY + HOUR)
    (warning,) = failed.value.outcome.warnings
    assert "holds backups and has lost what says whose they are" in warning
    assert locks(config)[str(first.name)][1] == NOW + DAYS * DAY


def test_a_disk_that_cannot_be_listed_is_told_of(config, monkeypatch):
    run(config, NOW)

    def unlisted(*_arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(LocalStore, "copies", unlisted)
    warned = []
    object_lock.renew(config, catalog.local(config), now=NOW + DAY, warn=warned.append)
    assert re.match(rf"{config.storage_path} cannot be listed, so that .* a lock may end\. .* The next run", warned[0])
    assert len(warned) == 1


def test_where_s3_gives_no_answer_it_is_not_asked_twice(config, monkeypatch):
    run(config, NOW)
    asked = []
    monkeypatch.setattr(object_lock, "renew", lambda *_arguments, **_keywords: asked.append(1))
    away = replace(config, cloud=replace(config.cloud, endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(backup.RunFailedError):
        run(away, NOW + HOUR)
    assert asked == []
    run(config, NOW + 2 * HOUR)
    assert asked == [1]


def test_what_is_locked_restores_verifies_and_is_shown(both, lockable_bucket):
    cloud = {**both.fields["backup"]["cloud_backup"], "bucket": lockable_bucket, "object_lock_days": 3}
    both.configure(backup={"cloud_backup": cloud, "retention": {"keep_last": 1}, "minimum_kept": 1})
    assert "kept      object lock             The bucket has Object Lock, and backups are sent with a lock." in (
        both.succeed("check-store")
    )
    rows = both.rows()
    both.succeed("run")
    both.write()
    out = both.succeed("run")
    assert "  kept      1 copy that no rule wants: locked until 20" in out
    assert "removed   1 copy" in out
    both.succeed("verify", "--full")
    assert both.type("status")[0] == 0
    oldest = min(one["name"] for one in json.loads(both.succeed("list", "--json"))["backups"])
    both.succeed("restore", oldest, "--yes")
    assert both.rows() == rows


def test_the_check_says_where_locks_are_wanted_and_not_to_be_had(both):
    cloud = {**both.fields["backup"]["cloud_backup"], "object_lock_days": 3}
    both.configure(backup={"cloud_backup": cloud})
    code, out, _err = both.type("check-store")
    assert code == 1
    assert "NOT KEPT: " in out
    assert "cloud_backup.object_lock_days is set: no backup can be sent." in out


def test_who_may_not_ask_for_the_lock_sends_all_the_same_and_learns_what_a_lock_needs(
    settings, object_store, credentials_file, caplog
):
    settings = replace(settings, credentials_file=credentials_file(object_store.reader))
    store = S3Store(settings)
    with caplog.at_level("INFO"):
        store.require_lock()
    assert "Whether the bucket has Object Lock cannot be known." in caplog.text
    assert "Allow s3:GetBucketObjectLockConfiguration there" in caplog.text
    refusal = str(store._client.refusal("put_object", "x", "AccessDenied", "No."))
    assert "Allow s3:PutObject (and s3:PutObjectRetention, for the lock) there" in refusal

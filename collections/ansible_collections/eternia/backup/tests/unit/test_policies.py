# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each of our policies suffices for its verbs and for nothing else, and a stolen host key destroys nothing.

SeaweedFS enforces the policies as they are, but for the condition that keeps a key from overwriting: that is AWS's, and
a guard stands in for it.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import prune
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import NameTakenError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import iso, parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.promises import KEPT, NOT_KEPT, UNKNOWN
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Settings, S3Store
from ansible_collections.eternia.backup.tests.unit.command_line import Host
from ansible_collections.eternia.backup.tests.unit.conftest import BUCKET, POLICIES, POLICIES_PREFIX, policy
from ansible_collections.eternia.backup.tests.unit.guard import guarding
from ansible_collections.eternia.backup.tests.unit.stores.test_every_store import FIRST, LARGE, PART, SECOND, backup
from botocore.exceptions import ClientError

_NUMBERS = itertools.count()


@pytest.fixture
def guard(object_store):
    with guarding(object_store.endpoint, object_store.by_policy["writer"][0]) as endpoint:
        yield endpoint


@pytest.fixture
def place(versioned_bucket, guard):
    """A prefix that nobody used before, where the policies say who may do what."""
    prefix = f"{POLICIES_PREFIX}/{next(_NUMBERS)}"
    return {"enabled": True, "bucket": versioned_bucket, "prefix": prefix, "endpoint_url": guard}


@pytest.fixture
def key_of(object_store, credentials_file):
    """The credentials file of who may do what a policy says."""
    return lambda name: str(credentials_file(object_store.by_policy[name]))


@pytest.fixture
def host_with(tmp_path, capsys, place, key_of):
    """The same host, with the key of one policy."""
    hosts = []

    def host(name, **more):
        cloud = {**place, "credentials_file": key_of(name), **more}
        block = {"cloud_backup": cloud, "retention": {"keep_last": 1}, "minimum_kept": 1}
        if not hosts:
            hosts.append(Host(tmp_path, capsys, **block))
        hosts[0].configure(backup=block)
        return hosts[0]

    return host


def names_there(object_store, place):
    listed = object_store.client().list_objects_v2(Bucket=place["bucket"], Prefix=f"{place['prefix']}/")
    return sorted(entry["Key"].rsplit("/", 1)[1] for entry in listed.get("Contents", ()))


@pytest.mark.parametrize("name", sorted(path.stem for path in POLICIES.glob("*.json")))
def test_each_is_a_policy_for_one_bucket_and_one_prefix(name):
    found = json.loads(policy(name, "eternia-backups", "production/web1"))
    assert found["Version"] == "2012-10-17"
    assert len({statement["Sid"] for statement in found["Statement"]}) == len(found["Statement"])
    for statement in found["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        assert all(action.startswith("s3:") and "*" not in action for action in actions)
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            assert resource.startswith("arn:aws:s3:::eternia-backups")
            assert resource == "arn:aws:s3:::eternia-backups" or "/production/web1/" in resource
    assert len(policy(name, "b" * 63, "p" * 60)) < 6144


def test_only_the_pruner_may_delete_and_only_the_writer_may_write():
    allowed = {}
    for path in POLICIES.glob("*.json"):
        statements = [one for one in json.loads(path.read_text())["Statement"] if one["Effect"] == "Allow"]
        allowed[path.stem] = {action for one in statements for action in one["Action"]}
    assert {name for name, actions in allowed.items() if any("Delete" in one for one in actions)} == {"pruner"}
    assert {name for name, actions in allowed.items() if any(one.startswith("s3:Put") for one in actions)} == {"writer"}
    assert not any("Bypass" in one or "Bucket" in one for one in allowed["writer"] if one.startswith("s3:Put"))


def test_the_writer_backs_up_and_never_needs_to_delete(host_with, object_store, place):
    host = host_with("writer", prune=False)
    for _run in range(2):
        out = host.succeed("run")
        host.write()
    assert "removed   1 copy" in out
    assert len([name for name in names_there(object_store, place) if name.endswith(".manifest.json")]) == 2
    kept = [one for one in prune.plan(host.config, now=datetime.now(timezone.utc)).verdicts if one.store == "s3"]
    assert ("nothing is removed: cloud_backup.prune is false, so another key prunes there",) in {
        one.decision.reasons for one in kept
    }
    host.succeed("drill")
    assert any(name.endswith(".drilled.json") for name in names_there(object_store, place))
    assert host.type("status")[0] == 0


def test_the_writer_is_told_where_it_is_asked_to_prune(host_with):
    host = host_with("writer")
    host.succeed("run")
    host.write()
    err = host.fail(1, "run")
    assert "Allow s3:DeleteObject" in err
    assert "If it is another key that prunes there, set cloud_backup.prune to false." in err


def test_the_writer_sends_by_parts_what_changed(tmp_path, place, key_of):
    store = S3Store(settings_of(place, key_of("writer")))
    store.claim(Owner("staging", "web1", "/backups"))
    data = bytearray(random.Random(3).randbytes(LARGE))
    path, manifest = backup(tmp_path, FIRST, bytes(data))
    assert store.put(path, manifest).create_only is True
    data[-1] ^= 1
    path, manifest = backup(tmp_path, SECOND, bytes(data))
    assert store.put(path, manifest, base=FIRST).bytes_copied == PART
    # What a run left open is given up, which destroys nothing.
    store._client.call("create_multipart_upload", f"{place['prefix']}/{parse(str(FIRST))}")
    assert store.give_up_open() == 1
    path, manifest = backup(tmp_path, FIRST, bytes(data))
    with pytest.raises(NameTakenError):
        store.put(path, manifest)


def settings_of(place, credentials_file):
    fields = {name: value for name, value in place.items() if name != "enabled"}
    return S3Settings(**fields, credentials_file=credentials_file)


def test_an_upload_that_may_not_be_given_up_is_no_failure_and_is_logged(place, key_of, object_store, caplog):
    """With the key of the reader, who may do neither."""
    object_store.client().create_multipart_upload(Bucket=place["bucket"], Key=f"{place['prefix']}/{FIRST}")
    store = S3Store(settings_of(place, key_of("reader")))
    with caplog.at_level("INFO"):
        assert store.give_up_open() == 0
    assert "Allow s3:ListBucketMultipartUploads there" in caplog.text


def test_the_pruner_prunes_with_its_own_key_and_may_not_back_up(host_with, object_store, place, key_of):
    host = host_with("writer", prune=False)
    for _run in range(3):
        host.succeed("run")
        host.write()
    out = host.succeed("prune", "--credentials", key_of("pruner"))
    assert "removed   2 copies" in out
    assert len([name for name in names_there(object_store, place) if name.endswith(".manifest.json")]) == 1
    assert "removed   nothing" in host.succeed("prune", "--credentials", key_of("pruner"))
    pruner = host_with("pruner")
    pruner.write()
    assert "Allow s3:PutObject there" in pruner.fail(1, "run")


def test_what_the_writer_pinned_no_pruner_removes_once_the_disk_is_lost(host_with, object_store, place, key_of):
    host = host_with("writer", prune=False)
    first = host.back_up(3)
    Path(f"{first}.pin").touch()
    host.back_up(2)
    shutil.rmtree(host.backups)
    host.back_up(1)
    assert "removed   1 copy" in host.succeed("prune", "--credentials", key_of("pruner"))
    assert {first.name, f"{first.name}.pin"} <= {*names_there(object_store, place)}


def test_the_pruner_has_old_versions_go_for_good(host_with, object_store, place, key_of):
    host = host_with("writer", prune=False, remove_versions=True)
    for _run in range(2):
        host.succeed("run")
        host.write()
    assert "2 old versions gone for good" in host.succeed("prune", "--credentials", key_of("pruner"))
    listed = object_store.client().list_object_versions(Bucket=place["bucket"], Prefix=f"{place['prefix']}/")
    assert "DeleteMarkers" not in listed


def test_a_false_history_leads_no_prune_by_age_to_remove_anything(host_with, object_store, place, key_of):
    """Whole and false backups with names of the past, one for each hour, from somebody with the writer's key."""
    host = host_with("writer", prune=False)
    host.succeed("run")
    taken = {name for name in names_there(object_store, place) if name.startswith("eternia_backup_2")}
    (true,) = (parse(name) for name in taken if parse(name))
    thief = object_store.client(object_store.by_policy["writer"], endpoint=place["endpoint_url"])
    where = {"Bucket": place["bucket"]}
    raw = {name: thief.get_object(**where, Key=f"{place['prefix']}/{name}")["Body"].read() for name in sorted(taken)}
    for hours in range(1, 30):
        false = replace(true, created_at=true.created_at - timedelta(hours=hours))
        for name, data in raw.items():
            for was, now in ((str(true), str(false)), (iso(true.created_at), iso(false.created_at))):
                name, data = name.replace(was, now), data.replace(was.encode(), now.encode())
            thief.put_object(**where, Key=f"{place['prefix']}/{name}", Body=data, IfNoneMatch="*")
    assert len(names_there(object_store, place)) > 2 * 29
    host.configure(backup={**host.fields["backup"], "retention": {}, "retention_days": 1})
    host.succeed("prune", "--credentials", key_of("pruner"))
    assert taken <= {*names_there(object_store, place)}


def test_a_key_to_prune_with_is_for_s3(host):
    assert "--credentials is for S3" in host.fail(2, "prune", "--credentials", "key")


def test_the_reader_lists_verifies_downloads_and_restores(host_with, tmp_path):
    host_with("writer", prune=False).succeed("run")
    host = host_with("reader")
    rows = host.rows()
    for left in host.backups.glob("eternia_backup_*"):
        left.unlink()
    host.write()
    assert "s3" in host.succeed("list", "--verify", "full")
    assert "1 copy whole" in host.succeed("verify", "--full")
    assert "DONE" in host.succeed("download", "latest", "--to", tmp_path)
    host.succeed("restore", "latest", "--yes")
    assert host.rows() == rows


def test_the_auditor_knows_how_things_stand_and_reads_no_data(host_with, tmp_path):
    host_with("writer", prune=False).succeed("run")
    host = host_with("auditor")
    assert host.type("status", "--versions")[0] == 0
    host.succeed("list", "--verify", "manifest")
    code, out, _err = host.type("check-store", "--json")
    verdicts = {one["promise"]: one["verdict"] for one in json.loads(out)["findings"]}
    assert (code, verdicts["create-only"]) == (0, UNKNOWN)
    assert [verdicts[name] for name in ("versions", "no lifecycle", "private")] == [KEPT] * 3
    for left in host.backups.glob("eternia_backup_*"):
        left.unlink()
    assert "access denied" in host.fail(1, "download", "latest", "--to", tmp_path)


def test_the_check_finds_what_the_writer_may_not_and_uses_its_object_again(host_with, object_store, place):
    host = host_with("writer", prune=False)
    for _time in range(2):
        code, out, _err = host.type("check-store", "--json")
        found = json.loads(out)
        verdicts = {one["promise"]: one["verdict"] for one in found["findings"]}
        assert (code, verdicts["create-only"], verdicts["checksums"]) == (0, KEPT, KEPT)
        assert (verdicts["no overwriting"], verdicts["no deleting"], verdicts["no deleting of versions"]) == (KEPT,) * 3
        assert found["left"].endswith(
            "stays: this key may not delete it. It is no backup, and the next check uses it again."
        )
    assert names_there(object_store, place) == ["eternia_backup.check-store"]
    versions = object_store.client().list_object_versions(Bucket=place["bucket"], Prefix=f"{place['prefix']}/")
    assert len(versions["Versions"]) == 1
    assert "UNKNOWN" not in host.type("status")[1]


def test_where_a_store_lets_the_writer_overwrite_the_check_says_so(host_with, object_store):
    """SeaweedFS does not know the condition."""
    host = host_with("writer", prune=False, endpoint_url=object_store.endpoint)
    (finding,) = [
        one
        for one in json.loads(host.type("check-store", "--json")[1])["findings"]
        if one["promise"] == "no overwriting"
    ]
    assert finding["verdict"] == NOT_KEPT
    assert "What was there stays as an old version." in finding["meaning"]


def everything(thief, bucket, found):
    """What somebody with a host's key may try against (key, version) that are there, each by its name."""
    soon = datetime.now(timezone.utc) + timedelta(minutes=5)
    where = {"Bucket": bucket}
    for key, version in found:
        it = {**where, "Key": key}
        yield "delete", lambda it=it: thief.delete_object(**it)
        yield "delete the version", lambda it=it, v=version: thief.delete_object(**it, VersionId=v)
        yield (
            "delete the version all the same",
            lambda it=it, v=version: thief.delete_object(**it, VersionId=v, BypassGovernanceRetention=True),
        )
        for object_ in ({"Key": key}, {"Key": key, "VersionId": version}):
            yield (
                "delete many",
                lambda o=object_: deleted(thief.delete_objects(**where, Delete={"Objects": [o]})),
            )
        yield "put, create-only", lambda it=it: thief.put_object(**it, Body=b"spoilt", IfNoneMatch="*")
        yield "put", lambda it=it: thief.put_object(**it, Body=b"spoilt")
        yield "put nothing", lambda it=it: thief.put_object(**it, Body=b"")
        yield "copy over it", lambda it=it, k=key: thief.copy_object(**it, CopySource={**where, "Key": other(found, k)})
        yield "upload by parts", lambda it=it: by_parts(thief, it)
        yield "upload by parts, create-only", lambda it=it: by_parts(thief, it, IfNoneMatch="*")
        yield "no legal hold", lambda it=it: thief.put_object_legal_hold(**it, LegalHold={"Status": "OFF"})
        for mode, options in (("GOVERNANCE", {"BypassGovernanceRetention": True}), ("COMPLIANCE", {})):
            yield (
                f"a shorter lock, {mode}",
                lambda it=it, v=version, m=mode, o=options: thief.put_object_retention(
                    **it, VersionId=v, Retention={"Mode": m, "RetainUntilDate": soon}, **o
                ),
            )
        yield "tag", lambda it=it: thief.put_object_tagging(**it, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
        yield "publish", lambda it=it: thief.put_object_acl(**it, ACL="public-read")
    rule = {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy_ = json.dumps({"Version": "2012-10-17", "Statement": [everybody]})
    yield (
        "lifecycle",
        lambda: thief.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration={"Rules": [rule]}),
    )
    yield "bucket policy", lambda: thief.put_bucket_policy(**where, Policy=policy_)
    yield "no bucket policy", lambda: thief.delete_bucket_policy(**where)
    yield "no versions", lambda: thief.put_bucket_versioning(**where, VersioningConfiguration={"Status": "Suspended"})
    yield (
        "no lock",
        lambda: thief.put_object_lock_configuration(**where, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}),
    )
    yield "no bucket", lambda: thief.delete_bucket(**where)
    yield "publish the bucket", lambda: thief.put_bucket_acl(**where, ACL="public-read-write")


def other(found, key):
    return next(one for one, _version in found if one != key)


def deleted(answer):
    if answer.get("Errors"):
        raise ClientError({"Error": answer["Errors"][0]}, "DeleteObjects")


def by_parts(thief, it, **how):
    upload = {**it, "UploadId": thief.create_multipart_upload(**it)["UploadId"]}
    etag = thief.upload_part(**upload, PartNumber=1, Body=b"spoilt")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    answer = thief.complete_multipart_upload(**upload, MultipartUpload=parts, **how)
    assert "ETag" in answer


def versions(client, place):
    listed = client.list_object_versions(Bucket=place["bucket"], Prefix=f"{place['prefix']}/eternia_backup_")
    assert "DeleteMarkers" not in listed
    return {(one["Key"], one["VersionId"]): one["ETag"] for one in listed["Versions"]}


def tried(attempts):
    """What came through."""
    through = set()
    for name, attempt in attempts:
        try:
            attempt()
        except ClientError:
            continue
        through.add(name)
    return through


def two_backups(host_with):
    host = host_with("writer", prune=False)
    rows = []
    for _run in range(2):
        rows.append(host.rows())
        host.succeed("run")
        host.write()
    return host, rows


def restore_all_from_s3(host, rows):
    """On a host that has lost all it had."""
    shutil.rmtree(host.backups)
    found = json.loads(host.type("list", "--json", "--verify", "full")[1])["backups"]
    assert [one["status"] for one in found] == ["verified"] * 2
    back = []
    for one in sorted(found, key=lambda one: one["name"]):
        host.succeed("restore", one["name"], "--yes")
        back.append(host.rows())
    assert back == rows


# Where nothing is locked SeaweedFS lets him lock it, which destroys nothing.
NO_HARM = {
    "versioned_bucket": {"a shorter lock, GOVERNANCE"},
    "locked_bucket": set(),
    "lockable_bucket": set(),
    "plain": set(),
}


@pytest.mark.parametrize("bucket", NO_HARM)
def test_a_stolen_host_key_destroys_nothing_that_was_there(bucket, request, host_with, object_store, place):
    """As on AWS, where the policy keeps the key from overwriting: not even a bucket with versions is needed."""
    place["bucket"] = BUCKET if bucket == "plain" else request.getfixturevalue(bucket)
    if bucket == "lockable_bucket":
        # The weaker kind: whoever may bypass it may end it, and the writer may not.
        place.update(object_lock_days=2, object_lock_mode="GOVERNANCE")
    _host, rows = two_backups(host_with)
    before = versions(object_store.client(), place)
    assert len(before) == 4
    thief = object_store.client(object_store.by_policy["writer"], place["endpoint_url"])
    assert tried(everything(thief, place["bucket"], list(before))) == NO_HARM[bucket]
    assert versions(object_store.client(), place) == before
    restore_all_from_s3(host_with("reader"), rows)
    # He may add, which is what the key is for.
    thief.put_object(Bucket=place["bucket"], Key=f"{place['prefix']}/new", Body=b"", IfNoneMatch="*")


@pytest.mark.parametrize("bucket", ["versioned_bucket", "locked_bucket"])
def test_where_the_store_lets_him_overwrite_the_versions_below_come_back(
    bucket, request, host_with, object_store, place, tmp_path
):
    """As docs/security.md says: with the reader's key, version by version."""
    place["bucket"], place["endpoint_url"] = request.getfixturevalue(bucket), object_store.endpoint
    host, rows = two_backups(host_with)
    before = versions(object_store.client(), place)
    thief = object_store.client(object_store.by_policy["writer"])
    through = tried(everything(thief, place["bucket"], list(before)))
    assert through == {"put", "put nothing", "copy over it", "upload by parts"} | NO_HARM[bucket]
    after = versions(object_store.client(), place)
    assert {address: etag for address, etag in after.items() if address in before} == before
    shutil.rmtree(host.backups)
    host = host_with("reader")
    # What he put there is not taken for a backup.
    found = json.loads(host.type("list", "--json", "--verify", "full")[1])["backups"]
    assert "verified" not in {one["status"] for one in found}
    reader, folder = object_store.client(object_store.by_policy["reader"]), tmp_path / "old"
    folder.mkdir()
    for key, version in before:
        body = reader.get_object(Bucket=place["bucket"], Key=key, VersionId=version)["Body"].read()
        folder.joinpath(key.rsplit("/", 1)[1]).write_bytes(body)
    back = []
    for path in sorted(folder.glob("*.db")):
        host.succeed("restore", path, "--yes")
        back.append(host.rows())
    assert back == rows


def test_a_store_error_names_what_a_key_lacks(place, key_of):
    store = S3Store(settings_of(place, key_of("auditor")))
    with pytest.raises(StoreError, match=r"Allow s3:PutObject there to the key in .*auditor"):
        store.claim(Owner("staging", "web1", "/backups"))

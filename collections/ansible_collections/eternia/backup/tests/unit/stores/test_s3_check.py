# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`eternia-backup check-store`: what is found, what is said of it, and what stays behind."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import promises
from ansible_collections.eternia.backup.plugins.module_utils.engine.health import Level
from ansible_collections.eternia.backup.plugins.module_utils.engine.promises import KEPT, NOT_KEPT, UNKNOWN, Finding
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_client import S3Client
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_settings import S3Settings
from ansible_collections.eternia.backup.tests.unit.conftest import BUCKET, POLICIES_PREFIX


def found(settings):
    """The findings by their promise, and what stays."""
    findings, left = S3Store(settings).promises()
    return {finding.promise: finding for finding in findings}, left


@pytest.fixture
def aws(moto, credentials_file):
    return moto, S3Settings(bucket="backups", prefix="production/web1", region="us-east-1")


def test_the_text_says_each_promise_what_it_means_and_what_to_do(both):
    code, out, err = both.type("check-store")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    where = f"s3://{both.config.cloud.bucket}/{both.config.cloud.prefix} at {both.config.cloud.endpoint_url}"
    assert lines[0] == f"KEPT: {where} keeps what backups rely on, as far as this key may see"
    assert "  kept      create-only             The store refuses to overwrite where it is asked to." in lines
    assert any(line.startswith("  not kept  no deleting             This key may delete. Whoever") for line in lines)


def test_what_backups_rely_on_and_is_not_kept_is_a_failure_and_a_warning_of_status(both, object_store):
    client, prefix = object_store.client(), both.config.cloud.prefix
    rule = {"ID": "gone", "Status": "Enabled", "Filter": {"Prefix": f"{prefix}/"}, "Expiration": {"Days": 7}}
    client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [rule]})
    try:
        code, out, _err = both.type("check-store")
        both.back_up()
        status = both.type("status")[:2]
    finally:
        client.delete_bucket_lifecycle(Bucket=BUCKET)
    assert code == 1
    assert out.startswith(f"NOT KEPT: s3://{BUCKET}/{prefix} at ")
    words = (
        f"A rule of the bucket removes objects (7 days), whatever retention wants. Take it off s3://{BUCKET}/{prefix}/."
    )
    assert words in out
    assert status[0] == Level.WARNING
    assert f"s3 does not keep 'no lifecycle'. {words} Once that is put right: eternia-backup check-store." in status[1]
    assert both.type("check-store")[0] == 0
    assert both.type("status")[0] == Level.OK


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ({"Filter": {"Prefix": "production/"}, "Expiration": {"Days": 7}}, NOT_KEPT),
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 7}}, NOT_KEPT),
        ({"Filter": {"Prefix": "production/web1/eternia_backup"}, "Expiration": {"Days": 7}}, NOT_KEPT),
        ({"Filter": {"Prefix": "production/web2/"}, "Expiration": {"Days": 7}}, KEPT),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 7}}, KEPT),
        ({"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 7}}, KEPT),
        ({"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}, KEPT),
        ({"Filter": {"Prefix": ""}, "Transitions": [{"Days": 30, "StorageClass": "DEEP_ARCHIVE"}]}, NOT_KEPT),
        ({"Filter": {"Prefix": ""}, "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]}, KEPT),
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 7}, "Status": "Disabled"}, KEPT),
    ],
)
def test_which_rules_of_a_lifecycle_harm(aws, rule, verdict):
    client, settings = aws
    rules = [{"ID": "one", "Status": "Enabled", **rule}]
    client.put_bucket_lifecycle_configuration(Bucket="backups", LifecycleConfiguration={"Rules": rules})
    assert found(settings)[0]["no lifecycle"].verdict == verdict


OLD = {"NoncurrentVersionExpiration": {"NoncurrentDays": 7}}


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([{"Filter": {"Prefix": "production/"}, **OLD}], "7 days"),
        ([{"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}], "1 day"),
        (
            [{"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}, {"Prefix": "", **OLD}],
            "7 days",
        ),
        # Whoever overwrites does so once more.
        (
            [
                {
                    "Filter": {"Prefix": ""},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 7, "NewerNoncurrentVersions": 9},
                }
            ],
            "7 days",
        ),
        ([{"Filter": {"Prefix": "production/web2/"}, **OLD}], None),
        ([{"Filter": {"Prefix": ""}, "Status": "Disabled", **OLD}], None),
        ([{"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}], None),
    ],
)
def test_how_long_old_versions_are_kept_of_what_this_key_may_overwrite(aws, rules, days):
    client, settings = aws
    client.put_bucket_versioning(Bucket="backups", VersioningConfiguration={"Status": "Enabled"})
    rules = [{"ID": str(number), "Status": "Enabled", **rule} for number, rule in enumerate(rules)]
    client.put_bucket_lifecycle_configuration(Bucket="backups", LifecycleConfiguration={"Rules": rules})
    findings = found(settings)[0]
    finding = findings["versions"]
    assert findings["no lifecycle"].verdict == KEPT
    if days is None:
        assert finding.verdict == KEPT
        assert finding.meaning == "What is deleted or overwritten stays as an old version, and is billed."
        return
    assert (finding.verdict, finding.is_broken) == (NOT_KEPT, False)
    assert finding.meaning == (
        f"What is deleted or overwritten stays as an old version for {days}, then a rule of the bucket removes it "
        "(what is locked, when its lock has ended). This key may overwrite or delete: what whoever steals it does to "
        f"the backups there is for good after {days}. Take that right away from the key, or the rule off "
        "s3://backups/production/web1/, or give the rule more days than a theft can stay unseen."
    )
    assert f"What was there stays as an old version for {days}. " in findings["no overwriting"].meaning


@pytest.fixture
def old_versions_expire(object_store):
    """Has a bucket remove old versions after seven days, below a prefix."""
    asked = []

    def expire(bucket, prefix):
        asked.append(bucket)
        rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": f"{prefix}/"}, **OLD}
        object_store.client().put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}
        )

    yield expire
    for bucket in asked:
        object_store.client().delete_bucket_lifecycle(Bucket=bucket)


def test_who_may_neither_overwrite_nor_delete_is_told_for_how_long_old_versions_are_kept(
    s3_settings, versioned_bucket, object_store, credentials_file, old_versions_expire
):
    prefix = f"{POLICIES_PREFIX}/{s3_settings.prefix}"
    auditor = credentials_file(object_store.by_policy["auditor"])
    settings = replace(s3_settings, bucket=versioned_bucket, prefix=prefix, credentials_file=auditor)
    old_versions_expire(versioned_bucket, prefix)
    finding = found(settings)[0]["versions"]
    assert (finding.verdict, finding.meaning) == (
        KEPT,
        "What is deleted or overwritten stays as an old version for 7 days, then a rule of the bucket removes it (what "
        "is locked, when its lock has ended).",
    )


def test_old_versions_of_what_a_key_may_overwrite_that_may_not_read_the_rules(
    s3_settings, versioned_bucket, object_store, credentials_file, old_versions_expire
):
    """The policy `writer`, in a store that does not know `s3:if-none-match`."""
    prefix = f"{POLICIES_PREFIX}/{s3_settings.prefix}"
    writer = credentials_file(object_store.by_policy["writer"])
    settings = replace(s3_settings, bucket=versioned_bucket, prefix=prefix, credentials_file=writer)
    old_versions_expire(versioned_bucket, prefix)
    findings = found(settings)[0]
    assert (findings["no overwriting"].verdict, findings["no lifecycle"].verdict) == (NOT_KEPT, UNKNOWN)
    finding = findings["versions"]
    assert (finding.verdict, finding.meaning) == (
        UNKNOWN,
        "What is deleted or overwritten stays as an old version, and is billed. This key may overwrite or delete, and "
        "for how long they stay is not known: see 'no lifecycle'.",
    )
    assert "Allow s3:GetLifecycleConfiguration there" in findings["no lifecycle"].meaning


def test_a_rule_for_old_versions_is_told_by_status(both, versioned_bucket, old_versions_expire):
    cloud = {**both.fields["backup"]["cloud_backup"], "bucket": versioned_bucket}
    both.configure(backup={"cloud_backup": cloud})
    old_versions_expire(versioned_bucket, cloud["prefix"])
    code, out, _err = both.type("check-store")
    assert code == 0
    assert (
        "  not kept  versions                What is deleted or overwritten stays as an old version for 7 days, then"
        in out
    )
    both.back_up()
    code, out, _err = both.type("status")
    assert code == Level.OK
    assert re.search("^  promises  not kept: [^;]*versions", out, re.M)


def test_a_bucket_that_is_open_to_everybody(aws):
    client, settings = aws
    client.put_bucket_acl(Bucket="backups", ACL="public-read")
    finding = found(settings)[0]["private"]
    assert (finding.verdict, finding.is_broken) == (NOT_KEPT, True)
    assert finding.meaning == (
        "The bucket is open to everybody by its access control list. Block public access to it at once."
    )
    block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    client.put_public_access_block(Bucket="backups", PublicAccessBlockConfiguration=block)
    assert found(settings)[0]["private"].verdict == KEPT


def test_a_key_that_may_only_read_learns_what_it_may(s3_settings, object_store, credentials_file):
    settings = replace(s3_settings, credentials_file=credentials_file(object_store.reader))
    findings, left = found(settings)
    for promise in ("create-only", "checksums", "no overwriting", "no deleting"):
        assert findings[promise].verdict == UNKNOWN
    assert findings["create-only"].meaning.startswith("This key may not write there. Writing s3://")
    assert left == ""


def test_a_key_that_may_not_send_in_parts_hides_nothing_of_what_a_put_does(s3_settings, monkeypatch):
    call = S3Client.call

    def call_but_in_parts(client, operation, key, **params):
        if operation == "create_multipart_upload":
            raise client.refusal(operation, key, "AccessDenied", "Not you.")
        return call(client, operation, key, **params)

    monkeypatch.setattr(S3Client, "call", call_but_in_parts)
    findings, _left = found(s3_settings)
    assert findings["create-only"].verdict == KEPT
    assert findings["create-only in parts"].verdict == UNKNOWN


def test_what_a_lock_keeps_of_the_check_is_said(s3_settings, locked_bucket, object_store):
    settings = replace(s3_settings, bucket=locked_bucket)
    _findings, left = found(settings)
    key = f"{settings.prefix}/eternia_backup.check-store"
    assert left == f"Small old versions of s3://{locked_bucket}/{key} stay. They are no backups."
    assert object_store.client().list_objects_v2(Bucket=locked_bucket, Prefix=settings.prefix)["KeyCount"] == 0


def test_no_store_is_no_check(host):
    assert "cloud_backup.enabled is false: there is no store in S3 to check." in host.fail(2, "check-store")


def test_a_store_that_does_not_answer_is_a_failure(both):
    cloud = {**both.fields["backup"]["cloud_backup"], "endpoint_url": "http://127.0.0.1:9"}
    both.configure(backup={"cloud_backup": cloud})
    assert "no whole answer from http://127.0.0.1:9" in both.fail(1, "check-store")
    assert not (both.backups / promises.NAME).exists()


def test_what_cannot_be_remembered_is_still_said(both):
    both.backups.parent.mkdir(parents=True)
    both.backups.write_text("a file")
    code, out, err = both.type("check-store", "--json")
    assert code == 0
    assert json.loads(out)["findings"]
    assert err.startswith("WARNING: status will not tell of this. ")


@pytest.mark.parametrize(
    "content", ["", "{}", '{"format": 1, "at": "x"}', "[]", "null", '{"format": 99, "findings": [], "left": ""}']
)
def test_a_file_that_cannot_be_read_is_none(both, content):
    both.back_up()
    (both.backups / promises.NAME).write_text(content)
    assert "nobody has tried what s3 keeps" in both.succeed("status")


def test_whether_the_lock_is_needed_is_said_by_the_configuration_of_today(both):
    found = (Finding("object lock", NOT_KEPT, "It locks nothing.", True), Finding("private", NOT_KEPT, "Open.", True))
    promises.remember(both.config, promises.StoreCheck("2026-11-22T12:00:00Z", promises.checked(both.config), found))
    assert [one.promise for one in promises.remembered(both.config).broken] == ["private"]
    locking = replace(both.config, cloud=replace(both.config.cloud, object_lock_days=30))
    assert [one.promise for one in promises.remembered(locking).broken] == ["object lock", "private"]


def test_what_each_run_finds_out_is_told_once(both):
    """The record of the run is the newer word about create-only."""
    both.back_up()
    broken = Finding("create-only", NOT_KEPT, "It overwrites.", True)
    check = promises.StoreCheck("2026-11-22T12:00:00Z", promises.checked(both.config), (broken,))
    promises.remember(both.config, check)
    assert both.type("status")[0] == Level.OK

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An object of which S3 copied parts itself is encrypted, classed and locked as one that was sent whole."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Copy, Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.tests.unit.stores.test_s3_delta import changed
from ansible_collections.eternia.backup.tests.unit.stores.test_s3_faults import (
    FIRST,
    PART,
    SECOND,
    SIZE,
    backup,
    claimed,
    refuse,
    small_parts,
)

__all__ = ["small_parts"]

OWNER = Owner("staging", "web1", "/backups")
KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd"


@pytest.fixture(scope="module")
def content():
    return random.Random(8).randbytes(SIZE)


def asked_for(store, *, without=()):
    """What each request asks for, by its operation, from now on; some of it is then left out."""
    seen = []

    def note(params, model, **_):
        seen.append((model.name, {key: value for key, value in params.items() if key not in ("Body", "Key")}))
        for key in without:
            params.pop(key, None)

    store._client._client.meta.events.register("provide-client-params.s3", note)
    return seen


@pytest.mark.parametrize(
    "options",
    [{}, {"storage_class": "STANDARD_IA"}, {"sse": "AES256"}, {"sse": "aws:kms", "kms_key_id": KEY}],
)
def test_an_upload_with_copies_is_begun_as_one_without(tmp_path, s3_settings, content, options):
    """The server here has no keys of a KMS, so it is not told of any."""
    store = S3Store(replace(s3_settings, **options))
    seen = asked_for(store, without=("ServerSideEncryption", "SSEKMSKeyId") if "kms_key_id" in options else ())
    store.claim(OWNER)
    store.put(*backup(tmp_path, FIRST, content))
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert transfer.bytes_copied == SIZE - PART
    whole, copied = (params for name, params in seen if name == "CreateMultipartUpload")
    assert whole == copied
    wanted = {
        "StorageClass": options.get("storage_class"),
        "ServerSideEncryption": options.get("sse"),
        "SSEKMSKeyId": options.get("kms_key_id"),
    }
    assert {key: whole.get(key) for key in wanted} == wanted


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"sse": "AES256", "storage_class": "STANDARD_IA"}, {}),
        ({}, {"sse": "AES256", "storage_class": "STANDARD_IA"}),
        ({"storage_class": "STANDARD_IA"}, {"storage_class": "ONEZONE_IA"}),
    ],
)
def test_what_is_copied_takes_on_what_is_wanted_now(tmp_path, s3_settings, object_store, content, before, after):
    claimed(replace(s3_settings, **before)).put(*backup(tmp_path, FIRST, content))
    settings = replace(s3_settings, **after)
    transfer = claimed(settings).put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert transfer.bytes_copied == SIZE - PART
    head = object_store.client().head_object(Bucket=settings.bucket, Key=f"{settings.prefix}/{SECOND}")
    assert head.get("ServerSideEncryption") == after.get("sse")
    assert head.get("StorageClass", "STANDARD") == after.get("storage_class", "STANDARD")


def test_of_an_archived_object_nothing_is_copied(tmp_path, s3_settings, content):
    store = claimed(s3_settings)
    store.put(*backup(tmp_path, FIRST, content))
    refuse(store, "UploadPartCopy", 403, "InvalidObjectState")
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (SIZE, 0)


def is_bare(request):
    """Whether a request has no checksum of its body, by any of S3's names for one."""
    names = " ".join(request.headers.keys()).lower().replace("x-amz-checksum-type", "").split()
    return not any(name in ("content-md5", "x-amz-trailer") or name.startswith("x-amz-checksum-") for name in names)


@pytest.mark.parametrize("checksum", ["auto", "sha256", "md5"])
def test_a_bucket_that_locks_by_default_takes_everything(
    tmp_path, s3_settings, object_store, locked_bucket, content, checksum
):
    settings = replace(s3_settings, bucket=locked_bucket, checksum=checksum)
    store = S3Store(settings)
    # S3 takes no body without a checksum there; this server does.
    refused = [refuse(store, name, 400, "InvalidRequest", when=is_bare) for name in ("PutObject", "UploadPart")]
    assert store.claim(OWNER) is True
    store.put(*backup(tmp_path, FIRST, content))
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert transfer.bytes_copied == (SIZE - PART if checksum == "auto" else 0)
    store.mark_drilled(Copy(SECOND, SIZE, has_manifest=True), b"{}", staging=tmp_path)
    store.pin(SECOND)
    assert refused == [[], []]
    client, tomorrow = object_store.client(), datetime.now(timezone.utc) + timedelta(hours=23)
    beside = [f"{SECOND}{suffix}" for suffix in ("", ".manifest.json", ".drilled.json", ".pin")]
    for name in (*beside, "eternia_backup.host.json"):
        head = client.head_object(Bucket=locked_bucket, Key=f"{settings.prefix}/{name}")
        assert head["ObjectLockMode"] == "COMPLIANCE"
        assert head["ObjectLockRetainUntilDate"] > tomorrow

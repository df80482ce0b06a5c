# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a killed upload left is gone on with where it is right, and given up where it is not; others' are let alone."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.tests.unit.builders import in_child
from ansible_collections.eternia.backup.tests.unit.stores.test_s3_delta import PART, SIZE, backup

NAME, OTHER = parse("eternia_backup_20261122_220000.db"), parse("eternia_backup_20261121_220000.db")
_CRC = {"ChecksumAlgorithm": "CRC64NVME"}


@pytest.fixture(scope="module")
def content():
    return random.Random(6).randbytes(SIZE)


def claimed(settings):
    store = S3Store(settings)
    store.claim(Owner("staging", "web1", "/backups"))
    return store


@pytest.fixture
def place(s3_settings):
    def of(name):
        return {"Bucket": s3_settings.bucket, "Key": f"{s3_settings.prefix}/{name}"}

    return of


@pytest.fixture
def left_open(object_store, s3_settings):
    def keys():
        listed = object_store.client().list_multipart_uploads(Bucket=s3_settings.bucket, Prefix=s3_settings.prefix)
        return sorted(one["Key"].rsplit("/", 1)[1] for one in listed.get("Uploads", []))

    return keys


def begin(client, where, *, parts=()):
    """An upload as ours begin, with parts, by plain boto3."""
    begun = client.create_multipart_upload(**where, **_CRC, ChecksumType="FULL_OBJECT")
    for number, body in enumerate(parts, start=1):
        client.upload_part(**where, UploadId=begun["UploadId"], PartNumber=number, Body=body, **_CRC)


def test_a_run_that_was_killed_in_the_middle_is_gone_on_with(
    tmp_path, s3_settings, object_store, place, left_open, content
):
    path, manifest = backup(tmp_path, NAME, content)

    def put_and_die():
        store = claimed(s3_settings)
        call, sent = store._client.call, []

        def dying(operation, *arguments, **parameters):
            answer = call(operation, *arguments, **parameters)
            sent.extend([operation] if operation == "upload_part" else [])
            if len(sent) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        store._client.call = dying
        store.put(path, manifest)

    assert in_child(put_and_die) == -signal.SIGKILL
    assert left_open() == [str(NAME)]
    transfer = claimed(s3_settings).put(path, manifest)
    assert transfer.bytes_sent <= SIZE - PART
    assert left_open() == []
    assert object_store.client().get_object(**place(NAME))["Body"].read() == content


@pytest.mark.parametrize("harm", ["other bytes", "another size"])
def test_parts_that_are_not_ours_end_in_sending_everything(
    tmp_path, s3_settings, object_store, place, left_open, content, harm
):
    wrong = {"other bytes": content[::-1][:PART], "another size": content[: PART - 1]}
    begin(object_store.client(), place(NAME), parts=[content[:PART], wrong[harm]])
    transfer = claimed(s3_settings).put(*backup(tmp_path, NAME, content))
    assert transfer.bytes_sent == (SIZE - PART if harm == "another size" else SIZE + SIZE - 2 * PART)
    assert object_store.client().get_object(**place(NAME))["Body"].read() == content
    assert left_open() == []


def test_with_encryption_it_is_begun_anew(tmp_path, s3_settings, object_store, place, left_open, content):
    begin(object_store.client(), place(NAME), parts=[content[:PART]])
    transfer = claimed(replace(s3_settings, sse="AES256")).put(*backup(tmp_path, NAME, content))
    assert transfer.bytes_sent == SIZE
    assert left_open() == []
    assert object_store.client().get_object(**place(NAME))["Body"].read() == content


def test_orphans_of_ours_are_given_up_and_others_let_alone(s3_settings, object_store, place, left_open):
    for name in (OTHER, "somebody.iso", "eternia_backup_20269999_220000.db"):
        begin(object_store.client(), place(name))
    begin(object_store.client(), place(f"deeper/{OTHER}"))
    assert claimed(s3_settings).give_up_open() == 1
    assert left_open() == sorted(["somebody.iso", "eternia_backup_20269999_220000.db", str(OTHER)])
    for name in ("somebody.iso", "eternia_backup_20269999_220000.db", f"deeper/{OTHER}"):
        where = place(name)
        client = object_store.client()
        for one in client.list_multipart_uploads(Bucket=where["Bucket"], Prefix=where["Key"]).get("Uploads", []):
            client.abort_multipart_upload(**where, UploadId=one["UploadId"])


def test_who_may_not_list_uploads_sends_everything(tmp_path, s3_settings, object_store, place, content):
    begin(object_store.client(), place(NAME), parts=[content[:PART]])
    store = claimed(s3_settings)

    def refuse(**_):
        raise store._client.refusal("list_multipart_uploads", "", "AccessDenied", "Not you.")

    store._client._client.meta.events.register("before-call.s3.ListMultipartUploads", refuse)
    assert store.put(*backup(tmp_path, NAME, content)).bytes_sent == SIZE
    assert store.give_up_open() == 0

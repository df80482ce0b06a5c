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
from ansible_collections.eternia.backup.plugins.module_utils.engine import digest
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores import s3_open
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_errors import S3Error
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_versions import Versions
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


def with_the_same_crc(body):
    """The polynomial of CRC64NVME, and with it any multiple, can be added without a trace."""
    pattern = (0x9A6C9329AC4BC9B5 << 1 | 1).to_bytes(9, "little")
    forged = bytes(one ^ other for one, other in zip(body, pattern)) + body[len(pattern) :]
    assert digest.crc64nvme()(forged) == digest.crc64nvme()(body)
    return forged


PLANTED = {
    "other bytes": lambda body: body[::-1],
    "other bytes of the same checksum": with_the_same_crc,
    "another size": lambda body: body[:-1],
}


@pytest.mark.parametrize("harm", PLANTED)
def test_of_what_somebody_else_may_have_sent_only_our_bytes_become_part_of_a_backup(
    tmp_path, s3_settings, object_store, place, left_open, content, harm
):
    begin(object_store.client(), place(NAME), parts=[content[:PART], PLANTED[harm](content[PART : 2 * PART])])
    transfer = claimed(s3_settings).put(*backup(tmp_path, NAME, content))
    assert transfer.bytes_sent == SIZE - PART
    assert object_store.client().get_object(**place(NAME))["Body"].read() == content
    assert left_open() == []


@pytest.mark.parametrize("how", ["nothing of ours", "another storage class"])
def test_an_upload_that_is_not_as_ours_would_be_is_begun_anew(
    tmp_path, s3_settings, object_store, place, content, monkeypatch, how
):
    """Were it gone on with, what its beginner chose would be that of the backup: a key to encrypt by, an archive."""
    begin(object_store.client(), place(NAME), parts=[content[:PART] if how == "another storage class" else b"his"])
    store = claimed(s3_settings)
    if how == "another storage class":
        # SeaweedFS does not tell.
        found = s3_open.find
        monkeypatch.setattr(
            s3_open, "find", lambda *which: [replace(one, storage_class="GLACIER") for one in found(*which)]
        )
    asked, call = [], store._client.call
    monkeypatch.setattr(store._client, "call", lambda *which, **how: asked.append(which[0]) or call(*which, **how))
    assert store.put(*backup(tmp_path, NAME, content)).bytes_sent == SIZE
    assert asked.count("create_multipart_upload") == asked.count("abort_multipart_upload") == 1
    assert object_store.client().get_object(**place(NAME))["Body"].read() == content


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


@pytest.mark.parametrize("operation", ["list_multipart_uploads", "list_object_versions"])
def test_a_list_without_an_end_is_left(s3_settings, monkeypatch, caplog, operation):
    """A store that lies must not keep the storage locked."""
    store, asked = claimed(s3_settings), []
    endless = {"IsTruncated": True, "NextKeyMarker": "a", "NextUploadIdMarker": "b", "NextVersionIdMarker": "c"}
    monkeypatch.setattr(store._client, "call", lambda *which, **_: asked.append(which[0]) or endless)
    if operation == "list_multipart_uploads":
        with caplog.at_level("INFO"):
            assert store.give_up_open() == 0
        assert "is listed without an end: a page is followed by itself. Look at the store." in caplog.text
    else:
        with pytest.raises(S3Error, match="is listed without an end"):
            list(Versions(store._client, f"{s3_settings.prefix}/")._listed())
    assert asked == [operation] * 2

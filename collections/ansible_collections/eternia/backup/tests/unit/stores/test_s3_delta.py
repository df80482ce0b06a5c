# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in S3 already does not travel again, and whatever becomes of the earlier object, the later one is right."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import zstandard
from ansible_collections.eternia.backup.plugins.module_utils.engine import compression, digest
from ansible_collections.eternia.backup.plugins.module_utils.engine.manifest import Manifest, Verified
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import iso, parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from botocore.awsrequest import AWSResponse

MIB = 1024 * 1024
PART = 16 * MIB
SIZE = 3 * PART + 12_345
FIRST, SECOND = parse("eternia_backup_20261122_220000.db"), parse("eternia_backup_20261122_230000.db")


@pytest.fixture(scope="module")
def content():
    return random.Random(5).randbytes(SIZE)


def backup(folder, name, data):
    path = folder / str(name)
    path.write_bytes(data)
    content, stored = digest.of_file(path, digest.preferred_algorithm())
    verified = Verified("quick", iso(name.created_at))
    return path, Manifest(str(name), name.kind, "staging", "web1", iso(name.created_at), {}, content, stored, verified)


def compressed(folder, name, data):
    plain, path = folder / "plain", folder / str(name)
    plain.write_bytes(data)
    path.unlink(missing_ok=True)
    content, stored = compression.encode(plain, path, digest.preferred_algorithm())
    verified = Verified("quick", iso(name.created_at))
    return path, Manifest(str(name), name.kind, "staging", "web1", iso(name.created_at), {}, content, stored, verified)


def zstandard_reads(raw):
    with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as reader:
        return reader.read()


def changed(data, *places):
    """The same bytes, but for one at each place."""
    found = bytearray(data)
    for place in places:
        found[place] ^= 1
    return bytes(found)


@pytest.fixture
def store(s3_settings):
    found = S3Store(s3_settings)
    found.claim(Owner("staging", "web1", "/backups"))
    return found


@pytest.fixture
def travelled(store):
    """What each request to the store carried, in bytes, by its operation, from now on."""
    seen = []

    def note(request, event_name, **_):
        seen.append((event_name.rsplit(".", 1)[-1], int(request.headers.get("Content-Length", 0))))

    store._client._client.meta.events.register("before-send.s3", note)
    return seen


@pytest.fixture
def look(object_store, s3_settings):
    """The second object by plain boto3: its bytes, what its manifest says of its way, and the uploads left open."""

    def found(name=SECOND):
        client = object_store.client()
        where = {"Bucket": s3_settings.bucket, "Key": f"{s3_settings.prefix}/{name}"}
        head = client.head_object(**where, ChecksumMode="ENABLED")
        raw = client.get_object(Bucket=where["Bucket"], Key=f"{where['Key']}.manifest.json")["Body"].read()
        manifest = json.loads(raw)
        assert head["ChecksumCRC64NVME"] == manifest["stored"]["crc64nvme"]
        prefix = s3_settings.prefix + "/"
        assert not client.list_multipart_uploads(Bucket=where["Bucket"], Prefix=prefix).get("Uploads")
        return client.get_object(**where)["Body"].read(), manifest["transfer"]

    return found


@pytest.mark.parametrize(
    ("places", "sent"),
    [
        ([0], PART),
        ([PART + 7, PART + 8], PART),
        ([0, 3 * PART], PART + 12_345),
        ([], 0),
        ([0, PART, 2 * PART, 3 * PART], SIZE),
    ],
)
def test_only_the_parts_that_changed_travel(tmp_path, store, travelled, look, content, places, sent):
    store.put(*backup(tmp_path, FIRST, content))
    travelled.clear()
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, *places)), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (sent, SIZE - sent)
    found, told = look()
    assert found == changed(content, *places)
    assert told == {
        "check": "crc64nvme, full object",
        "create_only": True,
        "bytes_sent": sent,
        "bytes_copied": SIZE - sent,
    }
    assert sum(size for operation, size in travelled if operation == "UploadPart") == sent
    assert sum(size for _operation, size in travelled) < sent + 10_000


def test_nothing_is_copied_from_what_is_not_the_backup_that_we_know(tmp_path, store, look, content):
    path, known = backup(tmp_path, FIRST, content)
    store.put(path, known)
    path, manifest = backup(tmp_path, SECOND, changed(content, 0))
    transfer = store.put(path, manifest, base=FIRST, base_digest=manifest.stored.digest)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (SIZE, 0)
    third = parse("eternia_backup_20261123_000000.db")
    path, manifest = backup(tmp_path, third, changed(content, PART))
    transfer = store.put(path, manifest, base=FIRST, base_digest=known.stored.digest)
    assert transfer.bytes_copied == SIZE - PART
    assert look()[0] == changed(content, 0)


@pytest.mark.parametrize("change", ["grew", "shrank", "grew over a border"])
def test_a_file_that_grew_or_shrank_shares_the_parts_that_are_whole(tmp_path, store, look, content, change):
    then = {"grew": content + b"x", "shrank": content[: 2 * PART + 5], "grew over a border": content + content[:PART]}
    store.put(*backup(tmp_path, FIRST, content))
    transfer = store.put(*backup(tmp_path, SECOND, then[change]), base=FIRST)
    assert transfer.bytes_copied == (2 if change == "shrank" else 3) * PART
    assert look()[0] == then[change]


def test_what_the_store_holds_need_not_be_what_the_earlier_manifest_says(
    tmp_path, store, object_store, s3_settings, look, content
):
    store.put(*backup(tmp_path, FIRST, content))
    rotten = changed(content, PART + 1)
    object_store.client().put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{FIRST}", Body=rotten)
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert look()[0] == changed(content, 0)
    assert transfer.bytes_copied == 0
    assert transfer.bytes_sent > SIZE


@pytest.mark.parametrize("fate", ["removed", "replaced"])
def test_an_earlier_object_that_goes_while_it_is_copied_is_noticed(
    tmp_path, store, object_store, s3_settings, monkeypatch, look, content, fate
):
    store.put(*backup(tmp_path, FIRST, content))
    client = object_store.client()
    where = {"Bucket": s3_settings.bucket, "Key": f"{s3_settings.prefix}/{FIRST}"}
    call = store._client.call

    def interfere(operation, *arguments, **parameters):
        answer = call(operation, *arguments, **parameters)
        if operation == "create_multipart_upload":
            client.delete_object(**where) if fate == "removed" else client.put_object(**where, Body=content[::-1])
        return answer

    monkeypatch.setattr(store._client, "call", interfere)
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (SIZE, 0)
    assert look()[0] == changed(content, 0)


@pytest.mark.parametrize("status", [501, 403, 405, 400, 200])
def test_an_endpoint_that_copies_no_parts_gets_all_of_them(tmp_path, store, look, content, status):
    """200: an error in the body of a success, which S3 may answer to a copy that took long."""
    store.put(*backup(tmp_path, FIRST, content))
    asked = []

    class Raw:
        def stream(self, *_, **__):
            yield b"<Error><Code>NotImplemented</Code><Message>Not here.</Message></Error>"

    def refuse(request, **_):
        asked.append(request.url)
        return AWSResponse(request.url, status, {}, Raw())

    store._client._client.meta.events.register("before-send.s3.UploadPartCopy", refuse)
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (SIZE, 0)
    assert len(asked) > 0
    assert look()[0] == changed(content, 0)


def test_parts_that_were_cut_or_hashed_otherwise_are_not_compared(tmp_path, store, look, content):
    path, manifest = backup(tmp_path, FIRST, content)
    sha256 = digest.of_file(path, "sha256")
    store.put(path, replace(manifest, content=sha256[0], stored=sha256[1]))
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (SIZE, 0)
    assert look()[0] == changed(content, 0)


def test_without_an_earlier_object_or_with_a_small_file_all_of_it_travels(tmp_path, store, look, content):
    transfer = store.put(*backup(tmp_path, SECOND, content[:1000]), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (1000, 0)
    assert look()[0] == content[:1000]


def test_encryption_and_storage_class_carry_over(tmp_path, object_store, s3_settings, content):
    settings = replace(s3_settings, sse="AES256", storage_class="STANDARD_IA")
    store = S3Store(settings)
    store.claim(Owner("staging", "web1", "/backups"))
    for name, data in ((FIRST, content), (SECOND, changed(content, 0))):
        transfer = store.put(*backup(tmp_path, name, data), base=FIRST)
    assert transfer.bytes_copied > 0
    head = object_store.client().head_object(Bucket=settings.bucket, Key=f"{settings.prefix}/{SECOND}")
    assert (head.get("StorageClass"), head.get("ServerSideEncryption")) == ("STANDARD_IA", "AES256")


@pytest.mark.parametrize(("places", "sent"), [([0], 1), ([PART + 7, PART + 8], 1), ([0, 3 * PART], 2), ([], 0)])
def test_of_a_compressed_file_only_the_frames_that_changed_travel(
    tmp_path, store, travelled, look, content, places, sent
):
    """Of random bytes, which compress to frames as large as a part, all but the last."""
    first, second = (parse(f"{name}.zst") for name in (FIRST, SECOND))
    store.put(*compressed(tmp_path, first, content))
    travelled.clear()
    path, manifest = compressed(tmp_path, second, changed(content, *places))
    transfer = store.put(path, manifest, base=first)
    frames = manifest.stored.frames
    changed_frames = {place // PART for place in places}
    assert len(changed_frames) == sent
    assert transfer.bytes_sent == sum(frames[place] for place in changed_frames)
    assert transfer.bytes_copied == sum(frames) - transfer.bytes_sent
    found, _told = look(second)
    assert zstandard_reads(found) == changed(content, *places)


def test_a_plain_and_a_compressed_file_have_nothing_in_common(tmp_path, store, look, content):
    store.put(*backup(tmp_path, FIRST, content))
    second = parse(f"{SECOND}.zst")
    path, manifest = compressed(tmp_path, second, content)
    transfer = store.put(path, manifest, base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (manifest.stored.bytes, 0)
    assert zstandard_reads(look(second)[0]) == content


def test_a_frame_that_is_as_large_and_yet_another_is_found_out(tmp_path, store, look, content):
    """Another version of zstd may make other bytes of the same part."""
    first, second = (parse(f"{name}.zst") for name in (FIRST, SECOND))
    path, manifest = compressed(tmp_path, first, content)
    start = manifest.stored.frames[0] + 9
    path.write_bytes(changed(path.read_bytes(), start))
    _content, stored = digest.of_file(path, manifest.stored.digest.algorithm)
    store.put(path, replace(manifest, stored=replace(stored, encoding=("zst",), frames=manifest.stored.frames)))
    path, manifest = compressed(tmp_path, second, changed(content, 0))
    transfer = store.put(path, manifest, base=first)
    assert transfer.bytes_copied == 0
    assert zstandard_reads(look(second)[0]) == changed(content, 0)

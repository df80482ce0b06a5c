# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The S3 store against a real server, and against made-up ones for the faults that a real one does not have."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import digest, parts
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    DamagedError,
    NameTakenError,
    NotFoundError,
    StoreError,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.manifest import Manifest, Verified
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE, BackupName, iso, parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Copy, Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Settings, S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_errors import S3Error
from ansible_collections.eternia.backup.tests.unit.builders import flip
from ansible_collections.eternia.backup.tests.unit.web import connections

MIB = 1024 * 1024
NAME = "eternia_backup_20261122_220000.db"
NEXT = "eternia_backup_20261122_230000.db"
WEB1 = Owner("staging", "web1", "/backups")
WEB2 = Owner("staging", "web2", "/backups")
CLAIM = "eternia_backup.host.json"
# Whole, and in parts: two of 16 MiB and a rest.
SMALL, LARGE = 100_000, 32 * MIB + 12_345


def backup(folder, size=SMALL, name=NAME, seed=0, algorithm="sha256"):
    """A file of `size` bytes that `seed` tells from others, and its manifest."""
    path = folder / name
    path.write_bytes(random.Random(seed).randbytes(size))
    content, stored = digest.of_file(path, algorithm)
    parsed = parse(name)
    return path, Manifest(
        name=name,
        kind=parsed.kind,
        environment="staging",
        host="web1",
        created_at=iso(parsed.created_at),
        source={},
        content=content,
        stored=replace(stored, encoding=parsed.encoding),
        verified=Verified("quick", iso(parsed.created_at)),
    )


def claimed(settings):
    store = S3Store(settings)
    store.claim(WEB1)
    return store


def keys(client, settings):
    """What lies under the prefix, by plain boto3, without the claim."""
    listed = client.list_objects_v2(Bucket=settings.bucket, Prefix=settings.prefix + "/").get("Contents", ())
    return [key for key in (entry["Key"][len(settings.prefix) + 1 :] for entry in listed) if key != CLAIM]


def bytes_at(client, settings, name=NAME):
    return client.get_object(Bucket=settings.bucket, Key=f"{settings.prefix}/{name}")["Body"].read()


def open_uploads(client, settings):
    return client.list_multipart_uploads(Bucket=settings.bucket, Prefix=settings.prefix + "/").get("Uploads", [])


def requests_of(store):
    """The requests that a store sends from now on, as (method, url)."""
    seen = []
    store._client._client.meta.events.register(
        "before-send.s3", lambda request, **_: seen.append((request.method, request.url))
    )
    return seen


@pytest.fixture
def client(object_store):
    return object_store.client()


@pytest.fixture
def serve():
    """Starts HTTP servers that answer what a function (method, path, headers, body) -> (status, headers, body) says."""
    servers = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, answered = answer(self.command, unquote(urlsplit(self.path).path), self.headers, body)
                self.send_response(status)
                for header, value in {"Content-Length": str(len(answered)), **headers}.items():
                    self.send_header(header, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answered)

            # The names that http.server looks for.
            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815 (what http.server calls)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def fake_settings(serve, credentials_file):
    """Settings for a made-up server that answers what a function says."""

    def settings(answer):
        credentials = credentials_file(("somebody", "a-secret-key"))
        return S3Settings("bucket", "staging", endpoint_url=serve(answer), credentials_file=credentials)

    return settings


def refusal(status, code, *, message="Because.", more="", headers=None):
    """The same S3 error to every request."""
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>{more}</Error>".encode()
    return lambda *_: (status, headers or {}, body)


class Memory:
    """A store of small objects with habits.

    It ignores create-only, looks at no checksum, refuses some, flips bits, keeps nothing, or loses its first answers.
    """

    def __init__(self, *, create_only=True, checksums=True, refuses=(), first_puts=()):
        self.objects = {}
        self.told = {}
        self.echoes = False
        self.create_only = create_only
        self.checksums = checksums
        self.flip = self.forgets = False
        self.refuses = refuses
        self.first_puts = list(first_puts)

    def __call__(self, method, path, headers, body):
        if method == "PUT":
            return self.put(path, headers, body)
        if method == "DELETE":
            return 204, {}, self.objects.pop(path) and b""
        if path.count("/") == 1:
            return 200, {}, b"<ListBucketResult></ListBucketResult>"
        if path not in self.objects:
            return refusal(404, "NoSuchKey")()
        # It says what it was told, whether it looked or not.
        told = self.told.get(path)
        kept = {"x-amz-checksum-crc64nvme": told, "x-amz-checksum-type": "FULL_OBJECT"} if told and self.echoes else {}
        return 200, {"ETag": '"1"', **kept}, self.objects[path]

    def put(self, path, headers, body):
        if any(header in headers for header in self.refuses):
            return refusal(400, "InvalidArgument")()
        if self.checksums and path.endswith("probe"):
            return refusal(400, "BadDigest")()
        if self.flip:
            body = bytes([body[0] ^ 1]) + body[1:]
        if self.create_only and path in self.objects:
            return refusal(412, "PreconditionFailed")()
        fault = self.first_puts.pop(0) if self.first_puts and not path.endswith(".json") else None
        if fault != "ConditionalRequestConflict" and not self.forgets:
            self.objects[path] = body
            self.told[path] = headers.get("x-amz-checksum-crc64nvme")
        if fault is not None:
            return refusal({"ConditionalRequestConflict": 409, "InternalError": 500}[fault], fault)()
        return 200, {"ETag": '"1"'}, b""


@pytest.fixture
def cutting_proxy():
    """Starts a proxy to an endpoint that closes every connection once `limit` bytes came over it from the client."""

    def pump(source, sink, limit):
        with suppress(OSError):
            while limit > 0 and (data := source.recv(min(65536, limit))):
                sink.sendall(data)
                limit -= len(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(endpoint, limit, near):
        target = urlsplit(endpoint)
        far = socket.create_connection((target.hostname, target.port))
        threading.Thread(target=pump, args=(far, near, 1 << 60), daemon=True).start()
        pump(near, far, limit)

    with ExitStack() as opened:
        yield lambda endpoint, limit: opened.enter_context(connections(partial(serve, endpoint, limit)))


def message_of(error, call, *arguments):
    """The message of the failure, which never holds a secret and always ends as a sentence."""
    with pytest.raises(error) as caught:
        call(*arguments)
    message = str(caught.value)
    assert ".." not in message
    assert "secret-key" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 16 * MIB),
        (16 * MIB * 10_000, 16 * MIB),
        (16 * MIB * 10_000 + 1, 32 * MIB),
        (5 << 40, 1024 * MIB),
    ],
)
def test_parts_grow_so_that_ten_thousand_suffice(size, expected):
    assert parts.part_bytes(size) == expected


@pytest.mark.parametrize("size", [0, 1, SMALL, LARGE])
def test_what_was_put_is_there_byte_for_byte(tmp_path, s3_settings, client, size):
    store = claimed(s3_settings)
    path, manifest = backup(tmp_path, size)
    transfer = store.put(path, manifest)
    assert (transfer.check, transfer.create_only, transfer.bytes_sent) == ("crc64nvme, full object", True, size)
    assert bytes_at(client, s3_settings) == path.read_bytes()
    with store.open(parse(NAME)) as stream:
        assert stream.read() == path.read_bytes()
    assert store.manifest(parse(NAME)) == manifest.with_transfer(transfer)
    assert list(store.copies()) == [Copy(parse(NAME), size, has_manifest=True)]
    assert store.location(parse(NAME)) == f"s3://{s3_settings.bucket}/{s3_settings.prefix}/{NAME}"


def test_a_large_object_keeps_the_checksum_of_the_whole_file(tmp_path, s3_settings, client):
    path, manifest = backup(tmp_path, LARGE)
    claimed(s3_settings).put(path, manifest)
    head = client.head_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{NAME}", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == (manifest.stored.crc64nvme, "FULL_OBJECT")


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("checksum", "check"),
    [("crc64nvme", "crc64nvme, full object"), ("sha256", "sha256, per part"), ("md5", "md5, per part")],
)
def test_the_settings_can_name_the_checksum(tmp_path, s3_settings, client, checksum, check, size):
    store = claimed(replace(s3_settings, checksum=checksum))
    path, manifest = backup(tmp_path, size)
    assert store.put(path, manifest).check == check
    assert bytes_at(client, s3_settings) == path.read_bytes()


def test_over_tls_the_same_bytes_arrive(tmp_path, s3_settings, object_store, client, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(object_store.authority))
    path, manifest = backup(tmp_path, LARGE)
    claimed(replace(s3_settings, endpoint_url=object_store.tls_endpoint)).put(path, manifest)
    assert bytes_at(client, s3_settings) == path.read_bytes()


def test_a_certificate_that_nobody_vouches_for_is_refused(s3_settings, object_store):
    settings = replace(s3_settings, endpoint_url=object_store.tls_endpoint)
    message = message_of(StoreError, S3Store(settings).claim, WEB1)
    assert "certificate verify failed" in message
    assert "name its authority in AWS_CA_BUNDLE" in message


def test_without_awscrt_it_is_sha256_unless_crc64nvme_was_asked_for(tmp_path, s3_settings):
    path, manifest = backup(tmp_path)
    manifest = replace(manifest, stored=replace(manifest.stored, crc64nvme=None))
    message = message_of(StoreError, claimed(replace(s3_settings, checksum="crc64nvme")).put, path, manifest)
    assert "awscrt" in message
    assert "cloud_backup.checksum" in message
    assert claimed(s3_settings).put(path, manifest).check == "sha256, per part"


@pytest.mark.parametrize(
    ("refuses", "check"),
    [
        ((), "read back, sha256"),
        (("x-amz-checksum-crc64nvme",), "sha256, per part"),
        (("x-amz-checksum-crc64nvme", "x-amz-checksum-sha256"), "md5, per part"),
    ],
)
def test_an_endpoint_proves_the_bytes_in_the_best_way_it_knows(tmp_path, fake_settings, refuses, check):
    memory = Memory(refuses=refuses)
    store = claimed(fake_settings(memory))
    path, manifest = backup(tmp_path)
    assert store.put(path, manifest).check == check
    assert store.manifest(parse(NAME)).transfer.check == check
    assert memory.objects[f"/bucket/staging/{NAME}"] == path.read_bytes()


def test_encryption_goes_with_everything_and_the_storage_class_with_the_data(tmp_path, s3_settings, client):
    path, manifest = backup(tmp_path)
    claimed(replace(s3_settings, storage_class="STANDARD_IA", sse="AES256")).put(path, manifest)
    heads = {
        name: client.head_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{name}")
        for name in (NAME, f"{NAME}.manifest.json", CLAIM)
    }
    assert {head["ServerSideEncryption"] for head in heads.values()} == {"AES256"}
    assert [name for name, head in heads.items() if head.get("StorageClass") == "STANDARD_IA"] == [NAME]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_putting_twice_changes_and_sends_nothing(tmp_path, s3_settings, client, size):
    store = claimed(s3_settings)
    path, manifest = backup(tmp_path, size)
    first = store.put(path, manifest)
    sent = requests_of(store)
    assert store.put(path, manifest) == replace(first, bytes_sent=0)
    assert {request[0] for request in sent} == {"GET", "HEAD"}
    assert store.manifest(parse(NAME)).transfer == first


@pytest.mark.parametrize(
    ("by", "check"), [("us", "crc64nvme, full object"), ("a tool that kept no checksum", "read back, sha256")]
)
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_put_that_was_cut_off_before_the_manifest_is_finished(tmp_path, s3_settings, client, size, by, check):
    store = claimed(s3_settings)
    path, manifest = backup(tmp_path, size)
    if by == "us":
        store.put(path, manifest)
        client.delete_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{NAME}.manifest.json")
    else:
        client.put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{NAME}", Body=path.read_bytes())
    transfer = store.put(path, manifest)
    assert (transfer.check, transfer.bytes_sent) == (check, 0)
    assert list(store.copies()) == [Copy(parse(NAME), size, has_manifest=True)]


@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize("size", [SMALL, SMALL + 1])
def test_a_name_taken_by_other_bytes_is_never_overwritten(tmp_path, s3_settings, client, size, with_manifest):
    store = claimed(s3_settings)
    store.put(*backup(tmp_path, seed=1))
    if not with_manifest:
        client.delete_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{NAME}.manifest.json")
    theirs = bytes_at(client, s3_settings)
    message = message_of(NameTakenError, store.put, *backup(tmp_path, size, seed=2))
    assert f"{store.location(NAME)} is taken" in message
    assert "Nothing was overwritten" in message
    assert "delete it if nobody needs it" in message
    assert bytes_at(client, s3_settings) == theirs


def test_a_manifest_that_cannot_be_used_keeps_its_name(tmp_path, s3_settings, client):
    store = claimed(s3_settings)
    key = f"{s3_settings.prefix}/{NAME}.manifest.json"
    client.put_object(Bucket=s3_settings.bucket, Key=key, Body=b"{")
    assert "a manifest that cannot be used" in message_of(NameTakenError, store.put, *backup(tmp_path))
    assert "is not a manifest" in message_of(DamagedError, store.manifest, parse(NAME))


def test_the_name_may_be_taken_while_we_send(tmp_path, s3_settings, client, monkeypatch):
    store = claimed(s3_settings)
    path, manifest = backup(tmp_path, LARGE)
    call = store._client.call

    def call_after_somebody_else(operation, key, **params):
        if operation == "complete_multipart_upload":
            client.put_object(Bucket=s3_settings.bucket, Key=key, Body=b"theirs")
        return call(operation, key, **params)

    monkeypatch.setattr(store._client, "call", call_after_somebody_else)
    assert "is taken" in message_of(NameTakenError, store.put, path, manifest)
    assert bytes_at(client, s3_settings) == b"theirs"
    assert keys(client, s3_settings) == [NAME]
    assert open_uploads(client, s3_settings) == []


@pytest.mark.parametrize(("fault", "times"), [("InternalError", 1), ("ConditionalRequestConflict", 2)])
def test_a_lost_answer_and_a_conflict_are_no_failures(tmp_path, fake_settings, fault, times):
    memory = Memory(first_puts=[fault])
    store = claimed(fake_settings(memory))
    path, manifest = backup(tmp_path)
    assert store.put(path, manifest).bytes_sent == times * SMALL
    assert memory.objects[f"/bucket/staging/{NAME}"] == path.read_bytes()


def test_a_conflict_that_lasts_is_a_failure(tmp_path, fake_settings):
    store = claimed(fake_settings(Memory(first_puts=["ConditionalRequestConflict"] * 2)))
    assert "ConditionalRequestConflict" in message_of(StoreError, store.put, *backup(tmp_path))


def test_put_wants_the_claim_first(tmp_path, s3_settings):
    with pytest.raises(RuntimeError, match="claim"):
        S3Store(s3_settings).put(*backup(tmp_path))


def test_a_prefix_belongs_to_one_host(s3_settings, client):
    assert S3Store(s3_settings).claim(WEB1) is True
    assert S3Store(s3_settings).claim(WEB1) is True
    location = f"s3://{s3_settings.bucket}/{s3_settings.prefix}"
    assert message_of(StoreError, S3Store(s3_settings).claim, WEB2) == (
        f"{location} belongs to host web1 (environment staging, /backups); this is host web2 (environment staging, "
        "/backups). Give each host its own prefix, for example cloud_backup.prefix: staging/web2. Only if the other no "
        'longer exists, or became this one, hand it over: `echo \'{"environment": "staging", "host": "web2", '
        f'"storage_path": "/backups"}}\' | aws s3 cp - {location}/{CLAIM}`.'
    )
    for other in (WEB2, replace(WEB1, storage_path="/other")):
        assert "belongs to host web1" in message_of(StoreError, S3Store(s3_settings).claimed, other)
    message = message_of(StoreError, S3Store(s3_settings).claim, replace(WEB1, environment="production"))
    assert "this is host web1 (environment production" in message
    assert json.loads(bytes_at(client, s3_settings, CLAIM)) == {
        "environment": "staging",
        "host": "web1",
        "storage_path": "/backups",
        "checks_what_arrives": True,
    }


def test_a_host_that_was_renamed_takes_over_as_the_message_says(tmp_path, s3_settings, client):
    claimed(s3_settings).put(*backup(tmp_path))
    message = message_of(StoreError, S3Store(s3_settings).claim, WEB2)
    written, where = re.search(r"`echo '(.*)' \| aws s3 cp - s3://[^/]+/(.*)`\.$", message).groups()
    client.put_object(Bucket=s3_settings.bucket, Key=where, Body=f"{written}\n".encode())
    assert S3Store(s3_settings).claim(WEB2) is True


def test_a_prefix_that_lost_its_claim_is_not_given_to_the_next(tmp_path, s3_settings, client):
    claimed(s3_settings).put(*backup(tmp_path))
    client.delete_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{CLAIM}")
    assert S3Store(s3_settings).claimed(WEB1) is False
    other = replace(WEB1, host="somebody else")
    assert "belongs to host" in message_of(StoreError, S3Store(s3_settings).claim, other)


def test_a_store_that_looks_at_no_checksum_is_read_back(tmp_path, fake_settings):
    memory = Memory(checksums=False)
    store = claimed(fake_settings(memory))
    path, manifest = backup(tmp_path)
    assert store.put(path, manifest).check.startswith("read back, ")
    memory.flip = True
    assert "was sent and answered with success, but its" in message_of(
        StoreError, store.put, *backup(tmp_path, seed=2, name=NEXT)
    )
    assert not [key for key in memory.objects if key.endswith("probe")]


def test_what_a_store_took_and_does_not_have_was_not_sent(tmp_path, fake_settings):
    memory = Memory()
    store = claimed(fake_settings(memory))
    memory.forgets = True
    assert "was sent and answered with success, but it is not there. The local backup is valid. Run again" in (
        message_of(StoreError, store.put, *backup(tmp_path))
    )


def test_what_such_a_store_says_of_its_objects_is_never_believed(tmp_path, fake_settings):
    """It keeps the checksum that it was told, and the object rots."""
    memory = Memory(checksums=False)
    memory.echoes = True
    settings = fake_settings(memory)
    path, manifest = backup(tmp_path)
    claimed(settings).put(path, manifest)
    (key,) = (key for key in memory.objects if key.endswith(manifest.name))
    copy = Copy(manifest.backup_name, manifest.stored.bytes, has_manifest=True)
    later, looking = S3Store(settings), S3Store(settings)
    assert later.claimed(WEB1)
    for store in (later, looking):
        store.prove(copy)
    memory.objects[key] = memory.objects[key][:-1] + bytes([memory.objects[key][-1] ^ 1])
    for store in (later, looking, S3Store(settings)):
        with pytest.raises(DamagedError, match="is damaged: its sha256 is"):
            store.prove(copy)


def test_a_copy_is_proven_by_what_the_store_keeps_of_it(tmp_path, s3_settings, client):
    store = claimed(s3_settings)
    path, manifest = backup(tmp_path)
    store.put(path, manifest)
    (copy,) = store.copies()
    store.prove(copy)
    client.put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{NAME}", Body=bytes(manifest.stored.bytes))
    assert "is damaged: its" in message_of(DamagedError, store.prove, copy)


def test_what_became_larger_since_it_was_listed_is_neither_proven_nor_fetched(tmp_path, s3_settings, client):
    store = claimed(s3_settings)
    store.put(*backup(tmp_path))
    (copy,) = store.copies()
    client.put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{NAME}", Body=bytes(SMALL + 1))
    assert f"is damaged: it has {SMALL + 1} bytes, ours {SMALL}" in message_of(DamagedError, store.prove, copy)
    for fetch, *where in ((store.fetch, tmp_path / "back"), (store.fetch_parts, 0, [])):
        message = message_of(DamagedError, fetch, copy, *where, lambda _count: None)
        assert f"is damaged: it has {SMALL + 1} bytes, and was listed with {SMALL}. Choose" in message


@pytest.mark.parametrize(
    "bent",
    [{"host": "web1\n[backup_manager] all is well"}, {"environment": "x" * 256}, {"storage_path": "/" * 4097}, None],
)
def test_a_claim_that_cannot_be_read_is_named(s3_settings, client, bent):
    body = json.dumps([] if bent is None else {**asdict(WEB2), **bent})
    client.put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{CLAIM}", Body=body.encode())
    message = message_of(StoreError, S3Store(s3_settings).claim, WEB1)
    assert message.isprintable()
    assert len(message) < 1000
    assert f"{s3_settings.prefix}/{CLAIM} should say which host the backups there belong to" in message


def test_a_store_that_ignores_create_only_is_found_out_and_looked_at_first(tmp_path, fake_settings):
    memory = Memory(create_only=False)
    settings = fake_settings(memory)
    store = S3Store(settings)
    assert [store.claim(WEB1) for _attempt in range(2)] == [False, False]
    assert "belongs to host web1" in message_of(StoreError, S3Store(settings).claim, WEB2)
    path, manifest = backup(tmp_path, seed=1)
    assert store.put(path, manifest).create_only is False
    theirs = path.read_bytes()
    assert "is taken" in message_of(NameTakenError, store.put, *backup(tmp_path, seed=2))
    assert memory.objects[f"/bucket/staging/{NAME}"] == theirs


@pytest.mark.parametrize(("after", "suffix"), [("head_object", ""), ("put_object", ".manifest.json")])
def test_where_create_only_is_ignored_the_name_is_looked_at_again_right_before(
    tmp_path, fake_settings, monkeypatch, after, suffix
):
    memory = Memory(create_only=False)
    store = claimed(fake_settings(memory))
    taken = f"/bucket/staging/{NAME}{suffix}"
    call = store._client.call

    def call_and_then_somebody_else(operation, key, **params):
        try:
            return call(operation, key, **params)
        finally:
            if operation == after:
                memory.objects.setdefault(taken, b"theirs")

    monkeypatch.setattr(store._client, "call", call_and_then_somebody_else)
    assert "is taken" in message_of(NameTakenError, store.put, *backup(tmp_path))
    assert memory.objects[taken] == b"theirs"


def test_the_listing_knows_ours_from_foreign(tmp_path, s3_settings, client):
    def put(key, body=b"12345"):
        client.put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}{key}", Body=body)

    claimed(s3_settings)
    pinned, data_only, manifest_only = (f"eternia_backup_20261122_22000{n}.db" for n in (1, 2, 3))
    encoded = f"{pinned}.age"
    for key in (
        *(f"/{pinned}{suffix}" for suffix in ("", ".manifest.json", ".pin", ".seen.json", ".drilled.json")),
        *(f"/{encoded}{suffix}" for suffix in ("", ".manifest.json")),
        "/eternia_backup_20261122_220004.db.drilled.json",
        f"/{data_only}",
        f"/{manifest_only}.manifest.json",
        "/eternia_state_20261122_220000.json",
        "/eternia_backup_20261322_220000.db",
        "/eternia_backup_20261122_220009.db.bak",
        "/eternia_backup_latest.db",
        "/deeper/eternia_backup_20261122_220005.db",
        "2/eternia_backup_20261122_220006.db",
    ):
        put(key)
    store = S3Store(s3_settings)
    assert sorted(store.copies(), key=lambda copy: str(copy.name)) == [
        Copy(parse(pinned), 5, has_manifest=True, pinned=True, drilled=True),
        Copy(parse(encoded), 5, has_manifest=True),
        Copy(parse(data_only), 5, has_manifest=False),
        Copy(parse(manifest_only), None, has_manifest=True),
        Copy(parse("eternia_state_20261122_220000.json"), 5, has_manifest=False),
    ]


def test_an_empty_prefix_lists_nothing(s3_settings):
    assert list(S3Store(s3_settings).copies()) == []


def test_the_listing_asks_for_the_pages_there_are_and_for_nothing_else(s3_settings, client):
    names = [f"eternia_backup_20261122_22{n // 60:02}{n % 60:02}.db" for n in range(1250)]
    with ThreadPoolExecutor(8) as pool:
        for suffix in ("", ".manifest.json"):
            list(
                pool.map(
                    lambda name, suffix=suffix: client.put_object(
                        Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{name}{suffix}", Body=b"x"
                    ),
                    names,
                )
            )
    store = S3Store(s3_settings)
    seen = requests_of(store)
    copies = store.copies()
    next(copies)
    assert len(seen) == 1
    assert 1 + sum(1 for copy in copies if copy.verified) == 1250
    assert [method for method, url in seen if "list-type=2" in url] == ["GET"] * 3
    assert len(seen) == 3


def test_what_is_removed_is_gone_manifest_first_and_the_rest_stays(tmp_path, s3_settings, client):
    store = claimed(s3_settings)
    other = "eternia_backup_20261122_220001.db"
    store.put(*backup(tmp_path))
    store.put(*backup(tmp_path, name=other))
    for suffix in (".pin", ".seen.json"):
        client.put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{NAME}{suffix}", Body=b"")
    seen = requests_of(store)
    assert list(store.remove([parse(NAME)])) == [parse(NAME)]
    assert [request[0] for request in seen] == ["POST", "POST"]
    assert keys(client, s3_settings) == [other, f"{other}.manifest.json"]
    assert list(store.remove([parse(NAME)])) == [parse(NAME)]


def test_many_are_removed_by_few_requests(s3_settings, client):
    """The manifests of 250 backups, then the rest of them; what is not to go stays."""
    moments = [datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(hours=hour) for hour in range(300)]
    found = [BackupName(moment, DATABASE) for moment in moments]
    for name in found:
        for suffix in ("", ".manifest.json"):
            client.put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{name}{suffix}", Body=b"x")
    store = S3Store(s3_settings)
    seen = requests_of(store)
    assert list(store.remove(found[:-1])) == found[:-1]
    assert len(seen) == 4
    assert keys(client, s3_settings) == [str(found[-1]), f"{found[-1]}.manifest.json"]


def test_a_key_that_cannot_be_deleted_is_named(fake_settings):
    error = f"<Error><Key>staging/{NAME}</Key><Code>AccessDenied</Code><Message>No.</Message></Error>"
    answers = {"POST": (200, {}, f"<DeleteResult>{error}</DeleteResult>".encode())}
    store = S3Store(fake_settings(lambda method, *_: answers[method]))
    message = message_of(StoreError, lambda: list(store.remove([parse(NAME)])))
    assert message.startswith(f"Deleting s3://bucket/staging/{NAME} failed: access denied (AccessDenied: No). Allow ")


@pytest.mark.parametrize("refused", [".manifest.json", "", ".pin"])
def test_of_many_those_that_cannot_be_deleted_keep_what_makes_them_whole(fake_settings, refused):
    """Every key has its own answer: the others go, and where a manifest stays its data stays, too."""
    names = [parse(f"eternia_backup_20261122_22000{number}.db") for number in range(3)]
    deleted = []

    def answer(method, path, headers, body):
        keys = re.findall(r"<Key>([^<]+)</Key>", body.decode())
        bad = [key for key in keys if key == f"staging/{names[1]}{refused}"]
        deleted.extend(key for key in keys if key not in bad)
        errors = "".join(f"<Error><Key>{key}</Key><Code>AccessDenied</Code></Error>" for key in bad)
        return 200, {}, f"<DeleteResult>{errors}</DeleteResult>".encode()

    gone = []
    message = rf"Deleting s3://bucket/staging/{names[1]}{re.escape(refused)} failed: access denied"
    with pytest.raises(StoreError, match=message):
        gone.extend(S3Store(fake_settings(answer)).remove(names))
    assert gone == [names[0], names[2]]
    assert (f"staging/{names[1]}" in deleted) is (refused == ".pin")
    assert {f"staging/{names[place]}{suffix}" for place in (0, 2) for suffix in ("", ".manifest.json")} <= set(deleted)


def test_what_is_not_there_is_not_found(s3_settings):
    store = S3Store(s3_settings)
    for read in (store.open, store.manifest):
        message = message_of(NotFoundError, read, parse(NAME))
        assert re.search(rf"{NAME}(\.manifest\.json)? does not exist\. Choose another backup\.", message)


def test_the_bucket_is_missing(s3_settings):
    store = S3Store(replace(s3_settings, bucket="no-such-bucket"))
    for call in (lambda: store.claim(WEB1), lambda: list(store.copies()), lambda: store.open(parse(NAME))):
        message = message_of(StoreError, call)
        assert f"there is no bucket no-such-bucket at {s3_settings.endpoint_url}" in message
        assert "correct cloud_backup.bucket" in message


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (("nobody", "any-secret-key"), "does not know the access key"),
        ((None, "another-secret-key"), "the secret key does not belong to the access key"),
    ],
)
def test_a_wrong_key_names_the_file_to_correct(s3_settings, object_store, credentials_file, keys, reason):
    path = credentials_file((keys[0] or object_store.admin[0], keys[1]))
    store = S3Store(replace(s3_settings, credentials_file=path))
    message = message_of(StoreError, store.claim, WEB1)
    assert "wrong key: " in message
    assert reason in message
    assert f"Correct it in {path}." in message


def test_access_denied_names_the_action_and_the_key(s3_settings, object_store, credentials_file):
    reader = replace(s3_settings, credentials_file=credentials_file(object_store.reader))
    assert list(S3Store(reader).copies()) == []
    message = message_of(StoreError, S3Store(reader).claim, WEB1)
    assert message.startswith(
        f"Writing s3://{s3_settings.bucket}/{s3_settings.prefix}/eternia_backup.probe failed: access denied"
    )
    assert "Allow s3:PutObject there" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "there is no access key in"),
        ("[other]\naws_access_key_id = a\naws_secret_access_key = b-secret-key\n", "there is no access key in"),
        ("[default]\naws_access_key_id = a\n", "the credentials are not whole"),
        ("[default]\naws_access_key_id b-secret-key\n", "cannot be made"),
        (
            "[default]\naws_access_key_id = a\naws_secret_access_key = b-secret-key\n"
            "aws_session_token = c-secret-key\n  d-secret-key\n",
            "could not be sent whole (ValueError)",
        ),
    ],
)
def test_unusable_credentials_name_the_file(s3_settings, tmp_path, monkeypatch, content, expected):
    # The file is the only source: these are not looked at.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from-environment")
    path = tmp_path / "credentials"
    if content is not None:
        path.write_text(content)
    message = message_of(StoreError, S3Store(replace(s3_settings, credentials_file=path)).claim, WEB1)
    assert expected in message
    assert str(path) in message


def test_without_a_file_credentials_and_endpoint_come_from_the_environment(s3_settings, object_store, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.admin[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.admin[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store.endpoint)
    assert S3Store(replace(s3_settings, endpoint_url=None, credentials_file=None)).claim(WEB1) is True


def test_an_endpoint_that_is_down(s3_settings):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    message = message_of(StoreError, S3Store(replace(s3_settings, endpoint_url=endpoint)).claim, WEB1)
    assert f"no whole answer from {endpoint}" in message
    assert "Check that it is up" in message


def test_an_answer_without_a_code_is_one(fake_settings, s3_settings):
    with pytest.raises(S3Error) as answered:
        S3Store(fake_settings(refusal(400, ""))).open(parse(NAME))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(S3Error) as silent:
        S3Store(replace(s3_settings, endpoint_url=endpoint)).open(parse(NAME))
    assert (answered.value.no_answer, silent.value.no_answer) == (False, True)


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://localhost", "http://"])
def test_an_endpoint_that_is_no_address(s3_settings, endpoint):
    message = message_of(StoreError, S3Store(replace(s3_settings, endpoint_url=endpoint)).claim, WEB1)
    assert "endpoint_url" in message


@pytest.mark.parametrize(
    ("status", "code", "options", "expected"),
    [
        (301, "PermanentRedirect", {"headers": {"x-amz-bucket-region": "eu-west-1"}}, "than us-west-2: eu-west-1. "),
        (400, "AuthorizationHeaderMalformed", {"more": "<Region>eu-west-1</Region>"}, "than us-west-2: eu-west-1. "),
        (400, "IllegalLocationConstraintException", {}, "than us-west-2 (Because). Correct cloud_backup.region"),
        (403, "AccessDenied", {}, "Allow s3:GetObject"),
        (400, "ExpiredToken", {}, "the session token has expired. Renew it in /"),
        (403, "RequestTimeTooSkewed", {}, "Set the clock"),
        (403, "InvalidObjectState", {}, "Restore it there first"),
        (503, "SlowDown", {}, "overloaded or down for the moment (SlowDown: Because)"),
        (507, "InsufficientStorage", {}, "Make room there"),
        (400, "SomethingNew", {}, "SomethingNew: Because."),
    ],
)
def test_what_s3_refuses_says_what_to_do(fake_settings, status, code, options, expected):
    store = S3Store(replace(fake_settings(refusal(status, code, **options)), region="us-west-2"))
    message = message_of(StoreError, store.open, parse(NAME))
    assert message.startswith(f"Reading s3://bucket/staging/{NAME} failed: ")
    assert expected in message


def test_what_s3_answers_stays_one_short_line(fake_settings):
    answer = refusal(400, "New" * 1000, message="Because\n[backup_manager] all is well" + "x" * 9000)
    message = message_of(StoreError, S3Store(fake_settings(answer)).open, parse(NAME))
    assert "Because [backup_manager] all is well" in message
    assert message.isprintable()
    assert len(message) < 2000


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("checksum", "expected"),
    [
        ("crc64nvme", "the checksum was refused: the bytes that arrived are not those the manifest describes"),
        ("sha256", "changed after it was hashed: its sha256 is"),
        ("md5", "changed after it was hashed: its sha256 is"),
    ],
)
def test_a_file_that_changed_after_hashing_does_not_arrive(tmp_path, s3_settings, client, size, checksum, expected):
    store = claimed(replace(s3_settings, checksum=checksum))
    path, manifest = backup(tmp_path, size)
    flip(path, -1)
    assert expected in message_of(StoreError, store.put, path, manifest)
    assert keys(client, s3_settings) == []
    assert open_uploads(client, s3_settings) == []


def test_a_file_of_another_size_or_none_is_not_sent(tmp_path, s3_settings):
    store = claimed(s3_settings)
    path, manifest = backup(tmp_path)
    os.truncate(path, 10)
    assert "it has 10 bytes, the manifest says 100000" in message_of(StoreError, store.put, path, manifest)
    path.unlink()
    assert f"{path} cannot be read: no such file" in message_of(StoreError, store.put, path, manifest)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_upload_cut_half_way_leaves_nothing_and_can_be_repeated(
    tmp_path, s3_settings, object_store, client, cutting_proxy, size
):
    path, manifest = backup(tmp_path, size)
    endpoint = cutting_proxy(object_store.endpoint, min(size // 2, 3 * MIB))
    message = message_of(StoreError, claimed(replace(s3_settings, endpoint_url=endpoint)).put, path, manifest)
    assert message.startswith(f"Writing s3://{s3_settings.bucket}/{s3_settings.prefix}/{NAME} failed: ")
    assert endpoint in message
    assert keys(client, s3_settings) == []
    assert open_uploads(client, s3_settings) == []
    claimed(s3_settings).put(path, manifest)
    assert bytes_at(client, s3_settings) == path.read_bytes()


def test_a_download_cut_half_way_is_a_store_error(fake_settings):
    store = S3Store(fake_settings(lambda *_: (200, {"Content-Length": "1000", "Connection": "close"}, b"half")))
    message = message_of(StoreError, store.open(parse(NAME)).read)
    assert message.startswith(f"Reading s3://bucket/staging/{NAME} failed: no whole answer from http://127.0.0.1")


def test_boto3_is_missing_or_too_old(s3_settings, monkeypatch):
    monkeypatch.setattr(boto3, "__version__", "1.34.46")
    assert "boto3 1.36 or newer" in message_of(StoreError, S3Store(s3_settings).claim, WEB1)
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert "needs the Python library boto3" in message_of(StoreError, S3Store(s3_settings).claim, WEB1)

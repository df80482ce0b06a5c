# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever fails while only what changed is sent: all of it arrives and is proven, or nothing is left behind."""

from __future__ import annotations

import errno
import inspect
import os
import random
import re
import socket
import struct
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import parts
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_client import S3Client
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_errors import S3Error
from ansible_collections.eternia.backup.tests.unit.stores.test_s3_delta import backup, changed
from ansible_collections.eternia.backup.tests.unit.web import connections
from botocore.awsrequest import AWSResponse
from urllib3.exceptions import ProtocolError

# As small as S3 takes them.
PART = 5 * 1024 * 1024
SIZE = 3 * PART + 12_345
FIRST, SECOND = parse("eternia_backup_20261122_220000.db"), parse("eternia_backup_20261122_230000.db")
METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")


@dataclass
class Fault:
    """What happens to requests whose first line matches, so many `times`.

    The connection is reset after `after` bytes of the request, or where `lost`, when the answer comes; or the answer
    is another one.
    """

    request: str
    times: int = 1
    after: int = 0
    lost: bool = False
    answer: bytes = b""
    met: int = 0

    def meets(self, data):
        is_one = data.startswith(METHODS) and re.match(self.request.encode(), data.split(b"\r\n", 1)[0])
        if not is_one or self.met >= self.times:
            return False
        self.met += 1
        return True


@pytest.fixture
def faulty(object_store):
    """Starts a proxy to the store between which and us one thing goes wrong."""
    there = urlsplit(object_store.endpoint)

    def reset(*ends):
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def serve(fault, near):
        far = socket.create_connection((there.hostname, there.port))
        spoiled = threading.Event()

        def answers():
            with suppress(OSError):
                while data := far.recv(65536):
                    if spoiled.is_set() and not data.startswith(b"HTTP/1.1 100"):
                        near.sendall(fault.answer)
                        break
                    near.sendall(data)
            reset(near, far)

        threading.Thread(target=answers, daemon=True).start()
        with suppress(OSError):
            left = None
            while data := near.recv(65536):
                if fault.meets(data):
                    if fault.lost or fault.answer:
                        spoiled.set()
                    else:
                        left = fault.after
                far.sendall(data if left is None else data[:left])
                left = None if left is None else left - len(data)
                if left is not None and left <= 0:
                    break
        reset(near, far)

    with ExitStack() as opened:
        yield lambda fault: opened.enter_context(connections(partial(serve, fault)))


@pytest.fixture(scope="module")
def content():
    return random.Random(7).randbytes(SIZE)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "SMALLEST", PART)


def claimed(settings):
    found = S3Store(settings)
    found.claim(Owner("staging", "web1", "/backups"))
    return found


@pytest.fixture
def store(s3_settings):
    return claimed(s3_settings)


@pytest.fixture
def there(object_store, s3_settings):
    """What lies under the prefix by plain boto3, without the claim; no upload may be open."""

    def found():
        client, where = object_store.client(), {"Bucket": s3_settings.bucket, "Prefix": f"{s3_settings.prefix}/"}
        assert client.list_multipart_uploads(**where).get("Uploads", []) == []
        listed = (entry["Key"] for entry in client.list_objects_v2(**where).get("Contents", ()))
        return {
            key.rsplit("/", 1)[1]: client.get_object(Bucket=s3_settings.bucket, Key=key)["Body"].read()
            for key in listed
            if "host.json" not in key
        }

    return found


def is_whole(there, data):
    found = there()
    return found.get(str(SECOND)) == data and f"{SECOND}.manifest.json" in found


def is_untouched(there):
    return there().keys() == {str(FIRST), f"{FIRST}.manifest.json"}


def xml(code, *, status=200):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Because.</Message></Error>".encode()
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body)


def refuse(store, operation, status, code, *, when=lambda request: True, times=99):
    """Let the store answer so to requests of one kind, before they leave; returns those that it refused."""
    seen = []

    class Raw:
        def stream(self, *_, **__):
            yield f"<Error><Code>{code}</Code><Message>Because.</Message></Error>".encode()

    def answer(request, **_):
        if len(seen) < times and when(request):
            seen.append(request)
            return AWSResponse(request.url, status, {}, Raw())
        return None

    store._client._client.meta.events.register(f"before-send.s3.{operation}", answer)
    return seen


def test_a_manifest_that_the_store_says_is_there_and_is_not_is_no_success(tmp_path, store, there, content):
    seen = refuse(store, "PutObject", 412, "PreconditionFailed", when=lambda one: one.url.endswith("manifest.json"))
    path, manifest = backup(tmp_path, FIRST, content)
    with pytest.raises(StoreError, match=rf"{FIRST}.manifest.json was not written: the store says .* check-store\.$"):
        store.put(path, manifest)
    assert seen
    assert f"{FIRST}.manifest.json" not in there()


def test_a_mark_or_pin_that_the_store_says_is_there_and_is_not_is_no_success(tmp_path, store, there, content):
    store.put(*backup(tmp_path, FIRST, content))
    (copy,) = store.copies()
    assert refuse(store, "PutObject", 412, "PreconditionFailed") == []
    with pytest.raises(StoreError, match=rf"{FIRST}.drilled.json was not written"):
        store.mark_drilled(copy, b"{}", staging=tmp_path)
    with pytest.raises(StoreError, match=rf"{FIRST}.pin was not written"):
        store.pin(FIRST)
    assert is_untouched(there)


def test_a_pin_that_somebody_put_meanwhile_stays(tmp_path, store, there, content):
    store.put(*backup(tmp_path, FIRST, content))
    for _time in range(2):
        store.pin(FIRST)
    assert there()[f"{FIRST}.pin"] == b""


def test_a_refusal_that_is_cut_off_is_no_whole_answer(store):
    """Botocore lets what urllib3 says of its body through."""

    class Raw:
        def stream(self, *_, **__):
            raise ProtocolError("Connection broken: ConnectionResetError(104, 'Connection reset by peer')")

    store._client._client.meta.events.register(
        "before-send.s3.GetObject", lambda request, **_: AWSResponse(request.url, 404, {}, Raw())
    )
    with pytest.raises(StoreError, match=r"failed: no whole answer from http.*reset by peer.*then run again\.$"):
        store.manifest(FIRST)


ONCE, ALWAYS = 1, 99


@pytest.mark.parametrize("times", [ONCE, ALWAYS], ids=["once", "always"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_connection_that_is_reset_in_a_part(tmp_path, s3_settings, store, faulty, there, content, share, times):
    store.put(*backup(tmp_path, FIRST, content))
    path, manifest = backup(tmp_path, SECOND, changed(content, 0, PART))
    fault = Fault(r"PUT .*partNumber=2&", times=times, after=int(PART * share))
    remote = claimed(replace(s3_settings, endpoint_url=faulty(fault)))
    if times == ONCE:
        transfer = remote.put(path, manifest, base=FIRST)
        assert (transfer.check, transfer.bytes_copied) == ("crc64nvme, full object", SIZE - 2 * PART)
        assert is_whole(there, changed(content, 0, PART))
    else:
        with pytest.raises(StoreError, match=rf"Writing s3://.*{SECOND} failed: no whole answer from http"):
            remote.put(path, manifest, base=FIRST)
        assert is_untouched(there)
        claimed(s3_settings).put(path, manifest, base=FIRST)
        assert is_whole(there, changed(content, 0, PART))
    assert fault.met > 0


@pytest.mark.parametrize("times", [ONCE, ALWAYS], ids=["once", "always"])
def test_a_connection_that_is_reset_at_a_copy(tmp_path, s3_settings, store, faulty, there, content, times):
    store.put(*backup(tmp_path, FIRST, content))
    fault = Fault(r"PUT .*partNumber=2&", times=times, lost=True)
    remote = claimed(replace(s3_settings, endpoint_url=faulty(fault)))
    path, manifest = backup(tmp_path, SECOND, changed(content, 0))
    if times == ONCE:
        remote.put(path, manifest, base=FIRST)
        assert is_whole(there, changed(content, 0))
    else:
        # Neither a copy nor the part itself comes through.
        with pytest.raises(StoreError, match="no whole answer"):
            remote.put(path, manifest, base=FIRST)
        assert is_untouched(there)
    assert fault.met > 0


@pytest.mark.parametrize("times", [ONCE, ALWAYS], ids=["once", "always"])
@pytest.mark.parametrize("moment", ["before it arrives", "after it was done"])
def test_a_connection_that_is_reset_at_the_completion(
    tmp_path, s3_settings, store, faulty, there, content, moment, times
):
    store.put(*backup(tmp_path, FIRST, content))
    fault = Fault(r"POST .*uploadId=", times=times, lost=moment == "after it was done")
    remote = claimed(replace(s3_settings, endpoint_url=faulty(fault)))
    path, manifest = backup(tmp_path, SECOND, changed(content, 0))
    if moment == "before it arrives" and times == ALWAYS:
        with pytest.raises(StoreError, match="no whole answer"):
            remote.put(path, manifest, base=FIRST)
        assert is_untouched(there)
    elif times == ONCE:
        remote.put(path, manifest, base=FIRST)
        assert f"{SECOND}.manifest.json" in there()
    else:
        # The object may be there, and no answer ever came: without its manifest it counts as nothing.
        with pytest.raises(StoreError, match="no whole answer"):
            remote.put(path, manifest, base=FIRST)
        assert f"{SECOND}.manifest.json" not in there()
    assert fault.met > 0
    transfer = claimed(s3_settings).put(path, manifest, base=FIRST)
    assert transfer.check == "crc64nvme, full object"
    assert is_whole(there, changed(content, 0))


@pytest.mark.parametrize(("code", "words"), [("InternalError", "overloaded or down"), ("SomethingNew", "SomethingNew")])
@pytest.mark.parametrize("times", [ONCE, ALWAYS], ids=["once", "always"])
def test_an_error_in_the_body_of_a_completion_that_says_200(tmp_path, store, there, content, times, code, words):
    store.put(*backup(tmp_path, FIRST, content))
    seen = refuse(store, "CompleteMultipartUpload", 200, code, times=times)
    path, manifest = backup(tmp_path, SECOND, changed(content, 0))
    if times == ONCE:
        store.put(path, manifest, base=FIRST)
        assert is_whole(there, changed(content, 0))
    else:
        with pytest.raises(StoreError, match=words):
            store.put(path, manifest, base=FIRST)
        assert is_untouched(there)
    assert seen


def test_an_error_in_the_body_although_it_was_done(tmp_path, s3_settings, store, faulty, there, content):
    store.put(*backup(tmp_path, FIRST, content))
    fault = Fault(r"POST .*uploadId=", answer=xml("InternalError"))
    remote = claimed(replace(s3_settings, endpoint_url=faulty(fault)))
    path, manifest = backup(tmp_path, SECOND, changed(content, 0))
    assert remote.put(path, manifest, base=FIRST).check == "crc64nvme, full object"
    assert is_whole(there, changed(content, 0))
    assert fault.met == 1


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_endpoint_that_does_not_know_crc64nvme(tmp_path, store, there, content, operation):
    store.put(*backup(tmp_path, FIRST, content))

    def is_crc64nvme(request):
        told = " ".join(f"{key}={request.headers[key]}" for key in request.headers).lower()
        return "crc64nvme" in told.replace("x-amz-sdk-checksum-algorithm", "")

    refuse(store, operation, 400, "InvalidRequest", when=is_crc64nvme)
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    # What a store copied cannot be proven by sums of parts.
    assert (transfer.check, transfer.bytes_copied) == ("sha256, per part", 0)
    assert is_whole(there, changed(content, 0))


@pytest.mark.parametrize("size", ["whole", "in parts"])
def test_an_endpoint_that_knows_no_conditional_completion(tmp_path, store, there, content, size):
    store.put(*backup(tmp_path, FIRST, content))
    data = changed(content, 0) if size == "in parts" else content[:1000]
    operation = "CompleteMultipartUpload" if size == "in parts" else "PutObject"

    def is_conditional(request):
        return "If-None-Match" in request.headers

    seen = refuse(store, operation, 501, "NotImplemented", when=is_conditional)
    with pytest.raises(StoreError, match=r"NotImplemented: Because.*If-None-Match"):
        store.put(*backup(tmp_path, SECOND, data), base=FIRST)
    assert is_untouched(there)
    assert seen


@pytest.mark.parametrize("change", ["to a border", "from a border", "below one part", "by a part", "by two"])
def test_a_file_that_shrinks_or_grows_across_a_border(tmp_path, store, there, content, change):
    more = changed(content, *range(0, SIZE, PART))
    before, after, copied = {
        "to a border": (content, content[: 2 * PART], 2 * PART),
        "from a border": (content[: 2 * PART], content[: 2 * PART + 1], 2 * PART),
        "below one part": (content, content[: PART - 1], 0),
        "by a part": (content[: 3 * PART - 1], content, 2 * PART),
        "by two": (content[: 3 * PART], content[: 3 * PART] + more[: 2 * PART], 3 * PART),
    }[change]
    store.put(*backup(tmp_path, FIRST, before))
    transfer = store.put(*backup(tmp_path, SECOND, after), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (len(after) - copied, copied)
    assert is_whole(there, after)


@pytest.mark.parametrize(("before", "after"), [(3 * PART, 3 * PART + 1), (3 * PART + 1, 3 * PART)])
def test_beyond_the_most_parts_they_grow_and_nothing_of_the_other_size_is_copied(
    tmp_path, store, there, content, monkeypatch, before, after
):
    monkeypatch.setattr(parts, "MOST", 3)
    assert [parts.part_bytes(size) for size in (3 * PART, 3 * PART + 1)] == [PART, 2 * PART]
    store.put(*backup(tmp_path, FIRST, content[:before]))
    transfer = store.put(*backup(tmp_path, SECOND, content[:after]), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (after, 0)
    assert is_whole(there, content[:after])


@pytest.mark.parametrize("size", [0, 1, 16 << 20, (16 << 20) * 10_000, (16 << 20) * 10_000 + 1, 5 << 40])
def test_no_file_has_more_parts_than_s3_takes(monkeypatch, size):
    monkeypatch.undo()
    found = parts.split(size)
    assert len(found) <= 10_000
    assert sum(part.bytes for part in found) == size
    assert all(5 << 20 <= part.bytes <= 5 << 30 for part in found[:-1])
    assert [part.start for part in found[1:]] == [part.start + part.bytes for part in found[:-1]]


def test_parts_of_another_size_than_ours_are_not_copied(tmp_path, store, there, content, monkeypatch):
    """An engine of another day may have cut otherwise."""
    with monkeypatch.context() as then:
        then.setattr(parts, "SMALLEST", 2 * PART)
        store.put(*backup(tmp_path, FIRST, content))
    transfer = store.put(*backup(tmp_path, SECOND, content), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (SIZE, 0)
    assert is_whole(there, content)


@pytest.mark.parametrize("field", ["host", "environment"])
def test_of_another_hosts_backup_nothing_is_copied(tmp_path, store, there, content, field):
    """A prefix that was handed over still has what its earlier owner sent."""
    path, manifest = backup(tmp_path, FIRST, content)
    store.put(path, replace(manifest, **{field: "other" if field == "host" else "production"}))
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (SIZE, 0)
    assert is_whole(there, changed(content, 0))


@pytest.mark.parametrize("fate", ["data gone", "manifest gone", "manifest damaged", "all gone", "may not be read"])
def test_a_base_that_cannot_be_used_is_done_without(tmp_path, store, object_store, s3_settings, content, there, fate):
    store.put(*backup(tmp_path, FIRST, content))
    client, where = object_store.client(), {"Bucket": s3_settings.bucket, "Key": f"{s3_settings.prefix}/{FIRST}"}
    sidecar = {**where, "Key": f"{where['Key']}.manifest.json"}
    if fate in ("data gone", "all gone"):
        client.delete_object(**where)
    if fate in ("manifest gone", "all gone"):
        client.delete_object(**sidecar)
    if fate == "manifest damaged":
        client.put_object(**sidecar, Body=b'{"format": 1')
    if fate == "may not be read":
        refuse(store, "HeadObject", 403, "AccessDenied", when=lambda request: request.url.endswith(str(FIRST)))
    transfer = store.put(*backup(tmp_path, SECOND, changed(content, 0)), base=FIRST)
    assert (transfer.bytes_sent, transfer.bytes_copied) == (SIZE, 0)
    assert is_whole(there, changed(content, 0))


def test_what_awscrt_meets_while_it_signs_has_words(s3_settings, monkeypatch):
    """It reads what is sent, and has an error of its own for a disk that fails."""
    exceptions = pytest.importorskip("awscrt.exceptions")
    client = S3Client(s3_settings)

    def failing(**_parameters):
        raise exceptions.AwsCrtError(0, "AWS_ERROR_UNKNOWN", "Unknown error.")

    monkeypatch.setattr(client._client, "put_object", failing)
    with pytest.raises(S3Error, match=r"could not be read and signed \(.*\). Look at the disk, then run again") as met:
        client.call("put_object", "key", Body=b"x")
    assert not met.value.no_answer


@pytest.mark.parametrize("failure", [KeyboardInterrupt("told to end"), OSError(errno.EIO, "Input/output error")])
def test_what_ends_a_run_while_awscrt_signs_is_not_taken_for_its_error(
    tmp_path, store, content, monkeypatch, capfd, failure
):
    """It prints what it meets in a read, and makes an error without words of it."""
    path, manifest = backup(tmp_path, FIRST, content[:100_000])
    pread, met = os.pread, []

    def failing(*arguments):
        if any(frame.function == "_read_into_memoryview" for frame in inspect.stack()):
            met.append(arguments)
            raise failure
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", failing)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else S3Error
    with pytest.raises(
        expected, match=r"told to end|failed: what is sent could not be read \(input/output error\)\. Look"
    ):
        store.put(path, manifest)
    assert met
    assert "Traceback" not in capfd.readouterr().err


def test_what_nobody_expected_is_not_taken_for_that(s3_settings, monkeypatch):
    client = S3Client(s3_settings)

    def failing(**_parameters):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(client._client, "put_object", failing)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        client.call("put_object", "key", Body=b"x")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The S3 store against a real server, and against made-up ones for the faults that a real one does not have."""

from __future__ import annotations

import os
import random
import re
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
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
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import iso, parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Copy
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Settings, S3Store

MIB = 1024 * 1024
NAME = "eternia_backup_20261122_220000.db"
CLAIM = "eternia_backup.host.json"
SMALL, LARGE = 100_000, 40 * MIB


def backup(folder, size=SMALL, name=NAME, seed=0, algorithm="sha256"):
    """A file of `size` bytes that `seed` tells from others, and its manifest."""
    path = folder / name
    path.write_bytes(random.Random(seed).randbytes(min(size, MIB)) * (size // MIB) or random.Random(seed).randbytes(size))
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
    store.claim("staging", "web1")
    return store


def keys(client, settings):
    """What lies under the prefix, by plain boto3, without the claim."""
    listed = client.list_objects_v2(Bucket=settings.bucket, Prefix=settings.prefix + "/").get("Contents", ())
    return [key for key in (entry["Key"][len(settings.prefix) + 1 :] for entry in listed) if key != CLAIM]


def bytes_at(client, settings, name=NAME):
    return client.get_object(Bucket=settings.bucket, Key=f"{settings.prefix}/{name}")["Body"].read()


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


# --- putting and getting

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

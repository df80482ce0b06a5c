# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same promises on every kind of store; where one cannot keep a promise, that is said."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import digest
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    DamagedError,
    NameTakenError,
    StoreError,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.manifest import Manifest, Verified
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import iso, parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.promises import KEPT, NOT_KEPT, UNKNOWN
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_lock import Lock
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_objects import Objects
from ansible_collections.eternia.backup.tests.unit.command_line import Host

MIB = 1024 * 1024
PART = 16 * MIB
FIRST, SECOND = parse("eternia_backup_20261122_220000.db"), parse("eternia_backup_20261122_230000.db")
WEB1 = Owner("staging", "web1", "/backups")
# Whole, and in parts.
SMALL, LARGE = 100_000, PART + 12_345


def backup(folder, name, data):
    path = folder / str(name)
    path.write_bytes(data)
    content, stored = digest.of_file(path, digest.preferred_algorithm())
    verified = Verified("quick", iso(name.created_at))
    return path, Manifest(str(name), name.kind, "staging", "web1", iso(name.created_at), {}, content, stored, verified)


def some(size, seed=0):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def store(backend):
    found = S3Store(backend.settings)
    found.claim(WEB1)
    return found


def lies_there(backend, name):
    key = f"{backend.settings.prefix}/{name}"
    return backend.client.get_object(Bucket=backend.settings.bucket, Key=key)["Body"].read()


def names_there(backend):
    listed = backend.client.list_objects_v2(Bucket=backend.settings.bucket, Prefix=f"{backend.settings.prefix}/")
    return {entry["Key"].rsplit("/", 1)[1] for entry in listed.get("Contents", ())}


def only(store):
    (copy,) = store.copies()
    return copy


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_is_put_is_listed_proven_and_comes_back(tmp_path, backend, store, size):
    data = some(size)
    path, manifest = backup(tmp_path, FIRST, data)
    transfer = store.put(path, manifest)
    assert transfer.create_only is backend.keeps("create-only")
    # A store that takes anything is not believed: what was sent is read back.
    assert transfer.check.startswith("read back") is not backend.keeps("checksums")
    assert lies_there(backend, FIRST) == data
    copy = only(store)
    assert (copy.name, copy.bytes, copy.verified) == (FIRST, size, True)
    assert store.manifest(FIRST).stored == manifest.stored
    store.prove(copy)
    store.fetch(copy, tmp_path / "back", lambda _count: None)
    assert (tmp_path / "back").read_bytes() == data
    assert store.put(path, manifest).bytes_sent == 0


def test_the_manifest_comes_last(tmp_path, backend, store, monkeypatch):
    """Whoever looks in between sees a backup that is not verified."""
    path, manifest = backup(tmp_path, FIRST, some(LARGE))
    seen = []
    created = Objects.created

    def look(objects, name, *arguments):
        assert name == f"{FIRST}.manifest.json"
        seen.append((names_there(backend), only(store).verified))
        return created(objects, name, *arguments)

    monkeypatch.setattr(Objects, "created", look)
    store.put(path, manifest)
    assert seen == [({str(FIRST), "eternia_backup.host.json"}, False)]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_nothing_is_ever_overwritten(tmp_path, backend, store, size):
    theirs = some(size, seed=1)
    key = f"{backend.settings.prefix}/{FIRST}"
    backend.client.put_object(Bucket=backend.settings.bucket, Key=key, Body=theirs)
    path, manifest = backup(tmp_path, FIRST, some(size))
    with pytest.raises(NameTakenError, match="Nothing was overwritten"):
        store.put(path, manifest)
    assert lies_there(backend, FIRST) == theirs
    assert only(store).verified is False


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_other_bytes_under_the_name_are_noticed(tmp_path, backend, store, size):
    path, manifest = backup(tmp_path, FIRST, some(size))
    store.put(path, manifest)
    key = f"{backend.settings.prefix}/{FIRST}"
    backend.client.put_object(Bucket=backend.settings.bucket, Key=key, Body=some(size, seed=1))
    with pytest.raises(DamagedError, match="is damaged"):
        store.prove(only(store))


def test_of_a_second_backup_what_changed_travels_or_all_of_it(tmp_path, backend, store):
    before = bytearray(some(LARGE))
    path, manifest = backup(tmp_path, FIRST, bytes(before))
    store.put(path, manifest)
    before[-1] ^= 1
    path, manifest = backup(tmp_path, SECOND, bytes(before))
    transfer = store.put(path, manifest, base=FIRST)
    if backend.copies_parts:
        assert (transfer.bytes_sent, transfer.bytes_copied) == (LARGE - PART, PART)
    else:
        # It says that it copies, and what comes of it is not what was wanted: all is sent once more.
        assert (transfer.bytes_sent, transfer.bytes_copied) == (LARGE + LARGE - PART, 0)
    assert lies_there(backend, SECOND) == bytes(before)


def test_what_is_to_be_locked_is_locked_or_not_sent(tmp_path, backend):
    store = S3Store(replace(backend.settings, object_lock_days=2))
    path, manifest = backup(tmp_path, FIRST, some(SMALL))
    until = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=2)
    if backend.keeps("object lock") and "object lock" not in backend.unknown:
        store.claim(WEB1)
        store.put(path, manifest, lock_until=until)
        assert store.lock_of(FIRST) == Lock(until, "COMPLIANCE")
    else:
        with pytest.raises(StoreError, match=r"has no Object Lock, and cloud_backup\.object_lock_days is 2"):
            store.claim(WEB1)
        assert names_there(backend) == set()


def test_what_is_removed_is_gone_and_the_rest_stays(tmp_path, backend, store):
    for name in (FIRST, SECOND):
        path, manifest = backup(tmp_path, name, some(SMALL))
        store.put(path, manifest)
    assert list(store.remove([FIRST])) == [FIRST]
    assert only(store).name == SECOND
    assert names_there(backend) == {str(SECOND), f"{SECOND}.manifest.json", "eternia_backup.host.json"}


def test_what_it_cannot_keep_is_said(tmp_path, backend, capsys):
    """At set-up by check-store, and from then on by status."""
    settings = backend.settings
    cloud = {"enabled": True, "bucket": settings.bucket, "prefix": settings.prefix}
    cloud.update(credentials_file=str(settings.credentials_file), region="us-east-1")
    if settings.endpoint_url:
        cloud["endpoint_url"] = settings.endpoint_url
    host = Host(tmp_path, capsys, cloud_backup=cloud)
    code, out, err = host.type("check-store", "--json")
    found = json.loads(out)
    verdicts = {one["promise"]: one["verdict"] for one in found["findings"]}
    assert {name for name, verdict in verdicts.items() if verdict == NOT_KEPT} == backend.not_kept
    assert {name for name, verdict in verdicts.items() if verdict == UNKNOWN} == backend.unknown
    broken = {one["promise"] for one in found["findings"] if one["needed"]} & backend.not_kept
    assert (code, err) == (1 if broken else 0, "")
    # Nothing stays that could be seen, and nothing was ever taken for a backup.
    assert names_there(backend) == set()
    host.back_up()
    _code, out, _err = host.type("status")
    told = re.search("^  promises  (.*) \\(check-store", out, re.M)[1]
    assert set(re.split("; |, |: ", told)) - {NOT_KEPT, UNKNOWN} == {
        promise for promise, verdict in verdicts.items() if verdict != KEPT
    }
    assert ("WARNING" in out) is bool(broken)
    assert (host.backups / "store-check.json").stat().st_mode & 0o777 == 0o600


def test_the_check_is_of_the_store_that_is_configured_now(tmp_path, backend, capsys):
    settings = backend.settings
    cloud = {"enabled": True, "bucket": settings.bucket, "prefix": settings.prefix, "region": "us-east-1"}
    cloud.update(credentials_file=str(settings.credentials_file), endpoint_url=settings.endpoint_url)
    host = Host(tmp_path, capsys, cloud_backup=cloud)
    host.type("check-store")
    assert "nobody has tried" not in host.type("status")[1]
    host.configure(backup={"cloud_backup": {**cloud, "prefix": "elsewhere"}})
    assert "nobody has tried what s3 keeps: eternia-backup check-store" in host.type("status")[1]

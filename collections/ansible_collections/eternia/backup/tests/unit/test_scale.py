# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ninety days of hours of one host in a real store, and other hosts beside it: what is asked of the store, counted.

The benchmark `200 hosts in one bucket` does the same with more hosts, and measures memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, names, prune, status
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import BackupName
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.tests.unit.builders import NOON, SetClock, configuration, database
from ansible_collections.eternia.backup.tests.unit.conftest import BUCKET
from botocore.httpsession import URLLib3Session

HOURS = 90 * 24
# 1,000 keys come with each request.
PAGES = -(-2 * HOURS // 1000)
# Enough of them to need a page more, whichever of their prefixes is listed too.
OTHERS = PAGES * 1000 - 2 * HOURS + 1


def hours_ago(hours: int) -> BackupName:
    return BackupName(NOON - timedelta(hours=hours), names.DATABASE)


@pytest.fixture(scope="module")
def fleet(object_store, prefixes, tmp_path_factory):
    """A host whose newest backup is a real one, and the earlier ones are its likes; and objects of others beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", object_store.admin[0])
        patch.setenv("AWS_SECRET_ACCESS_KEY", object_store.admin[1])
        base, prefix = tmp_path_factory.mktemp("fleet"), f"{next(prefixes)}/prod"
        database(base / "data" / "eternia.db", rows=1)
        cloud = {"enabled": True, "bucket": BUCKET, "prefix": prefix, "endpoint_url": object_store.endpoint}
        config = configuration(base, retention_days=30, cloud_backup={**cloud, "region": "us-east-1"})
        taken = backup.run(config, clock=SetClock().clock())
        newest, words = hours_ago(0), taken.manifest.to_json()
        data = (config.storage_path / str(newest)).read_bytes()
        bodies = {}
        for hours in range(1, HOURS):
            name = hours_ago(hours)
            like = words.replace(str(newest).encode(), str(name).encode())
            bodies[str(name)] = data
            bodies[f"{name}.manifest.json"] = like.replace(
                names.iso(NOON).encode(), names.iso(name.created_at).encode()
            )
        for name, body in bodies.items():
            (config.storage_path / name).write_bytes(body)
        objects = {f"{prefix}/{name}": body for name, body in bodies.items()}
        for others in (f"{prefix}2", f"{prefix}/eternia_web2"):
            objects.update({f"{others}/{hours_ago(hours)}": b"theirs" for hours in range(OTHERS)})
        client = object_store.client()
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=objects[key]), objects))
    return config


@pytest.fixture
def host(fleet, object_store, credentials_file):
    return replace(fleet, cloud=replace(fleet.cloud, credentials_file=credentials_file(object_store.admin)))


@contextmanager
def counted(config) -> Iterator[dict[str, int]]:
    """What is asked of S3: how many listings, and how many objects by the ends of their names."""
    asked: dict[str, int] = {}
    one_at_a_time = threading.Lock()
    send = URLLib3Session.send

    def counting(session, request):
        address = urlsplit(request.url)
        if "list-type" in address.query:
            assert parse_qs(address.query)["prefix"] == [f"{config.cloud.prefix}/eternia_"]
            what = "listings"
        elif address.query == "versioning":
            what = "versioning"
        else:
            what = unquote(address.path).rpartition("/")[2].partition(".")[2]
        # Manifests are asked for by several threads.
        with one_at_a_time:
            asked[what] = asked.get(what, 0) + 1
        return send(session, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(URLLib3Session, "send", counting)
        yield asked


def test_status_asks_for_the_pages_of_its_own_prefix_alone(host):
    with counted(host) as asked:
        found = status.read(host, now=NOON)
    # The newest one's manifest, to see that it is whole.
    assert asked == {"listings": PAGES, "host.json": 1, "db.manifest.json": 1, "versioning": 1}
    assert found.unlisted == {}
    assert len(found.backups) == HOURS
    assert {copy.store for copy in found.backups[-1].copies} == {"local", "s3"}


def test_the_plan_of_pruning_reads_no_more_than_what_always_stays(host):
    with counted(host) as asked:
        planned = prune.plan(host, now=NOON)
    # The newest one's manifest, to see that it is whole; again, to prove its bytes; those of the two that always stay.
    # And whether what goes stays behind in a bucket that keeps versions.
    assert asked == {"listings": PAGES, "host.json": 1, "db": 1, "db.manifest.json": 2 + 2, "versioning": 1}
    assert len(planned.verdicts) == 2 * HOURS
    for store in ("local", "s3"):
        gone = [one.decision.copy.name for one in planned.removed if one.store == store]
        assert gone == [hours_ago(hours) for hours in range(HOURS - 1, 30 * 24, -1)]


def test_every_manifest_is_read_once_where_that_is_asked_for(host):
    with counted(host) as asked:
        found = status.read(host, now=NOON, verify="manifest")
    assert asked == {"listings": PAGES, "host.json": 1, "db.manifest.json": HOURS, "versioning": 1}
    assert all(copy.verified and copy.problem is None for one in found.backups for copy in one.copies)
    assert [one.name for one in found.backups] == [str(hours_ago(hours)) for hours in range(HOURS)]


def test_the_plan_of_a_backup_asks_for_them_once(host):
    with counted(host) as asked:
        planned = backup.plan(host, clock=SetClock(NOON + timedelta(minutes=1)).clock())
    assert asked == {"listings": PAGES, "host.json": 1}
    assert list(planned.transfers) == [planned.name]


def test_manifests_are_read_some_at_a_time(host, monkeypatch):
    """In S3 each takes a while to come."""
    manifest, together = LocalStore.manifest, threading.Barrier(8, timeout=60)

    def waiting(store, name):
        together.wait()
        return manifest(store, name)

    monkeypatch.setattr(LocalStore, "manifest", waiting)
    found = status.read(replace(host, cloud=None), now=NOON, verify="manifest")
    assert [one.status for one in found.backups] == ["verified"] * HOURS

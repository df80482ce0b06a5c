# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status: what can be read is told, and of what cannot it is told why."""

from __future__ import annotations

import errno
import io
import os
import shutil
import socket
from dataclasses import replace
from datetime import timedelta

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, health, status
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import NotFoundError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.tests.unit.builders import NOON, SetClock, configuration, database, tree

FIRST = "eternia_backup_20261122_120000.db"


@pytest.fixture
def config(tmp_path):
    """A host with one backup on its disk."""
    database(tmp_path / "data" / "eternia.db")
    config = configuration(tmp_path)
    backup.run(config, clock=SetClock().clock())
    return config


def test_a_store_that_cannot_be_reached_is_named_and_the_other_is_told(config, s3_settings):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    found = status.read(replace(config, cloud=replace(s3_settings, endpoint_url=endpoint)), now=NOON, verify="full")
    assert set(found.unlisted) == {"s3"}
    assert f"no whole answer from {endpoint}" in found.unlisted["s3"]
    assert (found.newest_verified, found.stale) == (FIRST, False)


@pytest.mark.parametrize("level", ["none", "newest", "manifest", "full"])
@pytest.mark.parametrize("name", [FIRST, "eternia_backup_20261122_140000.db"], ids=["the oldest", "the newest"])
def test_what_was_overwritten_in_s3_shows_at_any_level(config, s3_settings, object_store, name, level):
    config = replace(config, cloud=s3_settings)
    for hours in (1, 2):
        backup.run(config, clock=SetClock(NOON + timedelta(hours=hours)).clock())
    now = NOON + timedelta(hours=3)
    assert health.level(health.troubles(config, status.read(config, now=now), now)) == health.Level.OK
    size, body = (config.storage_path / name).stat().st_size, b"" if level == "none" else b"8 bytes."
    object_store.client().put_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{name}", Body=body)
    (trouble,) = health.troubles(config, status.read(config, now=now, verify=level), now)
    assert trouble.level == health.Level.CRITICAL
    assert trouble.message.startswith(
        "1 backup of other sizes in one store than in another, so that one of them was dam"
    )
    assert f"{name} has {size} bytes in local, {len(body)} bytes in s3. Find out which" in trouble.message


def test_what_is_gone_or_of_another_program_is_of_no_other_size(config, s3_settings, object_store):
    config = replace(config, cloud=s3_settings, legacy_paths=(config.storage_path.parent / "legacy",))
    for hours in (1, 2):
        backup.run(config, clock=SetClock(NOON + timedelta(hours=hours)).clock())
    config.legacy_paths[0].mkdir()
    (config.legacy_paths[0] / FIRST).write_bytes(b"of the manager before")
    object_store.client().delete_object(Bucket=s3_settings.bucket, Key=f"{s3_settings.prefix}/{FIRST}")
    now = NOON + timedelta(hours=3)
    told = [trouble.message for trouble in health.troubles(config, status.read(config, now=now), now)]
    assert not any("of other sizes" in message for message in told), told


def test_another_hosts_prefix_is_no_comfort(config, s3_settings):
    config = replace(config, cloud=s3_settings)
    backup.run(config, clock=SetClock().clock())
    elsewhere = replace(config, host="web2", storage_path=config.storage_path / "web2")
    found = status.read(elsewhere, now=NOON + timedelta(minutes=1))
    assert "belongs to host web1 (environment staging, " in found.unlisted["s3"]
    assert "this is host web2 (environment staging, " in found.unlisted["s3"]
    assert (set(found.unlisted), found.backups) == ({"s3"}, ())


def test_what_local_lacks_is_known_while_it_has_something_older(config, s3_settings):
    config = replace(config, cloud=s3_settings)
    for hours in (1, 2):
        backup.run(config, clock=SetClock(NOON + timedelta(hours=hours)).clock())

    def missing():
        return {store.name: store.missing for store in status.read(config, now=NOON + timedelta(hours=4)).stores}

    assert missing() == {"local": 0, "s3": 0}
    (config.storage_path / "eternia_backup_20261122_130000.db").unlink()
    assert missing() == {"local": 1, "s3": 0}
    # A disk that was emptied cannot be told from a new one.
    shutil.rmtree(config.storage_path)
    assert missing() == {"local": 0, "s3": 0}
    backup.run(config, clock=SetClock(NOON + timedelta(hours=3)).clock())
    assert missing() == {"local": 0, "s3": 0}


def test_a_storage_path_that_cannot_be_listed_is_named(tmp_path):
    config = configuration(tmp_path, storage_path="kept")
    config.storage_path.write_text("mine")
    found = status.read(config, now=NOON)
    assert found.unlisted == {
        "local": f"{config.storage_path} cannot be listed: not a directory. Correct storage_path, or the rights on it."
    }
    assert (found.backups, found.newest_verified, found.age_seconds, found.stale) == ((), None, None, True)


def test_where_nothing_was_ever_backed_up_nothing_is_unreachable(tmp_path):
    found = status.read(configuration(tmp_path), now=NOON)
    assert (found.enabled, found.unlisted, found.stale) == (True, {}, True)
    assert found.last_run == "no run has succeeded here yet"
    assert list(tmp_path.iterdir()) == []


def test_it_says_whether_backups_are_switched_on(tmp_path):
    assert status.read(configuration(tmp_path, enabled=False), now=NOON).enabled is False


def test_it_says_why_the_last_run_is_no_ground_for_trust(config):
    assert status.read(config, now=NOON).last_run is None
    config.database_path.unlink()
    with pytest.raises(backup.RunFailedError) as failed:
        backup.run(config, clock=SetClock(NOON + timedelta(hours=1)).clock())
    before = tree(config.storage_path)
    found = status.read(config, now=NOON)
    assert found.last_run == f"the run of 2026-11-22T13:00:00Z failed: {failed.value}"
    # The backup of before is as good as it was.
    assert (found.newest_verified, found.stale) == (FIRST, False)
    (config.storage_path / "last-run.json").write_text("{")
    assert "cannot be read" in status.read(config, now=NOON).last_run
    (config.storage_path / "last-run.json").write_bytes(before[str(config.storage_path / "last-run.json")][3])
    assert {path for path, facts in tree(config.storage_path).items() if facts[3:] != before[path][3:]} == set()


class BrokenDisk(io.RawIOBase):
    def readable(self):
        return True

    def readinto(self, buffer):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_disk_that_cannot_read_is_a_damaged_backup(config, monkeypatch):
    monkeypatch.setattr(LocalStore, "open", lambda *_: BrokenDisk())
    found = status.read(config, now=NOON, verify="full")
    [one] = found.backups
    assert (one.status, found.newest_verified) == ("damaged", None)
    path = config.storage_path / FIRST
    message = f"{path} cannot be read: input/output error. Choose another backup, and look at the disk."
    assert one.copies[0].problem == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkdir, r"is not a file\. Look at it; nothing of ours makes such a thing"),
        (os.mkfifo, r"is not a file\. Look at it"),
        (lambda path: os.symlink("/etc/passwd", path), r"cannot be read: too many levels of symbolic links"),
        (lambda path: None, r"does not exist\. Choose another backup"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".manifest.json"])
def test_what_has_our_name_and_is_no_file_is_not_read(config, make, message, suffix):
    path = config.storage_path / f"{FIRST}{suffix}"
    path.unlink()
    make(path)
    store = LocalStore(config.storage_path)
    read = store.manifest if suffix else store.open
    with pytest.raises(StoreError, match=rf"^{path} {message}") as refused:
        read(parse(FIRST))
    assert isinstance(refused.value, NotFoundError) == ("does not exist" in message)
    # Nor does a listing or a check stumble over it.
    [one] = status.read(config, now=NOON, verify="full").backups or [None]
    assert one is None or one.status == ("legacy" if suffix else "damaged")


def test_a_fresh_backup_of_the_state_is_no_comfort_to_a_host_that_lost_its_database(config):
    config.database_path.unlink()
    config.state_path.parent.mkdir()
    config.state_path.write_text('{"agents": [1]}')
    backup.run(replace(config, source="state"), clock=SetClock(NOON + timedelta(days=7)).clock())
    found = status.read(config, now=NOON + timedelta(days=7))
    assert (found.newest_verified, found.age_seconds, found.stale) == (FIRST, 7 * 86400, True)
    # Who protects the state is content with it.
    found = status.read(replace(config, source="state"), now=NOON + timedelta(days=7))
    assert (found.newest_verified, found.stale) == ("eternia_state_20261129_120000.json", False)


def test_what_is_told_of_the_application_is_of_the_source_that_a_run_would_take(config, tmp_path):
    config.state_path.parent.mkdir()
    config.state_path.write_text("{}")
    config.database_path.unlink()
    config.storage_path.rename(tmp_path / "data" / "backups")
    told = status.live(config)
    assert (told["kind"], told["path"], told["exists"]) == ("database", str(config.database_path), False)
    assert "does not exist. If it was lost, restore it" in told["problem"]


def test_where_it_cannot_be_known_what_the_source_is_it_is_told_why(config, s3_settings, tmp_path):
    config.state_path.parent.mkdir()
    config.state_path.write_text("{}")
    config.database_path.unlink()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    cloud = replace(s3_settings, endpoint_url=endpoint)
    told = status.live(replace(config, storage_path=tmp_path / "new", cloud=cloud))
    assert told["exists"] is False
    assert told["problem"].endswith(" If this host never had a database, set source to state.")

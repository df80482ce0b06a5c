# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore from S3 need not fetch: parts that lie on the host already, and what came before it was cut off."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    digest,
    download,
    nearby,
    parts,
    restore,
    staging,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine import target as target_
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import EngineError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE
from ansible_collections.eternia.backup.plugins.module_utils.engine.parts import Part
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores import s3_upload
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.tests.unit.builders import clock, configuration, in_child

# As small as the tests are quick with; a real store takes no such parts.
PART = 1 << 18
FIRST, SECOND = "eternia_backup_20261122_120000.db", "eternia_backup_20261122_130000.db"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "SMALLEST", PART)
    monkeypatch.setattr(s3_upload, "travelling", lambda manifest: [(Part(1, 0, manifest.stored.bytes), range(1))])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A database of some parts, none of which is like another."""
    path = tmp_path_factory.mktemp("large") / "eternia.db"
    chance = random.Random(5)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE memories (id INTEGER PRIMARY KEY, description BLOB)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO memories (description) VALUES (?)", ((chance.randbytes(1 << 12),) for _row in range(250))
        )
        connection.execute("COMMIT")
    assert 4 * PART < path.stat().st_size < 5 * PART
    return path


@pytest.fixture(params=["none", "zstd"])
def lost(request, tmp_path, s3_settings, large):
    """A host whose backup lies in S3 alone, and whose data are gone."""
    config = replace(configuration(tmp_path, compression=request.param), cloud=s3_settings)
    config.database_path.parent.mkdir()
    shutil.copy(large, config.database_path)
    backup.run(config, clock=clock(0))
    for path in config.storage_path.glob("eternia_backup_2*"):
        path.unlink()
    config.database_path.unlink()
    return config


def name(config, plain=FIRST):
    return plain + (".zst" if config.compression == "zstd" else "")


def run(config, act=restore.run, wanted=FIRST):
    return act(config, Request(name(config, wanted)), clock=clock(24))


def stored(config, *places):
    """How many bytes those parts of the backup in S3 are."""
    manifest = S3Store(config.cloud).manifest(next(S3Store(config.cloud).copies()).name)
    total = manifest.content.bytes
    sizes = manifest.stored.frames or [min(PART, total - at) for at in range(0, total, PART)]
    return sum(sizes[place] for place in places)


def spoil(path, *offsets):
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(b"spoiled")


def is_back(config, large):
    assert config.database_path.read_bytes() == large.read_bytes()
    assert [path.name for path in config.database_path.parent.iterdir()] == ["eternia.db"]
    return True


def test_nothing_is_nearby_and_all_of_it_is_fetched(lost, large):
    assert run(lost).bytes_fetched == stored(lost, 0, 1, 2, 3, 4)
    assert is_back(lost, large)


def test_a_damaged_database_has_what_is_not_damaged(lost, large):
    shutil.copy(large, lost.database_path)
    spoil(lost.database_path, PART + 5, 4 * PART + 9)
    outcome = run(lost)
    assert (outcome.store, outcome.bytes_fetched) == ("s3", stored(lost, 1, 4))
    assert is_back(lost, large)


def test_a_database_that_became_shorter_has_its_beginning(lost, large):
    shutil.copy(large, lost.database_path)
    os.truncate(lost.database_path, 2 * PART + 100)
    assert run(lost).bytes_fetched == stored(lost, 2, 3, 4)
    assert is_back(lost, large)


def test_a_backup_of_another_hour_has_what_did_not_change_since(lost, large):
    shutil.copy(large, lost.database_path)
    with closing(sqlite3.connect(lost.database_path, isolation_level=None)) as connection:
        connection.execute("UPDATE memories SET description = zeroblob(1 << 12) WHERE id = 70")
    backup.run(replace(lost, cloud=None), clock=clock(1))
    lost.database_path.unlink()
    # The first page tells of every transaction, and row 70 lies in the second part.
    assert run(lost).bytes_fetched == stored(lost, 0, 1)
    assert is_back(lost, large)


def test_a_backup_that_holds_other_bytes_than_it_says_gives_none(lost, large):
    shutil.copy(large, lost.database_path)
    found = backup.run(replace(lost, cloud=None), clock=clock(1))
    lost.database_path.unlink()
    spoil(lost.storage_path / str(found.name), 5, (stored(lost, 0) + 9))
    assert run(lost).bytes_fetched == stored(lost, 0, 1)
    assert is_back(lost, large)


def test_a_local_copy_that_is_damaged_is_mended_from_s3(lost, large):
    shutil.copy(large, lost.database_path)
    backup.run(replace(lost, cloud=None), clock=clock(0))
    lost.database_path.unlink()
    spoil(lost.storage_path / name(lost), stored(lost, 0) + 5000)
    outcome = run(lost)
    # All of the local copy, and then from S3 what of it was not what it should be: a frame that is damaged is not even
    # made plain, and no other of its file then.
    mended = stored(lost, 1) if lost.compression == "none" else outcome.bytes_fetched - stored(lost, 0, 1, 2, 3, 4)
    assert (outcome.store, outcome.bytes_fetched) == ("s3", stored(lost, 0, 1, 2, 3, 4) + mended)
    assert 0 < mended < stored(lost, 0, 1, 2, 3, 4)
    assert is_back(lost, large)


def test_a_manifest_that_is_wrong_about_a_part_costs_a_second_fetch_and_nothing_else(lost, large, object_store):
    shutil.copy(large, lost.database_path)
    spoil(lost.database_path, 5)
    place = {"Bucket": lost.cloud.bucket, "Key": f"{lost.cloud.prefix}/{name(lost)}.manifest.json"}
    manifest = json.loads(object_store.client().get_object(**place)["Body"].read())
    content = manifest["content"]
    raw = lost.database_path.read_bytes()[:PART]
    content["parts"]["digests"][0] = digest.of_bytes(raw, content["digest"]["algorithm"])
    object_store.client().put_object(**place, Body=json.dumps(manifest).encode())
    outcome = run(lost)
    assert any(warning.endswith("All of it is fetched.") for warning in outcome.warnings)
    assert is_back(lost, large)


@pytest.fixture
def killed(lost):
    """The staging of a restore that died when most of it had come."""
    came = []

    def die(count):
        came.append(count)
        # So many come side by side: one at least is whole when another has begun.
        if sum(came) > stored(lost, 0, 1, 2, 3):
            os.kill(os.getpid(), signal.SIGKILL)

    def child():
        restore.run(lost, Request(name(lost)), clock=clock(24), progress=die)

    assert in_child(child) == -signal.SIGKILL
    place = target_.of(lost, DATABASE).staging
    assert (place / (name(lost) if lost.compression == "zstd" else "eternia.db")).exists()
    return place


def test_after_a_kill_only_the_rest_is_fetched(lost, large, killed):
    assert run(lost).bytes_fetched <= stored(lost, 0, 1, 2, 3, 4) - min(stored(lost, place) for place in range(5))
    assert is_back(lost, large)


def test_what_was_left_and_then_spoiled_is_fetched(lost, large, killed):
    for path in killed.iterdir():
        spoil(path, *range(0, path.stat().st_size, 1 << 14))
    assert run(lost).bytes_fetched == stored(lost, 0, 1, 2, 3, 4)
    assert is_back(lost, large)


def test_what_was_left_waits_for_a_day_and_then_goes_with_a_backup(lost, large, killed):
    shutil.copy(large, lost.database_path)
    backup.run(lost, clock=clock(2))
    assert killed.exists()
    for path in killed.iterdir():
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 25 * 3600))
    backup.run(lost, clock=clock(3))
    assert not killed.exists()


@pytest.mark.parametrize("act", ["link", "hard link", "everybody's"])
def test_what_somebody_else_could_have_left_is_not_written_to(lost, large, killed, tmp_path, act):
    (left,) = [path for path in killed.iterdir() if path.name == "eternia.db"] or killed.iterdir()
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    if act == "everybody's":
        killed.chmod(0o777)
    else:
        left.unlink()
        left.symlink_to(precious) if act == "link" else os.link(precious, left)
    run(lost)
    assert is_back(lost, large)
    assert precious.read_bytes() == b"precious"


def test_after_a_cut_the_message_says_so_and_a_staged_restore_goes_on(lost, large, monkeypatch):
    fetch = S3Store.fetch_parts

    def cut(store, copy, target, parts_, progress):
        fetch(store, copy, target, parts_[:3], progress)
        raise StoreError("The line is cut. Mend it.")

    message = r"Mend it\. What came of it lies in .*restore; the same restore, within a day, fetches only the rest"
    with monkeypatch.context() as patched:
        patched.setattr(S3Store, "fetch_parts", cut)
        with pytest.raises(StoreError, match=message):
            run(lost)
    staged = run(lost, restore.stage)
    assert (staged.staged, staged.bytes_fetched) == (True, stored(lost, 3, 4))
    assert run(lost).bytes_fetched == 0
    assert is_back(lost, large)


def test_a_download_goes_on_too(lost, large, tmp_path, monkeypatch):
    fetch = S3Store.fetch_parts

    def die(store, copy, target, parts_, progress):
        fetch(store, copy, target, parts_[:3], progress)
        os.kill(os.getpid(), signal.SIGKILL)

    def bring():
        return download.run(lost, name(lost), directory=tmp_path, clock=clock(24))

    with monkeypatch.context() as patched:
        patched.setattr(S3Store, "fetch_parts", die)
        assert in_child(bring) == -signal.SIGKILL
    assert bring().bytes_fetched == stored(lost, 3, 4)
    assert (tmp_path / FIRST).read_bytes() == large.read_bytes()
    assert not (tmp_path / f".{FIRST}.restore").exists()


def test_nothing_is_kept_of_a_staging_but_what_may_be_gone_on_with(tmp_path):
    target = target_.of(configuration(tmp_path), DATABASE)
    target.real.parent.mkdir()
    target.staging.mkdir(mode=0o700)
    for left in ("eternia.db", "staged.json", "eternia.db-wal"):
        (target.staging / left).write_bytes(b"left")
    with staging.arriving(target, {"eternia.db"}) as place:
        assert os.pread(place.descriptor("eternia.db"), 10, 0) == b"left"
    assert sorted(path.name for path in target.staging.iterdir()) == ["arriving", "eternia.db"]
    (target.staging / "tried").mkdir()
    with staging.arriving(target, {"eternia.db"}) as place:
        assert place.bytes == 0
    staging.prepare(target)
    assert list(target.staging.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whom the owner of a directory may lead astray")
def test_the_owner_of_the_directory_leads_root_nowhere_else(lost, large, killed, tmp_path, monkeypatch):
    """He puts a link to a directory of root's where the staging was, while parts come."""
    precious = tmp_path / "precious"
    precious.mkdir()
    for name_ in ("eternia.db", "staged.json", name(lost)):
        (precious / name_).write_bytes(b"precious")
    fetch = S3Store.fetch_parts

    def exchange(store, copy, target, parts_, progress):
        killed.rename(tmp_path / "away")
        killed.symlink_to(precious)
        fetch(store, copy, target, parts_, progress)

    monkeypatch.setattr(S3Store, "fetch_parts", exchange)
    with pytest.raises(EngineError):
        run(lost)
    assert {path.read_bytes() for path in precious.iterdir()} == {b"precious"}
    assert len(list(precious.iterdir())) == len({"eternia.db", "staged.json", name(lost)})


def test_a_disk_that_fails_is_not_asked_again(lost, large, monkeypatch):
    shutil.copy(large, lost.database_path)
    os.truncate(lost.database_path, 4 * PART)
    pread, asked = os.pread, []

    def fail(descriptor, count, offset):
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == str(lost.database_path) and count == PART:
            asked.append(offset)
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, count, offset)

    monkeypatch.setattr(nearby, "in_order", map)
    monkeypatch.setattr(os, "pread", fail)
    assert run(lost, restore.stage).bytes_fetched == stored(lost, 0, 1, 2, 3, 4)
    assert asked == [0]


def test_a_restore_does_not_keep_to_the_limit_of_the_line(lost, large):
    slow = replace(lost, cloud=replace(lost.cloud, limit_rate=64_000))
    started = time.monotonic()
    restore.run(slow, Request(name(lost)), clock=clock(24))
    assert time.monotonic() - started < large.stat().st_size / 64_000 / 2
    assert is_back(lost, large)

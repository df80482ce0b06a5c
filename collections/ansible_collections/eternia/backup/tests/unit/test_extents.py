# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What backups cost on the disk: one file for the same bytes, shared blocks where the filesystem has clones."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import closing

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, extents, prune, restore, status
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    add_rows,
    at_call,
    clock,
    configuration,
    connect,
    database,
    die,
    in_child,
    query,
)

MIB = 1024 * 1024
FIRST, SECOND, THIRD = (f"eternia_backup_20261122_{hour}0000.db" for hour in (12, 13, 14))


@pytest.fixture(params=[{}, {"compression": "zstd"}], ids=["plain", "compressed"])
def config(tmp_path, request):
    found = configuration(tmp_path, **request.param)
    database(found.database_path)
    return found


def of(config, name):
    """The file of a backup, whatever was done to its bytes."""
    (path,) = (path for path in config.storage_path.glob(f"{name}*") if ".manifest" not in path.name)
    return path


def files(config):
    """Inode and number of names of each backup, the oldest first."""
    found = sorted(path for path in config.storage_path.glob("eternia_backup_2*") if ".manifest" not in path.name)
    return [(path.stat().st_ino, path.stat().st_nlink) for path in found]


def test_the_same_bytes_are_one_file(config):
    for hours in range(3):
        backup.run(config, clock=clock(hours))
    assert len(set(files(config))) == 1
    assert files(config)[0][1] == 3
    (store,) = status.read(config, now=NOON).stores
    assert (store.kept, store.disk_bytes) == (3, of(config, FIRST).stat().st_blocks * 512)
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    backup.run(config, clock=clock(4))
    assert [links for _inode, links in files(config)] == [3, 3, 3, 1]


def test_each_goes_by_itself_and_comes_back_by_itself(config):
    for hours in range(2):
        backup.run(config, clock=clock(hours))
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    restore.run(config, restore.Request("2026-11-22T12:30:00Z"), clock=clock(2))
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(50,)]
    # What was restored is a file of its own: the application writes to it.
    assert [links for _inode, links in files(config)] == [2, 2]
    for path in config.storage_path.glob(f"{FIRST}*"):
        path.unlink()
    assert [links for _inode, links in files(config)] == [1]


def test_one_that_has_rotted_is_not_shared(config):
    backup.run(config, clock=clock())
    path = of(config, FIRST)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    taken = backup.run(config, clock=clock(1))
    assert [links for _inode, links in files(config)] == [1, 1]
    (warning,) = taken.warnings
    assert f"could not be one file with {path.name}: {path} is damaged" in warning
    assert prune.run(config, now=NOON).removed == []


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EIO])
def test_where_a_file_cannot_have_another_name_each_has_its_own(config, monkeypatch, refusal):
    backup.run(config, clock=clock())
    link = os.link

    def refuse(source, target, **keywords):
        if str(target).endswith(".linked"):
            raise OSError(refusal, os.strerror(refusal))
        link(source, target, **keywords)

    monkeypatch.setattr(os, "link", refuse)
    taken = backup.run(config, clock=clock(1))
    assert [links for _inode, links in files(config)] == [1, 1]
    assert len(taken.warnings) == (refusal == errno.EIO)


def test_killed_at_any_call_the_next_run_goes_on(tmp_path):
    config = configuration(tmp_path)
    database(config.database_path)
    backup.run(config, clock=clock())

    def killed_at(step):
        at_call(step, die)
        backup.run(config, clock=clock(step))

    step = 1
    while in_child(lambda step=step: killed_at(step)) != 0:
        step += 1
    backup.run(config, clock=clock(step + 1))
    found = status.read(config, now=NOON, verify="full").backups
    # Data comes before its manifest: what has none is listed, and is no more.
    assert {one.status for one in found} <= {"verified", "legacy"}
    assert found[0].status == "verified"
    assert step > 20


def mounted(tmp_path, kind):
    """A filesystem in a file, or the reason why there is none."""
    maker = shutil.which(f"mkfs.{kind}")
    if os.geteuid() != 0 or maker is None:
        pytest.skip(f"needs root and mkfs.{kind} (Debian: {kind}progs or {kind}-progs)")
    image, place = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(400 * MIB)
    subprocess.run([maker, "-q", str(image)], check=True, capture_output=True)
    place.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{kind} cannot be mounted here: {done.stderr.strip()}")
    return place


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_where_the_filesystem_has_clones_a_backup_costs_what_changed(tmp_path, kind):
    place = mounted(tmp_path, kind)
    try:
        config = configuration(place)
        database(config.database_path, rows=100_000)
        size = config.database_path.stat().st_size
        for hours in range(3):
            taken = backup.run(config, clock=clock(hours))
            with closing(connect(config.database_path)) as application:
                application.execute("UPDATE memories SET description = upper(description) WHERE id < 100")
        assert taken.pinned_seconds < 2
        subprocess.run(["sync", "-f", str(place)], check=True)
        (store,) = status.read(config, now=NOON).stores
        assert store.bytes == 3 * size
        assert size <= store.disk_bytes < size + 4 * MIB
        assert status.read(config, now=NOON, verify="full").backups[0].status == "verified"
        # Whoever goes on writes to blocks of his own.
        for name in (FIRST, SECOND, THIRD):
            assert query(config.storage_path / name, "PRAGMA integrity_check") == [("ok",)]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_what_is_gone_or_no_file_costs_nothing(tmp_path):
    (tmp_path / "one").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "link").symlink_to("one")
    os.sync()
    assert extents.disk_bytes([tmp_path / "none", tmp_path / "link"]) == 0
    assert extents.disk_bytes([tmp_path / "one", tmp_path / "one"]) == (tmp_path / "one").stat().st_blocks * 512 > 0

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What backups cost on the disk: as many blocks as they have, and those that clones share only once."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, extents, status
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    clock,
    configuration,
    connect,
    database,
    query,
)
from ansible_collections.eternia.backup.tests.unit.filesystems import MIB, mounted

FIRST, SECOND, THIRD = (f"eternia_backup_20261122_{hour}0000.db" for hour in (12, 13, 14))


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_where_the_filesystem_has_clones_a_backup_costs_what_changed(tmp_path, kind):
    with mounted(tmp_path, kind) as place:
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


def test_what_is_gone_or_no_file_costs_nothing(tmp_path):
    (tmp_path / "one").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "link").symlink_to("one")
    os.sync()
    assert extents.disk_bytes([tmp_path / "none", tmp_path / "link"]) == 0
    assert extents.disk_bytes([tmp_path / "one", tmp_path / "one"]) == (tmp_path / "one").stat().st_blocks * 512 > 0


def test_what_has_two_names_costs_once(tmp_path):
    (tmp_path / "one").write_bytes(bytes(range(256)) * 4096)
    os.sync()
    os.link(tmp_path / "one", tmp_path / "two")
    assert extents.disk_bytes(tmp_path.iterdir()) == (tmp_path / "one").stat().st_blocks * 512


def files_of(config):
    return {path.name: path.stat().st_ino for path in config.storage_path.glob("eternia_backup_2*.db")}


def test_backups_of_the_same_bytes_that_s3_has_too_are_one_file(tmp_path, s3_settings):
    config = replace(configuration(tmp_path), cloud=s3_settings)
    database(config.database_path)
    for hours in range(3):
        backup.run(config, clock=clock(hours))
    assert len(set(files_of(config).values())) == 1
    (local, _remote) = status.read(config, now=NOON).stores
    assert local.bytes == 3 * config.database_path.stat().st_size
    assert local.disk_bytes == os.stat(config.storage_path / FIRST).st_blocks * 512
    with closing(connect(config.database_path)) as application:
        application.execute("UPDATE memories SET description = 'another' WHERE id = 7")
    backup.run(config, clock=clock(3))
    assert len(set(files_of(config).values())) == 2

    (config.storage_path / FIRST).unlink()
    assert query(config.storage_path / SECOND, "SELECT count(*) FROM memories") == [(50,)]
    assert {one.status for one in status.read(config, now=NOON, verify="full").backups} == {"verified"}


def test_what_lies_on_the_disk_alone_shares_no_file(tmp_path):
    config = configuration(tmp_path)
    database(config.database_path)
    for hours in range(2):
        backup.run(config, clock=clock(hours))
    assert len(set(files_of(config).values())) == 2


def test_a_backup_that_is_damaged_gives_its_file_to_no_other(tmp_path, s3_settings):
    config = replace(configuration(tmp_path), cloud=s3_settings)
    database(config.database_path)
    backup.run(config, clock=clock(0))
    with (config.storage_path / FIRST).open("r+b") as file:
        file.seek(5000)
        file.write(b"rotten")
    outcome = backup.run(config, clock=clock(1))
    assert any(f"{FIRST} is damaged" in warning for warning in outcome.warnings)
    assert len(set(files_of(config).values())) == 2
    assert query(config.storage_path / SECOND, "SELECT count(*) FROM memories") == [(50,)]


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_backup_that_an_application_runs_on_gives_its_file_to_no_other(tmp_path, s3_settings, link):
    config = replace(configuration(tmp_path), cloud=s3_settings)
    database(config.database_path)
    backup.run(config, clock=clock(0))
    config.database_path.unlink()
    link(config.storage_path / FIRST, config.database_path)
    outcome = backup.run(config, clock=clock(1))
    assert any(f"The application runs on {config.storage_path / FIRST}" in one for one in outcome.warnings)
    assert len(set(files_of(config).values())) == 2


def test_a_filesystem_that_takes_no_more_names_for_a_file_costs_nothing_but_space(tmp_path, s3_settings, monkeypatch):
    config = replace(configuration(tmp_path), cloud=s3_settings)
    database(config.database_path)
    backup.run(config, clock=clock(0))
    link = os.link

    def full(source, target, **options):
        if Path(source).name == FIRST:
            raise OSError(errno.EMLINK, "Too many links")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", full)
    outcome = backup.run(config, clock=clock(1))
    assert any("too many links. It is whole, and takes a space of its own" in one for one in outcome.warnings)
    assert {one.status for one in status.read(config, now=NOON, verify="full").backups} == {"verified"}

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot where the filesystem has clones: what holds anywhere holds there, and the source is let go at once."""

from __future__ import annotations

import os
import shutil
from contextlib import closing

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import copying, files, snapshot, sqlite
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import DamagedError, StoreError
from ansible_collections.eternia.backup.tests.unit import test_snapshot as anywhere
from ansible_collections.eternia.backup.tests.unit.builders import add_rows, connect, database, query
from ansible_collections.eternia.backup.tests.unit.filesystems import mounted
from ansible_collections.eternia.backup.tests.unit.test_snapshot import as_checkpointed, assert_whole, take

# Those of the snapshot's own tests that hold on to where the bytes come from, once more on such a filesystem.
test_a_vacuum_that_truncates_the_file_below_the_log = anywhere.test_a_vacuum_that_truncates_the_file_below_the_log
test_at_rest_the_copy_is_the_file = anywhere.test_at_rest_the_copy_is_the_file
test_page_sizes_with_committed_rows_in_the_log = anywhere.test_page_sizes_with_committed_rows_in_the_log
test_snapshots_under_two_writers_are_consistent = anywhere.test_snapshots_under_two_writers_are_consistent
test_snapshots_under_writers_while_the_log_begins_again_and_again = (
    anywhere.test_snapshots_under_writers_while_the_log_begins_again_and_again
)
test_whatever_state_the_log_is_in = anywhere.test_whatever_state_the_log_is_in


@pytest.fixture(scope="module", params=["xfs", "btrfs"])
def place(request, tmp_path_factory):
    with mounted(tmp_path_factory.mktemp(request.param), request.param) as mount:
        yield mount


@pytest.fixture
def tmp_path(place):
    """Instead of pytest's own: a folder on the filesystem that has clones."""
    folder = place / "here"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_rows_are_counted_when_the_source_is_free_again(tmp_path, monkeypatch, mode):
    """Somebody who cannot write while it is held writes before the rows are counted."""
    path = database(tmp_path / "eternia.db", mode=mode)
    counted = sqlite.facts

    with closing(connect(path)) as application:
        application.execute("PRAGMA wal_autocheckpoint = 0")
        add_rows(application, 10)

        def facts(connection):
            application.execute("DELETE FROM memories WHERE id > 30")
            application.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return counted(connection)

        expected = as_checkpointed(path, tmp_path / "rest")
        monkeypatch.setattr(sqlite, "facts", facts)
        taken = take(path, tmp_path / "copy")
        monkeypatch.undo()
    assert taken.way == "reflink"
    assert (taken.facts["tables"], taken.path.read_bytes()) == ({"memories": 60}, expected)
    assert_whole(taken)
    assert query(path, "SELECT count(*) FROM memories") == [(30,)]
    assert sorted(os.listdir(tmp_path)) == ["copy", "eternia.db", "rest"]


STATES = {
    "rollback mode": ("delete", ()),
    "at rest": ("wal", None),
    "all of the log is checkpointed": ("wal", ("PRAGMA wal_checkpoint(TRUNCATE)",)),
}


@pytest.mark.parametrize(("mode", "statements"), STATES.values(), ids=STATES)
def test_a_clone_of_another_moment_is_noticed(tmp_path, monkeypatch, mode, statements):
    """The rows are counted in the clone, so something has to tie it to the source."""
    path = database(tmp_path / "eternia.db", mode=mode)
    earlier = path.read_bytes()
    clone_ = copying.clone

    def stale(source, target, size):
        cloned = clone_(source, target, size)
        os.pwrite(target, earlier[:size], 0)
        return cloned

    with closing(connect(path)) as application:
        add_rows(application, 500)
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if statements is not None:
            application.execute("UPDATE memories SET description = 'x'")
        for statement in statements or ():
            application.execute(statement)
        if statements is None:
            application.close()
        monkeypatch.setattr(copying, "clone", stale)
        with pytest.raises(StoreError, match="clone of the database is not what the database is"):
            take(path, tmp_path / "copy")


def test_where_a_second_clone_cannot_be_made_it_is_copied(tmp_path, monkeypatch):
    clone_, asked = copying.clone, []

    def once(source, target, size):
        asked.append(size)
        return len(asked) == 1 and clone_(source, target, size)

    monkeypatch.setattr(copying, "clone", once)
    path = database(tmp_path / "eternia.db")
    with closing(connect(path)) as application:
        add_rows(application, 300)
        taken = take(path, tmp_path / "copy")
        assert taken.path.read_bytes() == as_checkpointed(path, tmp_path / "rest")
    assert len(asked) == 3
    assert taken.facts["tables"] == {"memories": 350}
    assert_whole(taken)


def test_what_fails_in_staging_is_not_said_of_the_source(tmp_path, monkeypatch):
    path = database(tmp_path / "eternia.db")
    make = files.make

    def made(path, **options):
        descriptor = make(path, **options)
        if str(path).endswith(".source-wal"):
            # SQLite has no place for its index.
            os.symlink("nowhere/at/all", str(path).replace("-wal", "-shm"))
        return descriptor

    with closing(connect(path)) as application:
        add_rows(application, 300)
        monkeypatch.setattr(files, "make", made)
        with pytest.raises(
            StoreError, match=rf"copy.source, a clone of {path}, cannot be read: SQLite says .*free some"
        ):
            take(path, tmp_path / "copy")


def test_damage_is_said_of_the_source_and_not_of_its_clone(tmp_path):
    path = database(tmp_path / "eternia.db", rows=500)
    with closing(connect(path)) as application:
        add_rows(application, 1)
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(bytes([255]) * (path.stat().st_size - 4096))
        with pytest.raises(DamagedError, match=rf"^{path} is damaged: SQLite says .*restore the newest verified"):
            take(path, tmp_path / "copy")


def test_a_log_that_is_not_folded_rightly_is_noticed(tmp_path, monkeypatch):
    """The facts come of SQLite's own reading of the log, not of ours."""
    path = database(tmp_path / "eternia.db")
    monkeypatch.setattr(snapshot.clone.wal, "fold", lambda *_: None)
    with closing(connect(path)) as application:
        add_rows(application, 300)
        taken = take(path, tmp_path / "copy")
    assert taken.facts["tables"] == {"memories": 350}
    assert query(taken.path, "SELECT count(*) FROM memories") == [(50,)]

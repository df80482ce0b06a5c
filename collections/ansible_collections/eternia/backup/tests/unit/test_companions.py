# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a database without a manifest is not restored without the log or the journal that lies beside it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, download, restore
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import RefusedError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request
from ansible_collections.eternia.backup.plugins.module_utils.engine.target import Target
from ansible_collections.eternia.backup.tests.unit.builders import (
    add_rows,
    clock,
    configuration,
    connect,
    database,
    query,
    tree,
)
from ansible_collections.eternia.backup.tests.unit.situations import SITUATIONS, view

NAME, LEGACY = "eternia_backup_20261122_120000.db", "eternia_backup_20260101_000000.db"
ACTS = [restore.plan, restore.stage, restore.run]
# What is rescued, the companion that it is not whole without, and what the message says of that.
RESCUED = {
    "log": ("-wal", "what was written to it is no part of that file"),
    "hot journal": ("-journal", "that file holds half a transaction, which only this journal takes back"),
}


def rescue(directory, situation):
    """A database that a writer left as a killed one does, with all that lies beside it."""
    there = configuration(directory)
    database(there.database_path, mode=SITUATIONS[situation].mode)
    SITUATIONS[situation].make(there)
    return there.database_path


def seen(path):
    """What an application sees of a database with all that lies beside it."""
    target = Target(DATABASE, path)
    return view(target, {suffix: target.beside(suffix) for suffix in target.present()})


def run(config, wanted, act=restore.run):
    return act(config, Request(str(wanted), allow_unverified=True), clock=clock(24))


def as_advised(message, path, directory):
    """Do what the message says: copy both, and run its command there; returns the one file that comes of it."""
    directory.mkdir()
    for suffix in ("", "-wal", "-journal"):
        if os.path.lexists(f"{path}{suffix}"):
            shutil.copy(f"{path}{suffix}", directory)
    (command,) = re.findall(r"`(.+)`", message)
    if shutil.which("sqlite3"):
        done = subprocess.run(["sh", "-c", command], cwd=directory, text=True, capture_output=True, check=True)
        assert done.stdout.splitlines()[-1] == "ok"
    else:
        print("Without the sqlite3 command: Python's own SQLite runs those statements.")
        _tool, name, statements = shlex.split(command)
        with closing(connect(directory / name)) as connection:
            for statement in statements.split(";"):
                connection.execute(statement).fetchall()
    return directory / path.name


@pytest.fixture
def config(tmp_path):
    """A host with a live database of 3 rows, and a backup of it."""
    found = configuration(tmp_path / "host")
    database(found.database_path, rows=3)
    backup.run(found, clock=clock())
    return found


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("situation", RESCUED)
def test_a_copy_is_refused_that_is_not_whole_without_what_lies_beside_it(config, tmp_path, situation, act):
    path = rescue(tmp_path / "rescued", situation)
    suffix, why = RESCUED[situation]
    before = tree(config.database_path.parent)
    with pytest.raises(RefusedError) as refused:
        run(config, path, act)
    size = os.stat(f"{path}{suffix}").st_size
    assert str(refused.value) == (
        f"{path}{suffix} ({size} bytes) lies beside {path}, which has no manifest: {why}. Copy both into a directory "
        "of their own and run there `sqlite3 eternia.db 'PRAGMA wal_checkpoint(TRUNCATE); PRAGMA integrity_check'`, "
        "which makes one file of them, then restore that one."
    )
    assert tree(config.database_path.parent) == before


@pytest.mark.parametrize("situation", RESCUED)
def test_what_comes_of_the_advised_command_is_restored_with_every_row(config, tmp_path, situation):
    path = rescue(tmp_path / "rescued", situation)
    whole = seen(path)
    with pytest.raises(RefusedError) as refused:
        run(config, path)
    one = as_advised(str(refused.value), path, tmp_path / "one")
    assert run(config, one, restore.plan).changed
    assert run(config, one).changed
    assert seen(config.database_path) == whole


@pytest.mark.parametrize("situation", RESCUED)
def test_the_command_line_says_so_before_and_instead_of_the_restore(host, tmp_path, situation):
    path = rescue(tmp_path / "a rescue", situation)
    whole, before = seen(path), tree(host.live.parent)
    for words in ("--check", "--yes"):
        error = host.fail(1, "restore", path, "--allow-unverified", words)
        assert f"{path}{RESCUED[situation][0]} (" in error
        assert tree(host.live.parent) == before
    one = as_advised(error, path, tmp_path / "one")
    host.succeed("restore", one, "--allow-unverified", "--check")
    host.succeed("restore", one, "--allow-unverified", "--yes")
    assert seen(host.live) == whole


def test_the_name_in_the_command_is_quoted_for_a_shell(config, tmp_path):
    path = rescue(tmp_path / "rescued", "log")
    odd = path.with_name("it's mine.db")
    for suffix in ("", "-wal"):
        os.rename(f"{path}{suffix}", f"{odd}{suffix}")
    whole = seen(odd)
    with pytest.raises(RefusedError) as refused:
        run(config, odd)
    run(config, as_advised(str(refused.value), odd, tmp_path / "one"))
    assert seen(config.database_path) == whole


def persistent(path):
    with closing(connect(path)) as application:
        application.execute("PRAGMA journal_mode = persist")
        add_rows(application)
    assert Path(f"{path}-journal").read_bytes()[:8] == bytes(8)


def truncated(path):
    with closing(connect(path)) as application:
        application.execute("PRAGMA journal_mode = truncate")
        add_rows(application)
    assert os.stat(f"{path}-journal").st_size == 0


def emptied_log(path):
    Path(f"{path}-wal").touch()


def index(path):
    Path(f"{path}-shm").write_bytes(b"\1" * 32768)


@pytest.mark.parametrize("leave", [persistent, truncated, emptied_log, index])
def test_what_is_done_with_is_in_nobodys_way(config, tmp_path, leave):
    path = database(tmp_path / "rescued/eternia.db", mode="wal" if leave in (emptied_log, index) else "delete")
    leave(path)
    assert run(config, path, restore.plan).changed
    run(config, path)
    assert seen(config.database_path) == seen(path)


def loop(path):
    os.symlink(path, path)


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "it is a FIFO, not a file"),
        (os.mkdir, "it is a directory, not a file"),
        (lambda path: os.symlink("/dev/zero", path), "too many levels of symbolic links"),
        (loop, "too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_never_waited_for(config, tmp_path, suffix, make, words):
    path = database(tmp_path / "rescued/eternia.db")
    make(f"{path}{suffix}")
    for act in ACTS:
        with pytest.raises(StoreError) as refused:
            run(config, path, act)
        assert str(refused.value) == (
            f"{path}{suffix} cannot be read: {words}. It lies beside {path}, which may not be whole without it. Look "
            "at it; correct the rights on it, or move away what is no log of that file, then run again."
        )


def test_a_legacy_backup_is_neither_restored_nor_downloaded_without_its_log(config, tmp_path):
    (legacy,) = [one for one in config.legacy_paths if one.parent.name == "data"]
    legacy.mkdir(parents=True)
    path = rescue(tmp_path / "rescued", "log")
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", legacy / f"{LEGACY}{suffix}")
    message = rf"{LEGACY}-wal \(\d+ bytes\) lies beside {legacy}/{LEGACY}, which has no manifest"
    for wanted in (LEGACY, legacy / LEGACY):
        with pytest.raises(RefusedError, match=message):
            run(config, wanted)
    with pytest.raises(RefusedError, match=message):
        download.run(config, LEGACY, directory=tmp_path, clock=clock(24))


def test_a_log_that_comes_after_the_file_was_staged_is_not_left_out(config, tmp_path):
    path = rescue(tmp_path / "rescued", "log")
    os.rename(f"{path}-wal", tmp_path / "log")
    assert run(config, path, restore.stage).staged
    os.rename(tmp_path / "log", f"{path}-wal")
    with pytest.raises(RefusedError, match=r"-wal \(\d+ bytes\) lies beside"):
        run(config, path)
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(3,)]


def test_what_its_manifest_proves_is_whole_whatever_lies_beside_it(config, tmp_path):
    copy = tmp_path / "elsewhere" / NAME
    copy.parent.mkdir()
    for suffix in ("", ".manifest.json"):
        shutil.copyfile(config.storage_path / f"{NAME}{suffix}", f"{copy}{suffix}")
    Path(f"{copy}-wal").write_bytes(b"garbage" * 1000)
    with closing(sqlite3.connect(config.database_path)) as application:
        application.execute("DELETE FROM memories")
        application.commit()
    assert run(config, copy).manifest is not None
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(3,)]

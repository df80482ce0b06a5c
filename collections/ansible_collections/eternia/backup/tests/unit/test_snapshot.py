# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot: every kind of database and state, at rest and under writers, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    digest,
    files,
    pin,
    snapshot,
    sqlite,
    verify,
    wal,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    DamagedError,
    EngineError,
    SourceError,
    StoreError,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.manifest import Content, Digest, Parts
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE, STATE
from ansible_collections.eternia.backup.plugins.module_utils.engine.source import Source
from ansible_collections.eternia.backup.tests.unit.builders import (
    add_rows,
    connect,
    database,
    open_directory,
    process,
    query,
    unprivileged,
)

MIB = 1024 * 1024
MODES = ("wal", "delete", "truncate", "persist")
PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)

VISIT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("UPDATE memories SET description = 'visited'")
connection.commit()
connection.close()
print("ready", flush=True)
"""

HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("ready", flush=True)
time.sleep(60)
"""

# A transaction that is too large for its memory, so that it goes to the disk before its end.
UNFINISHED = ("PRAGMA cache_size = 2", "BEGIN", "UPDATE memories SET description = zeroblob(9000)")

# Moves money between accounts whose sum is 0, and adds to a counter of its own, as fast as it can.
WRITE = """
import random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("PRAGMA synchronous = OFF")
writer, number, pause = int(sys.argv[2]), 0, float(sys.argv[3])
while True:
    number += 1
    connection.execute("BEGIN IMMEDIATE")
    one, other, amount = random.randrange(100), random.randrange(100), random.randrange(1000)
    connection.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, one))
    connection.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, other))
    connection.execute("INSERT INTO entry VALUES (?, ?, zeroblob(?))", (writer, number, random.randrange(3000)))
    oldest = number - random.randrange(100, 900)
    connection.execute("DELETE FROM entry WHERE writer = ? AND number < ?", (writer, oldest))
    connection.execute("COMMIT")
    time.sleep(pause)
    if number == 20:
        print("ready", flush=True)
"""

# Not PASSIVE: in a loop beside writers that alone, without us, corrupts a database within seconds (SQLite 3.40.1).
CHECKPOINT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
print("ready", flush=True)
while True:
    try:
        connection.execute(f"PRAGMA wal_checkpoint({sys.argv[2]})").fetchall()
    except sqlite3.OperationalError as exc:
        assert "locked" in str(exc)
"""


def take(path, target, kind=DATABASE, **keywords):
    return snapshot.take(Source(kind, path), target, **keywords)


def digest_now(path, kind=DATABASE):
    return snapshot.content_digest(Source(kind, path), "sha256").value


def rehearse(path, kind=DATABASE, **keywords):
    return snapshot.rehearse(Source(kind, path), path.parent, **keywords)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_whole(taken):
    """What SQLite and the facts say about a copy."""
    assert query(taken.path, "PRAGMA integrity_check") == [("ok",)]
    verify.check(taken.path, DATABASE, "full")
    verify.same_facts(taken.path, verify.facts(taken.path, DATABASE), taken.facts)
    assert taken.path.stat().st_size == taken.facts["bytes"]
    assert taken.path.stat().st_mode & 0o777 == 0o600


def as_checkpointed(path, folder):
    """The bytes that the database would have if the application stopped now: SQLite's own checkpoint of a copy."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        if os.path.exists(f"{path}{suffix}"):
            shutil.copyfile(f"{path}{suffix}", folder / f"rest.db{suffix}")
    with closing(connect(folder / "rest.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return (folder / "rest.db").read_bytes()


@pytest.mark.parametrize("mode", MODES)
def test_at_rest_the_copy_is_the_file(tmp_path, mode):
    path = database(tmp_path / "eternia.db", mode=mode)
    taken = take(path, tmp_path / "copy")
    assert taken.path.read_bytes() == path.read_bytes()
    assert digest_now(path) == sha256(path)
    assert_whole(taken)
    assert taken.facts == {
        "path": str(path),
        "bytes": path.stat().st_size,
        "journal_mode": mode if mode == "wal" else "delete",
        "page_size": 4096,
        "schema_digest": taken.facts["schema_digest"],
        "tables": {"memories": 50},
    }


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_page_sizes_with_committed_rows_in_the_log(tmp_path, page_size, mode):
    path = database(tmp_path / "eternia.db", page_size=page_size, mode=mode)
    with closing(connect(path)) as application:
        add_rows(application, 300)
        assert mode == "delete" or os.path.getsize(f"{path}-wal") > page_size
        taken = take(path, tmp_path / "copy")
        assert taken.path.read_bytes() == as_checkpointed(path, tmp_path / "rest")
        assert digest_now(path) == sha256(taken.path)
    assert_whole(taken)
    assert query(taken.path, "SELECT count(*) FROM memories") == [(350,)]
    assert (taken.facts["page_size"], taken.facts["tables"]) == (page_size, {"memories": 350})
    assert (taken.way, taken.facts["journal_mode"]) in {(way, mode) for way in ("copy_file_range", "reflink", "read")}


LOGS = {
    "part of it is checkpointed, a reader keeps the rest": (
        "BEGIN; SELECT * FROM memories",
        "INSERT INTO memories (description) VALUES ('later'); PRAGMA wal_checkpoint(PASSIVE)",
    ),
    "all of it is checkpointed": ("", "DELETE FROM memories WHERE id % 2; PRAGMA wal_checkpoint(FULL)"),
    "it begins again": ("", "DELETE FROM memories WHERE id % 2; PRAGMA wal_checkpoint(RESTART); DELETE FROM memories"),
    "it is cut off": ("", "DELETE FROM memories WHERE id % 2; PRAGMA wal_checkpoint(TRUNCATE)"),
    "the database shrinks in it": ("", "DELETE FROM memories WHERE id > 5; VACUUM"),
    "the database shrinks in it, then grows": (
        "",
        "DELETE FROM memories WHERE id > 5; VACUUM; CREATE TABLE other AS SELECT * FROM memories",
    ),
    "the database grows and shrinks in it": (
        "",
        "CREATE TABLE other AS SELECT * FROM memories, (SELECT 1 UNION SELECT 2); DROP TABLE other; VACUUM",
    ),
    "pages are freed at the end": (
        "",
        "BEGIN; CREATE TABLE other AS SELECT zeroblob(90000); DROP TABLE other; COMMIT",
    ),
}


@pytest.mark.parametrize(("reader", "writer"), LOGS.values(), ids=LOGS)
def test_whatever_state_the_log_is_in(tmp_path, reader, writer):
    path = database(tmp_path / "eternia.db", rows=500)
    with closing(connect(path)) as application, closing(connect(path)) as beside:
        application.execute("PRAGMA wal_autocheckpoint = 0")
        application.execute("UPDATE memories SET description = upper(description)")
        beside.executescript(reader)
        application.executescript(writer)
        taken = take(path, tmp_path / "copy")
        assert digest_now(path) == sha256(taken.path)
        expected = application.execute("SELECT count(*), min(id), max(id) FROM memories").fetchall()
        beside.rollback()
        assert taken.path.read_bytes() == as_checkpointed(path, tmp_path / "rest")
    assert_whole(taken)
    assert query(taken.path, "SELECT count(*), min(id), max(id) FROM memories") == expected


def test_a_vacuum_that_truncates_the_file_below_the_log(tmp_path):
    path = tmp_path / "eternia.db"
    with closing(connect(path)) as application:
        application.executescript("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = wal; CREATE TABLE t (b)")
        application.executemany("INSERT INTO t VALUES (zeroblob(?))", [(4000,)] * 300)
        application.executescript("PRAGMA wal_checkpoint(TRUNCATE); DELETE FROM t WHERE rowid > 20")
        application.executescript("PRAGMA incremental_vacuum")
        before = path.stat().st_size
        taken = take(path, tmp_path / "copy")
        assert digest_now(path) == sha256(taken.path)
        assert taken.path.stat().st_size < before
    assert_whole(taken)
    assert query(taken.path, "SELECT count(*) FROM t") == [(20,)]


def test_what_is_not_committed_is_not_in_it(tmp_path):
    path = database(tmp_path / "eternia.db")
    with process(HOLD, path, *UNFINISHED):
        assert os.path.getsize(f"{path}-wal") > 100_000
        taken = take(path, tmp_path / "copy")
    assert_whole(taken)
    assert query(taken.path, "SELECT count(*) FROM memories WHERE typeof(description) = 'text'") == [(50,)]


TABLES = {
    "full text": (
        "CREATE VIRTUAL TABLE found USING fts5(text); INSERT INTO found SELECT description FROM memories",
        "found_content",
        50,
    ),
    "WITHOUT ROWID": (
        "CREATE TABLE zones (name TEXT PRIMARY KEY) WITHOUT ROWID; INSERT INTO zones VALUES ('a'), ('b')",
        "zones",
        2,
    ),
    "names that need quotes": (
        """CREATE TABLE "a ""b'; DROP TABLE x" (n); INSERT INTO "a ""b'; DROP TABLE x" VALUES (1)""",
        "a \"b'; DROP TABLE x",
        1,
    ),
    "views and triggers": (
        "CREATE VIEW v AS SELECT gone FROM nowhere;"
        "CREATE TRIGGER t AFTER INSERT ON memories BEGIN SELECT raise(ABORT, 'no'); END",
        "memories",
        50,
    ),
    "2,000 tables": ("".join(f"CREATE TABLE t{n} (x);" for n in range(2000)), "t1999", 0),
}


@pytest.mark.parametrize(("statements", "table", "rows"), TABLES.values(), ids=TABLES)
def test_every_kind_of_table(tmp_path, statements, table, rows):
    path = database(tmp_path / "eternia.db")
    with closing(connect(path)) as application:
        application.executescript(f"BEGIN; {statements}; COMMIT")
        taken = take(path, tmp_path / "copy")
    assert_whole(taken)
    assert taken.facts["tables"][table] == rows
    assert "found" not in taken.facts["tables"]


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "%41.db", "what?mode=rwc.db", "a#b.db", "ä&\n'\".db", "file:x"])
def test_names_that_mean_something_in_a_uri(tmp_path, name):
    path = database(tmp_path / name)
    with closing(connect(path)) as application:
        add_rows(application)
        taken = take(path, tmp_path / "copy")
    assert_whole(taken)
    assert taken.facts["tables"] == {"memories": 51}


def test_through_a_symbolic_link_the_log_is_found(tmp_path):
    path = database(tmp_path / "real" / "eternia.db")
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with closing(connect(path)) as application:
        add_rows(application)
        taken = take(link, tmp_path / "copy")
        assert digest_now(link) == sha256(taken.path)
    assert taken.facts["tables"] == {"memories": 51}
    assert_whole(taken)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_source_is_only_read(tmp_path, mode):
    path = database(tmp_path / "data" / "eternia.db", mode=mode)
    with closing(connect(path)) as application:
        add_rows(application, 10)

        def bytes_and_times():
            return {
                entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns)
                for entry in path.parent.iterdir()
                # Readers note in the index where they are.
                if not entry.name.endswith("-shm")
            }

        before = bytes_and_times()
        take(path, tmp_path / "copy")
        digest_now(path)
        assert bytes_and_times() == before


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_beside_the_database_of_a_stopped_application(tmp_path, mode):
    path = database(tmp_path / "eternia.db", mode=mode)
    before = {entry.name for entry in tmp_path.iterdir()}
    take(path, tmp_path / "copy")
    assert snapshot.content_digest(Source(DATABASE, path), "sha256")
    assert {entry.name for entry in tmp_path.iterdir()} == {*before, "copy"}


@pytest.mark.parametrize("failure", [None, sqlite3.DatabaseError("database disk image is malformed")])
def test_an_application_that_starts_while_its_database_is_read(tmp_path, monkeypatch, failure):
    path = database(tmp_path / "eternia.db")
    facts, applications = sqlite.facts, []

    def stirring(connection):
        if not applications:
            # The facts are read in a thread of their own, and the application outlives it.
            applications.append(sqlite3.connect(path, check_same_thread=False))
            add_rows(applications[0], 7)
            if failure:
                raise failure
        return facts(connection)

    monkeypatch.setattr(sqlite, "facts", stirring)
    taken = take(path, tmp_path / "copy")
    assert_whole(taken)
    assert taken.facts["tables"] == {"memories": 57}
    applications[0].close()


def test_an_application_that_starts_while_its_database_is_hashed(tmp_path, monkeypatch):
    path = database(tmp_path / "eternia.db")
    chunks, applications = pin.Pin.chunks, []

    def stirring(held):
        yield from chunks(held)
        if not applications:
            applications.append(connect(path))
            add_rows(applications[0], 7)

    monkeypatch.setattr(pin.Pin, "chunks", stirring)
    # The second attempt pins it, and is exact.
    found = digest_now(path)
    assert take(path, tmp_path / "copy").facts["tables"] == {"memories": 57}
    assert found == sha256(tmp_path / "copy")
    applications[0].close()


@pytest.mark.parametrize("mode", MODES)
def test_a_database_without_tables_is_no_backup(tmp_path, mode):
    path = tmp_path / "eternia.db"
    with closing(connect(path)) as application:
        application.execute(f"PRAGMA journal_mode = {mode}")
        application.execute("CREATE TABLE memories (id)")
        application.execute("DROP TABLE memories")
        with pytest.raises(SourceError, match=rf"^{path} has no tables. Nothing was backed up; if its"):
            take(path, tmp_path / "copy")


def test_a_user_who_may_only_read_everything(tmp_path):
    with open_directory() as base:
        path = database(base / "data" / "eternia.db")
        with closing(connect(path)) as application:
            add_rows(application)
            path.parent.chmod(0o555)
            target = public(base / "copies") / "copy"
            with unprivileged():
                taken = take(path, target)
            assert_whole(taken)
        assert taken.facts["tables"] == {"memories": 51}
        path.parent.chmod(0o755)


def public(path):
    """A directory that everybody may write to."""
    path.mkdir()
    path.chmod(0o777)
    return path


def test_a_stopped_application_in_a_directory_without_the_right_to_write(tmp_path):
    with open_directory() as base:
        path = database(base / "data" / "eternia.db")
        path.parent.chmod(0o555)
        target = public(base / "copies") / "copy"
        with unprivileged():
            taken = take(path, target)
        assert_whole(taken)
        path.parent.chmod(0o755)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_rehearsal_knows_the_size_and_writes_nothing(tmp_path, mode, log):
    path = database(tmp_path / "eternia.db", mode=mode)
    with closing(connect(path)) as application:
        if log:
            add_rows(application, 200)
        before = {entry.name: entry.stat().st_size for entry in tmp_path.iterdir()}
        size = rehearse(path)
        assert {entry.name: entry.stat().st_size for entry in tmp_path.iterdir()} == before
        assert size == take(path, tmp_path / "copy").path.stat().st_size


LOCKS = {
    "rollback mode": ("delete", "BEGIN EXCLUSIVE"),
    "a commit that is being written": ("delete", "; ".join(UNFINISHED)),
    "WAL mode": ("wal", "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM memories; COMMIT"),
}


@pytest.mark.parametrize(("mode", "statements"), LOCKS.values(), ids=LOCKS)
def test_locked_exclusively(tmp_path, monkeypatch, mode, statements):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    path = database(tmp_path / "eternia.db", mode=mode)
    with process(HOLD, path, *statements.split("; ")):
        for attempt in (lambda: take(path, tmp_path / "copy"), lambda: digest_now(path), lambda: rehearse(path)):
            with pytest.raises(SourceError, match=rf"^{path} is locked: another process .* `fuser {path}`"):
                attempt()


def test_a_lock_that_is_let_go_in_time_is_waited_for(tmp_path):
    path = database(tmp_path / "eternia.db", mode="delete")
    with process(HOLD, path, "BEGIN EXCLUSIVE") as holder:
        threading.Timer(0.3, holder.kill).start()
        assert_whole(take(path, tmp_path / "copy"))


def test_a_hot_journal(tmp_path):
    path = database(tmp_path / "eternia.db", mode="delete", rows=200)
    with process(HOLD, path, *UNFINISHED) as dying:
        dying.kill()
        dying.wait()
    assert os.path.getsize(f"{path}-journal") > 512
    for attempt in (lambda: take(path, tmp_path / "copy"), lambda: digest_now(path), lambda: rehearse(path)):
        with pytest.raises(SourceError, match=rf"has a hot journal \({path}-journal\): a writer died .* Start the ap"):
            attempt()
    with closing(connect(path)) as application:
        assert application.execute("SELECT count(*) FROM memories").fetchone() == (200,)
    assert_whole(take(path, tmp_path / "copy-2"))


def test_a_log_that_a_killed_writer_left(tmp_path):
    path = database(tmp_path / "eternia.db")
    with process(HOLD, path, "INSERT INTO memories (description) VALUES ('last words')") as dying:
        dying.kill()
        dying.wait()
    taken = take(path, tmp_path / "copy")
    assert_whole(taken)
    assert query(taken.path, "SELECT description FROM memories WHERE id = 51") == [("last words",)]
    os.unlink(f"{path}-shm")
    assert take(path, tmp_path / "copy-2").path.read_bytes() == taken.path.read_bytes()


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_half_written_database(tmp_path, share, mode):
    path = database(tmp_path / "eternia.db", rows=3000, mode=mode)
    os.truncate(path, int(path.stat().st_size * share))
    for attempt in (lambda: take(path, tmp_path / "copy"), lambda: rehearse(path)):
        with pytest.raises(
            DamagedError, match=rf"^{path} is damaged: SQLite says .*malformed.* Nothing was backed up; "
        ):
            attempt()


def test_a_database_whose_header_lies(tmp_path):
    path = database(tmp_path / "eternia.db")
    with path.open("r+b") as stream:
        stream.seek(16)
        stream.write(b"\x01\x01")
    with pytest.raises(DamagedError, match=rf"^{path} is damaged: SQLite says file is not a database"):
        take(path, tmp_path / "copy")


@pytest.mark.parametrize("wrong", ["mark", "index"])
def test_where_the_index_cannot_be_read_sqlite_copies(tmp_path, monkeypatch, wrong):
    path = database(tmp_path / "eternia.db")
    if wrong == "mark":
        monkeypatch.setattr(wal, "read_mark", lambda index: None)
    else:
        opened = pin._opened

        def refused(kept, path, *access):
            if path.name.endswith("-shm"):
                raise PermissionError(errno.EACCES, "Permission denied")
            return opened(kept, path, *access)

        monkeypatch.setattr(pin, "_opened", refused)
    with closing(connect(path)) as application:
        add_rows(application, 10)
        taken = take(path, tmp_path / "copy")
        assert taken.way == "sqlite_backup"
        assert query(taken.path, "PRAGMA integrity_check") == [("ok",)]
        assert query(taken.path, "SELECT count(*) FROM memories") == [(60,)]
        verify.same_facts(taken.path, verify.facts(taken.path, DATABASE), taken.facts)
        # Only the copy could tell, and nothing may be written.
        assert snapshot.content_digest(Source(DATABASE, path), "sha256") is None
    assert sorted(entry.name for entry in tmp_path.iterdir() if "copy" in entry.name) == ["copy"]
    assert taken.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_the_kernel_cannot_copy_the_bytes_are_read(tmp_path, monkeypatch, error):
    def refused(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "copy_file_range", refused)
    path = database(tmp_path / "eternia.db", rows=5000)
    taken = take(path, tmp_path / "copy")
    assert taken.way in ("read", "reflink")
    assert taken.path.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("error", "words"), [(errno.ENOSPC, "no space left"), (errno.EDQUOT, "quota")])
@pytest.mark.parametrize("call", ["copy_file_range", "ftruncate", "pwrite"])
def test_a_disk_that_fails_on_the_way(tmp_path, monkeypatch, call, error, words):
    def failing(*_):
        raise OSError(error, os.strerror(error))

    path = database(tmp_path / "eternia.db")
    with closing(connect(path)) as application:
        add_rows(application, 10)
        monkeypatch.setattr(os, call, failing)
        with pytest.raises(StoreError, match=rf"The snapshot .*/copy could not be written: .*{words}.* Nothing was s"):
            take(path, tmp_path / "copy")


def test_sqlites_own_copy_on_a_full_disk(tmp_path, monkeypatch):
    path = database(tmp_path / "eternia.db")
    application = connect(path)
    add_rows(application)
    monkeypatch.setattr(wal, "read_mark", lambda index: None)
    connect_ = sqlite3.connect

    def small(*arguments, **keywords):
        connection = connect_(*arguments, **keywords)
        if arguments[0] == tmp_path / "copy":
            connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StoreError, match=r"could not be written: database or disk is full. Free some space"):
        take(path, tmp_path / "copy")
    application.close()


@pytest.mark.parametrize("log", [False, True])
def test_no_room_is_said_before_the_first_byte(tmp_path, monkeypatch, log):
    path = database(tmp_path / "eternia.db")
    with closing(connect(path)) as application:
        if log:
            add_rows(application, 100)
        needed = path.stat().st_size + (os.path.getsize(f"{path}-wal") if log else 0)
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9**9, 9**9, needed - 1))
        with pytest.raises(StoreError, match=rf"has {needed - 1:,} bytes free and {needed:,} are needed. Free some"):
            take(path, tmp_path / "copy")
        with pytest.raises(StoreError, match=rf"^{tmp_path} has {needed - 1:,} bytes free and {needed:,} are needed"):
            rehearse(path)
    assert not (tmp_path / "copy").exists()


@contextmanager
def writers(path, mode, *others):
    """Two processes that write at full speed, and others."""
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.executescript(
            "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER);"
            "CREATE TABLE entry (writer, number, pad BLOB, PRIMARY KEY (writer, number)) WITHOUT ROWID"
        )
        connection.executemany("INSERT INTO account VALUES (?, 0)", [(n,) for n in range(100)])
    # Without a write-ahead log one writer that never rests shuts everybody out, other writers too.
    pause = 0 if mode == "wal" else 0.002
    with ExitStack() as running:
        processes = [running.enter_context(process(WRITE, path, number, pause)) for number in (1, 2)]
        processes += [running.enter_context(process(*other)) for other in others]
        yield
        assert [one.poll() for one in processes] == [None] * len(processes)


def assert_balanced(path):
    """Returns how far the writers were."""
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "SELECT sum(balance), count(*) FROM account") == [(0, 100)]
    gaps = query(path, "SELECT writer, max(number) - min(number) + 1 - count(*) FROM entry GROUP BY writer")
    assert gaps == [(1, 0), (2, 0)]
    return query(path, "SELECT sum(last) FROM (SELECT max(number) AS last FROM entry GROUP BY writer)")[0][0]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_snapshots_under_two_writers_are_consistent(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 60)
    path = tmp_path / "eternia.db"
    with writers(path, mode):
        taken = [take(path, tmp_path / f"copy-{number}") for number in range(30)]
    assert "sqlite_backup" not in {one.way for one in taken}
    for one in taken:
        assert_whole(one)
    progress = [assert_balanced(one.path) for one in taken]
    assert progress == sorted(progress)
    assert progress[0] < progress[-1]


@pytest.mark.parametrize("kind", ["TRUNCATE", "RESTART"])
def test_snapshots_under_writers_while_the_log_begins_again_and_again(tmp_path, kind):
    path = tmp_path / "eternia.db"
    with writers(path, "wal", (CHECKPOINT, path, kind)):
        taken = [take(path, tmp_path / f"copy-{number}") for number in range(30)]
    for one in taken:
        verify.same_facts(one.path, verify.facts(one.path, DATABASE), one.facts)
        assert_balanced(one.path)


def test_sqlites_own_copy_under_writers_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(wal, "read_mark", lambda index: None)
    path = tmp_path / "eternia.db"
    with writers(path, "wal"):
        taken = [take(path, tmp_path / f"copy-{number}") for number in range(5)]
    for one in taken:
        assert one.way == "sqlite_backup"
        verify.same_facts(one.path, verify.facts(one.path, DATABASE), one.facts)
        assert_balanced(one.path)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_digest_without_a_copy_is_of_one_instant_too(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 60)
    path = tmp_path / "eternia.db"

    class Kept(list):
        update = list.append

        def hexdigest(self):
            (tmp_path / "copy").write_bytes(b"".join(self))

    monkeypatch.setattr(digest, "new", lambda algorithm: Kept())
    with writers(path, mode, *([(CHECKPOINT, path, "TRUNCATE")] if mode == "wal" else [])):
        for _unused in range(5):
            digest_now(path)
            assert_balanced(tmp_path / "copy")


@pytest.fixture
def roomy(tmp_path):
    """A directory for gigabytes, in memory where that has room, empty afterwards."""
    memory = "/dev/shm"
    fits = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4096 * MIB
    with tempfile.TemporaryDirectory(dir=memory if fits else tmp_path) as path:
        yield Path(path)


def test_a_database_over_1_gib_that_crosses_it_in_the_log(roomy):
    path = roomy / "eternia.db"
    with closing(connect(path)) as application:
        application.executescript("PRAGMA page_size = 65536; PRAGMA journal_mode = wal; PRAGMA synchronous = OFF")
        application.executescript("PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (b BLOB)")
        application.execute("INSERT INTO t VALUES (zeroblob(?))", (900 * MIB,))
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        # Around 1 GiB lies a page that SQLite never writes: it is neither in the file nor in the log.
        application.execute("INSERT INTO t VALUES (zeroblob(?))", (140 * MIB,))
        assert path.stat().st_size < 1024 * MIB
        taken = take(path, roomy / "copy")
        assert taken.facts["bytes"] == taken.path.stat().st_size > 1024 * MIB
        verify.check(taken.path, DATABASE, "quick")
        assert query(taken.path, "SELECT length(b) FROM t") == [(900 * MIB,), (140 * MIB,)]
        with taken.path.open("rb") as stream:
            assert digest_now(path) == digest.of_stream(stream, "sha256", 1 << 40)[0].value


STATE_TEXT = json.dumps(
    {"version": 3, "memories": [{"clarity": 1}, {}], "emotion": "joy", "evolution": {"intellect": 1}, "last_zone": None}
)


def quiet(seconds):
    """Nobody rewrites the file while we wait."""


def test_a_state(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(STATE_TEXT)
    taken = take(path, tmp_path / "copy", STATE, sleep=quiet)
    assert taken.path.read_text() == STATE_TEXT
    assert taken.facts == {
        "path": str(path),
        "bytes": len(STATE_TEXT),
        "keys": {"version": 1, "memories": 2, "emotion": 3, "evolution": 1, "last_zone": 1},
    }
    assert (taken.way, taken.path.stat().st_mode & 0o777) == ("read", 0o600)
    assert snapshot.content_digest(Source(STATE, path), "sha256", sleep=quiet).value == sha256(path)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", SourceError, r"is empty \(0 bytes\)"),
        (b" \n", DamagedError, r"is not whole JSON"),
        (b"{", DamagedError, r"is not whole JSON"),
        (STATE_TEXT.encode()[:-20], DamagedError, r"is not whole JSON .* Nothing was backed up"),
        (STATE_TEXT.encode() + STATE_TEXT.encode(), DamagedError, r"is not whole JSON \(Extra data"),
        (b"null", DamagedError, r"holds null, not a JSON object. Nothing was backed up"),
        (b"{}", DamagedError, r"holds an empty JSON object. Nothing was backed up; if its content"),
        (b"[]", DamagedError, r"holds \[\], not a JSON object"),
        (b'"state"', DamagedError, r'holds "state", not a JSON object'),
        (b"\xef\xbb\xbf{}", DamagedError, r"is not whole JSON \(Unexpected UTF-8 BOM"),
        (STATE_TEXT.encode("utf-16"), DamagedError, r"is not UTF-8 text \(byte 0\)"),
        (b'{"emotion": "fr\xe9missement"}', DamagedError, r"is not UTF-8 text \(byte 15\). Nothing was backed up"),
        (b"[" * 100_000, DamagedError, r"is not whole JSON"),
        (b"\0" * 4096, DamagedError, r"is not whole JSON"),
    ],
)
def test_a_state_that_is_none(tmp_path, content, error, message):
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(error, match=f"^{path} {message}"):
        take(path, tmp_path / "copy", STATE, sleep=quiet)
    with pytest.raises(error, match=message):
        snapshot.content_digest(Source(STATE, path), "sha256", sleep=quiet)
    with pytest.raises(error, match=message):
        rehearse(path, STATE, sleep=quiet)
    assert not (tmp_path / "copy").exists()


def test_an_unreadable_state(tmp_path):
    with open_directory() as base:
        path = base / "state.json"
        path.write_text("{}")
        path.chmod(0)
        with (
            unprivileged(),
            pytest.raises(SourceError, match=rf"^{path} cannot be read: user \w+ may not read {path} "),
        ):
            take(path, base / "copy", STATE, sleep=quiet)


def test_a_state_that_is_half_written_when_we_look_is_read_again(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(STATE_TEXT[:40])
    stages = [STATE_TEXT[:80], STATE_TEXT[:120], STATE_TEXT]

    def writing(seconds):
        if stages:
            path.write_text(stages.pop(0))

    assert take(path, tmp_path / "copy", STATE, sleep=writing).path.read_text() == STATE_TEXT


def test_a_state_that_is_whole_but_half_new_is_not_taken(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"a": 1, "b": 1}')
    stages = ['{"a": 2, "b": 1}', '{"a": 2, "b": 2}']

    def writing(seconds):
        if stages:
            path.write_text(stages.pop(0))

    assert take(path, tmp_path / "copy", STATE, sleep=writing).path.read_text() == '{"a": 2, "b": 2}'


def test_a_state_that_never_rests(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"n": 0}')
    waits = []

    def writing(seconds):
        waits.append(seconds)
        path.write_text(f'{{"n": {len(waits)}}}')

    with pytest.raises(SourceError, match=r"kept changing while it was read, 20 times in a row. Nothing was backed up"):
        take(path, tmp_path / "copy", STATE, sleep=writing)
    assert 1 < sum(waits) < 10
    assert not (tmp_path / "copy").exists()


def test_a_state_that_vanishes_while_it_is_read(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(STATE_TEXT)
    with pytest.raises(SourceError, match=r"state.json cannot be read: no such file"):
        take(path, tmp_path / "copy", STATE, sleep=lambda _: path.unlink())


def test_a_state_that_a_real_writer_rewrites_in_place(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("{}")
    stop = threading.Event()

    def rewrite():
        number = 0
        while not stop.wait(0.002):
            number += 1
            with path.open("w") as stream:
                for start in range(0, 1000, 250):
                    stream.write("," * bool(start) if start else "{")
                    stream.write(",".join(f'"{n}": {number}' for n in range(start, start + 250)))
                    stream.flush()
                stream.write("}")

    thread = threading.Thread(target=rewrite)
    thread.start()
    whole = 0
    try:
        for attempt in range(10):
            # Where it never rests while we look, that is an error; what is taken is of one writing.
            with suppress(EngineError):
                taken = take(path, tmp_path / f"copy-{attempt}", STATE, sleep=lambda _: time.sleep(0.0005))
                assert len(set(json.loads(taken.path.read_text()).values())) <= 1
                whole += 1
    finally:
        stop.set()
        thread.join()
    assert whole > 0


def test_a_state_of_200_mb(tmp_path):
    path = tmp_path / "state.json"
    memory = json.dumps({"description": "m" * 100_000, "clarity": 0.5})
    with path.open("w") as stream:
        stream.write('{"memories": [' + memory)
        for _unused in range(2000):
            stream.write(", " + memory)
        stream.write("]}")
    assert path.stat().st_size > 200_000_000
    taken = take(path, tmp_path / "copy", STATE, sleep=quiet)
    assert taken.facts["keys"] == {"memories": 2001}
    with path.open("rb") as one, taken.path.open("rb") as other:
        assert digest.of_stream(one, "sha256", 1 << 40) == digest.of_stream(other, "sha256", 1 << 40)
    path.unlink()
    taken.path.unlink()


def test_an_index_that_sqlite_would_not_use_is_not_used(tmp_path):
    """After a power loss the index may be older than the log; whoever cannot write to it reads the log itself."""
    with open_directory() as base:
        path = database(base / "data" / "eternia.db")
        with closing(connect(path)) as application:
            add_rows(application)
            stale = Path(f"{path}-shm").read_bytes()
            application.execute("UPDATE memories SET description = 'new'")
            files = {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal")}
        for suffix, raw in {**files, "-shm": stale}.items():
            Path(f"{path}{suffix}").write_bytes(raw)
            Path(f"{path}{suffix}").chmod(0o444)
        path.parent.chmod(0o555)
        target = public(base / "copies") / "copy"
        with unprivileged():
            taken = take(path, target)
        assert query(taken.path, "SELECT DISTINCT description FROM memories") == [("new",)]
        path.parent.chmod(0o755)


def test_a_database_that_is_replaced_while_it_is_opened(tmp_path, monkeypatch):
    path, other = (
        database(tmp_path / "eternia.db", mode="delete"),
        database(tmp_path / "other.db", rows=9, mode="delete"),
    )
    source, replaced = sqlite.source, []

    def replacing(*arguments):
        if not replaced:
            replaced.append(os.replace(other, path))
        return source(*arguments)

    monkeypatch.setattr(sqlite, "source", replacing)
    taken = take(path, tmp_path / "copy")
    assert_whole(taken)
    assert taken.facts["tables"] == {"memories": 9}


def test_an_application_that_comes_and_goes_while_its_database_rests(tmp_path, monkeypatch):
    """It cannot take its log away with it while we read, so that the log tells of it, whatever the clock says."""
    path = database(tmp_path / "eternia.db")
    facts, calls = sqlite.facts, []

    def visited(connection):
        if not calls:
            times = path.stat()
            calls.append(process(VISIT, path))
            with calls[0]:
                pass
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return facts(connection)

    monkeypatch.setattr(sqlite, "facts", visited)
    taken = take(path, tmp_path / "copy")
    assert_whole(taken)
    assert query(taken.path, "SELECT DISTINCT description FROM memories") == [("visited",)]


@pytest.mark.parametrize("early", [0, 4096])
def test_a_kernel_that_copies_less_than_all(tmp_path, monkeypatch, early):
    path = database(tmp_path / "eternia.db")
    counts = [early, 0, 0]
    copy = os.copy_file_range

    def short(source, target, count, *offsets):
        wanted = counts.pop(0)
        return copy(source, target, wanted, *offsets) if wanted else 0

    monkeypatch.setattr(os, "copy_file_range", short)
    with pytest.raises(StoreError, match=rf"only {early} of \d+ bytes could be copied"):
        take(path, tmp_path / "copy")


def content_of(raw, step):
    """What a manifest says of those bytes, cut into parts of `step` bytes; without parts where that is 0."""
    cut = [hashlib.sha256(raw[at : at + step]).hexdigest() for at in range(0, len(raw), step)] if step else []
    return Content(len(raw), Digest("sha256", hashlib.sha256(raw).hexdigest()), Parts(step, tuple(cut)))


@pytest.mark.parametrize("step", [0, 1000, 4096, 12_288, 1 << 24])
@pytest.mark.parametrize("change", ["none", "first byte", "last byte", "longer", "shorter", "another part"])
def test_whether_a_source_has_a_content(tmp_path, step, change):
    path = database(tmp_path / "eternia.db")
    raw = path.read_bytes()
    of = {
        "none": raw,
        "first byte": b"T" + raw[1:],
        "last byte": raw[:-1] + bytes([raw[-1] ^ 1]),
        "longer": raw + bytes(4096),
        "shorter": raw[:-4096],
        "another part": raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:],
    }[change]
    assert snapshot.has_content(Source(DATABASE, path), content_of(of, step)) is (change == "none")


@pytest.mark.parametrize("more", [[], ["0" * 64]])
def test_a_content_with_parts_too_many_or_too_few_is_another(tmp_path, more):
    path = database(tmp_path / "eternia.db")
    content = content_of(path.read_bytes(), 4096)
    digests = (*content.parts.digests, *more) if more else content.parts.digests[:-1]
    wrong = replace(content, parts=Parts(4096, digests))
    assert not snapshot.has_content(Source(DATABASE, path), wrong)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The account of an application owns the directory of its data, and root works there: it leads root nowhere else."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import struct
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    cli_log,
    copying,
    drill,
    hold,
    log,
    metrics,
    prune,
    restore,
    safety,
    snapshot,
    source,
    staging,
    status,
    swap,
    verify,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine import target as target_
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    DamagedError,
    EngineError,
    StoreError,
    TargetError,
)
from ansible_collections.eternia.backup.tests.unit.builders import (
    add_rows,
    clock,
    configuration,
    connect,
    database,
    leave_in_log,
    open_directory,
    query,
    tree,
)

# Nobody here: no file is theirs but what is given to them.
USER, ANOTHER = 54321, 54322
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def give(path: Path, user: int) -> None:
    for one in (path, *path.rglob("*")):
        os.chown(one, user, user, follow_symlinks=False)


@pytest.fixture
def config():
    if os.geteuid() != 0:
        pytest.skip("only root can be led to what is another user's")
    with open_directory() as place:
        found = configuration(place)
        database(found.database_path)
        give(found.database_path.parent, USER)
        yield found


def of_another(config, name="another") -> Path:
    """A database that is neither the application's nor root's."""
    path = database(config.storage_path.parent / name / "theirs.db", rows=7)
    give(path.parent, ANOTHER)
    return path


def lead(config, to: Path, *, by: int = USER) -> None:
    """Put a link to another file where the database was."""
    config.database_path.unlink()
    config.database_path.symlink_to(to)
    os.chown(config.database_path, by, by, follow_symlinks=False)


def test_a_link_to_somebody_elses_file_is_not_followed(config):
    backup.run(config, clock=clock())
    theirs = of_another(config)
    lead(config, theirs)
    before = tree(theirs.parent)
    words = rf"{config.database_path} is a symbolic link of user {USER}, who could not replace {theirs} himself"
    for attempt in (
        lambda: backup.run(config, clock=clock(1)),
        lambda: restore.plan(config, restore.Request(), clock=clock(1)),
        lambda: restore.stage(config, restore.Request(), clock=clock(1)),
        lambda: restore.run(config, restore.Request(), clock=clock(1)),
    ):
        with pytest.raises(EngineError, match=words):
            attempt()
    assert tree(theirs.parent) == before
    os.chown(config.database_path, 0, 0, follow_symlinks=False)
    assert backup.run(config, clock=clock(1)).manifest.facts["tables"] == {"memories": 7}


def test_nor_is_one_for_a_directory_on_the_way(config):
    theirs = of_another(config)
    shutil.rmtree(config.database_path.parent)
    config.database_path.parent.symlink_to(theirs.parent)
    theirs.rename(theirs.with_name(config.database_path.name))
    os.chown(config.database_path.parent, USER, USER, follow_symlinks=False)
    with pytest.raises(EngineError, match=rf"{config.database_path.parent} is a symbolic link of user {USER}, who"):
        backup.run(config, clock=clock())


def precious(config) -> Path:
    """A directory that is neither the application's nor root's, with what our own would be called."""
    place = config.database_path.parent.parent / "precious"
    for name in (".staging/x", ".drill/x", "safety/x"):
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text("his")
    (place / ".lock").write_text("his")
    give(place, ANOTHER)
    return place


WRITERS = {
    "backup": lambda config: backup.run(config, clock=clock(1)),
    "its plan": lambda config: backup.plan(config, clock=clock(1)),
    "prune": lambda config: prune.run(config, now=clock(1).now()),
    "drill": lambda config: drill.run(config, clock=clock(1)),
    "restore": lambda config: restore.run(config, restore.Request(), clock=clock(1)),
    "hold": lambda config: hold.put(config.storage_path, hold.Hold("ann", "repairs", clock(2).now())),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_nor_is_one_for_what_we_write_to(config, writer):
    backup.run(config, clock=clock())
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    theirs, link = precious(config), config.storage_path
    link.rename(link.with_name("before"))
    link.symlink_to(theirs)
    os.chown(link, USER, USER, follow_symlinks=False)
    before = tree(theirs)
    words = rf"{link} is a symbolic link of user {USER}, who could not replace "
    with pytest.raises(EngineError, match=words):
        WRITERS[writer](config)
    assert tree(theirs) == before
    assert re.match(words, status.read(config, now=clock(1).now()).obstacle)


def test_a_link_to_a_directory_in_which_its_owner_may_make_names_is_followed(config):
    """A mount of root's that a group writes to, for example."""
    theirs, link = precious(config), config.storage_path
    os.chown(theirs, 0, 0)
    theirs.chmod(0o777)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(theirs)
    os.chown(link, USER, USER, follow_symlinks=False)
    backup.run(config, clock=clock())
    assert list(theirs.glob("*.db"))


def test_nor_is_one_for_the_log_and_the_metrics(config, tmp_path):
    theirs, link = precious(config), config.database_path.parent / "logs"
    link.symlink_to(theirs)
    os.chown(link, USER, USER, follow_symlinks=False)
    before, problems = tree(theirs), []
    with cli_log.scheduled(link / "eternia.log", problems):
        log.info("words of a run")
    assert re.fullmatch(rf"The log is not written, .* {link} is a symbolic link of user {USER}, who .*", problems[0])
    with pytest.raises(StoreError, match=rf"{link} is a symbolic link of user {USER}, who could not replace "):
        metrics.write(link / "eternia.prom", "page")
    assert tree(theirs) == before
    os.chown(link, 0, 0, follow_symlinks=False)
    metrics.write(link / "eternia.prom", "page")
    assert (theirs / "eternia.prom").read_text() == "page"


@pytest.mark.parametrize("whose", ["the file is his", "the directory is his", "it is root's"])
def test_a_link_to_what_its_owner_could_replace_is_followed(config, whose):
    theirs = of_another(config)
    lead(config, theirs, by=0 if whose == "it is root's" else USER)
    if whose == "the file is his":
        os.chown(theirs, USER, USER)
    elif whose == "the directory is his":
        os.chown(theirs.parent, USER, USER)
    backup.run(config, clock=clock())
    with closing(connect(theirs)) as application:
        add_rows(application)
    restore.run(config, restore.Request(), clock=clock(1))
    assert query(theirs, "SELECT count(*) FROM memories") == [(7,)]
    assert config.database_path.is_symlink()


def test_a_link_of_whoever_deploys_is_followed(config):
    """As `current -> releases/7`, which has a link to the data of the application below the deployer's directory."""
    app = config.storage_path.parent / "app"
    shared, release = app / "shared/data", app / "releases/7"
    shared.parent.mkdir(parents=True)
    release.mkdir(parents=True)
    config.database_path.parent.rename(shared)
    (release / "data").symlink_to("../../shared/data")
    (app / "current").symlink_to("releases/7")
    for path in (app, shared.parent, release.parent, release, release / "data", app / "current"):
        os.chown(path, ANOTHER, ANOTHER, follow_symlinks=False)
    config = replace(config, database_path=app / "current/data/eternia.db")
    backup.run(config, clock=clock())
    (shared / "eternia.db").unlink()
    assert restore.run(config, restore.Request(), clock=clock(1)).changed
    assert query(shared / "eternia.db", "SELECT count(*) FROM memories") == [(50,)]


def test_nor_is_a_link_on_a_way_that_goes_up(config):
    theirs = of_another(config)
    theirs.rename(theirs.with_name("eternia.db"))
    (theirs.parent / "below").mkdir()
    link = config.database_path.with_name("current")
    link.symlink_to(theirs.parent / "below")
    os.chown(link, USER, USER, follow_symlinks=False)
    config = replace(config, database_path=link / ".." / "eternia.db")
    with pytest.raises(EngineError, match=rf"{link} is a symbolic link of user {USER}, who could not replace"):
        backup.run(config, clock=clock())


def test_no_directory_is_made_where_such_a_link_leads(config):
    backup.run(config, clock=clock())
    shutil.rmtree(config.database_path.parent)
    place = config.storage_path.parent / "nologin"
    config.database_path.parent.symlink_to(place)
    os.chown(config.database_path.parent, USER, USER, follow_symlinks=False)
    with pytest.raises(TargetError, match=rf"{config.database_path.parent} is a symbolic link of user {USER}, who"):
        restore.run(config, restore.Request(), clock=clock(1))
    assert not place.exists()


def test_a_link_that_leads_elsewhere_at_the_last_moment_changes_nothing(config, monkeypatch):
    backup.run(config, clock=clock())
    theirs = of_another(config)
    moved = config.database_path.with_name("moved.db")
    config.database_path.rename(moved)
    config.database_path.symlink_to(moved)
    os.chown(config.database_path, USER, USER, follow_symlinks=False)
    with closing(connect(moved)) as application:
        add_rows(application)
    before = tree(theirs.parent)
    begin = swap.begin

    def led(*arguments, **more):
        found = begin(*arguments, **more)
        lead(config, theirs)
        return found

    monkeypatch.setattr(swap, "begin", led)
    with pytest.raises(TargetError, match=rf"{config.database_path} is a symbolic link of user {USER}, who could"):
        restore.run(config, restore.Request(), clock=clock(1))
    assert tree(theirs.parent) == before
    assert query(moved, "SELECT count(*) FROM memories") == [(51,)]


def stage(config) -> tuple[target_.Target, Path, restore.Request]:
    backup.run(config, clock=clock())
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    os.chown(config.database_path, USER, USER)
    staged = restore.stage(config, restore.Request(), clock=clock(1))
    assert staged.staged
    target = target_.of(config, "database")
    return target, target.staging / target.real.name, restore.Request(staged.location)


def instead(staging_: Path) -> Path:
    """A directory of his own in the place of the staging, which he can rename and not look into."""
    kept = staging_.with_name("kept")
    staging_.rename(kept)
    staging_.mkdir(mode=0o700)
    return kept


def forged(staged: Path) -> None:
    """Another database, and a record that says that it is what was proven."""
    record = instead(staged.parent) / "staged.json"
    fields = json.loads(record.read_text())
    database(staged, rows=3)
    fields["untouched"] = staging.untouched(staged)
    staged.with_name("staged.json").write_text(json.dumps(fields))
    give(staged.parent, USER)


def waiting(staged: Path) -> None:
    instead(staged.parent)
    os.mkfifo(staged.with_name("staged.json"))
    give(staged.parent, USER)


def of_an_older_version(staged: Path) -> None:
    """All of it is his, as it was before."""
    give(staged.parent, USER)
    staged.parent.chmod(0o700)


def not_at_all(_staged: Path) -> None:
    pass


@pytest.mark.parametrize("touch", [forged, waiting, of_an_older_version, not_at_all])
def test_what_was_staged_is_only_taken_as_root_left_it(config, touch):
    target, staged, request = stage(config)
    assert {path.lstat().st_uid for path in (target.staging, *target.staging.iterdir())} == {0}
    touch(staged)
    outcome = restore.run(config, request, clock=clock(2))
    assert (outcome.bytes_fetched == 0) == (touch is not_at_all)
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(50,)]
    assert config.database_path.stat().st_uid == USER


@pytest.mark.parametrize("swapped", ["for what root staged before", "for his own"])
def test_what_takes_the_place_of_what_was_proven_is_not_put_into_place(config, monkeypatch, swapped):
    target, _staged, request = stage(config)
    older = target.staging.with_name("older")
    target.staging.rename(older)
    if swapped == "for his own":
        give(older, USER)
    take = staging.take

    def swap_and_take(*arguments):
        target.staging.rename(target.staging.with_name("newer"))
        older.rename(target.staging)
        take(*arguments)

    monkeypatch.setattr(staging, "take", swap_and_take)
    with pytest.raises(
        TargetError, match=r"somebody put another file in the place of what was proven\. Nothing was ch"
    ):
        restore.run(config, request, clock=clock(2))
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(51,)]


def test_nothing_is_put_into_place_beside_what_was_proven(config):
    _target, staged, request = stage(config)
    staged.with_name(f"{staged.name}-wal").write_bytes(b"of somebody")
    with pytest.raises(TargetError, match=r"somebody put eternia\.db-wal beside it\. Nothing was changed"):
        restore.run(config, request, clock=clock(2))
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(51,)]


def test_all_of_a_raw_safety_copy_is_the_applications(config):
    backup.run(config, clock=clock())
    leave_in_log(config.database_path)
    config.database_path.write_bytes(b"garbage" + config.database_path.read_bytes()[7:])
    give(config.database_path.parent, USER)
    restore.run(config, restore.Request(), clock=clock(1))
    (raw,) = (config.storage_path / "safety").glob("*.raw")
    kept = {path.name for path in raw.iterdir()}
    assert kept > {config.database_path.name}
    restore.run(config, restore.Request(str(raw), allow_unverified=True), clock=clock(2))
    lie = {path.name: path.stat() for path in config.database_path.parent.iterdir()}
    assert lie.keys() == kept
    assert {facts.st_uid for facts in lie.values()} == {USER}
    assert len({facts.st_mode for facts in lie.values()}) == 1


def test_no_copy_is_made_of_what_a_link_leads_to(config, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root's")
    link = config.database_path.with_name("eternia.db-journal")
    link.symlink_to(secret)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        copying.copy_file(link, config.database_path.with_name("copy"))
    assert not config.database_path.with_name("copy").exists()


def leave_journal_that_names(config, another: Path) -> None:
    """A rollback journal of a writer that died, as of a transaction over several databases.

    https://www.sqlite.org/fileformat2.html#the_rollback_journal
    """
    database(config.database_path.with_name("fresh.db"), mode="delete").replace(config.database_path)
    copy = config.database_path.with_name("during.db")
    with closing(connect(config.database_path)) as application:
        application.execute("PRAGMA cache_size = 1")
        application.execute("BEGIN")
        application.execute("UPDATE memories SET description = 'half done'")
        shutil.copy(config.database_path, copy)
        journal = Path(f"{config.database_path}-journal").read_bytes()
        application.execute("ROLLBACK")
    copy.replace(config.database_path)
    name = bytes(another)
    checksum = sum(name)
    end = name + struct.pack(">II", len(name), checksum) + JOURNAL_MAGIC
    # As SQLite numbers the page that it locks, which no journal holds.
    page = struct.pack(">I", 0x40000000 // 4096 + 1)
    Path(f"{config.database_path}-journal").write_bytes(journal + page + end)
    give(config.database_path.parent, USER)


def test_a_journal_that_names_a_file_has_it_not_removed(config, tmp_path):
    backup.run(config, clock=clock())
    precious = tmp_path / "precious"
    precious.write_bytes(b"no database knows it\0")
    leave_journal_that_names(config, precious)
    aside = config.storage_path.parent / "aside"
    shutil.copytree(config.database_path.parent, aside)
    restore.run(config, restore.Request(), clock=clock(1))
    assert precious.exists()
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(50,)]
    (kept,) = (config.storage_path / "safety").glob("*.raw")
    for path in kept.iterdir():
        assert path.read_bytes() == (aside / path.name).read_bytes()
    # Which is what SQLite does with it.
    with closing(sqlite3.connect(aside / config.database_path.name)) as application:
        application.execute("SELECT count(*) FROM memories").fetchone()
    assert not precious.exists()


def test_a_database_that_became_a_link_while_it_was_checked_is_not_opened_for_writing(config, tmp_path):
    """SQLite follows it, and takes the journal of the file that it leads to."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"no database knows it\0")
    leave_journal_that_names(config, precious)
    link = config.database_path.with_name("link.db")
    link.symlink_to(config.database_path)
    for path in (link, config.database_path):
        with pytest.raises(DamagedError, match=r"became a symbolic link|names another file"), safety._writable(path):
            pass
    assert precious.exists()


def test_a_small_state_takes_little_memory(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"n": 1}')
    tracemalloc.start()
    try:
        assert verify.read_state(path) == b'{"n": 1}'
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_state_that_no_memory_holds_is_refused(tmp_path):
    path = tmp_path / "state.json"
    with path.open("wb") as stream:
        stream.truncate((1 << 30) + 1)
    words = r"has 1,073,741,825 bytes, and a state of more than 1,073,741,824 is not read into memory"
    with pytest.raises(DamagedError, match=words):
        verify.check(path, "state", "quick")
    with pytest.raises(DamagedError, match=words):
        snapshot.rehearse(source.Source("state", path), tmp_path)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who lacks a right is told which one, on which file, who he is, and what gives it to him: for real, as nobody."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import rights, snapshot
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import SourceError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE, STATE
from ansible_collections.eternia.backup.plugins.module_utils.engine.source import Source, resolve
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOBODY,
    configuration,
    connect,
    database,
    open_directory,
    process,
    query,
    unprivileged,
)

OWNER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name
# Who the tests are while they are unprivileged.
USER = pwd.getpwuid(NOBODY).pw_name if os.geteuid() == 0 else OWNER

WRITER = """
import sqlite3, sys
application = sqlite3.connect(sys.argv[1], isolation_level=None)
application.execute("INSERT INTO memories (description) VALUES ('new')")
print("ready", flush=True)
sys.stdin.read()
"""

Change = Callable[[Path], object]


@pytest.fixture
def base() -> Iterator[Path]:
    with open_directory() as path:
        copies = path / "copies"
        copies.mkdir()
        copies.chmod(0o777)
        yield path
        (path / "data").chmod(0o755)


def mode(suffix: str, number: int) -> Change:
    return lambda path: Path(f"{path}{suffix}").chmod(number)


def directory(number: int) -> Change:
    return lambda path: path.parent.chmod(number)


def without(suffix: str) -> Change:
    def change(path: Path) -> None:
        Path(f"{path}{suffix}").unlink()
        path.parent.chmod(0o555)

    return change


def interrupted(path: Path) -> None:
    """As after a crash: a log and its index, and nobody who has them open."""
    with closing(connect(path)) as application:
        application.execute("INSERT INTO memories (description) VALUES ('new')")
        left = {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in ("-wal", "-shm")}
    for suffix, raw in left.items():
        Path(f"{path}{suffix}").write_bytes(raw)


def hot_journal(path: Path) -> None:
    """What a writer leaves who died in a transaction: https://www.sqlite.org/fileformat2.html#the_rollback_journal"""
    journal = Path(f"{path}-journal")
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(5000))
    journal.chmod(0)


FOR_GOOD = (
    "Run as {owner}, or give the right through a group, which outlives the file where the directory hands it on: chgrp "
    "GROUP {data} {path} {path}{suffix}; chmod g+s {data}; chmod g+r {path} {path}{suffix}."
)
MAKES = "SQLite has to make eternia.db{missing} there. Start the application, which makes it, or run as {owner}."

LACKING: dict[str, tuple[str, Change, str]] = {
    "the database": (
        "wal",
        mode("", 0),
        "read {path} (owner {owner}, group {group}, mode 0000). Run as {owner}, or give the right through a group: "
        "chgrp GROUP {path}; chmod g+r {path}.",
    ),
    "its directory": (
        "wal",
        directory(0o644),
        "search the directory {data} (owner {owner}, group {group}, mode 0644). Run as {owner}, or give the right "
        "through a group: chgrp GROUP {data}; chmod g+x {data}.",
    ),
    "the log": ("wal", mode("-wal", 0o200), "read {path}-wal (owner {owner}, group {group}, mode 0200). " + FOR_GOOD),
    "the index": ("wal", mode("-shm", 0), "read {path}-shm (owner {owner}, group {group}, mode 0000). " + FOR_GOOD),
    "no index": (
        "wal",
        without("-shm"),
        "write to the directory {data} (owner {owner}, group {group}, mode 0555). "
        + MAKES.replace("{missing}", "-shm"),
    ),
    "no log": (
        "wal",
        without("-wal"),
        "write to the directory {data} (owner {owner}, group {group}, mode 0555). "
        + MAKES.replace("{missing}", "-wal"),
    ),
    "the journal": (
        "delete",
        hot_journal,
        "read {path}-journal (owner {owner}, group {group}, mode 0000). " + FOR_GOOD,
    ),
}


@pytest.mark.parametrize("running", [False, True], ids=["after a crash", "while the application runs"])
@pytest.mark.parametrize(("journal_mode", "change", "words"), LACKING.values(), ids=LACKING)
def test_the_right_that_is_lacking_is_named(
    base: Path, journal_mode: str, change: Change, words: str, running: bool
) -> None:
    path = database(base / "data" / "eternia.db", mode=journal_mode)
    with ExitStack() as stack:
        if running:
            stack.enter_context(process(WRITER, path))
        elif journal_mode == "wal":
            interrupted(path)
        change(path)
        suffix = next((one for one in ("-wal", "-shm", "-journal") if f"read {{path}}{one}" in words), "")
        told = words.format(path=path, data=path.parent, owner=OWNER, group=GROUP, suffix=suffix)
        expected = f"^{re.escape(f'{path} cannot be read: user {USER} may not {told}')}$"
        for act in (
            lambda: snapshot.rehearse(Source(DATABASE, path), base / "copies"),
            lambda: snapshot.take(Source(DATABASE, path), base / "copies" / "copy"),
        ):
            with unprivileged(), pytest.raises(SourceError, match=expected):
                act()


def test_the_command_that_is_proposed_is_enough(base: Path) -> None:
    """For a group that everybody of the test is in, because there is no other that is sure to be there."""
    path = database(base / "data" / "eternia.db")
    path.chmod(0o600)
    with process(WRITER, path):
        with unprivileged():
            told = rights.lacking(path, DATABASE)
        if os.geteuid() != 0:
            assert told is None
            return
        for _unused in range(4):
            assert told is not None
            for command in re.findall(r"ch(grp|mod) (\S+) ([^;]+?)(?=;|\.$)", told):
                for file in command[2].split():
                    if command[0] == "grp":
                        os.chown(file, -1, NOBODY)
                    else:
                        bits = {"g+r": 0o040, "g+x": 0o010, "g+s": 0o2000}[command[1]]
                        os.chmod(file, os.stat(file).st_mode | bits)
            with unprivileged():
                told = rights.lacking(path, DATABASE)
            if told is None:
                break
        with unprivileged():
            snapshot.take(Source(DATABASE, path), base / "copies" / "copy")
    assert query(base / "copies" / "copy", "SELECT count(*) FROM memories") == [(51,)]
    # SQLite makes the log and its index anew, and they are as readable.
    with process(WRITER, path), unprivileged():
        assert rights.lacking(path, DATABASE) is None


@pytest.mark.parametrize("change", [mode("-shm", 0o444), directory(0o555), mode("-wal", 0o444)])
def test_no_right_to_write_is_asked_for_where_reading_does(base: Path, change: Change) -> None:
    path = database(base / "data" / "eternia.db")
    with process(WRITER, path):
        change(path)
        with unprivileged():
            assert rights.lacking(path, DATABASE) is None
            snapshot.take(Source(DATABASE, path), base / "copies" / "copy")
    assert query(base / "copies" / "copy", "SELECT count(*) FROM memories") == [(51,)]


def test_a_state_in_a_directory_that_a_link_leads_to(base: Path) -> None:
    (base / "data").mkdir()
    (base / "data" / "state.json").write_text('{"version": 1}')
    (base / "state.json").symlink_to("data/state.json")
    (base / "data").chmod(0o600)
    message = f"{base}/state.json cannot be read: user {USER} may not search the directory {base}/data "
    with unprivileged(), pytest.raises(SourceError, match=f"^{re.escape(message)}"):
        snapshot.rehearse(Source(STATE, base / "state.json"), base / "copies")


def test_a_database_that_cannot_be_seen_is_not_passed_over_for_the_state(base: Path) -> None:
    config = configuration(base)
    database(config.database_path)
    config.state_path.parent.mkdir()
    config.state_path.write_text('{"version": 1}')
    config.database_path.parent.chmod(0o600)
    with unprivileged():
        assert resolve(config, backed_up=set()).kind == DATABASE

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be at a target when something begins, and what an application sees of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.eternia.backup.plugins.module_utils.engine.config import Config
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE, STATE
from ansible_collections.eternia.backup.plugins.module_utils.engine.target import Target
from ansible_collections.eternia.backup.tests.unit.builders import add_rows, connect, die, in_child

MISSING = "missing"


def of_a_killed_writer(config):
    """A log with rows that are nowhere else."""

    def write():
        application = connect(config.database_path)
        add_rows(application, 7)
        die("")

    assert in_child(write) == -signal.SIGKILL
    assert os.stat(f"{config.database_path}-wal").st_size > 0


def in_a_rollback_journal(config):
    with closing(connect(config.database_path)) as application:
        add_rows(application, 7)


def in_the_middle_of_a_transaction(config):
    """A transaction too large for its memory: a part of it is in the file, and the journal takes it back."""

    def write():
        application = connect(config.database_path)
        for statement in ("PRAGMA cache_size = 2", "BEGIN", "UPDATE memories SET description = zeroblob(900)"):
            application.execute(statement)
        die("")

    in_a_rollback_journal(config)
    assert in_child(write) == -signal.SIGKILL
    assert os.stat(f"{config.database_path}-journal").st_size > 0


def damaged_beside_garbage(config):
    with config.database_path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 8192)
    Path(f"{config.database_path}-wal").write_bytes(b"garbage" * 1000)


def damaged_beside_a_log(config):
    of_a_killed_writer(config)
    with config.database_path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 8192)


def missing_beside_an_orphan(config):
    of_a_killed_writer(config)
    config.database_path.unlink()
    os.unlink(f"{config.database_path}-shm")


def a_state(config):
    config.state_path.write_text('{"version": 2, "memories": [1, 2, 3]}')


@dataclass(frozen=True)
class Situation:
    """What is there when a restore begins, made from what was backed up; `mode` is the database's journal mode."""

    make: Callable[[Config], None]
    mode: str | None = "wal"

    @property
    def kind(self):
        return DATABASE if self.mode else STATE


SITUATIONS = {
    "log": Situation(of_a_killed_writer),
    "rollback": Situation(in_a_rollback_journal, "delete"),
    "hot journal": Situation(in_the_middle_of_a_transaction, "delete"),
    "damaged, garbage": Situation(damaged_beside_garbage),
    "damaged, log": Situation(damaged_beside_a_log),
    "missing, orphan": Situation(missing_beside_an_orphan),
    "state": Situation(a_state, None),
}


def view(of, parts):
    """What an application sees of these files: its rows, MISSING, or that it is damaged, and how it looks then."""
    if "" not in parts:
        return (MISSING,)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
        copy = Target(of.kind, Path(scratch, of.real.name))
        for suffix, path in parts.items():
            shutil.copyfile(path, copy.beside(suffix))
        if of.kind == STATE:
            return ("state", copy.path.read_text())
        raw = copy.path.read_bytes()
        try:
            with closing(sqlite3.connect(copy.path)) as application:
                rows = application.execute("SELECT id, description FROM memories ORDER BY id").fetchall()
                checked = application.execute("PRAGMA integrity_check").fetchall()
                application.execute("BEGIN IMMEDIATE")
                application.rollback()
        except sqlite3.Error:
            return ("damaged", sha256(raw))
        return ("rows", len(rows), sha256(repr(rows).encode())) if checked == [("ok",)] else ("damaged", sha256(raw))


def sha256(raw):
    return hashlib.sha256(raw).hexdigest()

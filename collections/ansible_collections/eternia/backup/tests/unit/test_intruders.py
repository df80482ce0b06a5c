# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application that works on in the middle of a restore, or after it was killed: nothing of it is lost, or mixed."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, placing, restore, safety, swap
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import DamagedError, TargetError
from ansible_collections.eternia.backup.tests.unit.builders import (
    add_rows,
    clock,
    configuration,
    connect,
    database,
    in_child,
    leave_in_log,
    query,
)


def holding(directory, words):
    return [path for path in directory.rglob("*") if path.is_file() and words in path.read_bytes()]


@pytest.mark.parametrize("moment", ["before the journal", "before the rename"])
@pytest.mark.parametrize("kind", ["state", "database"])
def test_what_an_application_renames_into_place_stays(tmp_path, monkeypatch, kind, moment):
    config = configuration(tmp_path, source=kind)
    live = config.state_path if kind == "state" else config.database_path
    live.parent.mkdir(parents=True, exist_ok=True)
    if kind == "state":
        live.write_text('{"n": "backed up"}')
    else:
        database(live)
    backup.run(config, clock=clock())
    if kind == "state":
        live.write_text('{"n": "then"}')
    else:
        with closing(connect(live)) as application:
            add_rows(application, 3)

    def save():
        fresh = live.with_name("fresh")
        if kind == "state":
            fresh.write_text('{"n": "PRECIOUS"}')
        else:
            database(fresh)
            with closing(connect(fresh)) as application:
                application.execute("INSERT INTO memories (description) VALUES ('PRECIOUS')")
                application.commit()
        os.rename(fresh, live)

    module, name = (placing, "dress") if moment == "before the journal" else (swap, "_companions")
    real = getattr(module, name)

    def interrupted(*arguments):
        monkeypatch.setattr(module, name, real)
        found = real(*arguments)
        save()
        return found

    monkeypatch.setattr(module, name, interrupted)
    with pytest.raises(TargetError, match=r"was written to|was replaced"):
        restore.run(config, restore.Request(), clock=clock(1))
    assert live in holding(tmp_path, b"PRECIOUS")


@pytest.mark.parametrize("then", ["reads", "writes"])
def test_a_log_that_cannot_be_folded_for_want_of_space_is_not_parted_from_its_database(tmp_path, monkeypatch, then):
    config = configuration(tmp_path)
    database(config.database_path)
    backup.run(config, clock=clock())

    leave_in_log(config.database_path)

    class Full(sqlite3.Connection):
        def execute(self, sql, *arguments):
            if "wal_checkpoint" in sql:
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *arguments)

    real = sqlite3.connect
    monkeypatch.setattr(safety.sqlite3, "connect", lambda *a, **k: real(*a, **{"factory": Full, **k}))
    with pytest.raises(TargetError, match=r"database or disk is full\. Nothing was changed"):
        restore.run(config, restore.Request(), clock=clock(1))
    monkeypatch.undo()
    with closing(connect(config.database_path)) as application:
        if then == "writes":
            add_rows(application, 1)
        found = application.execute("SELECT count(*) FROM memories WHERE description = 'PRECIOUS'").fetchone()
    assert found == (1,)


def test_who_goes_on_without_the_log_of_something_damaged_finds_it_whole_in_safety(tmp_path, monkeypatch):
    config = configuration(tmp_path)
    database(config.database_path)
    backup.run(config, clock=clock())

    leave_in_log(config.database_path)
    before = config.database_path.read_bytes()

    def malformed(*_arguments):
        raise DamagedError("database disk image is malformed")

    def restore_and_die():
        # As damaged as SQLite can say.
        safety._checked = malformed
        replace = os.replace

        def dying(source, target, *rest, **more):
            if str(target) == str(config.database_path):
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(source, target, *rest, **more)

        os.replace = dying
        restore.run(config, restore.Request(), clock=clock(1))

    assert in_child(restore_and_die) == -signal.SIGKILL
    with closing(connect(config.database_path)) as application:
        application.execute("INSERT INTO memories (description) VALUES ('later')")
        application.commit()
        outcome = backup.run(config, clock=clock(2))
    (warning,) = [one for one in outcome.warnings if "cut off" in one]
    assert "was left as it is. What was there before the restore lies in" in warning
    (raw,) = (config.storage_path / "safety").glob("*.raw")
    assert (raw / "eternia.db").read_bytes() == before
    with closing(connect(raw / "eternia.db")) as kept:
        assert kept.execute("SELECT count(*) FROM memories WHERE description = 'PRECIOUS'").fetchone() == (1,)


def test_a_database_with_another_name_is_copied_into_safety(tmp_path):
    config = configuration(tmp_path)
    database(config.database_path)
    backup.run(config, clock=clock())
    os.link(config.database_path, tmp_path / "another-name")
    with closing(connect(config.database_path)) as application:
        add_rows(application, 3)
    outcome = restore.run(config, restore.Request(), clock=clock(1))
    kept = query(outcome.safety, "SELECT count(*) FROM memories")
    with closing(connect(tmp_path / "another-name")) as application:
        add_rows(application, 1)
    assert query(outcome.safety, "SELECT count(*) FROM memories") == kept

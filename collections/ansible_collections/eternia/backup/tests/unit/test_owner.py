# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What root does by hand in the storage of the user who does it by schedule keeps that user from nothing."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    cli_log,
    drill,
    files,
    hold,
    log,
    prune,
    record,
    restore,
)
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
)

# Nobody here: no file is his but what is given to him.
USER = 54321


@pytest.fixture
def place():
    """A directory that others may enter, as they may not pytest's own."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def config(place):
    if os.geteuid() != 0:
        pytest.skip("only root can make what another user must not be kept from")
    database(place / "data" / "eternia.db")
    found = configuration(place)
    found.storage_path.mkdir(mode=0o700, parents=True)
    for path in (found.database_path.parent, *found.database_path.parent.iterdir(), found.storage_path):
        os.chown(path, USER, USER)
    return found


def by_schedule(config, hours):
    """All that a host does by itself, as the user who does it."""

    def work():
        os.setgid(USER)
        os.setuid(USER)
        backup.run(config, clock=clock(hours))
        prune.run(config, now=NOON + timedelta(hours=hours))
        drill.run(config, clock=clock(hours))

    return in_child(work)


def others(directory):
    """What is not the user's."""
    return [path for path in directory.rglob("*") if path.lstat().st_uid != USER]


def test_whatever_root_did_the_user_goes_on(config):
    backup.run(config, clock=clock())
    prune.run(config, now=NOON)
    drill.run(config, clock=clock())
    hold.put(config.storage_path, hold.Hold("root", "to see", NOON + timedelta(hours=1)))
    hold.put(config.storage_path, None)
    with closing(connect(config.database_path)) as application:
        add_rows(application, 3)
    restore.run(config, restore.Request(), clock=clock(1))
    assert len(list((config.storage_path / "safety").iterdir())) == 2
    assert others(config.storage_path) == []
    assert others(config.database_path.parent) == []
    assert by_schedule(config, 2) == 0


def test_also_where_root_was_killed_in_the_middle(config, monkeypatch):
    def die(*_arguments, **_more):
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        monkeypatch.setattr(backup.verify, "prove", die)
        backup.run(config, clock=clock())

    assert in_child(work) == -signal.SIGKILL
    assert (config.storage_path / ".staging").exists()
    assert by_schedule(config, 1) == 0


def test_a_file_that_has_another_name_is_not_given_away(config, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root's")
    os.link(secret, config.storage_path / "file")
    os.close(files.make(config.storage_path / "file", is_new=False))
    assert secret.stat().st_uid == 0


def test_a_log_is_never_written_through_a_link(config, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root's")
    path = config.database_path.parent / "eternia.log"
    path.symlink_to(secret)
    problems = []
    with cli_log.scheduled(path, problems):
        log.info("a line")
    assert secret.read_text() == "root's"
    assert len(problems) == 1
    path.unlink()
    with cli_log.scheduled(path, problems):
        log.info("a line")
    assert path.read_text().endswith("a line\n")
    assert path.stat().st_uid == USER


def test_what_root_fetched_and_did_not_put_into_place_keeps_no_backup_of_the_users_from_being_taken(config):
    """As the runbook leaves it where the application does not stop: only root changes what was proven."""
    backup.run(config, clock=clock())
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    os.chown(config.database_path, USER, USER)
    assert restore.stage(config, restore.Request(), clock=clock(1)).staged
    assert by_schedule(config, 2) == 0
    staging = config.database_path.with_name(".eternia.db.restore")
    said = record.read(config.storage_path).warnings
    assert f"{staging} was left by a restore of user 0's. Finish it as that user, or have it removed." in said
    assert restore.run(config, restore.Request(str(min(config.storage_path.glob("*.db")))), clock=clock(3)).changed
    assert not staging.exists()


def test_a_restore_of_roots_that_was_cut_off_is_roots_to_settle(config, capfd):
    """Its journal names what is renamed: whoever may write beside the data must not be able to lay one there."""
    backup.run(config, clock=clock())
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    restore.run(config, restore.Request(), clock=clock(0.5))
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    journal = config.database_path.with_name(".eternia.db.restore") / "journal.json"

    def killed_at(step):
        at_call(step, die)
        restore.run(config, restore.Request(), clock=clock(1))

    for step in itertools.count(1):
        assert in_child(lambda step=step: killed_at(step)) == -signal.SIGKILL
        if journal.exists():
            break
    assert journal.parent.stat().st_uid == 0
    assert by_schedule(config, 2) == 1
    assert "Run the restore again as user 0, whose it is, then run again." in capfd.readouterr().err
    restore.run(config, restore.Request(), clock=clock(3))
    for path in (config.database_path, *config.database_path.parent.glob("eternia.db-*")):
        os.chown(path, USER, USER)
    assert by_schedule(config, 4) == 0

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must outlive a night of restores: safety backups, the truth about the clock, a failure before the snapshot."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, prune, record, restore, selection
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import EngineError
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    add_rows,
    clock,
    configuration,
    connect,
    database,
    query,
)


@pytest.fixture
def config(tmp_path):
    database(tmp_path / "data" / "eternia.db")
    return configuration(tmp_path, retention={"keep_last": 1}, minimum_kept=1)


def test_safety_backups_of_one_night_outlive_the_keep_rules_and_age(config):
    backup.run(config, clock=clock())
    for hour in range(1, 5):
        with closing(connect(config.database_path)) as application:
            add_rows(application, hour)
        restore.run(config, restore.Request(), clock=clock(hour))
    kept = config.storage_path / "safety"
    backup.run(config, clock=clock(6))
    prune.run(config, now=NOON + timedelta(days=29))
    counts = sorted(query(path, "SELECT count(*) FROM memories")[0][0] for path in kept.glob("*.db"))
    assert counts == [51, 52, 53, 54]
    for day in range(7, 40, 6):
        backup.run(config, clock=clock(24 * day))
    prune.run(config, now=NOON + timedelta(days=40))
    assert [query(path, "SELECT count(*) FROM memories") for path in kept.glob("*.db")] == [[(54,)]]


def test_latest_tells_of_a_backup_that_the_clock_does_not_know_yet(config):
    backup.run(config, clock=clock())
    backup.run(config, clock=clock(24))
    found = selection.find(config, "latest", now=NOON + timedelta(hours=1))
    assert found.candidates[0].title == "eternia_backup_20261122_120000.db"
    assert found.warnings[0].startswith("The clock says 2026-11-22T13:00:00Z, and eternia_backup_20261123_120000.db is")


def test_a_backup_that_cannot_settle_a_restore_keeps_prune_from_removing(config):
    backup.run(config, clock=clock())
    staging = config.database_path.with_name(".eternia.db.restore")
    staging.mkdir()
    (staging / "journal.json").write_text("{")
    with pytest.raises(EngineError, match="cannot be read"):
        backup.run(config, clock=clock(1))
    assert "failed" in (record.trouble(config.storage_path) or "")


def test_latest_is_found_where_the_clock_was_lost_too(config):
    backup.run(config, clock=clock())
    backup.run(config, clock=clock(24))
    found = selection.find(config, "latest", now=NOON.replace(year=1970))
    assert found.candidates[0].title == "eternia_backup_20261123_120000.db"
    (warning,) = found.warnings
    assert warning.startswith("The clock says 1970-11-22T12:00:00Z, and is wrong: no backup is passed over")

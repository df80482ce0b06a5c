# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log: every line can be found by the name that Eternia's operators search for, and goes where modules log."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from types import SimpleNamespace

import pytest
from ansible_collections.eternia.backup.plugins.module_utils import glue
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, log, prune
from ansible_collections.eternia.backup.tests.unit.builders import NOON, SetClock, configuration, database

DAY = timedelta(days=1)


@pytest.fixture
def config(tmp_path):
    database(tmp_path / "data" / "eternia.db")
    return configuration(tmp_path, retention={"keep_last": 1}, minimum_kept=1)


@pytest.fixture
def own_handlers(monkeypatch):
    """What a module adds to the engine's logger is gone afterwards."""
    monkeypatch.setattr(log.logger, "handlers", [])
    level = log.logger.level
    yield
    log.logger.setLevel(level)


def act(config):
    """A run, one that says that nothing changed, one that warns, a failing one, a good one, and a prune."""
    path = backup.run(config, clock=SetClock(NOON).clock()).path
    backup.run(config, clock=SetClock(NOON + DAY).clock(), skip_unchanged=True)
    os.truncate(path, 4096)
    backup.run(config, clock=SetClock(NOON + 2 * DAY).clock(), skip_unchanged=True)
    kept = config.database_path.read_bytes()
    os.truncate(config.database_path, 5000)
    with pytest.raises(backup.RunFailedError):
        backup.run(config, clock=SetClock(NOON + 3 * DAY).clock())
    config.database_path.write_bytes(kept)
    backup.run(config, clock=SetClock(NOON + 4 * DAY).clock())
    prune.run(config, now=NOON + 5 * DAY)


def test_every_line_has_the_name_that_operators_search_for(config, caplog):
    caplog.set_level(logging.DEBUG)
    act(config)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if not line.startswith("[backup_manager] ")] == []
    assert {record.levelname for record in caplog.records} == {"INFO", "WARNING", "ERROR"}
    for words in ("was copied by", "check quick: ok", "is unchanged since", "is damaged", "was removed: "):
        assert any(words in line for line in lines), words


def test_a_module_passes_every_line_on(config, caplog, own_handlers):
    lines = []
    module = SimpleNamespace(
        log=lines.append,
        params={
            "config": {},
            "environment": "staging",
            "base_dir": str(config.storage_path.parents[1]),
            "host": None,
            # Where there is no agent.
            "agent_path": str(config.storage_path / "none"),
        },
    )
    found = glue.configuration(module)
    assert (found.storage_path, bool(found.host)) == (config.storage_path, True)
    caplog.set_level(logging.INFO)
    act(config)
    assert lines == [record.getMessage() for record in caplog.records]
    assert len(lines) > 8

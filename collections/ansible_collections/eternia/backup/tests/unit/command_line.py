# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a configuration file, and somebody who types commands there."""

from __future__ import annotations

import itertools
import os
import signal
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, cli, config_file, restore
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import Clock
from ansible_collections.eternia.backup.tests.unit.builders import (
    SetClock,
    add_rows,
    at_call,
    connect,
    database,
    die,
    in_child,
    query,
)

MODULE = cli.__name__
COLLECTIONS = Path(cli.__file__).parents[6]
ROWS = "SELECT count(*) FROM memories"


class Host:
    """A host with a configuration file, a database, and somebody who types commands."""

    def __init__(self, directory, capsys, **block):
        self.base = directory / "eternia"
        self.file = directory / "config.yml"
        self.capsys = capsys
        self.live = database(self.base / "data/eternia.db")
        self.backups = self.base / "backups/staging"
        self.configure(environment="staging", host="web1", base_dir=str(self.base), backup=block)

    def configure(self, **fields):
        self.file.write_text(yaml.safe_dump({**(self.fields if self.file.exists() else {}), **fields}))

    @property
    def fields(self):
        return yaml.safe_load(self.file.read_text())

    @property
    def config(self):
        return config_file.read(self.file)

    def type(self, *words):
        """Type a command; returns its exit code, and what it printed where."""
        self.capsys.readouterr()
        try:
            code = cli.main(["--config", str(self.file), *map(str, words)])
        except SystemExit as exc:
            code = exc.code
        return (code, *self.capsys.readouterr())

    def succeed(self, *words):
        code, out, err = self.type(*words)
        assert (code, err) == (0, "")
        return out

    def fail(self, code, *words):
        found, out, err = self.type(*words)
        assert found == code, out + err
        assert "Traceback" not in err
        return err

    def back_up(self, hours_ago=1.0):
        """Take a backup, then let the application write one row; returns the backup's path."""
        moment = datetime.now(timezone.utc) - timedelta(hours=hours_ago)
        taken = backup.run(self.config, clock=SetClock(moment).clock())
        self.write()
        return self.backups / taken.manifest.name

    def write(self):
        with closing(connect(self.live)) as application:
            add_rows(application)

    def rows(self):
        return query(self.live, ROWS)[0][0]

    def safety(self):
        return sorted((self.backups / "safety").glob("*.db"))


def child_environment(**more):
    return {**os.environ, "PYTHONPATH": str(COLLECTIONS), "TERM": "xterm", "COLUMNS": "120", **more}


def cut_off(host):
    """Kill restores at one call after the other, until one leaves its journal."""
    host.back_up()

    def killed_at(step):
        at_call(step, die)
        restore.run(host.config, restore.Request(), clock=Clock())

    journal = host.live.with_name(".eternia.db.restore") / "journal.json"
    for step in itertools.count(1):
        assert in_child(lambda step=step: killed_at(step)) == -signal.SIGKILL
        if journal.exists():
            return

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`cloud_backup.limit_rate`: what goes to S3 and comes from there keeps to it, and what is only read does not."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, drill
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_pace import Pace
from ansible_collections.eternia.backup.tests.unit.builders import clock, configuration, database

RATE = 1_000_000


@contextmanager
def taking(least):
    """No less: how much more it is says something about the machine alone."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started >= least


def test_many_threads_keep_one_pace():
    pace = Pace(RATE)

    def go():
        for _turn in range(50):
            pace.keep(5_000)

    threads = [threading.Thread(target=go) for _thread in range(4)]
    with taking(0.95):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_a_rest_is_no_credit():
    pace = Pace(RATE)
    pace.keep(1000)
    time.sleep(0.5)
    with taking(0.45):
        pace.keep(500_000)


def test_without_a_limit_nobody_waits(monkeypatch):
    monkeypatch.setattr(time, "sleep", pytest.fail)
    Pace(None).keep(1 << 40)


@pytest.mark.parametrize("tls", [False, True])
def test_a_backup_and_a_drill_keep_to_it(tmp_path, s3_settings, object_store, monkeypatch, tls):
    config = replace(configuration(tmp_path), cloud=replace(s3_settings, limit_rate=RATE))
    if tls:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(object_store.authority))
        config = replace(config, cloud=replace(config.cloud, endpoint_url=object_store.tls_endpoint))
    database(config.database_path, rows=5000)
    size = os.path.getsize(config.database_path)
    keep, counted = Pace.keep, []
    monkeypatch.setattr(Pace, "keep", lambda pace, count: (counted.append(count), keep(pace, count)))
    with taking(size / RATE * 0.95):
        backup.run(config, clock=clock(0))
    # To be signed, it is read once more before it is sent: that takes nothing of the line. Small objects come beside.
    assert size <= sum(counted) < size * 1.1
    counted.clear()
    with taking(size / RATE * 0.95):
        drill.run(config, clock=clock(1))
    assert size <= sum(counted) < size * 1.1

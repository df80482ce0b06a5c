# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the last run: what it says, that it is withdrawn without space, and that what is counted stays."""

from __future__ import annotations

import errno
import json
import os
from datetime import timedelta

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, prune, record
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import DamagedError, EngineError
from ansible_collections.eternia.backup.plugins.module_utils.engine.failure import KINDS, Failure
from ansible_collections.eternia.backup.plugins.module_utils.engine.record import Record
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import VERSION
from ansible_collections.eternia.backup.tests.unit.builders import NOON, SetClock, configuration, database

FIRST = "eternia_backup_20261122_120000.db"


@pytest.fixture
def config(tmp_path):
    database(tmp_path / "data" / "eternia.db")
    return configuration(tmp_path, retention={"keep_last": 1}, minimum_kept=1)


def run(config, hours=0):
    return backup.run(config, clock=SetClock(NOON + timedelta(hours=hours)).clock())


def fail(config, hours):
    live = config.database_path.read_bytes()
    config.database_path.unlink()
    with pytest.raises(backup.RunFailedError) as failed:
        run(config, hours)
    config.database_path.write_bytes(live)
    return failed.value


def fields(config):
    return json.loads((config.storage_path / "last-run.json").read_text())


def test_it_says_everything_of_a_run_that_went_well(config):
    taken = run(config)
    found = fields(config)
    assert 0 < found.pop("seconds") < 60
    assert found == {
        "format": 1,
        "result": "succeeded",
        "at": "2026-11-22T12:00:00Z",
        "error": "",
        "failure": None,
        "started_at": "2026-11-22T12:00:00Z",
        "backup": FIRST,
        "bytes_stored": taken.bytes,
        "bytes_sent": 0,
        "bytes_copied": 0,
        "removed": 0,
        "warnings": [],
        "create_only": None,
        "last_success_at": "2026-11-22T12:00:00Z",
        "failures": {},
        "tool_version": VERSION,
    }
    assert record.read(config.storage_path) == taken.record


def test_it_says_why_a_run_failed_and_counts_it(config):
    run(config)
    for hours in (1, 2):
        failed = fail(config, hours)
    found = fields(config)
    assert (found["result"], found["failure"], found["failures"]) == ("failed", "source", {"source": 2})
    assert found["error"] == str(failed) == failed.outcome.record.error
    assert (found["at"], found["started_at"]) == ("2026-11-22T14:00:00Z", "2026-11-22T14:00:00Z")
    assert (found["backup"], found["last_success_at"]) == (None, "2026-11-22T12:00:00Z")
    run(config, 3)
    found = fields(config)
    assert (found["result"], found["failure"], found["error"]) == ("succeeded", None, "")
    assert (found["failures"], found["last_success_at"]) == ({"source": 2}, "2026-11-22T15:00:00Z")


def test_it_says_what_went_to_s3_and_whether_that_is_safe(config, s3_settings, tmp_path):
    both = configuration(
        tmp_path,
        cloud_backup={
            "enabled": True,
            "bucket": s3_settings.bucket,
            "prefix": s3_settings.prefix,
            "endpoint_url": s3_settings.endpoint_url,
            "credentials_file": str(s3_settings.credentials_file),
        },
    )
    size = run(both).bytes
    found = fields(config)
    assert (found["bytes_stored"], found["bytes_sent"], found["create_only"]) == (size, size, True)
    # A run that does not come to S3 does not know better.
    fail(config, 1)
    assert fields(config)["create_only"] is True


def test_a_backup_that_is_on_the_disk_alone_is_named_although_the_run_failed(config, tmp_path):
    cloud = {"enabled": True, "bucket": "b-1", "endpoint_url": "http://127.0.0.1:9", "credentials_file": "none"}
    with pytest.raises(backup.RunFailedError):
        run(configuration(tmp_path, cloud_backup=cloud))
    found = fields(config)
    assert (found["result"], found["failure"], found["backup"], found["bytes_sent"]) == ("failed", "s3", FIRST, 0)


def test_a_run_that_was_cut_off_counts_once_somebody_is_there_to_count(config):
    run(config)
    begun = record.begin(config.storage_path, NOON + timedelta(hours=1))
    assert begun.failures == {}
    assert record.begin(config.storage_path, NOON + timedelta(hours=2)).failures == {"other": 1}
    run(config, 3)
    assert fields(config)["failures"] == {"other": 1}


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), MemoryError()])
def test_whatever_ends_a_run_is_recorded(config, monkeypatch, error):
    def ended(*_, **__):
        raise error

    run(config)
    with monkeypatch.context() as patched:
        patched.setattr(backup.snapshot, "take", ended)
        with pytest.raises(type(error)):
            run(config, 1)
    found = fields(config)
    assert (found["result"], found["failure"], found["failures"]) == ("failed", "other", {"other": 1})
    assert found["error"]
    assert prune.plan(config, now=NOON + timedelta(hours=2)).removed == []


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_it_is_withdrawn_where_there_is_no_space_for_anything_and_nothing_that_is_counted_is_lost(config, monkeypatch):
    """As ext4 is when it is full: no new file, but what a file has already can be written over."""
    run(config)
    fail(config, 1)
    run(config, 2)
    before = fields(config)
    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", full_disk)
        patched.setattr(os, "replace", full_disk)
        with pytest.raises(EngineError, match="no space left on device"):
            run(config, 3)
    found = fields(config)
    assert (found.pop("result"), found.pop("at")) == ("running", "2026-11-22T15:00:00Z")
    assert found == {key: value for key, value in before.items() if key not in ("result", "at")}
    assert record.trouble(config.storage_path) == "the run of 2026-11-22T15:00:00Z was cut off, or still goes on"
    run(config, 4)
    assert fields(config)["failures"] == {"source": 1, "other": 1}


def test_it_is_withdrawn_even_where_nothing_can_be_written_in_place(config, monkeypatch):
    """As a full btrfs is."""
    run(config)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full_disk)
        record.begin(config.storage_path, NOON)
    assert (config.storage_path / "last-run.json").read_bytes() == b""


def test_a_record_that_says_something_twice_cannot_outlive_its_withdrawal(config):
    """What is written over is the first, what JSON counts is the last."""
    run(config)
    path = config.storage_path / "last-run.json"
    path.write_text(path.read_text().replace('"error": ""', '"result": "succeeded", "error": ""'))
    record.begin(config.storage_path, NOON)
    assert "it has a name twice" in record.trouble(config.storage_path)


LATER = '{"format": 99, "result": "succeeded", "at": "2026-11-22T12:00:00Z"}'


@pytest.mark.parametrize("content", ["", "null", "[]", "{", '{"result": "succeeded"}', LATER, "\0" * 50])
def test_what_is_no_record_is_replaced(config, content):
    path = config.storage_path / "last-run.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DamagedError, match=rf"^The record of the last run \({path}\) cannot be read \(.*The next run"):
        record.read(config.storage_path)
    run(config)
    assert fields(config)["result"] == "succeeded"


WRONG = [
    {"result": "perhaps"},
    {"at": "noon"},
    {"at": None},
    {"failures": 7},
    {"failures": {"s3": "many"}},
    {"warnings": 7},
    {"seconds": "long"},
    {"last_success_at": "2026-13-01T00:00:00Z"},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_record_that_somebody_spoiled_is_no_ground_to_remove_anything(config, wrong):
    for hours in (0, 1):
        run(config, hours)
    assert prune.plan(config, now=NOON + timedelta(hours=2)).removed
    path = config.storage_path / "last-run.json"
    path.write_text(json.dumps({**fields(config), **wrong}))
    assert prune.plan(config, now=NOON + timedelta(hours=2)).removed == []


def test_a_record_of_before_and_one_of_after_are_read(config):
    """Of a version that knew less, and of one that knows more."""
    config.storage_path.mkdir(parents=True)
    path = config.storage_path / "last-run.json"
    path.write_text('{"result": "failed", "at": "2026-11-22T11:00:00Z", "error": "no space", "mood": "bad"}')
    assert record.read(config.storage_path) == Record("failed", "2026-11-22T11:00:00Z", "no space")
    run(config)
    assert fields(config)["failures"] == {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_failure_is_counted(kind):
    earlier = Record("running", "2026-11-22T11:00:00Z", failures={"s3": 2, "source": 1})
    failed = earlier.failed(NOON, Failure(kind, "why"))
    assert failed.failures == {**earlier.failures, kind: earlier.failures.get(kind, 0) + 1}
    assert earlier.failures == {"s3": 2, "source": 1}


def test_an_error_of_any_length_fills_no_terminal(config):
    run(config)
    path = config.storage_path / "last-run.json"
    path.write_text(json.dumps({**fields(config), "result": "failed", "error": "x" * 9000}))
    assert len(record.trouble(config.storage_path)) < 3500

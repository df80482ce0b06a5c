# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says becomes jobs; what it cannot mean is refused in the engine's own words."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytest.importorskip("ansible.errors", reason="ansible-core is not installed for this Python")

from ansible.errors import AnsibleFilterError
from ansible_collections.eternia.backup.plugins.filter.plan import plan


def configured(environment: str = "production", **backup: Any) -> dict[str, Any]:
    return {"environment": environment, "host": "web1", "base_dir": "/opt/eternia", "backup": backup}


@pytest.mark.parametrize(
    ("frequency", "cron"),
    [("hourly", "0 * * * *"), ("daily", "0 0 * * *"), ("weekly", "0 0 * * 1"), ("monthly", "0 0 1 * *")],
)
def test_the_jobs_of_a_frequency(frequency: str, cron: str) -> None:
    jobs = plan(configured(frequency=frequency))["jobs"]
    assert [(job["name"], job["every"], job["cron"], job["wait"]) for job in jobs] == [
        ("run", frequency, cron, 0),
        ("drill", "weekly", "15 5 * * 2", 0),
        ("status", "hourly", "30 * * * *", 0),
    ]


def test_a_spread_moves_every_job_by_the_same_part() -> None:
    run, drill, status = plan(configured(frequency="daily"), spread=36000)["jobs"]
    # web1 of production has 0.36994 of any spread: 3:41:57 of ten hours, and 22:11 of one.
    assert (run["cron"], run["wait"], run["calendar"]) == ("41 3 * * *", 57, "*-*-* 03:41:57 UTC")
    assert (drill["cron"], drill["wait"], drill["calendar"]) == ("56 8 * * 2", 57, "Tue *-*-* 08:56:57 UTC")
    assert (status["cron"], status["wait"], status["calendar"]) == ("52 * * * *", 11, "*-*-* *:52:11 UTC")


def test_no_drill_and_no_backups() -> None:
    assert [job["name"] for job in plan(configured(), drill="none")["jobs"]] == ["run", "status"]
    assert plan(configured(enabled=False)) == {"jobs": [], "storage": "", "mount": "", "files": []}


def test_where_the_jobs_write() -> None:
    report = {"log_file": "logs/eternia.log", "metrics_file": "/var/lib/prometheus/eternia.prom"}
    found = plan(configured(storage_path="/mnt/b/eternia", storage_mount="/mnt/b", report=report))
    assert (found["storage"], found["mount"]) == ("/mnt/b/eternia", "/mnt/b")
    assert found["files"] == [
        "/opt/eternia/data/eternia.db",
        "/opt/eternia/logs/state_snapshot.json",
        "/opt/eternia/logs/eternia.log",
        "/var/lib/prometheus/eternia.prom",
    ]


@pytest.mark.parametrize(
    ("configuration", "spread", "words"),
    [
        (configured("prod"), 0, "environment is 'prod'; it must be one of development, staging, production."),
        ({}, 0, "environment is ''; it must be one of"),
        ([], 0, "must have environment, host, base_dir and backup"),
        (
            configured(frequency="often"),
            0,
            "backup.frequency is 'often'; it must be one of hourly, daily, weekly, monthly.",
        ),
        (configured(enabled="false"), 0, "backup.enabled is 'false'; it must be true or false, without quotes."),
        (
            configured(frequency="hourly"),
            3601,
            "schedule_spread is 3601 seconds, and frequency hourly comes every 3600: a",
        ),
        (configured(frequency="monthly"), 2419201, "Give 2419200 or less."),
        (configured(), -1, "schedule_spread is -1; it must be a whole number of seconds, 0 or more."),
        (configured(), "60", "schedule_spread is '60'; it must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused(configuration: Any, spread: Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(words)):
        plan(configuration, spread=spread)

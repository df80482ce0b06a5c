# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When jobs are due: the same time for cron and systemd, spread evenly, never on a day that does not come."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.eternia.backup.plugins.plugin_utils.timetable import PERIODS, Due, share

HOSTS = [f"host-{number:04}" for number in range(1000)]
# Where midnight itself was skipped, where an hour was, and where it was half of one; and the day it came back.
CHANGES = [
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("Europe/Berlin", "2018-03-25"),
    ("Europe/Berlin", "2018-10-28"),
    ("Australia/Lord_Howe", "2018-10-07"),
    ("Australia/Lord_Howe", "2018-04-01"),
]


@pytest.mark.parametrize(
    ("due", "cron", "wait", "calendar"),
    [
        (Due("hourly", 0), "0 * * * *", 0, "*-*-* *:00:00 UTC"),
        (Due("daily", 0), "0 0 * * *", 0, "*-*-* 00:00:00 UTC"),
        (Due("weekly", 0), "0 0 * * 1", 0, "Mon *-*-* 00:00:00 UTC"),
        (Due("monthly", 0), "0 0 1 * *", 0, "*-*-01 00:00:00 UTC"),
        (Due("hourly", 3599), "59 * * * *", 59, "*-*-* *:59:59 UTC"),
        (Due("daily", 3661), "1 1 * * *", 1, "*-*-* 01:01:01 UTC"),
        (Due("daily", 86399), "59 23 * * *", 59, "*-*-* 23:59:59 UTC"),
        (Due("weekly", 86400), "0 0 * * 2", 0, "Tue *-*-* 00:00:00 UTC"),
        (Due("weekly", 7 * 86400 - 1), "59 23 * * 0", 59, "Sun *-*-* 23:59:59 UTC"),
        (Due("monthly", 90061), "1 1 2 * *", 1, "*-*-02 01:01:01 UTC"),
        (Due("monthly", 28 * 86400 - 1), "59 23 28 * *", 59, "*-*-28 23:59:59 UTC"),
    ],
)
def test_a_time_in_the_words_of_both(due: Due, cron: str, wait: int, calendar: str) -> None:
    assert (due.cron, due.wait, due.calendar) == (cron, wait, calendar)


def test_a_share_is_the_same_for_ever() -> None:
    assert share("production", "eternia-production") == 0.05258325335274705
    assert share("production", "web1") != share("staging", "web1")


@pytest.mark.parametrize("every", PERIODS)
@pytest.mark.parametrize("seconds", [1, 60, 600, 3600])
def test_a_thousand_hosts_are_spread_evenly_within_the_bound(every: str, seconds: int) -> None:
    later = [Due(every, 0).spread(share("production", host), seconds).after for host in HOSTS]
    assert 0 <= min(later) <= max(later) < seconds
    tenths = Counter(after * 10 // seconds for after in later)
    if seconds > 1:
        assert sorted(tenths) == list(range(10))
        # A tenth of them each; a fair coin strays further once in ten thousand times.
        assert all(60 <= count <= 140 for count in tenths.values()), tenths
    if seconds == 3600:
        assert max(Counter(later).values()) <= 5


@pytest.mark.parametrize("every", PERIODS)
def test_no_spread_leaves_the_period(every: str) -> None:
    period = PERIODS[every]
    first, last = Due(every, 0).spread(0.0, period), Due(every, 0).spread(1 - 2**-48, period)
    assert (first.after, last.after) == (0, period - 1)
    assert Due(every, 0).spread(0.5, 0) == Due(every, 0)
    # A check that begins at half past stays hourly, and no wider spread makes it less even.
    assert Due(every, period // 2).spread(0.75, 10 * period).after == period // 4


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize(("every", "seconds"), [("hourly", 3600), ("daily", 86400)])
@pytest.mark.parametrize("after", [0, 1017, 1830])
def test_systemd_neither_skips_nor_repeats_when_the_clock_is_changed(
    zone: str, day: str, every: str, seconds: int, after: int
) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)) - timedelta(days=2)
    asked = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=100", f"--base-time={start:%F %T}", Due(every, after).calendar],
        env={"TZ": zone, "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        text=True,
        capture_output=True,
        check=True,
    )
    times = [line.split(maxsplit=3)[3] for line in asked.stdout.splitlines() if "(in UTC)" in line]
    elapsed = [datetime.strptime(one, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=timezone.utc) for one in times]
    assert len(elapsed) == 100
    gaps = {(later - one).total_seconds() for one, later in zip(elapsed, elapsed[1:])}
    assert gaps == {seconds}

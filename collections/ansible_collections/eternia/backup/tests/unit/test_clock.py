# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock that is off: years behind, no backup gets a wrong name; days ahead, nothing is removed for being old."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, clock, drill, prune, restore, status
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import (
    MOST_GAP,
    Gap,
    newest_gap,
    require_possible,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import ClockError
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import RELEASED
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    SetClock,
    configuration,
    database,
    query,
    tree,
)

EPOCH = datetime(1970, 1, 1, 0, 0, 7, tzinfo=timezone.utc)
AHEAD = NOON + timedelta(days=1500)
FIRST = "eternia_backup_20261122_120000.db"
GAP = "older than a gap of 1495 days: look at the clock; if it is right, remove it by hand"

WARNING = (
    "There is a gap of 1495 days without a backup, from 2026-11-27T12:00:00Z to 2030-12-31T12:00:00Z. The backup is "
    "taken; look at the clock. Pruning removes nothing that is older than the gap: if the clock is right, remove by "
    "hand what nobody needs."
)


def at(moment):
    return SetClock(moment).clock()


@pytest.fixture
def config(tmp_path):
    """A host with backups of six days, which goes by age alone."""
    database(tmp_path / "data" / "eternia.db")
    config = configuration(tmp_path, retention_days=2, minimum_kept=1)
    for day in range(6):
        backup.run(config, clock=at(NOON + timedelta(days=day)))
    return config


def test_the_day_of_the_release_is_one_that_a_right_clock_has_passed():
    assert RELEASED.tzinfo is timezone.utc
    assert datetime(2026, 1, 1, tzinfo=timezone.utc) <= RELEASED <= datetime.now(timezone.utc)
    require_possible(RELEASED)
    with pytest.raises(ClockError):
        require_possible(RELEASED - timedelta(seconds=1))


def test_before_its_time_no_backup_is_taken(config):
    message = (
        "The clock of this host says 1970-01-01T00:00:07Z, and no version of this program is older than "
        f"{RELEASED:%Y-%m-%d}: the clock is wrong. No backup was taken, because it would be named and pruned by that "
        "time. Set the clock (`timedatectl` tells whether it is synchronised), then run again."
    )
    before = tree(config.storage_path)
    with pytest.raises(ClockError, match=f"^{re.escape(message)}$"):
        backup.plan(config, clock=at(EPOCH))
    assert tree(config.storage_path) == before
    with pytest.raises(backup.RunFailedError, match=f"^{re.escape(message)}$"):
        backup.run(config, clock=at(EPOCH))
    assert len(list(config.storage_path.glob("*.db"))) == 6
    # The run counts as failed, so that nothing is removed behind it, and whoever watches is told.
    assert message in status.read(config, now=EPOCH).last_run
    later = NOON + timedelta(days=6)
    [reason] = {why for one in prune.run(config, now=later).verdicts for why in one.decision.reasons}
    assert reason.startswith("nothing is removed: the run of 1970-01-01T00:00:07Z failed")


def test_before_its_time_what_is_there_can_be_listed_drilled_and_restored(config):
    assert len(status.read(config, now=EPOCH).backups) == 6
    assert prune.run(config, now=EPOCH).removed == []
    config.database_path.unlink()
    restore.run(config, Request(FIRST), clock=at(EPOCH))
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(50,)]
    newest, older = drill.run(config, clock=at(EPOCH)).drilled
    assert (newest.name, newest.problem, older.problem) == ("eternia_backup_20261127_120000.db", None, None)


def reasons(outcome):
    return {str(one.decision.copy.name): one.decision.reasons for one in outcome.verdicts}


@pytest.mark.parametrize("store", ["local", "s3"])
def test_years_ahead_the_backup_is_taken_and_nothing_older_is_removed(config, s3_settings, store):
    if store == "s3":
        config = replace(config, cloud=s3_settings)
    old = sorted(path.name for path in config.storage_path.glob("*.db"))
    for days in range(3):
        now = AHEAD + timedelta(days=days)
        planned = backup.plan(config, clock=at(now))
        plan = prune.plan(config, now=now, upcoming=[planned.name])
        outcome = backup.run(config, clock=at(now))
        pruned = prune.run(config, now=now)
        assert planned.warnings == outcome.warnings == [WARNING]
        assert plan.removed == pruned.removed == []
        for one in pruned.verdicts:
            if one.decision.copy.name.created_at < AHEAD:
                assert one.decision.reasons == (GAP,)
    assert sorted(path.name for path in config.storage_path.glob("*.db"))[:6] == old
    # Among themselves the later ones age as ever.
    late = AHEAD + timedelta(days=4)
    backup.run(config, clock=at(late))
    removed = prune.run(config, now=late).removed
    assert store in {one.store for one in removed}
    assert all(one.decision.copy.name.created_at >= AHEAD for one in removed)
    # Set right, it is as if nothing had been: three days are older than two, as before.
    right = NOON + timedelta(days=6)
    backup.run(config, clock=at(right))
    assert (
        sorted(str(one.decision.copy.name) for one in prune.run(config, now=right).removed if one.store == "local")
        == (old[:4])
    )


@pytest.mark.parametrize(("days", "until"), [(60, "2027-01-26"), (9, "2026-12-06"), (3, "2026-11-30")])
@pytest.mark.parametrize("store", ["local", "s3"])
def test_days_ahead_nothing_is_removed_until_a_week_of_backups_says_that_it_is_so(
    config, s3_settings, store, days, until
):
    if store == "s3":
        config = replace(config, cloud=s3_settings)
    ahead = NOON + timedelta(days=5 + days)
    planned = backup.plan(config, clock=at(ahead))
    plan = prune.plan(config, now=ahead, upcoming=[planned.name])
    taken = backup.run(config, clock=at(ahead))
    warning = (
        f"There is a gap of {days} days without a backup, from 2026-11-27T12:00:00Z to {until}T12:00:00Z. The backup "
        "is taken; look at the clock. Pruning removes nothing for now: if the clock is right, that ends by itself "
        "after 2 days of backups."
    )
    assert planned.warnings == taken.warnings == [warning]
    pruned = prune.run(config, now=ahead)
    assert plan.removed == pruned.removed == []
    assert reasons(plan) == reasons(pruned)
    told = f"older than a gap of {days} days: look at the clock; if it is right, that ends after 2 days of backups"
    assert [why for name, why in reasons(pruned).items() if name != str(taken.name)] == [(told,)] * 6
    # Set right, the rest ages as ever, and what is dated in the future stays.
    right = NOON + timedelta(days=6)
    backup.run(config, clock=at(right))
    removed = {str(one.decision.copy.name) for one in prune.run(config, now=right).removed if one.store == "local"}
    assert removed == {f"eternia_backup_202611{day}_120000.db" for day in (22, 23, 24, 25)}


def test_after_an_outage_the_old_ones_go_once_the_clock_is_believed(config):
    """What is kept for two days is behind it after two."""
    old = {path.name for path in config.storage_path.glob("*.db")}
    found = []
    for day in range(4):
        now = NOON + timedelta(days=25 + day)
        backup.run(config, clock=at(now))
        pruned = prune.run(config, now=now + timedelta(minutes=1))
        removed = {str(one.decision.copy.name) for one in pruned.removed}
        found.append(old <= removed)
    assert found == [False, False, True, False]


def test_a_source_that_is_unchanged_for_years_removes_nothing(config):
    """No new backup is taken then, so that there is none behind the gap."""
    backup.run(config, clock=at(AHEAD), skip_unchanged=True)
    assert prune.run(config, now=AHEAD).removed == []


def test_what_is_removed_by_hand_ends_the_gap(config):
    backup.run(config, clock=at(AHEAD))
    for path in config.storage_path.glob("eternia_backup_2026*"):
        path.unlink()
    assert backup.run(config, clock=at(AHEAD + timedelta(hours=1))).warnings == []


@pytest.mark.parametrize("right", [True, False])
def test_safety_backups_age_by_the_clock_of_the_others(config, right):
    """Years may lie between two restores, and the clock be right all the time."""
    safety = config.storage_path / "safety"
    safety.mkdir()
    template = config.storage_path / FIRST
    for year in (2021, 2022, 2026):
        for suffix in ("", ".manifest.json"):
            name = f"eternia_backup_{year}0101_120000.db{suffix}"
            content = (template.parent / f"{template.name}{suffix}").read_bytes()
            stamp = f"{year}-01-01T12:00:00Z".encode()
            content = content.replace(FIRST.encode(), name.removesuffix(suffix).encode())
            (safety / name).write_bytes(content.replace(b"2026-11-22T12:00:00Z", stamp, 1))
    now = NOON + timedelta(days=6) if right else AHEAD
    backup.run(config, clock=at(now))
    removed = {one.location for one in prune.run(config, now=now).removed if one.store == "safety"}
    assert removed == (
        {str(safety / f"eternia_backup_{year}0101_120000.db") for year in (2021, 2022)} if right else set()
    )


def test_gaps():
    days = [NOON - timedelta(days=day) for day in (0, 1, 800, 801, 2000, 2001)]
    assert newest_gap(days) == Gap(days[2], days[1])
    assert newest_gap(days).length.days == 799
    assert newest_gap(days[2:]) == Gap(days[4], days[3])
    assert newest_gap(days[4:]) is newest_gap(days[:1]) is newest_gap([]) is None
    assert newest_gap([NOON, NOON - MOST_GAP]) is None
    assert newest_gap([NOON, NOON - MOST_GAP - timedelta(seconds=1)]) is not None


def test_of_very_many_moments_only_those_behind_a_long_time_are_gone_through_again(monkeypatch):
    """To look at what is usual takes longer than all else that is done with a moment, and there may be a million."""
    looked, usual = [], clock._usual
    monkeypatch.setattr(clock, "_usual", lambda moments, days: looked.append(len(moments)) or usual(moments, days))
    hours = [NOON - timedelta(hours=number) for number in range(500)]
    assert newest_gap(hours, kept_for=timedelta(days=7)) is None
    assert looked == []
    later = NOON + timedelta(days=8)
    assert newest_gap([later, *hours], kept_for=timedelta(days=7)) == Gap(NOON, later, timedelta(days=7))
    assert looked == [20]

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups stay and why: a table of histories, then what holds in every history."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone, tzinfo

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE, STATE, BackupName, parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.retention import Decision, Policy, apply_policy
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Copy
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = datetime(2026, 11, 22, 22, 0, 0, tzinfo=timezone.utc)
NONE = Policy(None, minimum_kept=1)

# A line is one copy: whether it stays (+) or goes (-), its name, what is special about it, every reason.
CASES: dict[str, tuple[Policy, str]] = {
    "an empty store": (Policy(), ""),
    "the first backup": (
        Policy(),
        """
        + eternia_backup_20261122_210000.db | newest verified; one of the 3 that always stay; younger than 30 days;
            only 1 verified backup, 3 must exist before any is removed
        """,
    ),
    "age": (
        Policy(30, minimum_kept=1),
        """
        + eternia_backup_20261122_220000.db     | newest verified; younger than 30 days
        + eternia_backup_20261116_220000.db     | younger than 30 days
        + eternia_backup_20261110_220000.db     | younger than 30 days
        + eternia_backup_20261103_220000.db     | younger than 30 days
        + eternia_backup_20261028_220000.db     | younger than 30 days
        + eternia_backup_20261023_220001.db.zst | younger than 30 days
        + eternia_backup_20261023_220000.db     | younger than 30 days
        - eternia_backup_20261023_215959.db     | older than 30 days and no keep rule wants it
        - eternia_backup_20241122_120000.db     | older than 30 days and no keep rule wants it
        """,
    ),
    "one day": (
        Policy(1, minimum_kept=1),
        """
        + eternia_state_20261122_120000.json | newest verified; younger than 1 day
        + eternia_state_20261121_220000.json | younger than 1 day
        - eternia_state_20261121_215959.json | older than 1 day and no keep rule wants it
        """,
    ),
    "for ever": (
        Policy(0, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db        | newest verified; retention_days is 0: kept for ever
        + eternia_backup_19700101_000000.db legacy | retention_days is 0: kept for ever
        """,
    ),
    "more days than time has": (
        Policy(10**7, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db | newest verified; younger than 10000000 days
        + eternia_backup_10000101_000000.db | younger than 10000000 days
        """,
    ),
    "no rule wants anything": (
        NONE,
        """
        + eternia_backup_20261122_210000.db | newest verified
        - eternia_backup_20261122_200000.db | no keep rule wants it
        """,
    ),
    "no rule wants anything, nor is a minimum set": (
        Policy(None, minimum_kept=0),
        """
        + eternia_backup_20261122_210000.db | newest verified
        - eternia_backup_20261122_200000.db | no keep rule wants it
        """,
    ),
    "the minimum": (
        Policy(None, minimum_kept=2),
        """
        - eternia_backup_20261122_210000.db legacy | no keep rule wants it
        + eternia_backup_20251122_200000.db        | newest verified; one of the 2 that always stay
        - eternia_backup_20251122_190000.db legacy | no keep rule wants it
        + eternia_backup_20251122_180000.db        | one of the 2 that always stay
        - eternia_backup_20251122_170000.db        | no keep rule wants it
        """,
    ),
    "fewer than the minimum": (
        Policy(None, minimum_kept=2),
        """
        + eternia_backup_20201122_200000.db        | newest verified; one of the 2 that always stay;
            only 1 verified backup, 2 must exist before any is removed
        + eternia_backup_20201122_190000.db legacy | only 1 verified backup, 2 must exist before any is removed
        """,
    ),
    "nothing verified": (
        Policy(),
        """
        + eternia_backup_20201122_200000.db legacy | only 0 verified backups, 3 must exist before any is removed
        + eternia_backup_20201122_190000.db lost   | only 0 verified backups, 3 must exist before any is removed
        """,
    ),
    "the future counts for nothing": (
        Policy(None, keep_last=1, keep_daily=1, minimum_kept=1),
        """
        + eternia_backup_99991231_235959.db pinned | from the future: check the clock; pinned
        + eternia_backup_20261122_220001.db        | from the future: check the clock
        + eternia_backup_20261122_220000.db        | newest verified; last 1 of 1; daily 1 of 1 (2026-11-22)
        - eternia_backup_20261122_215959.db        | no keep rule wants it
        """,
    ),
    "only the future": (Policy(None), "+ eternia_backup_20261122_220001.db | from the future: check the clock"),
    "pinned ones stay and count": (
        Policy(None, keep_daily=2, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db               | newest verified; daily 1 of 2 (2026-11-22)
        + eternia_backup_20261121_210000.db pinned        | pinned; daily 2 of 2 (2026-11-21)
        - eternia_backup_20261120_210000.db               | no keep rule wants it
        + eternia_backup_20201119_210000.db pinned legacy | pinned
        """,
    ),
    "the last": (
        Policy(None, keep_last=2, minimum_kept=1),
        """
        + eternia_backup_20261122_210001.db | newest verified; last 1 of 2
        + eternia_backup_20261122_210000.db | last 2 of 2
        - eternia_backup_20261122_205959.db | no keep rule wants it
        """,
    ),
    "hours": (
        Policy(None, keep_hourly=2, minimum_kept=1),
        """
        + eternia_backup_20261122_215900.db | newest verified; hourly 1 of 2 (2026-11-22T21Z)
        - eternia_backup_20261122_210000.db | no keep rule wants it
        + eternia_backup_20261121_215900.db | hourly 2 of 2 (2026-11-21T21Z)
        - eternia_backup_20261121_205900.db | no keep rule wants it
        """,
    ),
    "days, over a leap day": (
        Policy(None, keep_daily=4, minimum_kept=1),
        """
        + eternia_backup_20250630_000000.db | newest verified; daily 1 of 4 (2025-06-30)
        + eternia_backup_20240301_000000.db | daily 2 of 4 (2024-03-01)
        + eternia_backup_20240229_235959.db | daily 3 of 4 (2024-02-29)
        - eternia_backup_20240229_000000.db | no keep rule wants it
        + eternia_backup_20240228_235959.db | daily 4 of 4 (2024-02-28)
        - eternia_backup_20240227_235959.db | no keep rule wants it
        """,
    ),
    "ISO weeks, over a new year": (
        Policy(None, keep_weekly=5, minimum_kept=1),
        """
        + eternia_backup_20251122_000000.db | newest verified; weekly 1 of 5 (2025-W47)
        + eternia_backup_20240101_000000.db | weekly 2 of 5 (2024-W01)
        + eternia_backup_20220102_120000.db | weekly 3 of 5 (2021-W52)
        + eternia_backup_20210103_120000.db | weekly 4 of 5 (2020-W53)
        - eternia_backup_20201228_000000.db | no keep rule wants it
        + eternia_backup_20201227_235959.db | weekly 5 of 5 (2020-W52)
        - eternia_backup_20201220_000000.db | no keep rule wants it
        """,
    ),
    "months and years": (
        Policy(None, keep_monthly=2, keep_yearly=2, minimum_kept=1),
        """
        + eternia_backup_20261122_120000.db | newest verified; monthly 1 of 2 (2026-11); yearly 1 of 2 (2026)
        - eternia_backup_20261121_120000.db | no keep rule wants it
        + eternia_backup_20261031_235959.db | monthly 2 of 2 (2026-10)
        - eternia_backup_20260930_120000.db | no keep rule wants it
        + eternia_backup_20251122_120000.db | yearly 2 of 2 (2025)
        - eternia_backup_20241122_120000.db | no keep rule wants it
        """,
    ),
    "the oldest, while history is short": (
        Policy(None, keep_daily=3, minimum_kept=1),
        """
        + eternia_backup_20261122_120000.db        | newest verified; daily 1 of 3 (2026-11-22)
        + eternia_backup_20261121_120000.db        | daily 2 of 3 (2026-11-21)
        - eternia_backup_20261121_110000.db        | no keep rule wants it
        + eternia_backup_20261121_100000.db        | daily 2 of 3 (oldest)
        - eternia_backup_20261121_090000.db legacy | no keep rule wants it
        """,
    ),
    "no oldest, once it is long enough": (
        Policy(None, keep_daily=2, minimum_kept=1),
        """
        + eternia_backup_20261122_120000.db | newest verified; daily 1 of 2 (2026-11-22)
        + eternia_backup_20261121_120000.db | daily 2 of 2 (2026-11-21)
        - eternia_backup_20261121_110000.db | no keep rule wants it
        """,
    ),
    "the verified one stands for its day": (
        Policy(None, keep_daily=3, minimum_kept=1),
        """
        - eternia_backup_20261122_120000.db legacy | no keep rule wants it
        + eternia_backup_20261122_110000.db        | newest verified; daily 1 of 3 (2026-11-22)
        - eternia_backup_20261121_120000.db lost   | no keep rule wants it
        + eternia_backup_20261121_110000.db legacy | daily 2 of 3 (2026-11-21)
        + eternia_backup_20261120_120000.db lost   | daily 3 of 3 (2026-11-20)
        + eternia_backup_20261119_120000.db        | daily 2 of 3 (2026-11-19)
        - eternia_backup_20261118_120000.db legacy | no keep rule wants it
        + eternia_backup_20261117_120000.db        | daily 3 of 3 (2026-11-17)
        - eternia_backup_20261116_120000.db        | no keep rule wants it
        """,
    ),
    "what is not verified uses up none of the last": (
        Policy(None, keep_last=2, minimum_kept=1),
        """
        + eternia_backup_20261122_120000.db legacy | last 1 of 2
        + eternia_backup_20261121_120000.db legacy | last 2 of 2
        - eternia_backup_20261120_120000.db legacy | no keep rule wants it
        + eternia_backup_20261119_120000.db        | newest verified; last 1 of 2
        + eternia_backup_20261118_120000.db        | last 2 of 2
        - eternia_backup_20261117_120000.db        | no keep rule wants it
        """,
    ),
    "drilled ones first, behind the newest": (
        Policy(None, minimum_kept=3),
        """
        + eternia_backup_20261122_120000.db         | newest verified; one of the 3 that always stay
        - eternia_backup_20261121_120000.db         | no keep rule wants it
        + eternia_backup_20261120_120000.db drilled | one of the 3 that always stay (drilled)
        + eternia_backup_20251119_120000.db drilled | one of the 3 that always stay (drilled)
        - eternia_backup_20251118_120000.db drilled | no keep rule wants it
        """,
    ),
    "places that no drilled one takes": (
        Policy(None, minimum_kept=3),
        """
        + eternia_backup_20261122_120000.db drilled | newest verified; one of the 3 that always stay (drilled)
        + eternia_backup_20261121_120000.db         | one of the 3 that always stay
        - eternia_backup_20261120_120000.db         | no keep rule wants it
        + eternia_backup_20261119_120000.db drilled | one of the 3 that always stay (drilled)
        """,
    ),
    "a mark takes no place of what is verified": (
        Policy(None, minimum_kept=2),
        """
        + eternia_backup_20261122_230000.db drilled        | from the future: check the clock
        + eternia_backup_20261122_120000.db                | newest verified; one of the 2 that always stay
        + eternia_backup_20261121_120000.db                | one of the 2 that always stay
        - eternia_backup_20261120_120000.db drilled lost   | no keep rule wants it
        - eternia_backup_20261119_120000.db drilled legacy | no keep rule wants it
        """,
    ),
    "where the newest alone always stays, a drill changes nothing": (
        NONE,
        """
        + eternia_backup_20261122_120000.db         | newest verified
        - eternia_backup_20261121_120000.db drilled | no keep rule wants it
        """,
    ),
    "a manifest without data proves nothing": (
        NONE,
        """
        - eternia_backup_20261122_120000.db lost | no keep rule wants it
        + eternia_backup_20261121_120000.db      | newest verified
        """,
    ),
    "each kind by itself": (
        Policy(None, keep_last=1, minimum_kept=1),
        """
        + eternia_state_20261122_120000.json | newest verified; last 1 of 1
        + eternia_backup_20261122_120000.db  | newest verified; last 1 of 1
        - eternia_state_20261122_110000.json | no keep rule wants it
        - eternia_backup_20261122_110000.db  | no keep rule wants it
        """,
    ),
    "twice in a second": (
        Policy(None, keep_last=2, keep_hourly=1, minimum_kept=1),
        """
        + eternia_backup_20261122_120000.db.zst.age | newest verified; last 1 of 2; hourly 1 of 1 (2026-11-22T12Z)
        + eternia_backup_20261122_120000.db.zst     | last 2 of 2
        - eternia_backup_20261122_120000.db         | no keep rule wants it
        """,
    ),
    "behind a gap nothing goes": (
        Policy(30, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db        | newest verified; younger than 30 days
        - eternia_backup_20261001_000000.db        | older than 30 days and no keep rule wants it
        - eternia_backup_20250101_000000.db legacy | older than 30 days and no keep rule wants it
        + eternia_backup_20230630_000000.db        | older than a gap of 1189 days: GAP
        + eternia_backup_20230629_000000.db legacy | older than a gap of 1189 days: GAP
        + eternia_backup_20230628_000000.db pinned | pinned
        + eternia_backup_20100101_000000.db        | older than a gap of 1189 days: GAP
        """,
    ),
    "a gap up to now": (
        NONE,
        """
        + eternia_backup_20241121_215959.db  | newest verified
        + eternia_backup_20241121_200000.db  | older than a gap of 731 days: GAP
        + eternia_state_20241120_200000.json | newest verified
        + eternia_state_20241119_200000.json | older than a gap of 731 days: GAP
        """,
    ),
    "two years are no gap": (
        NONE,
        """
        + eternia_backup_20241121_220000.db | newest verified
        - eternia_backup_20221121_220000.db | no keep rule wants it
        """,
    ),
    "a clock that was read for one kind was right for the other": (
        NONE,
        """
        + eternia_state_20261122_200000.json | newest verified
        - eternia_state_20250101_200000.json | no keep rule wants it
        + eternia_backup_20231122_200000.db  | newest verified
        - eternia_backup_20231121_200000.db  | no keep rule wants it
        """,
    ),
    "neither the future nor what is pinned or not proven makes a gap, or ends one": (
        Policy(None, minimum_kept=1),
        """
        + eternia_backup_20300101_000000.db        | from the future: check the clock
        + eternia_backup_20261122_200000.db        | newest verified
        - eternia_backup_20261122_100000.db        | no keep rule wants it
        + eternia_backup_20250102_000000.db pinned | pinned
        - eternia_backup_20250101_000000.db legacy | no keep rule wants it
        + eternia_backup_20240101_000000.db        | older than a gap of 1056 days: GAP
        + eternia_backup_20100101_000000.db pinned | pinned
        """,
    ),
    "all rules together": (
        Policy(2, 1, 1, 1, 1, 1, 1, minimum_kept=2),
        """
        + eternia_backup_20261122_120000.db | newest verified; one of the 2 that always stay; last 1 of 1;
            hourly 1 of 1 (2026-11-22T12Z); daily 1 of 1 (2026-11-22); weekly 1 of 1 (2026-W47);
            monthly 1 of 1 (2026-11); yearly 1 of 1 (2026); younger than 2 days
        + eternia_backup_20261122_110000.db | one of the 2 that always stay; younger than 2 days
        - eternia_backup_20261116_110000.db | older than 2 days and no keep rule wants it
        """,
    ),
    "an unusual gap is not believed at once": (
        Policy(30, minimum_kept=1),
        """
        + eternia_backup_20261122_215900.db        | newest verified; younger than 30 days
        + eternia_backup_20260920_000000.db        | older than a gap of 63 days: YOUNG
        + eternia_backup_20260919_000000.db legacy | older than a gap of 63 days: YOUNG
        + eternia_backup_20260918_000000.db        | older than a gap of 63 days: YOUNG
        """,
    ),
    "nor before there are three backups behind it": (
        Policy(10, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db | newest verified; younger than 10 days
        + eternia_backup_20261114_210000.db | younger than 10 days
        + eternia_backup_20260920_000000.db | older than a gap of 55 days: YOUNG
        """,
    ),
    "nor up to now": (
        Policy(30, minimum_kept=1),
        """
        + eternia_backup_20260920_000000.db | newest verified
        + eternia_backup_20260919_000000.db | older than a gap of 63 days: YOUNG
        """,
    ),
    "after a week it is": (
        Policy(30, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db | newest verified; younger than 30 days
        + eternia_backup_20261116_210000.db | younger than 30 days
        + eternia_backup_20261115_210000.db | younger than 30 days
        - eternia_backup_20260920_000000.db | older than 30 days and no keep rule wants it
        - eternia_backup_20260919_000000.db | older than 30 days and no keep rule wants it
        """,
    ),
    "what is kept for less than a week is behind it sooner": (
        Policy(1, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db | newest verified; younger than 1 day
        + eternia_backup_20261122_110000.db | younger than 1 day
        - eternia_backup_20261121_210000.db | older than 1 day and no keep rule wants it
        - eternia_backup_20260920_000000.db | older than 1 day and no keep rule wants it
        """,
    ),
    "what is usual is no gap": (
        Policy(30, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db | newest verified; younger than 30 days
        - eternia_backup_20261001_210000.db | older than 30 days and no keep rule wants it
        - eternia_backup_20260901_210000.db | older than 30 days and no keep rule wants it
        - eternia_backup_20260801_210000.db | older than 30 days and no keep rule wants it
        """,
    ),
    "the first behind a gap stay, or nothing would ever tell that it is one": (
        Policy(7, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db | newest verified; younger than 7 days
        + eternia_backup_20261114_210000.db | one of the first behind a gap of 12 days: YOUNG
        + eternia_backup_20261102_210000.db | older than a gap of 12 days: YOUNG
        + eternia_backup_20261102_200000.db | older than a gap of 12 days: YOUNG
        """,
    ),
    "half of what is kept, and a day": (
        Policy(2, minimum_kept=1),
        """
        + eternia_backup_20261121_220000.db | newest verified; younger than 2 days
        + eternia_backup_20261121_210000.db | younger than 2 days
        + eternia_backup_20261120_200000.db | older than a gap of 1 day: SHORT
        + eternia_backup_20261120_190000.db | older than a gap of 1 day: SHORT
        """,
    ),
    "less than a day is no gap": (
        Policy(1, minimum_kept=1),
        """
        + eternia_backup_20261121_220001.db | newest verified; younger than 1 day
        - eternia_backup_20261121_210000.db | older than 1 day and no keep rule wants it
        - eternia_backup_20261121_200000.db | older than 1 day and no keep rule wants it
        """,
    ),
    "of one backup nobody knows what was usual before it": (
        Policy(1, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db | newest verified; younger than 1 day
        - eternia_backup_20261119_210000.db | older than 1 day and no keep rule wants it
        """,
    ),
    "rules that count do not mind a gap": (
        Policy(None, keep_last=1, minimum_kept=1),
        """
        + eternia_backup_20261122_210000.db | newest verified; last 1 of 1
        - eternia_backup_20260920_000000.db | no keep rule wants it
        """,
    ),
}


GAP = "look at the clock; if it is right, remove it by hand"
YOUNG = "look at the clock; if it is right, that ends after 7 days of backups"
SHORT = YOUNG.replace("7", "2")


def read(line: str) -> Decision:
    """A line of the table as the decision that it expects."""
    copy_of, reasons = line.split("|")
    sign, text, *special = copy_of.split()
    name = parse(text)
    assert name is not None, text
    size = None if "lost" in special else 4096
    copy = Copy(name, size, "legacy" not in special, "pinned" in special, "drilled" in special)
    written = (
        reason.strip().replace("GAP", GAP).replace("YOUNG", YOUNG).replace("SHORT", SHORT)
        for reason in reasons.split(";")
    )
    return Decision(copy, sign == "+", tuple(written))


@pytest.mark.parametrize(("policy", "table"), CASES.values(), ids=CASES)
def test_history(policy: Policy, table: str) -> None:
    lines = table.replace(";\n", ";").strip().splitlines()
    expected = [read(line) for line in lines]
    decided = apply_policy((line.copy for line in reversed(expected)), policy, NOW)
    assert [(str(one.copy.name), one.keep) for one in decided] == [(str(one.copy.name), one.keep) for one in expected]
    assert [sorted(one.reasons) for one in decided] == [sorted(one.reasons) for one in expected]


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="now has no time zone; pass one that has, in UTC"):
        apply_policy([], Policy(), NOW.replace(tzinfo=None))


class Berlin(tzinfo):
    """The night of 25 October 2026, when 3:00 was 2:00 again."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        summer = dt is not None and dt.replace(tzinfo=None) < datetime(2026, 10, 25, 3)
        return timedelta(hours=2 if summer else 1)


def test_a_day_has_24_hours_when_the_clocks_change() -> None:
    table = """
        + eternia_backup_20261024_230000.db | newest verified; younger than 1 day
        + eternia_backup_20261024_220000.db | younger than 1 day
        - eternia_backup_20261024_215959.db | older than 1 day and no keep rule wants it
    """
    lines = [read(line) for line in table.strip().splitlines()]
    midnight = datetime(2026, 10, 25, 23, tzinfo=Berlin())
    assert apply_policy([line.copy for line in lines], Policy(1, minimum_kept=1), midnight) == lines


# Where calendars are awkward: the nights when Europe's clocks change, leap days, new years, both ends of time.
AWKWARD = [
    datetime(2026, 10, 25, 1, tzinfo=timezone.utc),
    datetime(2026, 3, 29, 1, tzinfo=timezone.utc),
    datetime(2024, 2, 29, tzinfo=timezone.utc),
    datetime(2000, 2, 29, 23, 59, 59, tzinfo=timezone.utc),
    datetime(2021, 1, 3, tzinfo=timezone.utc),
    datetime(2, 1, 1, tzinfo=timezone.utc),
    datetime(9998, 12, 31, tzinfo=timezone.utc),
]
STEPS = [timedelta(seconds=1), timedelta(minutes=20), timedelta(hours=1), timedelta(days=1), timedelta(days=31)]

KEEP_RULES = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")

moments = st.sampled_from(
    [NOW + steps * step for step in STEPS for steps in range(-8, 3)]
    + [start + steps * step for start in AWKWARD for step in STEPS for steps in range(-2, 3)]
)
kinds_and_encodings = st.sampled_from([(DATABASE, ()), (DATABASE, ("zst",)), (DATABASE, ("zst", "age")), (STATE, ())])
sizes_manifests_pins_drills = st.sampled_from(
    [(4096, True, False, False)] * 3
    + [(4096, True, False, True)] * 2
    + [(4096, False, False, True), (None, True, False, False), (4096, True, True, False), (None, False, True, False)]
)
histories = st.lists(
    st.tuples(moments, kinds_and_encodings, sizes_manifests_pins_drills).map(
        lambda drawn: Copy(BackupName(drawn[0], *drawn[1]), *drawn[2])
    ),
    max_size=16,
    unique_by=lambda copy: copy.name,
)
policies = st.builds(
    lambda days, minimum, rules: Policy(days, minimum_kept=minimum, **rules),
    st.sampled_from((None, None, None, None, 0, 1, 7, 30, timedelta.max.days)),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from(KEEP_RULES), st.sampled_from((1, 2, 3, 1000)), max_size=3),
)
nows = st.one_of(
    moments,
    moments.map(lambda moment: moment.astimezone(timezone(timedelta(hours=-9, minutes=-30)))),
    moments.map(lambda moment: moment + timedelta(microseconds=1)),
)


def in_every_history(test: Callable[..., None]) -> Callable[..., None]:
    return settings(max_examples=500, deadline=None)(given(histories, policies, nows)(test))


def kept(copies: Iterable[Copy], policy: Policy, now: datetime) -> set[BackupName]:
    return {one.copy.name for one in apply_policy(copies, policy, now) if one.keep}


def verified(copies: Iterable[Copy], kind: str, now: datetime) -> list[Copy]:
    past = [copy for copy in copies if copy.name.kind == kind and copy.name.created_at <= now]
    found = [copy for copy in past if copy.has_manifest and copy.bytes is not None]
    return sorted(found, key=lambda copy: copy.name, reverse=True)


@in_every_history
def test_every_copy_is_judged_once_and_says_why(copies: list[Copy], policy: Policy, now: datetime) -> None:
    decided = apply_policy(copies, policy, now)
    assert [one.copy.name for one in decided] == sorted((copy.name for copy in copies), reverse=True)
    assert all(one.reasons and all(one.reasons) for one in decided)
    assert all(("no keep rule wants it" in one.reasons[0]) is not one.keep for one in decided)


@in_every_history
def test_what_is_never_removed(copies: list[Copy], policy: Policy, now: datetime) -> None:
    stay = kept(copies, policy, now)
    assert stay >= {copy.name for copy in copies if copy.pinned or copy.name.created_at > now}
    for kind in (DATABASE, STATE):
        proven = verified(copies, kind, now)
        assert stay >= {copy.name for copy in proven[:1]}
        assert len(stay & {copy.name for copy in proven}) >= min(policy.minimum_kept, len(proven))
        preferred = [*(copy for copy in proven[1:] if copy.drilled), *(copy for copy in proven[1:] if not copy.drilled)]
        assert stay >= {copy.name for copy in preferred[: policy.minimum_kept - 1]}
        if len(proven) < policy.minimum_kept:
            assert stay >= {copy.name for copy in copies if copy.name.kind == kind}


@in_every_history
def test_nothing_goes_that_is_older_than_a_gap(copies: list[Copy], policy: Policy, now: datetime) -> None:
    proven = [copy for kind in (DATABASE, STATE) for copy in verified(copies, kind, now) if not copy.pinned]
    moments = sorted({now, *(copy.name.created_at for copy in proven)})
    before_gaps = [start for start, end in zip(moments, moments[1:]) if end - start > timedelta(days=731)]
    stay = kept(copies, policy, now)
    assert stay >= {copy.name for copy in copies for start in before_gaps if copy.name.created_at <= start}
    assert kept(copies, policy, now) == {
        one.copy.name for one in apply_policy(copies, policy, now, witnesses=[reversed(copies)]) if one.keep
    }


@in_every_history
def test_without_a_gap_the_rules_alone_decide(copies: list[Copy], policy: Policy, now: datetime) -> None:
    decided = apply_policy(copies, policy, now, witnesses=())
    assert not any("a gap of" in reason for one in decided for reason in one.reasons)
    judged = apply_policy(copies, policy, now)
    behind = {one.copy.name for one in judged if any("a gap of" in why for why in one.reasons)}
    assert kept(copies, policy, now) == behind | {one.copy.name for one in decided if one.keep}


# The newest of one year and of the next may be 730 days apart: the first of January and the last of December.
YEARS = [datetime(year, *((1, 1), (12, 31))[year % 2], tzinfo=timezone.utc) for year in range(2000, 2027)]


@pytest.mark.parametrize("year", [2025, 2026])
def test_years_go_on_being_kept_and_removed(year: int) -> None:
    policy = Policy(None, keep_yearly=3, minimum_kept=1)
    history = [backup(moment) for moment in YEARS if moment.year <= year]
    now = history[-1].name.created_at + timedelta(hours=1)
    assert {name.created_at.year for name in kept(history, policy, now)} == {year - 2, year - 1, year}


def backup(moment: datetime) -> Copy:
    return Copy(BackupName(moment, DATABASE), 4096, has_manifest=True)


def test_a_clock_that_is_years_ahead_removes_nothing_however_often_it_runs() -> None:
    policy = Policy(30, keep_hourly=24, minimum_kept=3)
    right = [backup(NOW - timedelta(hours=hour)) for hour in range(48)]
    ahead = NOW + timedelta(days=2000)
    there = list(right)
    for day in range(0, 400, 8):
        there.append(backup(ahead + timedelta(days=day)))
        stay = kept(there, policy, ahead + timedelta(days=day))
        assert stay >= {copy.name for copy in right}
        there = [copy for copy in there if copy.name in stay]
    # Among themselves those that are ahead age as ever.
    assert len(there) < 48 + 30
    # Set right again, it goes on where it was.
    there.append(backup(NOW + timedelta(hours=1)))
    future = {copy.name for copy in there if copy.name.created_at >= ahead}
    assert kept(there, Policy(1, minimum_kept=1), NOW + timedelta(hours=1)) == future | {
        copy.name for copy in [*right[:24], there[-1]]
    }


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("every", "days", "ahead"),
    [
        (HOUR, 1, 1),
        (HOUR, 2, 1),
        (HOUR, 2, 3),
        (HOUR, 6, 6),
        (HOUR, 6, 6.9),
        (DAY, 7, 3.5),
        (DAY, 7, 5),
        (DAY, 7, 9.9),
        (DAY, 9, 9),
        (DAY, 9, 9.9),
        (DAY, 30, 7),
        (DAY, 365, 9),
        (7 * DAY, 60, 30),
        (7 * DAY, 60, 60),
        (7 * DAY, 60, 69),
        (31 * DAY, 300, 150),
        (31 * DAY, 300, 300),
        (31 * DAY, 300, 305),
    ],
)
def test_a_clock_that_is_days_ahead_removes_nothing(every: timedelta, days: int, ahead: float) -> None:
    right = [backup(NOW - number * every) for number in range(timedelta(days=days) // every + 1)]
    thinned = [backup(NOW - timedelta(days=days) - number * 31 * DAY) for number in range(1, 20)]
    now = NOW + ahead * DAY
    for policy in (Policy(days, minimum_kept=1), Policy(days, keep_monthly=1000, keep_yearly=1000)):
        there = right + (thinned if policy.keep_monthly else [])
        assert kept([*there, backup(now)], policy, now) == {copy.name for copy in there} | {backup(now).name}
        # Nor where nothing has changed, so that no backup is taken.
        assert kept(there, policy, now) == {copy.name for copy in there}
        # Set right, it is as if nothing had been.
        later = NOW + every
        assert kept([*there, backup(now), backup(later)], policy, later) >= {
            copy.name for copy in [*there, backup(now)] if later - copy.name.created_at <= timedelta(days=days)
        }


def test_a_clock_that_jumps_ahead_once_more_is_not_believed_for_it() -> None:
    policy = Policy(7, minimum_kept=1)
    right = [backup(NOW - number * DAY) for number in range(8)]
    ahead = [NOW + (9.9 + number) * DAY for number in range(4)]
    further = [NOW + (20 + number) * DAY for number in range(3)]
    there = {copy.name for copy in live([*ahead, *further], policy, right)}
    assert there >= {copy.name for copy in right}


def live(runs: Iterable[datetime], policy: Policy, there: Iterable[Copy] = ()) -> list[Copy]:
    """What is there in the end on a host that prunes some seconds after each backup."""
    for moment in runs:
        there = [*there, backup(moment)]
        stay = kept(there, policy, moment + timedelta(seconds=2))
        there = [copy for copy in there if copy.name in stay]
    return list(there)


@pytest.mark.parametrize("minimum", [1, 3])
@pytest.mark.parametrize(
    ("before", "days", "off", "after", "runs"),
    [
        (HOUR, 1, 3, HOUR, 25),
        (HOUR, 2, 3, HOUR, 49),
        (HOUR, 7, 400, HOUR, 7 * 24 + 1),
        (DAY, 1, 9, DAY, 3),
        (DAY, 2, 9, DAY, 3),
        (DAY, 7, 9.9, DAY, 8),
        (DAY, 30, 40, DAY, 8),
        (7 * DAY, 14, 40, 7 * DAY, 3),
        (7 * DAY, 60, 69, 7 * DAY, 3),
        (31 * DAY, 300, 305, 31 * DAY, 3),
        # As rare as what was a gap, from now on.
        (HOUR, 1, 1, DAY, 4),
        (HOUR, 7, 7, 7 * DAY, 4),
        (DAY, 7, 31, 31 * DAY, 4),
    ],
)
def test_after_an_outage_it_prunes_again_once_there_are_enough_new_ones(
    before: timedelta, days: int, off: float, after: timedelta, runs: int, minimum: int
) -> None:
    policy = Policy(days, minimum_kept=minimum)
    old = [backup(NOW - number * before) for number in range(timedelta(days=days) // before + 1)]
    back = NOW + off * DAY
    there = live([back], policy, old)
    assert {copy.name for copy in there} >= {copy.name for copy in old}
    there = live([back + number * after for number in range(1, runs + 2)], policy, there)
    assert not {copy.name for copy in there} & {copy.name for copy in old}


@pytest.mark.parametrize(
    ("policy", "on", "off"),
    [
        (Policy(5, minimum_kept=1), 8, 6.7),
        (Policy(1, minimum_kept=1), 10, 1.2),
        (Policy(7, minimum_kept=3), 48, 5),
        (Policy(30, keep_monthly=3), 72, 11),
        (Policy(2), 1, 3),
        # Longer than half of what makes a gap believed, and shorter than that.
        (Policy(5, minimum_kept=1), 104, 2.67),
        (Policy(30), 120, 9),
        (Policy(30), 167, 7),
    ],
)
def test_a_host_that_is_often_off_does_not_keep_everything(policy: Policy, on: int, off: float) -> None:
    times = [NOW + number * (off * DAY + on * HOUR) for number in range(30)]
    there = live((start + hour * HOUR for start in times for hour in range(0, on, 3)), policy)
    assert len(there) <= 4 * on + policy.retention_days / (off + on / 24) * on + 6
    assert min(copy.name.created_at for copy in there) > times[10]


@pytest.mark.parametrize(
    ("policy", "on", "off", "ahead"),
    [(Policy(30), 72, 11, 400), (Policy(30), 24, 8, 60), (Policy(365), 24, 8, 400), (Policy(30), 24, 8, 20)],
)
def test_of_a_host_that_is_often_off_the_clock_may_be_ahead_too(
    policy: Policy, on: int, off: float, ahead: float
) -> None:
    times = [NOW + number * (off * DAY + on * HOUR) for number in range(12)]
    there = live((start + hour * HOUR for start in times for hour in range(0, on, 3)), policy)
    jumped = max(copy.name.created_at for copy in there) + ahead * DAY
    assert live([jumped], policy, there) == [*there, backup(jumped)]


@pytest.mark.parametrize(
    ("every", "policy"),
    [
        (HOUR, Policy(1, minimum_kept=1)),
        (HOUR, Policy(2, keep_hourly=48, keep_daily=30, keep_monthly=12)),
        (HOUR, Policy(7, keep_weekly=5, keep_yearly=3)),
        (DAY, Policy(1, minimum_kept=1)),
        (DAY, Policy(2, minimum_kept=1)),
        (DAY, Policy(4, keep_weekly=10, keep_monthly=5)),
        (DAY, Policy(7, keep_monthly=12)),
        (DAY, Policy(30)),
        (7 * DAY, Policy(1, minimum_kept=1)),
        (7 * DAY, Policy(14)),
        (7 * DAY, Policy(60, keep_yearly=3)),
        (30 * DAY, Policy(30)),
        (31 * DAY, Policy(30)),
        (31 * DAY, Policy(300)),
    ],
)
def test_what_comes_as_ever_is_never_in_doubt(every: timedelta, policy: Policy) -> None:
    there: list[Copy] = []
    for number in range(min(200 * DAY // every, 24 * 70) + 40):
        moment = NOW + number * every + timedelta(seconds=number % 3)
        there.append(backup(moment))
        decided = apply_policy(there, policy, moment + timedelta(seconds=2))
        # What is usual has to be known first.
        assert number < 4 or not any("a gap of" in why for one in decided for why in one.reasons), moment
        there = [one.copy for one in decided if one.keep]


@in_every_history
def test_what_each_rule_keeps(copies: list[Copy], policy: Policy, now: datetime) -> None:
    stay = kept(copies, policy, now)
    if policy.retention_days is not None:
        age = timedelta(days=policy.retention_days or timedelta.max.days)
        assert stay >= {copy.name for copy in copies if now - copy.name.created_at <= age}
    for kind in (DATABASE, STATE):
        proven = [copy.name for copy in verified(copies, kind, now)]
        assert stay >= set(proven[: policy.keep_last])
        for count, bucket in (
            (policy.keep_hourly, lambda at: (at.date(), at.hour)),
            (policy.keep_daily, lambda at: at.date()),
            (policy.keep_weekly, lambda at: tuple(at.isocalendar())[:2]),
            (policy.keep_monthly, lambda at: (at.year, at.month)),
            (policy.keep_yearly, lambda at: at.year),
        ):
            newest = {bucket(name.created_at): name for name in reversed(proven)}
            assert stay >= set(sorted(newest.values(), reverse=True)[:count])


@in_every_history
def test_a_drill_decides_nothing_but_the_places_that_always_stay(
    copies: list[Copy], policy: Policy, now: datetime
) -> None:
    nobody = [replace(copy, drilled=False) for copy in copies]
    everybody = [replace(copy, drilled=True) for copy in copies]
    assert kept(nobody, policy, now) == kept(everybody, policy, now)
    assert kept(copies, replace(policy, minimum_kept=1), now) == kept(nobody, replace(policy, minimum_kept=1), now)


@in_every_history
def test_what_was_kept_is_kept_again(copies: list[Copy], policy: Policy, now: datetime) -> None:
    stay = kept(copies, policy, now)
    assert kept((copy for copy in copies if copy.name in stay), policy, now) == stay


@settings(max_examples=500, deadline=None)
@given(histories.flatmap(lambda copies: st.tuples(st.just(copies), st.permutations(copies))), policies, nows)
def test_order_does_not_matter(orders: tuple[list[Copy], list[Copy]], policy: Policy, now: datetime) -> None:
    assert apply_policy(orders[0], policy, now) == apply_policy(orders[1], policy, now)


@settings(max_examples=500, deadline=None)
@given(
    histories,
    policies,
    nows,
    st.sampled_from((*KEEP_RULES, "minimum_kept")),
    st.integers(1, 5),
)
def test_more_never_keeps_less(copies: list[Copy], policy: Policy, now: datetime, rule: str, more: int) -> None:
    larger = replace(policy, **{rule: getattr(policy, rule) + more})
    assert kept(copies, larger, now) >= kept(copies, policy, now)

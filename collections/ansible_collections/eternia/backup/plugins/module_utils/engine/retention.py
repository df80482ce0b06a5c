# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups of one store stay, which go, and why each one. Touches nothing: `prune` does what is decided here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain, groupby, islice
from typing import NamedTuple, TypeVar

from .clock import MOST_GAP, Gap, newest_gap
from .names import DATABASE, STATE
from .stores.base import Copy
from .units import counted

T = TypeVar("T")

# What a copy is worth when several could stand for the same day: verified, data without a manifest, no data.
_VERIFIED, _DATA, _NOTHING = 2, 1, 0


@dataclass(frozen=True)
class Policy:
    """What stays. A backup is kept when any of the rules keeps it; a `keep_*` of 0 keeps nothing by itself."""

    retention_days: int | None = 30
    """Age in days. 0: keep for ever. None: age alone keeps nothing."""
    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    minimum_kept: int = 3
    """How many verified backups of a kind always stay, at least 1; drilled ones are preferred."""


class Decision(NamedTuple):  # a frozen dataclass takes three times as long to make, and there may be a million
    """What becomes of one copy: every reason that keeps it, or the one why it goes."""

    copy: Copy
    keep: bool
    reasons: tuple[str, ...]


def apply_policy(
    copies: Iterable[Copy], policy: Policy, now: datetime, *, witnesses: Iterable[Iterable[Copy]] | None = None
) -> list[Decision]:
    """Judge the copies that one store holds, each name once; all of them come back, newest first.

    Databases and states are judged apart. Whatever the policy says, these stay: a pinned copy; one from the future,
    which counts for nothing else; `minimum_kept` verified copies, which are the newest one, then the newest of those
    that were drilled, then the newest of the others; everything while fewer verified ones than that exist; and what is
    older than a `gap` in the verified copies of any of the `witnesses`, by default the copies themselves, or everything
    while the gap is one that may be believed yet.

    By age a copy stays until it is older than `retention_days` times 24 hours; at exactly that age it still stays.

    `keep_daily` keeps the newest copy of each of the last N days that have one, and likewise the hours, ISO weeks,
    months and years, all in UTC; `keep_last` keeps the last N copies. While there are fewer than N, the oldest verified
    copy stays too, so that history grows as long as it may. Both rules are restic's (ApplyPolicy in
    internal/data/snapshot_policy.go). What is not proven never takes the place of what is: a day is stood for by its
    newest verified copy, else by its newest that has data, and takes none of the N from days that have a better one.

    Raises ValueError where `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone; pass one that has, in UTC")
    now = now.astimezone(timezone.utc)
    newest_first = _newest_first(copies)
    histories = [newest_first] if witnesses is None else map(_newest_first, witnesses)
    gaps = filter(None, (_gap(history, policy, now) for history in histories))
    doubt = max(gaps, key=lambda gap: gap.start, default=None)
    kinds = [copy.name.kind for copy in newest_first]
    judged = {
        kind: _judge([copy for copy, its in zip(newest_first, kinds) if its == kind], policy, now, doubt)
        for kind in (DATABASE, STATE)
    }
    return [next(judged[kind]) for kind in kinds]


def gap(copies: Iterable[Copy], policy: Policy, now: datetime) -> Gap | None:
    """The newest time up to `now` without a verified copy in which the clock may have jumped; see clock.newest_gap.

    A clock that is ahead makes everything old at once, and what is then removed is gone when the clock is set right. So
    where age alone decides, a gap that makes much of it old is believed after a week; the keep rules count backups, not
    days. Pinned copies count for nothing here: they stay anyway, and one may be years older than the rest.
    """
    return _gap(_newest_first(copies), policy, now)


def _gap(newest_first: Iterable[Copy], policy: Policy, now: datetime) -> Gap | None:
    moments = (copy.name.created_at for copy in newest_first if copy.verified and not copy.pinned)
    kept_for = timedelta(days=min(policy.retention_days, MOST_GAP.days)) if policy.retention_days else None
    return newest_gap(chain((now,), (moment for moment in moments if moment <= now)), kept_for=kept_for)


def _newest_first(copies: Iterable[Copy]) -> list[Copy]:
    """Names in reverse order. One sort for each part, last part first: comparing whole names is many times slower."""
    ordered = sorted(copies, key=lambda copy: copy.name.encoding, reverse=True)
    ordered.sort(key=lambda copy: copy.name.kind, reverse=True)
    ordered.sort(key=lambda copy: copy.name.created_at.timestamp(), reverse=True)
    return ordered


def _judge(copies: list[Copy], policy: Policy, now: datetime, doubt: Gap | None) -> Iterator[Decision]:
    """Judge copies of one kind, which come newest first."""
    moments = [copy.name.created_at for copy in copies]
    future = sum(moment > now for moment in moments)
    for copy in copies[:future]:
        yield Decision(copy, True, ("from the future: check the clock", *("pinned",) * copy.pinned))

    past, moments = copies[future:], moments[future:]
    grades = [_VERIFIED if copy.verified else _NOTHING if copy.bytes is None else _DATA for copy in past]
    reasons: dict[int, tuple[str, ...]] = {}
    for place, reason in chain(_always_kept(past, grades, policy), _wanted(moments, grades, policy)):
        reasons[place] = (*reasons.get(place, ()), reason)

    of_all = _kept_whatever_its_age(grades, policy)
    oldest, of_young = _kept_by_age(policy, now)
    goes = (_removed(policy),)
    for place, (copy, moment) in enumerate(zip(past, moments)):
        kept = reasons.get(place, ()) + of_all
        if moment >= oldest:
            kept += of_young
        if copy.pinned:
            kept += ("pinned",)
        if not kept and doubt is not None:
            kept = _kept_in_doubt(moment, doubt)
        yield Decision(copy, bool(kept), kept or goes)


def _kept_in_doubt(moment: datetime, doubt: Gap) -> tuple[str, ...]:
    """Why no gap lets go of a copy, if so.

    The few behind one in doubt stay too: were they removed, there would never be enough of them to believe it.
    """
    if moment > doubt.start and doubt.enough is None:
        return ()
    where = "older than" if moment <= doubt.start else "one of the first behind"
    days = None if doubt.enough is None else counted(doubt.enough.days, "day")
    ends = "remove it by hand" if days is None else f"that ends after {days} of backups"
    return (f"{where} {doubt}: look at the clock; if it is right, {ends}",)


def stay_first(verified: Sequence[T], is_drilled: Callable[[T], bool]) -> Iterator[T]:
    """Verified copies, which come newest first, in the order in which they take the `minimum_kept` that always stay."""
    yield from verified[:1]
    drilled = [is_drilled(one) for one in verified]
    for wanted in (True, False):
        yield from (one for one, its in islice(zip(verified, drilled), 1, None) if its is wanted)


def _always_kept(copies: list[Copy], grades: list[int], policy: Policy) -> Iterator[tuple[int, str]]:
    """The places of the verified copies that stay whatever happens, with the reason."""
    verified = [place for place, grade in enumerate(grades) if grade == _VERIFIED]
    for place in verified[:1]:
        yield place, "newest verified"
    if policy.minimum_kept > 1:
        reason = f"one of the {policy.minimum_kept} that always stay"
        for place in islice(stay_first(verified, lambda place: copies[place].drilled), policy.minimum_kept):
            yield place, f"{reason} (drilled)" if copies[place].drilled else reason


def _kept_whatever_its_age(grades: list[int], policy: Policy) -> tuple[str, ...]:
    """Why nothing at all may go, if so."""
    minimum = max(policy.minimum_kept, 1)
    verified = grades.count(_VERIFIED)
    if verified < minimum:
        return (f"only {_count(verified, 'verified backup')}, {minimum} must exist before any is removed",)
    return ()


def _kept_by_age(policy: Policy, now: datetime) -> tuple[datetime, tuple[str, ...]]:
    """The oldest time that age alone keeps, and the reason."""
    always = datetime.min.replace(tzinfo=timezone.utc)
    if policy.retention_days is None:
        return always, ()
    if policy.retention_days == 0:
        return always, ("retention_days is 0: kept for ever",)
    reason = f"younger than {_count(policy.retention_days, 'day')}"
    try:
        return now - timedelta(days=policy.retention_days), (reason,)
    except OverflowError:
        return always, (reason,)


def _removed(policy: Policy) -> str:
    if policy.retention_days is None:
        return "no keep rule wants it"
    return f"older than {_count(policy.retention_days, 'day')} and no keep rule wants it"


def _wanted(moments: list[datetime], grades: list[int], policy: Policy) -> Iterator[tuple[int, str]]:
    """The places of the copies that the keep rules want, with the reason."""

    def hour(place: int) -> str:
        return f"{moments[place].isoformat()[:13]}Z"

    def day(place: int) -> str:
        return moments[place].isoformat()[:10]

    def week(place: int) -> str:
        of_year, number = moments[place].isocalendar()[:2]
        return f"{of_year:04}-W{number:02}"

    def month(place: int) -> str:
        return moments[place].isoformat()[:7]

    def year(place: int) -> str:
        return moments[place].isoformat()[:4]

    yield from _fill("last", policy.keep_last, int, grades)
    yield from _fill("hourly", policy.keep_hourly, hour, grades)
    yield from _fill("daily", policy.keep_daily, day, grades)
    yield from _fill("weekly", policy.keep_weekly, week, grades)
    yield from _fill("monthly", policy.keep_monthly, month, grades)
    yield from _fill("yearly", policy.keep_yearly, year, grades)


def _fill(rule: str, count: int, bucket_of: Callable[[int], int | str], grades: list[int]) -> Iterator[tuple[int, str]]:
    """Fill `count` buckets, newest first: the places of the copies that stand for them, with the reason.

    A bucket's number counts those that are worth at least as much, so that what is not proven uses up nothing.
    """
    if count < 1:
        return
    for grade in sorted(set(grades), reverse=True):
        places = [place for place, its in enumerate(grades) if its >= grade]
        number, best = 0, -1
        for number, (bucket, members) in enumerate(islice(groupby(places, key=bucket_of), count), start=1):
            best = max(members, key=grades.__getitem__)
            if grades[best] == grade:
                yield best, f"{rule} {number} of {count}" + (f" ({bucket})" if isinstance(bucket, str) else "")
        if grade == _VERIFIED and number < count and best != places[-1]:
            yield places[-1], f"{rule} {number} of {count} (oldest)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)

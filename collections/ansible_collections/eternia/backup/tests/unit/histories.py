# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories of a store, and what must hold of each: the tests look at some hundred, `make fuzz` at 100,000."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path

from ansible_collections.eternia.backup.plugins.module_utils.engine import digest, hold, names, prune, record
from ansible_collections.eternia.backup.plugins.module_utils.engine.config import Config
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import HeldError
from ansible_collections.eternia.backup.plugins.module_utils.engine.manifest import Manifest, Verified
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import (
    DATABASE,
    DRILLED_SUFFIX,
    MANIFEST_SUFFIX,
    PIN_SUFFIX,
    SEEN_SUFFIX,
    STATE,
    BackupName,
    iso,
    parse,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.retention import Policy, apply_policy
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Copy, group
from ansible_collections.eternia.backup.tests.unit.builders import configuration, tree
from hypothesis import strategies as st

UTC = timezone.utc


class Berlin(tzinfo):
    """A zone whose clocks change: for whoever passes a local `now`. From the last Sundays of March and October 2026."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1) + self.dst(dt)

    def dst(self, dt: datetime | None) -> timedelta:
        summer = dt is not None and datetime(2026, 3, 29, 2) <= dt.replace(tzinfo=None) < datetime(2026, 10, 25, 3)
        return timedelta(hours=1 if summer else 0)


# Where calendars are awkward: nights when clocks change, leap days, the ISO week of a new year, both ends of time.
STARTS = tuple(
    datetime(*moment, tzinfo=UTC)
    for moment in (
        (2026, 11, 22, 22),
        (2026, 10, 25, 0, 30),
        (2026, 3, 29, 0, 59, 59),
        (2024, 2, 28, 23, 59, 59),
        (2000, 2, 29),
        (1900, 2, 28),
        (2020, 12, 31, 23),
        (1970, 1, 1),
        (2, 1, 1),
        (9990, 12, 31),
    )
)
_SECOND, _HOUR, _DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
# How far the clock went from one run to the next: none, as ever, an outage, and back or ahead because it was wrong.
STEPS = (
    *(timedelta(0), _SECOND, timedelta(minutes=20), _HOUR, _HOUR, _HOUR, 24 * _HOUR, _DAY, _DAY - _SECOND),
    *(7 * _DAY, 31 * _DAY, 366 * _DAY, 731 * _DAY, 800 * _DAY, -_HOUR, -_DAY, -400 * _DAY, 1500 * _DAY),
)
# A host that runs as ever: how much lies between its runs, and for how many days it keeps them. Then its clock jumps,
# by so much of that time.
REGULAR = ((_HOUR, 1), (_HOUR, 2), (_DAY, 7), (_DAY, 9), (_DAY, 30), (7 * _DAY, 60), (31 * _DAY, 400))
JUMPS = (0.4, 0.5, 0.7, 0.99, 1, 1.1, 1.4, 3, -0.5, -2)
NAMED = (
    *((DATABASE, ()), (DATABASE, ()), (DATABASE, ("zst",)), (DATABASE, ("zst", "age"))),
    *((STATE, ()), (STATE, ("zst",))),
)
# The files that a run left of one backup; most are whole.
WHOLE, LEGACY, LOST, PIN_ALONE = "whole", "legacy", "lost", "pin"
PINNED, DRILLED, FAILED = "pinned", "drilled", "failed"
ENDS = (WHOLE,) * 6 + (DRILLED, DRILLED, LEGACY, LEGACY, LOST, PIN_ALONE, PINNED, FAILED, FAILED)
SUFFIXES: dict[str, tuple[str, ...]] = {
    WHOLE: ("", MANIFEST_SUFFIX),
    DRILLED: ("", MANIFEST_SUFFIX, DRILLED_SUFFIX, SEEN_SUFFIX),
    LEGACY: ("",),
    LOST: (MANIFEST_SUFFIX,),
    PIN_ALONE: (PIN_SUFFIX,),
    PINNED: ("", MANIFEST_SUFFIX, PIN_SUFFIX),
    FAILED: (),
}
FOREIGN = (
    *("eternia_backup_20260229_120000.db", "eternia_backup_20261122_220000.db.gz", "eternia_backup_20261122_220000.DB"),
    *(
        "eternia_state_20261122_220000.db",
        "prod2_eternia_backup_20261122_220000.db",
        "eternia_backup.json",
        "x.db",
    ),
    *("eternia_backup_20261122_220000.db.age.zst", "eternia_backup_20261122_220000.db-wal", "Eternia.pin"),
)


@dataclass(frozen=True)
class History:
    """What the runs of a host left, one after the other, as (moment, kind and encoding, how it ended); then `now`."""

    runs: tuple[tuple[datetime, tuple[str, tuple[str, ...]], str], ...]
    foreign: frozenset[str]
    policy: Policy
    now: datetime

    def listing(self) -> list[tuple[str, int]]:
        """The store's listing in the end, if nothing was ever removed."""
        found = dict.fromkeys(self.foreign, 5)
        for moment, named, end in self.runs:
            found.update(files_of(BackupName(moment, *named), end))
        return sorted(found.items())


def files_of(name: BackupName, end: str) -> dict[str, int]:
    """The files of one backup and their sizes."""
    return {f"{name}{suffix}": 4096 for suffix in SUFFIXES[end]}


def _history(drawn: tuple) -> History:
    start, events, foreign, policy, after, local = drawn
    moment, runs = start, []
    for step, named, end in events:
        try:
            moment = max(moment + step, datetime(1, 1, 1, tzinfo=UTC))
        except OverflowError:
            moment = start
        runs.append((moment, named, end))
    now = moment + after if 1 < moment.year < 9990 else moment
    # A day from both ends of time: in any zone it is a moment.
    now = min(max(now, datetime(1, 1, 2, tzinfo=UTC)), datetime(9999, 12, 30, tzinfo=UTC))
    return History(tuple(runs), frozenset(foreign), policy, now.astimezone(local))


def policies() -> st.SearchStrategy[Policy]:
    return st.builds(
        lambda days, minimum, rules: Policy(days, minimum_kept=minimum, **dict(rules)),
        st.sampled_from((None, None, None, None, 1, 1, 7, 7, 30, 30, 400, 0, 10**9)),
        st.integers(1, 4),
        st.lists(
            st.tuples(
                st.sampled_from(
                    ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
                ),
                st.sampled_from((1, 1, 2, 2, 3, 10**9)),
            ),
            max_size=3,
        ),
    )


def histories(most: int = 24) -> st.SearchStrategy[History]:
    """Histories of up to so many runs."""
    return st.one_of(_irregular(most), _irregular(most), _regular(most))


def _regular(most: int) -> st.SearchStrategy[History]:
    """Runs as ever until the clock jumps, ahead or back; then runs as ever by that clock."""
    return st.builds(
        _jumped,
        st.sampled_from(STARTS[:-2]),
        st.sampled_from(REGULAR),
        st.integers(1, most - 1),
        st.sampled_from(JUMPS),
        st.lists(st.sampled_from((WHOLE, WHOLE, DRILLED, LEGACY, FAILED)), min_size=most, max_size=most),
        policies(),
    )


def _jumped(
    start: datetime, regular: tuple[timedelta, int], before: int, jump: float, ends: list[str], policy: Policy
) -> History:
    every, days = regular
    moments = [start + number * every for number in range(len(ends))]
    ahead = jump * timedelta(days=days)
    moments = moments[:before] + [moment + ahead for moment in moments[before:]]
    runs = tuple((moment, NAMED[0], end) for moment, end in zip(moments, ends))
    return History(runs, frozenset(), replace(policy, retention_days=days), moments[-1])


def _irregular(most: int) -> st.SearchStrategy[History]:
    events = st.tuples(st.sampled_from(STEPS), st.sampled_from(NAMED), st.sampled_from(ENDS))
    return st.tuples(
        st.sampled_from(STARTS),
        # Left alone, hypothesis draws few long ones, and in a short one there is nothing to remove.
        st.one_of(st.lists(events, min_size=most // 2, max_size=most), st.lists(events, max_size=most)),
        st.sets(st.sampled_from(FOREIGN), max_size=2),
        policies(),
        st.sampled_from((timedelta(0), timedelta(microseconds=1), _SECOND, _HOUR, 30 * _DAY, -_DAY, 800 * _DAY)),
        st.sampled_from((UTC, UTC, Berlin(), timezone(timedelta(hours=-9, minutes=-30)))),
    ).map(_history)


def check(history: History) -> None:
    """What must hold of every history: of all its backups judged at once, and of a host that prunes after each run."""
    copies = list(group(history.listing()))
    kept = check_judgement(copies, history.policy, history.now)
    # In whatever order a store lists them.
    shuffled = copies[:]
    random.Random(len(copies)).shuffle(shuffled)
    decided = apply_policy(copies, history.policy, history.now)
    assert apply_policy(shuffled, history.policy, history.now) == decided, "the order of the input matters"
    # What stayed stays.
    again = apply_policy([copy for copy in copies if copy.name in kept], history.policy, history.now)
    assert all(one.keep for one in again), "a second run removes more"
    _live_through(history)


def _live_through(history: History) -> None:
    there: dict[str, int] = dict.fromkeys(history.foreign, 5)
    for moment, named, end in history.runs:
        if end == FAILED:
            # Nothing is removed behind a run that failed: `check_prune` looks at that.
            continue
        there.update(files_of(BackupName(moment, *named), end))
        copies = list(group(sorted(there.items())))
        kept = check_judgement(copies, history.policy, moment)
        for copy in copies:
            if copy.name not in kept:
                for suffix in ("", *names.SIDECAR_SUFFIXES):
                    there.pop(f"{copy.name}{suffix}", None)
        assert history.foreign <= there.keys(), "something foreign went"


def check_judgement(copies: list[Copy], policy: Policy, now: datetime) -> set[BackupName]:
    """Keep and remove make up all, and promise 4 holds; returns what is kept."""
    decided = apply_policy(copies, policy, now)
    judged = [one.copy for one in decided]
    assert [copy.name for copy in judged] == sorted((copy.name for copy in copies), reverse=True)
    assert set(judged) == set(copies), "keep and remove are not all"
    assert all(one.reasons and all(one.reasons) for one in decided), "a decision without a reason"
    kept = {one.copy.name for one in decided if one.keep}
    for copy in copies:
        if copy.pinned or copy.name.created_at > now:
            assert copy.name in kept, f"{copy} is pinned or from the future, and goes"
        if policy.retention_days == 0:
            assert copy.name in kept, f"{copy} goes, and retention_days is 0"
        elif policy.retention_days is not None and (now - copy.name.created_at).days < policy.retention_days:
            assert copy.name in kept, f"{copy} is younger than {policy.retention_days} days, and goes"
    for kind in (DATABASE, STATE):
        _require_promise(kind, copies, kept, policy, now)
    if policy.retention_days and _jumps(copies, timedelta(days=min(policy.retention_days, 10**6)), now):
        assert kept == {copy.name for copy in copies}, "something goes, and the clock may have jumped"
    return kept


def _jumps(copies: Iterable[Copy], kept_for: timedelta, now: datetime) -> bool:
    """Whether the newest time without a backup is the only long one, and makes half of what is kept old, or a week."""
    proven = {copy.name.created_at for copy in copies if copy.verified and not copy.pinned}
    moments = sorted({moment for moment in proven if moment < now} | {now}, reverse=True)
    newest, *earlier = [later - moment for later, moment in zip(moments, moments[1:])] or [timedelta(0)]
    long = max(_DAY, min(7 * _DAY, kept_for / 2))
    return bool(earlier) and 2 * max(earlier) < newest >= long > max(earlier) and newest <= 731 * _DAY


def _require_promise(kind: str, copies: Iterable[Copy], kept: set[BackupName], policy: Policy, now: datetime) -> None:
    ours = [copy for copy in copies if copy.name.kind == kind]
    proven = sorted(
        (copy.name for copy in ours if copy.has_manifest and copy.bytes is not None and copy.name.created_at <= now),
        reverse=True,
    )
    assert set(proven[:1]) <= kept, "the newest verified one goes"
    assert len(kept & set(proven)) >= min(policy.minimum_kept, len(proven)), "fewer than the minimum stay"
    if len(proven) < policy.minimum_kept:
        assert {copy.name for copy in ours} <= kept, "something goes before there are enough"


# How the newest backup lies in a real store, what the record of the last run says, and who holds the host's backups.
DAMAGES = ("none", "none", "none", "data", "manifest", "truncated")
RECORDS = (record.SUCCEEDED,) * 5 + (record.FAILED, record.RUNNING, "none", "garbage")
HOLDS = ("none",) * 5 + ("in force", "expired", "garbage")


@dataclass(frozen=True)
class Host:
    """A history on a real disk."""

    history: History
    damage: str
    record: str
    hold: str


def hosts() -> st.SearchStrategy[Host]:
    return st.builds(Host, histories(12), st.sampled_from(DAMAGES), st.sampled_from(RECORDS), st.sampled_from(HOLDS))


def check_prune(host: Host) -> None:
    """On a real directory with real files: the plan is what the run does, and a second run does nothing."""
    # Not on the disk, where there is memory for it: what is tested is no disk, and prune syncs.
    memory = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(prefix="eternia-history-", dir=memory if memory.is_dir() else None))
    try:
        _check_prune(host, base)
    finally:
        shutil.rmtree(base)


def _check_prune(host: Host, base: Path) -> None:
    policy, now = host.history.policy, host.history.now
    rules = {rule: getattr(policy, rule) for rule in vars(policy) if rule.startswith("keep_")}
    block = {"retention_days": policy.retention_days, "minimum_kept": policy.minimum_kept, "retention": rules}
    config = configuration(base, source=STATE, **block)
    storage = config.storage_path
    storage.mkdir(parents=True)
    _lay(host, config)
    before = tree(storage)
    if host.hold == "in force":
        for verb in (prune.plan, prune.run):
            try:
                verb(config, now=now)
            except HeldError:
                continue
            raise AssertionError(f"{verb.__name__} did not mind the hold")
        assert _names(tree(storage)) == _names(before)
        return
    planned = prune.plan(config, now=now)
    assert tree(storage) == before, "a plan changed something"
    done = prune.run(config, now=now)
    assert done.verdicts == planned.verdicts, "the run judged otherwise than the plan"
    assert done.removed == planned.removed, "the run removed something else than the plan said"
    gone = {Path(path).name for path in before if not Path(path).exists()}
    expected = {str(one.decision.copy.name) for one in planned.removed}
    assert expected == {str(found[0]) for name in gone if (found := names.parse_with_sidecar(name))}
    assert all(names.parse_with_sidecar(name) for name in gone), "something foreign went"
    left = {str(found[0]) for path in storage.iterdir() if (found := names.parse_with_sidecar(path.name))}
    assert not expected & left, "something of a backup that went is left"
    if host.record != record.SUCCEEDED:
        assert not expected, "something went, and the run before did not succeed"
    assert not prune.plan(config, now=now).removed
    assert not prune.run(config, now=now).removed, "a second run removed more"


def _names(found: dict[str, tuple]) -> set[str]:
    """Without the lock's file, which a run makes."""
    return {name for name in found if not name.endswith("/.lock")}


def _lay(host: Host, config: Config) -> None:
    storage, now = config.storage_path, host.history.now.astimezone(UTC)
    listing = [name for name, _size in host.history.listing()]
    for name in listing:
        ours = names.parse_with_sidecar(name)
        (storage / name).write_bytes(_content(*ours) if ours else b"mine")
    whole = [name for name in listing if parse(name) and f"{name}{MANIFEST_SUFFIX}" in listing]
    if whole:
        newest = storage / max(whole, key=parse)
        if host.damage == "data":
            newest.write_bytes(b"x" * newest.stat().st_size)
        elif host.damage == "truncated":
            newest.write_bytes(b"")
        elif host.damage == "manifest":
            newest.with_name(f"{newest.name}{MANIFEST_SUFFIX}").write_bytes(b"{}")
    if host.record == "garbage":
        (storage / record.NAME).write_bytes(b"\0")
    elif host.record != "none":
        record.write(storage, record.Record(host.record, iso(now)), staging=storage)
    if host.hold == "garbage":
        (storage / hold.NAME).write_bytes(b"[[")
    elif host.hold != "none":
        until = now + _HOUR if host.hold == "in force" else now - _SECOND
        (storage / hold.NAME).write_text(json.dumps({"who": "w", "why": "y", "until": iso(until)}))


def _content(name: BackupName, suffix: str) -> bytes:
    """A file of a backup. Its bytes are not what its name says, and prune has no need to know."""
    raw = str(name).encode()
    if suffix != MANIFEST_SUFFIX:
        return raw
    return manifest_of(name, raw).to_json()


def manifest_of(name: BackupName, raw: bytes) -> Manifest:
    """The manifest of a backup that lies in a store as these bytes."""
    with tempfile.NamedTemporaryFile(prefix="eternia-") as file:
        file.write(raw)
        file.flush()
        content, stored = digest.of_file(Path(file.name), "sha256", for_s3=False)
    return Manifest(
        name=str(name),
        kind=name.kind,
        environment="staging",
        host="web1",
        created_at=iso(name.created_at),
        source={"path": "/srv/eternia/logs/state_snapshot.json", "bytes": len(raw), "keys": {"n": len(raw)}},
        content=content,
        stored=replace(stored, encoding=name.encoding),
        verified=Verified("quick", iso(name.created_at)),
    )

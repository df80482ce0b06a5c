# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the status of a host, in the words and numbers that monitoring systems know: what is wrong, and how badly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from . import catalog, clock, names
from .catalog import DAMAGED, VERIFIED
from .config import Config
from .errors import ClockError
from .promises import CREATE_ONLY
from .status import Status
from .units import age, counted

# One and a half times the week between two drills.
_DRILL_SECONDS = 7 * 86400 * 3 // 2
# A backup waits for the second that it is named after; another machine's clock may be off by this much.
_SKEW = timedelta(minutes=5)


_S3_LACKS = "The next run sends what is missing; look at why the last one did not, or at who deleted it there."
_ADDED = "Find out who removed it, or who put it into s3 with this host's key."
_LOCAL_LACKS = (
    f"{_ADDED} Look at the disk; bring back what this host took with `eternia-backup download NAME --to STORAGE_PATH`."
)
# A download is plain, and there nothing plain may lie.
_LOCAL_LACKS_ENCRYPTED = (
    f"{_ADDED} Look at the disk; bring back what this host took as it lies in s3, encrypted, and its manifest after "
    "it, with any tool for S3."
)


class Level(IntEnum):
    """How badly, and the exit code that says so: https://www.monitoring-plugins.org/doc/guidelines.html"""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Trouble:
    """One thing that an operator should look at, and what to do about it."""

    level: Level
    message: str


def level(troubles: Sequence[Trouble]) -> Level:
    """The worst of them: what cannot be known could be anything."""
    return max((trouble.level for trouble in troubles), default=Level.OK)


def troubles(config: Config, found: Status, now: datetime) -> list[Trouble]:
    """What is wrong, the worst first. Where backups are switched off only a restore that was cut off counts."""
    everything = [*(_all(config, found, now) if found.enabled else ()), *_interrupted(found)]
    return sorted(everything, key=lambda trouble: trouble.level, reverse=True)


def _all(config: Config, found: Status, now: datetime) -> Iterator[Trouble]:
    yield from _stores(config, found)
    yield from _promises(config, found)
    yield from _locks(found)
    yield from _age(config, found)
    yield from _last_run(found)
    yield from _drill(config, found, now)
    yield from _clock(found, now)


def _interrupted(found: Status) -> Iterator[Trouble]:
    return (Trouble(Level.CRITICAL, message) for message in found.interrupted)


def _stores(config: Config, found: Status) -> Iterator[Trouble]:
    local = catalog.local(config).name
    if found.obstacle is not None:
        yield Trouble(Level.CRITICAL, found.obstacle)
    for name, why in found.unlisted.items():
        if name != local:
            yield Trouble(Level.WARNING, f"{name} could not be listed. {why}")
        elif found.obstacle is None:
            yield Trouble(Level.UNKNOWN, f"{name} could not be listed. {why}")
    for backup in found.backups:
        if backup.status == DAMAGED:
            problems = "; ".join((copy.problem or "it is not whole").rstrip(".") for copy in backup.copies)
            yield Trouble(Level.CRITICAL, f"Every copy of {backup.name} is damaged: {problems}. Look at the stores.")
    yield from _sizes(config, found)
    for store in found.stores:
        # A run that goes on may be sending it just now.
        if store.missing and not found.running:
            lacks = f"{store.name} lacks {counted(store.missing, 'verified backup')} that the policy wants there."
            here = _LOCAL_LACKS_ENCRYPTED if config.recipients else _LOCAL_LACKS
            yield Trouble(Level.WARNING, f"{lacks} {here if store.name == local else _S3_LACKS}")


def _sizes(config: Config, found: Status) -> Iterator[Trouble]:
    """What a listing alone tells of backups that are no more what they were."""
    ours = [store.name for store in catalog.stores(config)]
    # Neither what another program left under the same name, nor what has no manifest yet, nor what is gone.
    copies = {
        one.name: [
            copy
            for copy in one.copies
            if (copy.verified or copy.damaged) and copy.bytes is not None and copy.store in ours
        ]
        for one in found.backups
        if one.status != DAMAGED
    }
    odd = [name for name, its in copies.items() if len({copy.bytes for copy in its}) > 1]
    if odd:
        sizes = ", ".join(f"{copy.bytes} bytes in {copy.store}" for copy in copies[odd[0]])
        yield Trouble(
            Level.CRITICAL,
            f"{counted(len(odd), 'backup')} of other sizes in one store than in another, so that one of them was "
            f"damaged or overwritten: {odd[0]} has {sizes}. Find out which is right: eternia-backup verify.",
        )


def _promises(config: Config, found: Status) -> Iterator[Trouble]:
    """What the store in S3 was seen not to keep. Whether it is create-only each run tries anew."""
    fresh = found.record is not None and found.record.create_only is not None
    if config.cloud is not None and found.record is not None and found.record.create_only is False:
        yield Trouble(
            Level.WARNING,
            "s3 overwrites what it was asked not to, so whoever has this host's key can destroy the backups there. Use "
            "a store that keeps its word.",
        )
    for broken in () if found.promises is None else found.promises.broken:
        if not (fresh and broken.promise == CREATE_ONLY):
            advice = "Once that is put right: eternia-backup check-store."
            yield Trouble(Level.WARNING, f"s3 does not keep {broken.promise!r}. {broken.meaning} {advice}")


def _locks(found: Status) -> Iterator[Trouble]:
    # How long what a run just sends is locked, it notes at its end; the others it may leave to end, should it hang.
    ending = {name: end for name, end in found.locks_ending.items() if end is not None or not found.running}
    if ending:
        name, end = min(ending.items(), key=lambda one: one[1] or "")
        what, when = counted(len(ending), "backup"), "at a time that is not known" if end is None else end
        yield Trouble(
            Level.WARNING,
            f"The lock of {what} in s3 ends soon, or has ended, and no run renews it: that of {name}, {when}. Look at "
            "the last run: whether there was one, and what it warned of.",
        )


def _age(config: Config, found: Status) -> Iterator[Trouble]:
    if found.age_seconds is None:
        yield Trouble(Level.CRITICAL, "There is no verified backup. Take one.")
    elif found.stale and found.held is None:
        advice = "Find out why no newer one was taken."
        yield Trouble(Level.CRITICAL, f"The newest verified backup is {how_old(config, found)}. {advice}")
    elif found.stale:
        advice = f"The backups are {found.held}. End that as soon as it may be: eternia-backup release."
        yield Trouble(Level.WARNING, f"The newest verified backup is {how_old(config, found)}. {advice}")


def how_old(config: Config, found: Status) -> str:
    """How old the newest verified backup is, and what is allowed."""
    who = config.frequency if found.max_age_seconds == config.max_age else "--max-age"
    return f"{age(found.age_seconds or 0)} old; {who} allows {age(found.max_age_seconds)}"


def _last_run(found: Status) -> Iterator[Trouble]:
    if found.last_run is not None and not found.running:
        yield Trouble(Level.CRITICAL, f"Last run: {found.last_run}.")


def _drill(config: Config, found: Status, now: datetime) -> Iterator[Trouble]:
    if found.drill is None:
        oldest = min((one.created_at for one in found.backups if one.status == VERIFIED), default=None)
        if oldest is not None and (now - names.from_iso(oldest)).total_seconds() > _DRILL_SECONDS:
            message = "No drill has ever shown that these backups come back. Drill: playbooks/restore_drill.yml."
            yield Trouble(Level.WARNING, message)
        return
    if not found.drill.succeeded:
        needs = " (what is encrypted needs its key: --identity)" if config.recipients else ""
        what = f"In the drill of {found.drill.at} not everything came back."
        yield Trouble(Level.CRITICAL, f"{what} Look at the log, then drill again{needs}.")
    seconds = (now - names.from_iso(found.drill.at)).total_seconds()
    if seconds > _DRILL_SECONDS:
        yield Trouble(Level.WARNING, f"The last drill was {age(seconds)} ago. Find out why there was none since.")


def _clock(found: Status, now: datetime) -> Iterator[Trouble]:
    try:
        clock.require_possible(now)
    except ClockError as exc:
        yield Trouble(Level.WARNING, str(exc))
    ahead = [one.name for one in found.backups if names.from_iso(one.created_at) > now + _SKEW]
    if ahead:
        yield Trouble(
            Level.WARNING,
            f"{counted(len(ahead), 'backup')} dated in the future, the latest is {ahead[0]}: the clock is wrong, or "
            "was then. Set it, and remove what is dated wrongly.",
        )
    elif found.record is not None and names.from_iso(found.record.at) > now + _SKEW:
        message = f"The last run was at {found.record.at}, in the future: the clock is wrong, or was then. Set it."
        yield Trouble(Level.WARNING, message)

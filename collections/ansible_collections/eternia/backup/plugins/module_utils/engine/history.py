# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of the drills: how long a recovery is going to take, and whether that grows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from . import documents, files, lock, names
from .errors import DamagedError, LockedError, StoreError, quoted, shortened

_NAME = "drills.json"
# What the history is called while a drill goes on; one that is cut off leaves it so.
_BEGUN = "drills.begun.json"
_FORMAT = 1
_MOST = 50


@dataclass(frozen=True)
class Entry:
    """A drill of the newest backup of a store.

    `bytes` is its size; `seconds` is what a recovery would have taken before the application starts.
    """

    at: str
    store: str
    name: str
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Last:
    """The last drill of all, and whether everything came back in it; of one that was cut off, nobody can say that."""

    at: str
    succeeded: bool


@dataclass(frozen=True)
class Prediction:
    """How long a recovery from a store is going to take before the application starts, in seconds.

    `trend` is the difference to the median of `earlier` drills of the store, in percent, and `trend_per_mib` the same
    of the seconds for each MiB: data that grows shows in the first alone, a store that became slower in both. None
    where nothing was drilled before.
    """

    store: str
    name: str
    bytes: int
    seconds: float
    earlier: int
    trend: int | None
    trend_per_mib: int | None


def read(storage_path: Path) -> list[Entry]:
    """The last drills, the oldest first. Raises DamagedError where what is there cannot be used."""
    return _read(storage_path)[0]


def last(storage_path: Path) -> Last | None:
    """The last drill, None where there was none; while one goes on, the last that came to its end. Raises as `read`."""
    return _read(storage_path)[1]


def begin(storage_path: Path) -> None:
    """Take back what is said of the last drill: until `write`, it is one that was cut off. Only for the lock's holder.

    Needs no space on the disk, and loses no entry: the history gets another name. Raises StoreError.
    """
    ended, begun = storage_path / _NAME, storage_path / _BEGUN
    try:
        # Where the last drill was cut off, it has the other name already; where none ever was, it has neither.
        with suppress(FileNotFoundError):
            os.replace(ended, begun)
        if begun.is_symlink():
            # Nothing of ours: what it points to is not touched.
            begun.unlink()
        if begun.exists():
            begun.touch()
            files.fsync_path(storage_path)
    except OSError as exc:
        raise StoreError(
            f"{ended} could not be renamed to {begun.name}: {files.reason(exc)}. Nothing was drilled. Correct the "
            "rights there, or move away what is in its place; then drill again."
        ) from exc


def _read(storage_path: Path) -> tuple[list[Entry], Last | None]:
    # The first again: a drill that ends meanwhile gives that name back.
    for name in (_NAME, _BEGUN, _NAME):
        with suppress(FileNotFoundError):
            entries, found = _parsed(storage_path / name)
            return entries, found if name == _NAME or _goes_on(storage_path) else _cut_off(storage_path / name)
    return [], None


def _goes_on(storage_path: Path) -> bool:
    try:
        lock.require_no_drill(storage_path)
    except LockedError:
        return True
    except StoreError:
        return False
    return False


def _cut_off(begun: Path) -> Last:
    moment = datetime.fromtimestamp(begun.stat().st_mtime, timezone.utc)
    return Last(names.iso(moment), succeeded=False)


def _parsed(path: Path) -> tuple[list[Entry], Last | None]:
    try:
        fields = documents.read(path, _FORMAT)
        entries = [_entry(**one) for one in fields["drills"]]
        # A history from before failed drills were remembered holds none but good ones.
        implied = {"at": entries[-1].at, "succeeded": True} if entries else None
        found = fields.get("last", implied)
        return entries, None if found is None else _last(**found)
    except FileNotFoundError:
        raise
    except (OSError, *documents.BENT) as exc:
        raise DamagedError(
            f"The history of the drills ({path}) cannot be read ({shortened(exc)}). It is started anew: there is no "
            "trend until the next drill."
        ) from exc


def write(storage_path: Path, entries: Sequence[Entry], last: Last, *, staging: Path) -> None:
    """Keep the last entries, and how the drill ended. Raises StoreError."""
    drills = [asdict(entry) for entry in entries[-_MOST:]]
    fields = {"format": _FORMAT, "last": asdict(last), "drills": drills}
    try:
        documents.write(storage_path / _NAME, fields, staging=staging)
    except OSError as exc:
        raise StoreError(
            f"{storage_path / _NAME} could not be written: {files.reason(exc)}. This drill counts as one that was cut "
            "off, and the next lacks it in its trend. Free some space or correct the rights there; then drill again."
        ) from exc
    # What stays of it counts for nothing beside the new one.
    with suppress(OSError):
        (storage_path / _BEGUN).unlink()


def predict(entry: Entry, history: Iterable[Entry]) -> Prediction:
    """What a drill predicts, beside those before it."""
    earlier = [one for one in history if one.store == entry.store]
    return Prediction(
        store=entry.store,
        name=entry.name,
        bytes=entry.bytes,
        seconds=entry.seconds,
        earlier=len(earlier),
        trend=_difference(entry, earlier, lambda one: one.seconds),
        trend_per_mib=_difference(entry, earlier, lambda one: one.seconds / max(one.bytes, 1)),
    )


def _difference(entry: Entry, earlier: Sequence[Entry], measure: Callable[[Entry], float]) -> int | None:
    before = median(map(measure, earlier)) if earlier else 0.0
    return round((measure(entry) / before - 1) * 100) if before else None


def _entry(*, at: str, store: str, name: str, bytes: int, seconds: float) -> Entry:
    names.from_iso(at)
    if not (0 <= bytes < 1 << 63 and 0 <= seconds < 1 << 63):
        raise ValueError(f"{quoted(bytes)} bytes in {quoted(seconds)} seconds")
    return Entry(at, str(store), str(name), int(bytes), float(seconds))


def _last(*, at: str, succeeded: bool) -> Last:
    names.from_iso(at)
    return Last(at, succeeded is True)

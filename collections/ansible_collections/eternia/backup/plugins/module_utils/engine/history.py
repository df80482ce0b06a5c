# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of the drills: how long a recovery is going to take, and whether that grows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from . import files, names
from .errors import DamagedError, StoreError

_NAME = "drills.json"
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
    """The last drill of all, and whether everything came back in it."""

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
    """The last drill, None where there was none. Raises as `read`."""
    return _read(storage_path)[1]


def _read(storage_path: Path) -> tuple[list[Entry], Last | None]:
    path = storage_path / _NAME
    try:
        fields = json.loads(path.read_bytes())
        if fields["format"] != _FORMAT:
            raise ValueError(f"its format is {fields['format']!r}")
        entries = [_entry(**one) for one in fields["drills"]]
        # A history from before failed drills were remembered holds none but good ones.
        implied = {"at": entries[-1].at, "succeeded": True} if entries else None
        found = fields.get("last", implied)
        return entries, None if found is None else _last(**found)
    except FileNotFoundError:
        return [], None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise DamagedError(
            f"The history of the drills ({path}) cannot be read ({exc}). It is started anew: there is no trend until "
            "the next drill."
        ) from exc


def write(storage_path: Path, entries: Sequence[Entry], last: Last, *, staging: Path) -> None:
    """Keep the last entries. Raises StoreError."""
    drills = [asdict(entry) for entry in entries[-_MOST:]]
    fields = {"format": _FORMAT, "last": asdict(last), "drills": drills}
    try:
        files.replace(storage_path / _NAME, json.dumps(fields, indent=2).encode() + b"\n", staging=staging)
    except OSError as exc:
        raise StoreError(
            f"{storage_path / _NAME} could not be written: {files.reason(exc)}. The next drill lacks this one in its "
            "trend. Correct the rights there."
        ) from exc


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
        raise ValueError(f"{bytes} bytes in {seconds} seconds")
    return Entry(at, str(store), str(name), int(bytes), float(seconds))


def _last(*, at: str, succeeded: bool) -> Last:
    names.from_iso(at)
    return Last(at, succeeded is True)

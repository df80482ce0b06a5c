# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the last run, beside the backups: what prune asks before it removes anything, and what others read.

What is counted is carried on from record to record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from . import documents, files, names
from . import failure as failure_
from .errors import DamagedError, StoreError, quoted, shortened
from .failure import Failure
from .version import VERSION

NAME = "last-run.json"
# More than any error of ours has, and still to be read at a terminal.
_SHOWN = 3000
_FORMAT = 1
_FIRST = f'{{\n  "format": {_FORMAT},\n'.encode()

RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"
_RESULTS = (RUNNING, SUCCEEDED, FAILED)


@dataclass(frozen=True)
class Record:
    """How a run stands. Times are UTC as `names.iso` has them, `seconds` is how long it took, sizes are in bytes.

    `at` is when it was written. `failure` is the kind of what failed and `error` its words. `backup` is the name of the
    backup that it took, or found to be up to date. `removed` counts the copies that were pruned behind it.
    `bytes_copied` are those of an earlier backup that S3 copied itself.
    `create_only` says whether the bucket refused to overwrite when it was last asked, None where nobody knows.
    `failures` counts by kind, over all runs.
    """

    result: str
    at: str
    error: str = ""
    failure: str | None = None
    started_at: str = ""
    seconds: float = 0.0
    backup: str | None = None
    bytes_stored: int = 0
    bytes_sent: int = 0
    bytes_copied: int = 0
    removed: int = 0
    warnings: tuple[str, ...] = ()
    create_only: bool | None = None
    last_success_at: str | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    tool_version: str = VERSION

    @property
    def trouble(self) -> str | None:
        """Why the run is no ground to trust in, None where it succeeded."""
        if self.result == SUCCEEDED:
            return None
        if self.result == RUNNING:
            return f"the run of {self.at} was cut off, or still goes on"
        return f"the run of {self.at} failed: {shortened(self.error, _SHOWN)}"

    def succeeded(self, now: datetime) -> Record:
        """The record of the same run, which has ended well."""
        at = names.iso(now)
        return replace(self, result=SUCCEEDED, at=at, last_success_at=at)

    def failed(self, now: datetime, failure: Failure) -> Record:
        """The record of the same run, which has failed."""
        counted = _counted(self.failures, failure.kind)
        at = names.iso(now)
        return replace(self, result=FAILED, at=at, failure=failure.kind, error=failure.reason, failures=counted)


def begin(storage_path: Path, now: datetime) -> Record:
    """Take back what the record says of an earlier run, if there is one; returns the record of a run that begins.

    Needs no space on the disk: the head of the record is overwritten where it lies.
    """
    try:
        earlier = read(storage_path)
    except DamagedError:
        earlier = None
    _withdraw(storage_path / NAME, now)
    begun = Record(RUNNING, names.iso(now), started_at=names.iso(now))
    if earlier is None:
        return begun
    was_cut_off = earlier.result == RUNNING
    failures = _counted(earlier.failures, failure_.OTHER) if was_cut_off else earlier.failures
    return replace(begun, create_only=earlier.create_only, last_success_at=earlier.last_success_at, failures=failures)


def write(storage_path: Path, record: Record, *, staging: Path) -> None:
    """Put a record in the place of another. Raises StoreError."""
    rest = {name: value for name, value in asdict(record).items() if name not in ("result", "at")}
    text = _head(record.result, record.at) + json.dumps(rest, indent=2)[2:].encode() + b"\n"
    try:
        files.replace(storage_path / NAME, text, staging=staging)
    except OSError as exc:
        raise StoreError(
            f"{storage_path / NAME} could not be written: {files.reason(exc)}. Free some space or correct the rights."
        ) from exc


def read(storage_path: Path) -> Record | None:
    """The record of the last run, None where there is none. Raises DamagedError where it cannot be used."""
    path = storage_path / NAME
    try:
        return _parsed(documents.read(path, _FORMAT))
    except FileNotFoundError:
        return None
    except (OSError, *documents.BENT) as exc:
        raise DamagedError(
            f"The record of the last run ({path}) cannot be read ({shortened(exc)}). The next run writes a new one."
        ) from exc


def trouble(storage_path: Path) -> str | None:
    """Why the last backup run is no ground to remove anything; None where it succeeded."""
    try:
        found = read(storage_path)
    except DamagedError as exc:
        return str(exc).rstrip(".")
    return "no run has succeeded here yet" if found is None else found.trouble


def _head(result: str, at: str) -> bytes:
    """How every record begins, always as long: so that another head can be written over it."""
    return _FIRST + f'  "result": {json.dumps(result):<11},\n  "at": "{at}",\n'.encode()


def _withdraw(path: Path, now: datetime) -> None:
    head = _head(RUNNING, names.iso(now))
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.pread(descriptor, len(_FIRST), 0) == _FIRST:
                files.write_at(descriptor, head, 0)
            else:
                os.ftruncate(descriptor, 0)
        except OSError:
            # A filesystem that never writes in place needs space even for that.
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def _counted(failures: Mapping[str, int], kind: str) -> dict[str, int]:
    return {**failures, kind: failures.get(kind, 0) + 1}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < 1 << 63


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_amount(value)


# What others compute with and show, field by field.
_VALUES: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("error", "started_at", "tool_version"), _is_text),
    **dict.fromkeys(("failure", "backup", "last_success_at"), _is_text_or_none),
    **dict.fromkeys(("bytes_stored", "bytes_sent", "bytes_copied", "removed"), _is_count),
    "seconds": _is_amount,
    "warnings": lambda value: isinstance(value, (list, tuple)),
    "create_only": lambda value: value is None or isinstance(value, bool),
    "failures": lambda value: isinstance(value, dict) and all(map(_is_count, value.values())),
}


def _parsed(found: Mapping[str, Any]) -> Record:
    """Raises ValueError, TypeError, AttributeError for what is no record of ours."""
    known = {one.name for one in fields(Record)}
    record = Record(**{name: value for name, value in found.items() if name in known})
    if record.result not in _RESULTS:
        raise ValueError(f"its result is {quoted(record.result)}")
    for name, is_right in _VALUES.items():
        if not is_right(getattr(record, name)):
            raise ValueError(f"its {name} is {quoted(getattr(record, name))}")
    for moment in (record.at, *filter(None, (record.started_at, record.last_success_at))):
        names.from_iso(moment)
    return replace(record, warnings=tuple(map(str, record.warnings)), seconds=float(record.seconds))

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of backups: `eternia_backup_20261122_220000.db`, `eternia_state_20261122_220000.json.zst`.

The time is UTC. A name that only looks like one of ours is foreign: it does not parse, so it is never listed as ours
and never deleted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from .errors import ConfigError

Kind = Literal["database", "state"]

DATABASE: Kind = "database"
STATE: Kind = "state"

# The order of the chain is the order of what was done to the bytes: compressed, then encrypted.
_PATTERN = re.compile(
    r"eternia_(?:(backup)|state)_(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)\.(?(1)db|json)(\.zst)?(\.age)?", re.ASCII
)

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

MANIFEST_SUFFIX = ".manifest.json"
PIN_SUFFIX = ".pin"
SEEN_SUFFIX = ".seen.json"
DRILLED_SUFFIX = ".drilled.json"

# What may have been done to the bytes, in the order in which it was.
ENCODINGS = ((), ("zst",), ("age",), ("zst", "age"))
# What may lie beside a backup, under its name and one of these.
SIDECAR_SUFFIXES = (MANIFEST_SUFFIX, PIN_SUFFIX, SEEN_SUFFIX, DRILLED_SUFFIX)


@dataclass(frozen=True, order=True)
class BackupName:
    """A backup's name, taken apart. Sorts by time, then by kind and encoding."""

    created_at: datetime
    kind: Kind
    encoding: tuple[str, ...] = ()

    @property
    def is_encrypted(self) -> bool:
        return "age" in self.encoding

    def __str__(self) -> str:
        stem, extension = ("eternia_backup", "db") if self.kind == DATABASE else ("eternia_state", "json")
        # isoformat, because strftime does not fill a year before 1000 with zeros.
        date, time = self.created_at.isoformat()[:19].replace("-", "").replace(":", "").split("T")
        return ".".join((f"{stem}_{date}_{time}", extension, *self.encoding))


def parse(text: str) -> BackupName | None:
    """Take a file's name or the last part of a key apart; None where it is foreign."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    backup, year, month, day, hour, minute, second, zst, age = match.groups()
    try:
        created_at = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=timezone.utc)
    except ValueError:
        return None
    encoding = ("zst",) * bool(zst) + ("age",) * bool(age)
    return BackupName(created_at, DATABASE if backup else STATE, encoding)


def required(text: str) -> BackupName:
    """Take a name apart that has to be one of ours. Raises ConfigError."""
    name = parse(text)
    if name is None:
        raise ConfigError(f"{text!r} is not the name of a backup, such as eternia_backup_20261122_220000.db.")
    return name


def parse_with_sidecar(text: str) -> tuple[BackupName, str] | None:
    """Take a name apart that may be a sidecar's: the backup's name and the sidecar's suffix ("" for the backup)."""
    for suffix in SIDECAR_SUFFIXES:
        if text.endswith(suffix):
            name = parse(text[: -len(suffix)])
            return None if name is None else (name, suffix)
    name = parse(text)
    return None if name is None else (name, "")


def iso(moment: datetime) -> str:
    """A UTC time as people and manifests read it: `2026-11-22T22:00:00Z`."""
    return moment.astimezone(timezone.utc).isoformat()[:19] + "Z"


def from_iso(text: str) -> datetime:
    """The reverse of `iso`. Raises ValueError where the text is anything else."""
    # strptime would load the language of the host, which takes longer than all of a run's own reading.
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not a time of the form 2026-11-22T22:00:00Z")
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store in S3 was seen to keep of what backups rely on, and what it cannot guarantee: tried once, remembered.

It lies beside the backups, so that whoever asks for the status is told, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from . import catalog, documents, files, mounts, names
from .config import Config
from .errors import ConfigError, DamagedError, StoreError, printable, shortened

NAME = "store-check.json"
_FORMAT = 1

KEPT, NOT_KEPT, UNKNOWN = "kept", "not kept", "unknown"
_VERDICTS = (KEPT, NOT_KEPT, UNKNOWN)

# A run tries the first itself, with each claim; the second only who is asked to.
CREATE_ONLY, CREATE_ONLY_IN_PARTS = "create-only", "create-only in parts"
# Whether backups rely on it is said by the configuration.
OBJECT_LOCK = "object lock"


@dataclass(frozen=True)
class Finding:
    """One promise, whether it is kept, and what that means and asks for.

    Backups rely on what is `needed`; the others say what whoever steals this host's key could do.
    """

    promise: str
    verdict: str
    meaning: str
    needed: bool

    @property
    def is_broken(self) -> bool:
        """Whether backups rely on it, and the store does not keep it."""
        return self.needed and self.verdict == NOT_KEPT


@dataclass(frozen=True)
class StoreCheck:
    """What was found of one store (`s3://bucket/prefix at endpoint`), and when, UTC. `left` says what remains there."""

    at: str
    store: str
    findings: tuple[Finding, ...]
    left: str = ""

    @property
    def broken(self) -> tuple[Finding, ...]:
        """What backups rely on and the store does not keep."""
        return tuple(finding for finding in self.findings if finding.is_broken)

    def named(self, verdict: str) -> Sequence[str]:
        """The promises with this verdict."""
        return [finding.promise for finding in self.findings if finding.verdict == verdict]


def look(config: Config, *, now: datetime) -> StoreCheck:
    """Try the store in S3 with small objects of its own, never with a backup's name. Raises StoreError, ConfigError."""
    remote = catalog.remote(config)
    if remote is None:
        raise ConfigError("backup.cloud_backup.enabled is false: there is no store in S3 to check.")
    findings, left = remote.promises()
    return StoreCheck(names.iso(now), checked(config), tuple(findings), left)


def remember(config: Config, found: StoreCheck) -> None:
    """Keep it for `status`, in place of what was found before. Raises StoreError, ConfigError."""
    mounts.require(config)
    files.make_private_dirs(config.storage_path)
    path = config.storage_path / NAME
    try:
        documents.write(path, {"format": _FORMAT, **asdict(found)})
    except OSError as exc:
        raise StoreError(
            f"{path} could not be written: {files.reason(exc)}. Free some space or correct the rights there, then "
            "check again, so that status can tell what was found."
        ) from exc


def remembered(config: Config) -> StoreCheck | None:
    """What was found of the store that is configured now; None where nobody checked it. Raises DamagedError."""
    path = config.storage_path / NAME
    try:
        found = _parsed(path)
    except FileNotFoundError:
        return None
    except (OSError, *documents.BENT) as exc:
        why = printable(shortened(exc))
        raise DamagedError(f"{path} cannot be read ({why}). Check again: eternia-backup check-store.") from exc
    if config.cloud is None or found.store != checked(config):
        return None
    # Whether backups rely on the lock is the configuration's word of today.
    needs_lock = bool(config.cloud.object_lock_days)
    findings = (replace(one, needed=needs_lock) if one.promise == OBJECT_LOCK else one for one in found.findings)
    return replace(found, findings=tuple(findings))


def checked(config: Config) -> str:
    """Which store was checked."""
    return "" if config.cloud is None else config.cloud.place


def _parsed(path: Path) -> StoreCheck:
    fields = documents.read(path, _FORMAT)
    names.from_iso(fields["at"])
    findings = tuple(
        Finding(str(one["promise"]), str(one["verdict"]), printable(str(one["meaning"])), one["needed"] is True)
        for one in fields["findings"]
    )
    if any(finding.verdict not in _VERDICTS for finding in findings):
        raise ValueError("it has a verdict that does not exist")
    return StoreCheck(fields["at"], str(fields["store"]), findings, str(fields["left"]))

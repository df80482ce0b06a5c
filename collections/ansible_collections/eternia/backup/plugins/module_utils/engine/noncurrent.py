# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bucket that keeps versions still holds of backups that are gone, and what of it goes for good.

Such a bucket is the last resort against a deletion by mistake, or by somebody who stole the host's key. So only those
versions go that retention would not keep, had nobody deleted them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from . import log
from .errors import HeldError, StoreError
from .names import BackupName
from .stores.base import Copy
from .stores.s3_versions import Removal, Version, Versions, as_it_was, was_overwritten
from .units import counted, size

# Which of some backups, as they were, retention would not keep.
Judge = Callable[[list[Copy]], Collection[BackupName]]


@dataclass(frozen=True)
class Noncurrent:
    """Versions that went for good, or would go, and the bytes of backups removed just now that stay billed.

    `billed_bytes` is None where the store does not tell whether it keeps versions, or not what it has.
    """

    removed: int = 0
    removed_bytes: int = 0
    billed_bytes: int | None = 0
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.billed_bytes is None:
            return (
                "how much of what was removed stays in the bucket and is billed is not known: allow "
                "s3:GetBucketVersioning and s3:ListBucketVersions to this key"
            )
        kept = f"{size(self.billed_bytes)} of what was removed stay in the bucket and are billed"
        gone = f"{counted(self.removed, 'old version')} gone for good, {size(self.removed_bytes)}"
        return ", ".join([gone] * bool(self.removed) + [kept] * bool(self.billed_bytes or not self.removed))


def told(versions: Versions, pruned: Iterable[Copy]) -> Noncurrent | None:
    """What remains of backups that were removed, or are to be, by one request; None where nothing does."""
    lost = [copy.bytes or 0 for copy in pruned]
    kept = versions.are_kept() if lost else False
    if kept is False:
        return None
    found = Noncurrent(billed_bytes=sum(lost) if kept else None)
    log.info(f"Old versions: {found}. With cloud_backup.remove_versions they would go for good")
    return found


def plan(versions: Versions, pruned: Iterable[Copy], judge: Judge) -> Noncurrent | None:
    """What `run` would remove, reading only."""
    return _found(versions, pruned, judge, None)


def run(versions: Versions, pruned: Iterable[Copy], judge: Judge, go_on: Callable[[], None]) -> Noncurrent | None:
    """Remove for good what is left of backups that retention removed, now or in earlier runs.

    What the store does not let go, or does not tell, is a warning, and so is a hold: `go_on` is called before each
    request, and may raise HeldError. None where there is nothing to say.
    """
    return _found(versions, pruned, judge, go_on)


def _found(
    versions: Versions, pruned: Iterable[Copy], judge: Judge, go_on: Callable[[], None] | None
) -> Noncurrent | None:
    if versions.are_kept() is False:
        return None
    lost = {copy.name for copy in pruned}
    try:
        # Whoever removes sees for himself that what was removed is gone.
        behind = versions.behind(leaving=() if go_on else lost)
        spoiled = {name for name, left in behind.items() if was_overwritten(left)}
        lost -= spoiled
        were = {name: as_it_was(name, left) for name, left in behind.items() if name not in lost | spoiled}
        names = {*lost, *judge([copy for copy in were.values() if copy.is_there])}
    except StoreError as exc:
        return _warned(Noncurrent(billed_bytes=None, warnings=(f"Old versions were not removed for good. {exc}",)))
    # Of some there are markers alone, which keep nothing.
    names |= {name for name, copy in were.items() if not copy.is_there}
    going = [version for name in sorted(names & behind.keys()) for version in behind[name]]
    done, warnings = Removal(), []
    if spoiled:
        warnings.append(
            f"Old versions of {min(spoiled)}, of which somebody overwrote the data, stay"
            + (f", and those of {counted(len(spoiled) - 1, 'other')}" if len(spoiled) > 1 else "")
            + ": one of them may be the backup. Look at them, and remove by hand what nobody needs."
        )
    if go_on is None:
        done.gone = [version for version in going if not version.is_marker]
    else:
        try:
            versions.remove(going, done, go_on)
        except HeldError as exc:
            warnings.append(f"{exc} Removing old versions for good has stopped.")
    gone = set(done.gone)
    billed = [version for version in going if not version.is_marker and version not in gone]
    if done.refused:
        why = versions.why_kept(*next(iter(done.refused.items())))
        warnings.append(
            f"{counted(len(billed), 'old version')} of removed backups, {size(_total(billed))}, stay and are billed: "
            f"{why}. Later runs try again."
        )
    if not (gone or billed or warnings):
        return None
    return _warned(Noncurrent(len(gone), _total(gone), _total(billed), tuple(warnings)))


def _total(versions: Iterable[Version]) -> int:
    return sum(version.bytes for version in versions)


def _warned(found: Noncurrent) -> Noncurrent:
    for warning in found.warnings:
        log.warning(warning)
    return found

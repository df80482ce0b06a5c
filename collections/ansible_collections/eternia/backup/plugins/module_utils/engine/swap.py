# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one step that changes live data: a rename, and the journal that lets the next run finish it or take it back.

Before the rename the target is wholly what it was, after it wholly what was restored. What a database had beside it (a
log that SQLite would replay into whatever lies there) is put away before: where the database was sound, the log was
folded into it and is empty; where it was not, the next run puts back what is missing, byte for byte. Taking back is
renames alone, because the disk may be full.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from . import copying, files, holders, lock, log, staging
from . import journal as journals
from .errors import TargetError
from .identity import Identity
from .journal import Journal
from .names import MANIFEST_SUFFIX
from .target import Target, dress, require_followable

# What was there, by a second name, and what was put away with it.
_OLD = "old"


@dataclass(frozen=True)
class Kept:
    """What was at the target, kept in `place`: the files by their suffix. `linked` ones are the live files themselves.

    Nothing was there where `files` is empty. `sound` means one whole database or state, with its manifest beside it.
    `old` is which file was kept, None where nothing was there.
    """

    place: Path | None
    files: Mapping[str, Path]
    linked: bool
    sound: bool
    old: Identity | None = None


def begin(target: Target, staged: Path, *, backup: str, kept: Kept) -> Journal:
    """Write down what is going to happen, before anything does. Raises TargetError."""
    with suppress(OSError):
        # Where it cannot have a second name, it is put back from what was kept.
        os.link(target.real, target.staging / _OLD, follow_symlinks=False)
    journal = Journal(
        target=str(target.real),
        backup=backup,
        new=Identity.of(staged),
        beside={suffix: Identity.of(path) for suffix, path in _companions(target) if path.exists()},
        old=kept.old,
        kept={suffix: str(path) for suffix, path in kept.files.items()},
        place=None if kept.place is None else str(kept.place),
    )
    require_unchanged(target, journal)
    try:
        journals.write(target, journal)
    except OSError as exc:
        raise TargetError(
            f"The journal in {target.staging} could not be written: {files.reason(exc)}. Nothing was changed; free "
            "some space or correct the rights there, then run again."
        ) from exc
    return journal


def require_unchanged(target: Target, journal: Journal) -> None:
    """Raises TargetError where somebody wrote to the target, or replaced it or what leads to it, after it was kept."""
    require_followable(target)
    if journal.old != (Identity.of(target.real) if target.real.exists() else None):
        raise TargetError(
            f"{target.path} was written to while the restore went on. Nothing was changed. Stop the application, then "
            "run again."
        )


def commit(target: Target, staged: Path, journal: Journal) -> None:
    """Put the companions away and give the staged file the target's name. Raises OSError; then the target is as before.

    What is put away has a second name, or a copy, in what was kept. Raises NameTakenError where nothing was, and
    something is now.
    """
    for suffix in target.present():
        if suffix:
            os.replace(target.beside(suffix), target.staging / f"{_OLD}{suffix}")
    files.fsync_path(target.staging)
    files.fsync_path(target.real.parent)
    # A rename asks nobody, neither a lock nor the gate. This is as late as can be asked.
    require_unchanged(target, journal)
    if journal.old is None:
        files.commit(staged, target.real)
    else:
        os.replace(staged, target.real)
    _bring_companions(target)
    files.fsync_path(target.real.parent)


def staged_companions(target: Target) -> list[Path]:
    """What lies in staging to come with the new file. Only a safety copy that is put back as it was has such."""
    return [path for _suffix, path in _companions(target) if os.path.lexists(path)]


def _companions(target: Target) -> Iterator[tuple[str, Path]]:
    """Those of a safety copy that is put back byte for byte, in staging; any other restore has none."""
    return ((suffix, target.staging / target.beside(suffix).name) for suffix in target.suffixes[1:])


def _bring_companions(target: Target) -> None:
    for suffix, path in _companions(target):
        with suppress(FileNotFoundError):
            os.replace(path, target.beside(suffix))


def clear(target: Target) -> None:
    """Forget a swap that is done, and all that was staged. Raises OSError."""
    journals.remove(target)
    if target.staging.exists():
        files.fsync_path(target.staging)
        shutil.rmtree(target.staging)
        files.fsync_path(target.staging.parent)


def pending(target: Target) -> str | None:
    """What the next run will do about a restore that was cut off, for a person; None where there is none. Reads."""
    journal = journals.read(target)
    if journal is None:
        return None
    done = "will be finished" if _is_done(target, journal) else "will be taken back"
    return f"The restore of {journal.backup} into {target.path} was cut off and {done} first."


def kept_by_pending(target: Target) -> str | None:
    """Where what was there is kept, of a restore that was cut off after its rename; None where there is none. Reads."""
    journal = journals.read(target)
    return journal.place if journal is not None and _is_done(target, journal) else None


def settle(target: Target) -> str | None:
    """Finish a restore that was cut off, or take it back; says which, None where there was none.

    Only for the holder of the target's lock. Raises LockedError, TargetError.
    """
    journal = journals.read(target)
    if journal is None:
        return None
    if _is_done(target, journal):
        message = f"The restore of {journal.backup} into {target.path} had been cut off; it is finished now."
        finish = _is_untouched(target, journal)
        if finish and journal.beside:
            holders.require_none(target)
        _clear(target, finish=finish)
    elif _is_untouched(target, journal):
        holders.require_none(target)
        with holders.kept_out(target):
            message = take_back(target, journal)
    else:
        message = take_back(target, journal, sure=False)
    log.warning(message, log.RECOVERY)
    return message


def tidy(target: Target) -> str | None:
    """Settle and clear what an earlier restore left beside a target; what `settle` says, or why it is left there.

    Raises LockedError, StoreError, TargetError.
    """
    if not os.path.lexists(target.staging):
        return None
    require_followable(target)
    if not journals.exists(target):
        if staging.is_awaited(target):
            return None
        owner = target.staging.lstat().st_uid
        if os.geteuid() not in (0, owner):
            # It changed nothing yet, and keeps no backup from being taken.
            return (
                f"{target.staging} was left by a restore of user {owner}'s. Finish it as that user, or have it removed."
            )
    with lock.held_target(target.real):
        message = settle(target)
        _clear(target, finish=False)
        return message


def discard(target: Target) -> None:
    """Remove what was staged, but for what the next run has to settle. Raises OSError."""
    if not journals.exists(target):
        staging.discard(target)


def take_back(target: Target, journal: Journal, *, sure: bool = True) -> str:
    """Put back what was at the target before; says what was done. Can be cut off and done again. Raises TargetError.

    Where it is not `sure` that nobody used what was restored, that stays.
    """
    try:
        if sure and _is(target.real, journal.new):
            journal = _put_back(target, journal)
        is_raw = journal.place is not None and Path(journal.place).is_dir()
        if journal.old is None:
            is_as_before = not os.path.lexists(target.real)
        else:
            is_as_before = target.real.exists() and Identity.of(target.real) == journal.old
        if is_as_before:
            _put_companions_back(target)
            # Where somebody has a log of his own in its place, he went on without what that one held.
            is_as_before = not _lacks_its_log(target)
        if is_as_before or (not is_raw and _is(target.real, journal.old)):
            # Whoever went on with a sound database meanwhile went on with all of it.
            _forget_links(target, journal)
            message = f"The restore of {journal.backup} into {target.path} was taken back: all is as it was before."
        else:
            # Not ours to touch: an old log beside somebody's new database would be replayed into it.
            kept = f"lies in {journal.place}" if journal.place and os.path.lexists(journal.place) else "was not kept"
            message = (
                f"{target.path} was replaced or written to by somebody after a restore of {journal.backup} had been "
                f"cut off, and was left as it is. What was there before the restore {kept}."
            )
        clear(target)
    except OSError as exc:
        raise TargetError(
            f"The restore of {journal.backup} into {target.path} could not be taken back: {files.reason(exc)}. What "
            f"was there before lies in {target.staging}. Put that right, then run again."
        ) from exc
    return message


def _put_back(target: Target, journal: Journal) -> Journal:
    """Replace what was restored by what was there, by one rename."""
    journal = journals.begin_taking_back(target, journal)
    for suffix in journal.beside:
        target.beside(suffix).unlink(missing_ok=True)
    if journal.old is None:
        target.real.unlink()
        files.fsync_path(target.real.parent)
        return journal
    old = target.staging / _OLD
    if not _is(old, journal.old):
        old.unlink(missing_ok=True)
        copying.copy_file(Path(journal.kept[""]), old)
        # What was restored had been given the owner and the mode of what was there.
        dress(target, old)
        journal = replace(journal, old=Identity.of(old))
        journals.write(target, journal)
    os.replace(old, target.real)
    files.fsync_path(target.real.parent)
    return journal


def _put_companions_back(target: Target) -> None:
    for suffix in target.suffixes[1:]:
        if not os.path.lexists(target.beside(suffix)):
            with suppress(FileNotFoundError):
                os.replace(target.staging / f"{_OLD}{suffix}", target.beside(suffix))
    files.fsync_path(target.real.parent)


def _lacks_its_log(target: Target) -> bool:
    return any((target.staging / f"{_OLD}{suffix}").exists() for suffix in ("-wal", "-journal"))


def is_back(target: Target, journal: Journal) -> bool:
    """Whether what was there is there."""
    return not os.path.lexists(target.real) if journal.old is None else _is(target.real, journal.old)


def _forget_links(target: Target, journal: Journal) -> None:
    """What was kept by a link is live again: a safety backup that an application writes to is none."""
    if journal.place is None:
        return
    place = Path(journal.place)
    for suffix, kept in journal.kept.items():
        with suppress(FileNotFoundError):
            if os.path.samefile(kept, target.beside(suffix)):
                os.unlink(kept)
                if not place.is_dir():
                    place.with_name(f"{place.name}{MANIFEST_SUFFIX}").unlink(missing_ok=True)
    with suppress(OSError):
        # Where it holds something that is not live again, it stays.
        place.rmdir()
    if place.parent.exists():
        files.fsync_path(place.parent)


def _clear(target: Target, *, finish: bool) -> None:
    try:
        if finish:
            _bring_companions(target)
            files.fsync_path(target.real.parent)
        clear(target)
    except OSError as exc:
        owner = target.staging.stat().st_uid if target.staging.exists() else os.geteuid()
        settle_it = (
            f"Run the restore again as user {owner}, whose it is" if owner != os.geteuid() else "Correct the rights"
        )
        raise TargetError(
            f"What a restore left in {target.staging} could not be cleared: {files.reason(exc)}. {settle_it}, then run "
            "again."
        ) from exc


def _is_done(target: Target, journal: Journal) -> bool:
    return not journal.taking_back and _is(target.real, journal.new)


def _is(path: Path, identity: Identity | None) -> bool:
    """Whether it is that very file, whatever was written to it since."""
    with suppress(FileNotFoundError):
        return identity is not None and Identity.of(path).inode == identity.inode
    return False


def _is_untouched(target: Target, journal: Journal) -> bool:
    """Whether what was restored is in its place, and nobody wrote to it or to a log of his own beside it."""
    with suppress(FileNotFoundError):
        beside = {suffix: Identity.from_stat(facts) for suffix, facts in target.present().items() if suffix}
        return Identity.of(target.real) == journal.new and beside.items() <= dict(journal.beside).items()
    return False

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one step that changes live data: a rename, and the journal that lets the next run finish it or take it back.

Before the rename the target is wholly what it was, after it wholly what was restored. What a database had beside it (a
log that SQLite would replay into whatever lies there) is put away before: where the database was sound, the log was
folded into it and is empty; where it was not, the next run puts back what is missing, byte for byte.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import files, lock, log
from .errors import TargetError
from .target import Target, dress

_JOURNAL = "journal.json"
_FORMAT = 1

# Which file it is, whatever its name: device and inode.
Identity = tuple[int, int]


@dataclass(frozen=True)
class Kept:
    """What was at the target, kept in `place`: the files by their suffix. `linked` ones are the live files themselves.

    Nothing was there where `files` is empty. `sound` means one whole database or state, with its manifest beside it.
    """

    place: Path | None
    files: Mapping[str, Path]
    linked: bool
    sound: bool


@dataclass(frozen=True)
class Journal:
    """What a swap is about: enough to finish it, or to put back what was there."""

    target: str
    backup: str
    new: Identity
    old: Identity | None
    kept: Mapping[str, str]
    place: str | None
    linked: bool
    taking_back: bool = False
    format: int = _FORMAT


def begin(target: Target, staged: Path, *, backup: str, kept: Kept) -> Journal:
    """Write down what is going to happen, before anything does. Raises TargetError."""
    journal = Journal(
        target=str(target.real),
        backup=backup,
        new=_identity(staged),
        old=_identity(target.real) if target.real.exists() else None,
        kept={suffix: str(path) for suffix, path in kept.files.items()},
        place=None if kept.place is None else str(kept.place),
        linked=kept.linked,
    )
    _write(target, journal)
    return journal


def commit(target: Target, staged: Path) -> None:
    """Put the companions away and give the staged file the target's name. Raises OSError; then the target is as before.

    What is put away has a second name, or a copy, in what was kept.
    """
    for suffix in target.present():
        if suffix:
            target.beside(suffix).unlink()
    files.fsync_path(target.real.parent)
    os.replace(staged, target.real)
    _bring_companions(target)
    files.fsync_path(target.real.parent)


def _bring_companions(target: Target) -> None:
    """Those of a safety copy that is put back byte for byte; any other restore has none."""
    for suffix in target.suffixes[1:]:
        with suppress(FileNotFoundError):
            os.replace(target.staging / target.beside(suffix).name, target.beside(suffix))


def clear(target: Target) -> None:
    """Forget a swap that is done, and all that was staged. Raises OSError."""
    (target.staging / _JOURNAL).unlink(missing_ok=True)
    if target.staging.exists():
        files.fsync_path(target.staging)
        shutil.rmtree(target.staging)
        files.fsync_path(target.staging.parent)


def pending(target: Target) -> str | None:
    """What the next run will do about a restore that was cut off, for a person; None where there is none. Reads."""
    journal = _read(target)
    if journal is None:
        return None
    done = "will be finished" if _is_done(target, journal) else "will be taken back"
    return f"The restore of {journal.backup} into {target.path} was cut off and {done} first."


def settle(target: Target) -> str | None:
    """Finish a restore that was cut off, or take it back; says which, None where there was none.

    Only for the holder of the target's lock. Raises TargetError.
    """
    journal = _read(target)
    if journal is None:
        return None
    if _is_done(target, journal):
        message = f"The restore of {journal.backup} into {target.path} had been cut off; it is finished now."
        _clear(target, finish=True)
    else:
        message = take_back(target, journal)
    log.warning(message, log.RECOVERY)
    return message


def tidy(target: Target) -> None:
    """Settle and clear what an earlier restore left beside a target. Raises LockedError, StoreError, TargetError."""
    if os.path.lexists(target.staging):
        with lock.held_target(target.real):
            settle(target)
            _clear(target, finish=False)


def take_back(target: Target, journal: Journal) -> str:
    """Put back what was at the target before; says what was done. Can be cut off and done again. Raises TargetError."""
    try:
        if _is(target.real, journal.new):
            journal = _put_back(target, journal)
        if _is(target.real, journal.old) or (journal.old is None and not os.path.lexists(target.real)):
            _put_companions_back(target, journal)
            _forget_links(target, journal)
            message = f"The restore of {journal.backup} into {target.path} was taken back: all is as it was before."
        else:
            # Not ours to touch: an old log beside somebody's new database would be replayed into it.
            message = (
                f"{target.path} was replaced by somebody after a restore of {journal.backup} had been cut off, and was "
                f"left as it is. What was there before the restore lies in {journal.place or 'no place: nothing was'}."
            )
        clear(target)
    except OSError as exc:
        raise TargetError(
            f"The restore of {journal.backup} into {target.path} could not be taken back: {files.reason(exc)}. What "
            f"was there before lies in {journal.place}. Put that right, then run again."
        ) from exc
    return message


def _put_back(target: Target, journal: Journal) -> Journal:
    """Replace what was restored by what was there, by one rename."""
    journal = replace(journal, taking_back=True)
    _write(target, journal)
    if journal.old is None:
        target.real.unlink()
        files.fsync_path(target.real.parent)
        return journal
    old = target.staging / "old"
    old.unlink(missing_ok=True)
    if not files.link_or_copy(Path(journal.kept[""]), old):
        # What was restored had been given the owner and the mode of what was there.
        dress(target, old)
        journal = replace(journal, old=_identity(old))
        _write(target, journal)
    os.replace(old, target.real)
    files.fsync_path(target.real.parent)
    return journal


def _put_companions_back(target: Target, journal: Journal) -> None:
    for suffix, path in journal.kept.items():
        beside = target.beside(suffix)
        if suffix and not os.path.lexists(beside) and not files.link_or_copy(Path(path), beside):
            dress(target, beside)
    files.fsync_path(target.real.parent)


def _forget_links(target: Target, journal: Journal) -> None:
    """What was kept by a link is live again: a safety backup that an application writes to is none."""
    if not journal.linked or journal.place is None:
        return
    place = Path(journal.place)
    if place.is_dir():
        shutil.rmtree(place)
    else:
        for path in place.parent.glob(f"{place.name}*"):
            path.unlink()
    files.fsync_path(place.parent)


def _clear(target: Target, *, finish: bool) -> None:
    try:
        if finish:
            _bring_companions(target)
            files.fsync_path(target.real.parent)
        clear(target)
    except OSError as exc:
        raise TargetError(
            f"What a restore left in {target.staging} could not be cleared: {files.reason(exc)}. Correct the rights "
            "there, then run again."
        ) from exc


def _is_done(target: Target, journal: Journal) -> bool:
    return not journal.taking_back and _is(target.real, journal.new)


def _write(target: Target, journal: Journal) -> None:
    raw = json.dumps(asdict(journal), indent=2).encode() + b"\n"
    try:
        (target.staging / f"{_JOURNAL}.new").unlink(missing_ok=True)
        files.write_new(target.staging / f"{_JOURNAL}.new", raw)
        os.replace(target.staging / f"{_JOURNAL}.new", target.staging / _JOURNAL)
        files.fsync_path(target.staging)
        files.fsync_path(target.staging.parent)
    except OSError as exc:
        raise TargetError(
            f"The journal in {target.staging} could not be written: {files.reason(exc)}. Nothing was changed; free "
            "some space or correct the rights there, then run again."
        ) from exc


def _read(target: Target) -> Journal | None:
    path = target.staging / _JOURNAL
    try:
        fields = json.loads(path.read_bytes())
        if fields["format"] != _FORMAT or fields["target"] != str(target.real):
            raise ValueError(f"it is of format {fields['format']!r} and about {fields['target']!r}")
        old = fields["old"]
        return Journal(
            target=str(fields["target"]),
            backup=str(fields["backup"]),
            new=(int(fields["new"][0]), int(fields["new"][1])),
            old=None if old is None else (int(old[0]), int(old[1])),
            kept={str(suffix): str(kept) for suffix, kept in fields["kept"].items()},
            place=None if fields["place"] is None else str(fields["place"]),
            linked=fields["linked"] is True,
            taking_back=fields["taking_back"] is True,
        )
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
        raise TargetError(
            f"The journal {path} of a restore that was cut off cannot be read ({exc}). Nothing was touched. Look at "
            f"{target.path}; when it is as it should be, remove {target.staging}, then run again."
        ) from exc


def _identity(path: Path) -> Identity:
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _is(path: Path, identity: Identity | None) -> bool:
    with suppress(FileNotFoundError):
        return _identity(path) == identity
    return False

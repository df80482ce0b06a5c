# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a swap, beside the target: what the next run needs to finish it, or to put back what was there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import documents, files
from .errors import TargetError, quoted, shortened
from .identity import Identity
from .sqlite import COMPANIONS
from .target import Target

_NAME = "journal.json"
# Its name while what was there is being put back.
_TAKING_BACK = "taking-back.json"
_FORMAT = 1


@dataclass(frozen=True)
class Journal:
    """What a swap is about. `beside` are the companions that come with the new file, by their suffix.

    `old` is what was there, None where nothing was; `kept` says where each file of it is kept, by its suffix, and
    `place` under which name.
    """

    target: str
    backup: str
    new: Identity
    beside: Mapping[str, Identity]
    old: Identity | None
    kept: Mapping[str, str]
    place: str | None
    taking_back: bool = False
    format: int = _FORMAT


def exists(target: Target) -> bool:
    """Whether a restore was cut off there. Reads only."""
    return _path(target) is not None


def write(target: Target, journal: Journal) -> None:
    """Put it on the disk, in place of what it was. Raises OSError."""
    documents.write(target.staging / (_TAKING_BACK if journal.taking_back else _NAME), asdict(journal))
    files.fsync_path(target.staging.parent)


def begin_taking_back(target: Target, journal: Journal) -> Journal:
    """Say from here on that what was there is being put back: by a rename, because the disk may be full.

    Raises OSError.
    """
    if journal.taking_back:
        return journal
    os.replace(target.staging / _NAME, target.staging / _TAKING_BACK)
    files.fsync_path(target.staging)
    return replace(journal, taking_back=True)


def remove(target: Target) -> None:
    """Forget it. Raises OSError."""
    for name in (_NAME, _TAKING_BACK):
        (target.staging / name).unlink(missing_ok=True)


def read(target: Target) -> Journal | None:
    """The journal of a restore that was cut off, None where there is none.

    Raises TargetError where it cannot be read.
    """
    path = _path(target)
    if path is None:
        return None
    owner = target.staging.lstat().st_uid
    if os.geteuid() not in (0, owner):
        raise TargetError(
            f"A restore of user {owner}'s into {target.path} was cut off. Run the restore again as user {owner}, whose "
            "it is, then run again."
        )
    try:
        with files.opened_in(target.staging, path.name) as descriptor:
            # Whoever may write to the target's directory could lay one there that names any file of the host.
            files.require_ours(descriptor, path)
            fields = json.loads(files.small(descriptor))
        if fields["format"] != _FORMAT or fields["target"] != str(target.real):
            raise ValueError(f"it is of format {quoted(fields['format'])} and about {quoted(fields['target'])}")
        if not (set(fields["beside"]) <= set(COMPANIONS) and set(fields["kept"]) <= {"", *COMPANIONS}):
            raise ValueError("it is about files that are not the target's")
        old = fields["old"]
        return Journal(
            target=str(fields["target"]),
            backup=str(fields["backup"]),
            new=Identity(*map(int, fields["new"])),
            beside={str(suffix): Identity(*map(int, one)) for suffix, one in fields["beside"].items()},
            old=None if old is None else Identity(*map(int, old)),
            kept={str(suffix): str(kept) for suffix, kept in fields["kept"].items()},
            place=None if fields["place"] is None else str(fields["place"]),
            taking_back=path.name == _TAKING_BACK,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise TargetError(
            f"The journal {path} of a restore that was cut off cannot be read ({shortened(exc)}). Nothing was touched. "
            f"Look at {target.path}; when it is as it should be, remove {target.staging}, then run again."
        ) from exc


def _path(target: Target) -> Path | None:
    paths = (target.staging / name for name in (_TAKING_BACK, _NAME))
    return next(filter(os.path.lexists, paths), None)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a staged file into place: dress → journal → swap → check in place → clear. In earnest and in a drill."""

from __future__ import annotations

import errno
from contextlib import ExitStack, suppress
from pathlib import Path

from . import files, gate, holders, safety, staging, swap, verify
from .errors import DamagedError, EngineError, LockedError, TargetError
from .fetch import RAW
from .recovery import Outcome
from .staging import Staged
from .swap import Kept
from .target import Target, dress


def place(target: Target, staged: Staged, *, kept: Kept, keeping: Path, outcome: Outcome) -> None:
    """Give the staged file the target's name. `kept` is what was there, still without its name in `keeping`.

    Raises EngineError; then the target is what it was before.
    """
    try:
        staging.take(target, staged)
        companions = swap.staged_companions(target)
        if companions and staged.store != RAW:
            raise PermissionError(errno.EPERM, f"somebody put {companions[0].name} beside it")
        for path in (staged.path, *companions):
            dress(target, path)
            files.fsync_path(path)
    except OSError as exc:
        raise TargetError(
            f"{staged.path} cannot be put into the place of {target.path}: {files.reason(exc)}. Nothing was changed; "
            "run as root, or as the owner."
        ) from exc
    with ExitStack() as held:
        # What one application opened must be wholly old or wholly new: from here on it opens neither.
        held.enter_context(gate.shut(*(path for path in (target.real, staged.path) if path.exists())))
        # It took a while to keep what is there, and the lock that lets nobody in is ours now.
        holders.require_none(target, locked=False)
        journal = swap.begin(target, staged.path, backup=staged.title, kept=kept)
        try:
            safety.publish(kept, keeping)
            swap.require_unchanged(target, journal)
            held.enter_context(holders.kept_out_of(target.kind, staged.path))
            old = holders.number_of(target.real)
            swap.commit(target, staged.path, journal)
            holders.require_none_of_old(target, old)
            _check_in_place(target, staged)
        except (EngineError, OSError) as exc:
            if isinstance(exc, LockedError):
                # Who came in may yet write to what was there: then what was kept of it must not be the same file.
                with suppress(OSError):
                    safety.detach(kept, keeping)
            # With both locks still: nobody has written to what was put there.
            message = swap.take_back(target, journal)
            if not swap.is_back(target, journal):
                raise TargetError(f"{message} Stop whoever writes there, look at the data, then run again.") from exc
            if isinstance(exc, EngineError):
                raise
            raise TargetError(
                f"{target.path} could not be replaced: {files.reason(exc)}. It is as it was before. Correct the rights "
                "there, or free some space, then run again."
            ) from exc
    try:
        swap.clear(target)
    except OSError as exc:
        outcome.warn(f"{target.staging} could not be cleared: {files.reason(exc)}. The next run will.")


def _check_in_place(target: Target, staged: Staged) -> None:
    """Open it once more where it lies now: the file whose every byte was proven. A raw safety copy is what it is."""
    if staged.store == RAW:
        return
    size = target.real.stat().st_size
    try:
        shape = verify.shape(target.real, target.kind)
    except DamagedError as exc:
        raise DamagedError(f"{exc} {target.path} is as it was before. Look at the disk.") from exc
    if size != staged.content.bytes or not shape.items() <= staged.facts.items():
        raise DamagedError(
            f"{target.path} is not what was put there ({size} bytes, {staged.content.bytes} expected). It is as it "
            "was before. Look at the disk."
        )

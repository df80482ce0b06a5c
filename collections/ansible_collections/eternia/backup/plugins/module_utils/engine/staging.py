# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies fetched and proven beside a target, ready for the one rename that makes it live.

A restore may be done in two runs: the first fetches and proves while the application still works, the second finds what
was staged and has only the rename to do.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files, names
from .errors import DamagedError, TargetError
from .identity import Identity
from .manifest import Content, Digest, Manifest, Parts, from_json
from .target import Target

_RECORD = "staged.json"


@dataclass(frozen=True)
class Staged:
    """A proven file beside the target. `title` is what it was asked for by name, `location` where it came from.

    `manifest` is None for a legacy backup; `facts` were read from the file itself.
    """

    path: Path
    title: str
    location: str
    store: str
    content: Content
    facts: Mapping[str, Any]
    manifest: Manifest | None


def prepare(target: Target, *, keep: Collection[str] = ()) -> int:
    """An empty staging directory beside the target, mode 0700. Only for the holder of the target's lock.

    Files with names to `keep`, which a fetch left that was cut off, stay: how many bytes of the disk they have.
    """
    try:
        if not (keep and _is_private(target)):
            discard(target)
            files.make_private_dir(target.staging)
            return 0
        kept = 0
        for path in target.staging.iterdir():
            facts = path.lstat()
            # One that has another name is somebody's file already.
            if path.name in keep and stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                kept += facts.st_blocks * 512
            elif stat.S_ISDIR(facts.st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()
        return kept
    except OSError as exc:
        raise TargetError(
            f"{target.staging} cannot be prepared: {files.reason(exc)}. Correct the rights on {target.staging.parent}."
        ) from exc


def _is_private(target: Target) -> bool:
    """Whether the staging that is there is as `prepare` makes it: what anybody else can put there proves nothing."""
    with suppress(FileNotFoundError):
        facts, above = target.staging.lstat(), target.staging.parent.stat()
        owners = {os.geteuid(), above.st_uid} if os.geteuid() == 0 else {os.geteuid()}
        return stat.S_ISDIR(facts.st_mode) and facts.st_uid in owners and facts.st_mode & 0o077 == 0
    return False


def take(target: Target) -> None:
    """Let nobody else change what is staged from here on. Raises OSError.

    Until then what root stages beside somebody's data is his, who may have to remove it.
    """
    if os.geteuid() == 0:
        os.chown(target.staging, 0, 0, follow_symlinks=False)


def discard(target: Target) -> None:
    """Remove what is staged. Raises OSError."""
    if target.staging.is_symlink() or target.staging.is_file():
        raise NotADirectoryError(f"{target.staging} is not a directory; remove it")
    if target.staging.exists():
        shutil.rmtree(target.staging)


def record(target: Target, staged: Staged) -> None:
    """Remember that it was proven, for a later run. Raises TargetError."""
    fields = {
        "title": staged.title,
        "location": staged.location,
        "store": staged.store,
        "bytes": staged.content.bytes,
        "digest": [staged.content.digest.algorithm, staged.content.digest.value],
        "facts": staged.facts,
        "manifest": None if staged.manifest is None else staged.manifest.to_json().decode(),
        "file": staged.path.name,
        "untouched": _untouched(staged.path),
        "origin": _origin(staged.location),
    }
    try:
        (target.staging / _RECORD).unlink(missing_ok=True)
        files.write_new(target.staging / _RECORD, json.dumps(fields).encode())
        files.fsync_path(target.staging)
    except OSError as exc:
        raise TargetError(f"{target.staging / _RECORD} could not be written: {files.reason(exc)}.") from exc


def find(target: Target, location: str) -> Staged | None:
    """What an earlier run staged from this very place, if nobody touched either since; else None."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, DamagedError):
        fields = json.loads((target.staging / _RECORD).read_bytes())
        path = target.staging / Path(fields["file"]).name
        if fields["location"] != location or fields["untouched"] != _untouched(path) or path.is_symlink():
            return None
        if fields["origin"] != _origin(location):
            return None
        title = fields["title"]
        raw, name = fields["manifest"], names.parse(title)
        manifest = None
        if raw is not None and name is not None:
            manifest = from_json(raw.encode(), name=name, where=str(target.staging / _RECORD))
        content = Content(int(fields["bytes"]), Digest(*fields["digest"]), Parts(0, ()))
        return Staged(path, title, fields["location"], fields["store"], content, fields["facts"], manifest)
    return None


def _origin(location: str) -> list[int] | None:
    """The file that it was fetched from, as `_untouched`; None for an object in S3, which is never overwritten."""
    return _untouched(Path(location)) if os.path.isabs(location) else None


def _untouched(path: Path) -> list[int]:
    """What changes whenever somebody writes to a file, or puts another in its place; its times can be set."""
    facts = path.lstat()
    return [*Identity.from_stat(facts), facts.st_ctime_ns]

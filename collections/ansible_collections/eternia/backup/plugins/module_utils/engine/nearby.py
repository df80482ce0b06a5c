# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a backup lies on the host already: a part with the digest that the manifest gives it need not be fetched.

It may lie in the damaged database itself, in a backup of another hour, or in what a fetch left that was cut off. None
of them is trusted: the bytes that are hashed are the bytes that are taken.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from . import catalog, compression, digest, files
from .config import Config
from .eligibility import Chosen
from .errors import DamagedError, EngineError, StoreError
from .manifest import Manifest
from .parts import Part, in_a_row, in_order, part_bytes, split
from .target import Target

# Backups taken shortly before or after have the most in common with it; to read the manifests of all takes a while.
_NEIGHBOURS = 3

# Gives the bytes of a part, None where a file is known to lack the one with this digest. Raises OSError, EngineError.
_Read = Callable[[Part, str], "bytes | None"]


@dataclass(frozen=True)
class Nearby:
    """A file that may hold parts of a backup. `manifest` says which it should hold, None where nobody knows."""

    path: Path
    manifest: Manifest | None = None


def candidates(config: Config, target: Target, chosen: Chosen) -> list[Nearby]:
    """The live file, and those local backups that were taken closest to the one that was chosen.

    A copy of that very backup is tried on its own, and what came of it lies in the staging then.
    """
    if all(store.is_near for store, _copy, _manifest in chosen.copies):
        return []
    found, name = [Nearby(target.real)], chosen.copies[0][1].name
    store = catalog.local(config)
    with suppress(StoreError):
        copies = (copy.name for copy in store.copies() if copy.verified and copy.name.kind == name.kind)
        for other in sorted(set(copies) - {name}, key=lambda one: abs(one.created_at - name.created_at))[:_NEIGHBOURS]:
            with suppress(DamagedError, StoreError):
                found.append(Nearby(Path(store.location(other)), store.manifest(other)))
    return found


def take(target: int, manifest: Manifest, nearby: Sequence[Nearby], progress: files.Progress) -> frozenset[int]:
    """Write what is nearby of a backup's content into an open file; which of its parts, from 0, are there now.

    What the file holds already counts. Raises OSError where it cannot be written.
    """
    content = manifest.content
    pieces = split(content.bytes)
    if content.parts.bytes != part_bytes(content.bytes) or len(content.parts.digests) != len(pieces):
        return frozenset()

    def bring(part: Part) -> bool:
        wanted = content.parts.digests[part.number - 1]
        for is_itself, read in sources:
            raw = None
            with suppress(OSError, EngineError):
                raw = read(part, wanted)
            if raw is not None and digest.of_bytes(raw, content.digest.algorithm) == wanted:
                if not is_itself:
                    files.write_at(target, raw, part.start)
                progress(part.bytes)
                return True
        return False

    with ExitStack() as opened:
        sources: list[tuple[bool, _Read]] = []
        if os.fstat(target).st_size:
            sources.append((True, lambda part, _wanted: os.pread(target, part.bytes, part.start)))
        sources += ((False, read) for one in nearby for read in _opened(one, content.digest.algorithm, opened))
        os.ftruncate(target, content.bytes)
        if not sources:
            return frozenset()
        return frozenset(place for place, is_there in enumerate(in_order(bring, pieces)) if is_there)


def _opened(one: Nearby, algorithm: str, opened: ExitStack) -> Iterator[_Read]:
    """How to read the parts of a file, where it can be read and was cut and hashed alike."""
    known, frames = one.manifest, []
    if known is not None:
        if known.content.digest.algorithm != algorithm or known.content.parts.bytes != part_bytes(known.content.bytes):
            return
        frames = list(in_a_row(known.stored.frames))
        if known.stored.encoding and not frames:
            return
    try:
        # Never through a link, and never waiting for a FIFO that somebody put there.
        descriptor = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    opened.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return

    def read(part: Part, wanted: str) -> bytes | None:
        if known is None:
            return os.pread(descriptor, part.bytes, part.start)
        place = part.number - 1
        if known.content.parts.digests[place : place + 1] != (wanted,):
            return None
        if frames:
            return compression.plain_part(descriptor, frames[place], part.bytes)
        return os.pread(descriptor, part.bytes, part.start)

    yield read

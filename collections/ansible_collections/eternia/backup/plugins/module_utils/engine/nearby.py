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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from . import catalog, compression, copying, digest, files, log
from .config import Config
from .eligibility import Chosen
from .errors import DamagedError, EngineError, StoreError
from .manifest import Manifest
from .parts import Part, in_a_row, in_order, part_bytes, split
from .target import Target

# Backups taken shortly before or after have the most in common with it; to read the manifests of all takes a while.
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Nearby:
    """A file that may hold parts of a backup. `manifest` says which it should hold, None where nobody knows."""

    path: Path
    manifest: Manifest | None = None


def candidates(config: Config, target: Target, chosen: Chosen) -> list[Nearby]:
    """What is at the target, and those local backups that were taken closest to the one that was chosen.

    A copy of that very backup is tried on its own, and what came of it lies in the staging then. None where S3 is not
    asked: to look for parts takes as long as to copy them.
    """
    if not any(catalog.in_s3(store) for store, _copy, _manifest in chosen.copies):
        return []
    found, name = [Nearby(target.real)], chosen.copies[0][1].name
    store = catalog.local(config)
    with suppress(StoreError):
        copies = (copy.name for copy in store.copies() if copy.verified and copy.name.kind == name.kind)
        for other in sorted(set(copies) - {name}, key=lambda one: abs(one.created_at - name.created_at))[:_NEIGHBOURS]:
            with suppress(DamagedError, StoreError):
                found.append(Nearby(Path(store.location(other)), store.manifest(other)))
    return found


def take(target: int, manifest: Manifest, nearby: Sequence[Nearby], progress: copying.Progress) -> frozenset[int]:
    """Write what is nearby of a backup's content into an open file; the numbers of the parts that are there now.

    What the file holds already counts. Raises OSError where it cannot be written.
    """
    content = manifest.content
    parts = split(content.bytes)
    if content.parts.bytes != part_bytes(content.bytes) or len(content.parts.digests) != len(parts):
        return frozenset()

    def bring(part: Part) -> bool:
        wanted = content.parts.digests[part.number - 1]
        for source in [one for one in sources if one.is_readable]:
            raw = source.read(part, wanted)
            if raw is not None and digest.of_bytes(raw, content.digest.algorithm) == wanted:
                if source.descriptor != target:
                    files.write_at(target, raw, part.start)
                progress(part.bytes)
                return True
        return False

    with ExitStack() as opened:
        sources = [_Source(target, "what came before", None)] if os.fstat(target).st_size else []
        sources += [source for one in nearby for source in _opened(one, content.digest.algorithm, opened)]
        os.ftruncate(target, content.bytes)
        if not sources:
            return frozenset()
        return frozenset(part.number for part, is_there in zip(parts, in_order(bring, parts)) if is_there)


class _Source:
    """An open file that may hold parts. From a disk that fails nothing more is asked: each answer may take minutes."""

    def __init__(self, descriptor: int, name: str, manifest: Manifest | None) -> None:
        self.descriptor, self.is_readable = descriptor, True
        self._name, self._manifest = name, manifest
        self._frames = [] if manifest is None else list(in_a_row(manifest.stored.frames))

    def read(self, part: Part, wanted: str) -> bytes | None:
        """The bytes of a part; None where the file is known to lack the one with this digest, or does not give it."""
        place = part.number - 1
        if self._manifest is not None and self._manifest.content.parts.digests[place : place + 1] != (wanted,):
            return None
        try:
            if self._frames:
                return compression.plain_part(self.descriptor, self._frames[place], part.bytes)
            return files.read_at(self.descriptor, part.bytes, part.start)
        except OSError as exc:
            self.is_readable = False
            log.warning(f"{self._name} cannot be read ({files.reason(exc)}): no more is taken from it.", log.RECOVERY)
        except EngineError:
            # This part of it is damaged; others may be whole.
            pass
        return None


def _opened(one: Nearby, algorithm: str, opened: ExitStack) -> Iterator[_Source]:
    """A file, where it can be read and was cut and hashed alike."""
    known = one.manifest
    if known is not None:
        is_alike = known.content.digest.algorithm == algorithm
        is_alike &= known.content.parts.bytes == part_bytes(known.content.bytes)
        if not is_alike or (known.stored.encoding and not known.stored.frames):
            return
    try:
        # Never through a link, and never waiting for a FIFO that somebody put there.
        descriptor = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    opened.callback(os.close, descriptor)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        yield _Source(descriptor, str(one.path), known)

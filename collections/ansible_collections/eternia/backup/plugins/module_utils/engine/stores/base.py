# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store is to the rest of the engine: a place that holds backups and never overwrites one."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ..copying import Progress
from ..errors import PATH_LINE, StoreError, is_line, printable, quoted, shortened
from ..manifest import Manifest
from ..names import DRILLED_SUFFIX, MANIFEST_SUFFIX, PIN_SUFFIX, BackupName, parse_with_sidecar

# The name of the store in S3.
S3 = "s3"


@dataclass(frozen=True)
class Copy:
    """One backup as one store lists it, without reading it.

    `bytes` is the size of the data, None where the store has only sidecars of it; a lone pin keeps what lies elsewhere.
    `has_manifest` makes the copy verified: the manifest is committed last. `drilled` says that this very copy was
    restored into scratch once and came back whole.
    """

    name: BackupName
    bytes: int | None
    has_manifest: bool
    pinned: bool = False
    drilled: bool = False

    @property
    def is_there(self) -> bool:
        """Whether the store holds more of the backup than a pin."""
        return self.has_manifest or self.bytes is not None

    @property
    def verified(self) -> bool:
        """Whether the store holds the data and, committed after it, its manifest."""
        return self.has_manifest and self.bytes is not None


# The file or object that says who a place belongs to.
CLAIM = "eternia_backup.host.json"


@dataclass(frozen=True)
class Owner:
    """Who a storage path or a prefix in S3 belongs to: two who share one would prune each other's backups."""

    environment: str
    host: str
    storage_path: str

    def __str__(self) -> str:
        # A path may have any characters, also those that a terminal obeys.
        return f"host {self.host} (environment {self.environment}, {printable(self.storage_path)})"

    @classmethod
    def from_json(cls, raw: bytes, where: str) -> Owner:
        """Read a claim, found at `where`. Raises StoreError."""
        try:
            claim = json.loads(raw)
            found = cls(*(str(claim[key]) for key in ("environment", "host", "storage_path")))
            if not (is_line(found.environment) and is_line(found.host) and len(found.storage_path) <= PATH_LINE):
                # It goes into logs and messages.
                raise ValueError(f"short lines of text expected, found {quoted(claim)}")
            return found
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise StoreError(
                f"{where} should say which host the backups there belong to, and cannot be read ({type(exc).__name__}: "
                f"{shortened(exc)}). Look at it; if nobody needs it, remove it, then run again."
            ) from exc

    def to_shell(self) -> str:
        """A claim that whoever takes over writes by hand, quoted for a shell."""
        return shlex.quote(json.dumps(asdict(self)))


class Store(Protocol):
    """The interface of `local` and `s3`. Every method raises StoreError with a message that a person can act on."""

    name: str
    at_once: int
    """How many backups it deletes at once."""

    def location(self, name: BackupName | str) -> str:
        """Where a backup lies, as a person would type it: a path, or `s3://bucket/key`."""

    def copies(self, of: BackupName | None = None) -> Iterator[Copy]:
        """Every backup in the store, or those with the name `of`, in no order. Foreign names are passed over."""

    def manifest(self, name: BackupName) -> Manifest:
        """The manifest of a backup. Raises NotFoundError where there is none, DamagedError where it is unusable."""

    def open(self, name: BackupName) -> BinaryIO:
        """The stored bytes, to be read once from the front. Raises NotFoundError."""

    def fetch(self, copy: Copy, target: Path, progress: Progress) -> None:
        """Bring the stored bytes to a path that does not exist yet. Raises DamagedError, NotFoundError, OSError."""

    def prove(self, copy: Copy) -> None:
        """Compare every byte that is stored with the manifest. Raises DamagedError, NotFoundError."""

    def mark_drilled(self, copy: Copy, mark: bytes, *, staging: Path) -> None:
        """Put a mark beside a copy that was drilled; none where the copy has gone meanwhile.

        `staging` is a directory on the filesystem of a store that is one.
        """

    def remove(self, names: Sequence[BackupName]) -> Iterator[BackupName]:
        """Delete backups, and tell of each that is gone: manifests first, so that none looks whole when it is not.

        Of `at_once` of them, those that go are told before the error of the first that has to stay is raised.
        """


def group(listing: Iterable[tuple[str, int]]) -> Iterator[Copy]:
    """Make copies of a sorted listing of (name, bytes): a backup and its sidecars come together. Foreign names go."""
    for _moment, entries in itertools.groupby(_ours(listing), key=lambda entry: (entry[0].created_at, entry[0].kind)):
        # Within one moment names interleave: `x.db.age` sorts between `x.db` and `x.db.manifest.json`.
        together: dict[BackupName, dict[str, int]] = {}
        for name, suffix, size in entries:
            together.setdefault(name, {})[suffix] = size
        for name, sizes in together.items():
            if sizes.keys() & {"", MANIFEST_SUFFIX, PIN_SUFFIX}:
                yield Copy(
                    name,
                    sizes.get(""),
                    has_manifest=MANIFEST_SUFFIX in sizes,
                    pinned=PIN_SUFFIX in sizes,
                    drilled=DRILLED_SUFFIX in sizes,
                )


def _ours(listing: Iterable[tuple[str, int]]) -> Iterator[tuple[BackupName, str, int]]:
    for text, size in listing:
        parsed = parse_with_sidecar(text)
        if parsed is not None:
            yield (*parsed, size)

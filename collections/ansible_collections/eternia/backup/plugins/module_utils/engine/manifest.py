# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest, format 1: the JSON facts about one backup, committed last.

A backup without a manifest is `legacy`, never `verified`. A manifest is data from a place that others may write to: it
is checked field by field when it is read, and nothing in it is ever used as a path.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from . import names, untrusted
from .errors import DamagedError, SourceError, quoted, shortened
from .names import DATABASE, STATE, BackupName
from .parts import part_bytes
from .version import VERSION

FORMAT = 1
# One of 10,000 parts, the most that there are, has 1 MiB; the rest is for the names of tables, or of keys of a state.
# Whoever may write into the store chooses what is read, and several are at once.
MOST_BYTES = 16 << 20
# Blocks and lists: empty ones take 25 times their bytes in memory. Ours have a dozen, and what names of tables have.
_MOST_BRACKETS = 2_000_000
_ORDER = (
    *("format", "name", "kind", "environment", "host", "machine", "created_at", "tool_version"),
    *("source", "content", "stored", "verified", "transfer"),
)


@dataclass(frozen=True)
class Digest:
    """A digest by the name of its algorithm (`blake3` or `sha256`), in lower-case hexadecimal."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


@dataclass(frozen=True)
class Parts:
    """Digests of the consecutive parts of a file, each `bytes` long but the last, by the digest's algorithm."""

    bytes: int
    digests: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """The plain bytes, as they are restored."""

    bytes: int
    digest: Digest
    parts: Parts


@dataclass(frozen=True)
class Stored:
    """The file as it lies in a store; `crc64nvme` in base64 as S3 writes it, None where nobody wanted or had it.

    `frames` are the sizes of a compressed file's frames, one for each part of the content.
    """

    bytes: int
    digest: Digest
    crc64nvme: str | None
    encoding: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Verified:
    """How the snapshot was checked before it became a backup: `quick` or `full`."""

    check: str
    at: str
    result: str = "ok"


@dataclass(frozen=True)
class Transfer:
    """How the bytes came into an S3 store: only the manifest that lies there says so.

    `bytes_copied` are those that it copied from an earlier backup itself, so that they did not travel.
    """

    check: str
    create_only: bool
    bytes_sent: int
    bytes_copied: int = 0


@dataclass(frozen=True)
class Manifest:
    """Everything that is known about one backup. `source` are the facts read from the source itself.

    `machine` tells the machine that took it from others of the same name; None where nobody knows.
    """

    name: str
    kind: str
    environment: str
    host: str
    created_at: str
    source: Mapping[str, Any]
    content: Content
    stored: Stored
    verified: Verified
    transfer: Transfer | None = None
    machine: str | None = None
    tool_version: str = VERSION
    format: int = FORMAT

    @property
    def backup_name(self) -> BackupName:
        """The name, taken apart. Raises ValueError where `created_at` is no time."""
        kind = DATABASE if self.kind == DATABASE else STATE
        return BackupName(names.from_iso(self.created_at), kind, self.stored.encoding)

    @property
    def facts(self) -> dict[str, Any]:
        """Those facts of the source that can be read again from any copy of it."""
        return {key: value for key, value in self.source.items() if key not in ("path", "bytes", "journal_mode")}

    @property
    def as_plain(self) -> Manifest:
        """The manifest that the same backup has where it lies as it was before it was compressed."""
        if not self.stored.encoding:
            return self
        name = replace(self.backup_name, encoding=())
        return replace(
            self, name=str(name), stored=Stored(self.content.bytes, self.content.digest, None), transfer=None
        )

    def describes_same(self, other: Manifest) -> bool:
        """Whether the other describes the same backup, too, in all that it says but for how it came into a store.

        A checksum that only one of the two has is no difference: not every host can compute it.
        """
        theirs = replace(other, transfer=None)
        ours = replace(self, transfer=None)
        if None in (ours.stored.crc64nvme, theirs.stored.crc64nvme):
            ours, theirs = (replace(one, stored=replace(one.stored, crc64nvme=None)) for one in (ours, theirs))
        # As text, since a list that was read is a tuple that was made; of any size, since theirs is anybody's.
        as_text = functools.partial(json.dumps, sort_keys=True)
        return as_text(ours.fields()) == as_text(theirs.fields())

    def with_transfer(self, transfer: Transfer) -> Manifest:
        """The same facts, and how the bytes came into the store."""
        return replace(self, transfer=transfer)

    def fields(self) -> dict[str, Any]:
        """The manifest as plain data, keys in the order of the format."""
        fields = asdict(self)
        return {key: fields[key] for key in _ORDER if fields[key] is not None}

    def to_json(self) -> bytes:
        """The manifest's file: JSON in ASCII, a newline at the end. Raises SourceError where it could not be read."""
        raw = (json.dumps(self.fields(), indent=2) + "\n").encode("ascii")
        if _is_too_large(raw):
            raise SourceError(
                f"{self.name} would have a manifest of {len(raw)} bytes, and no more than {MOST_BYTES}, or "
                f"{_MOST_BRACKETS} brackets, are ever read: its source has too many tables, or keys, or too long names "
                "of them. Back up another source."
            )
        return raw


def from_json(raw: bytes, *, name: BackupName, where: str) -> Manifest:
    """Read the manifest of the backup `name`, found at `where` (for the message).

    Raises DamagedError where it is too large, no JSON, of a later format, of another backup, or lacks or bends a field.
    """
    if _is_too_large(raw):
        raise DamagedError(
            f"{where} has more than {MOST_BYTES} bytes, or {_MOST_BRACKETS} brackets, which no manifest has. The "
            "backup beside it counts as damaged: choose another, or remove the manifest to treat it as legacy."
        )
    try:
        fields = json.loads(raw)
        found_format = fields["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise DamagedError(
            f"{where} is not a manifest ({type(exc).__name__}: {shortened(exc)}). The backup beside it counts as "
            "damaged: choose another, or remove the manifest to treat it as legacy."
        ) from exc
    if not isinstance(found_format, int) or isinstance(found_format, bool) or found_format != FORMAT:
        raise DamagedError(
            f"{where} has manifest format {quoted(found_format)}; this version ({VERSION}) reads format {FORMAT}. "
            "Use the version of eternia.backup that wrote it, or a later one."
        )
    try:
        manifest = _from_fields(fields)
        consistent = manifest.name == str(name) and manifest.kind == name.kind and manifest.backup_name == name
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DamagedError(
            f"{where} is not a whole manifest ({type(exc).__name__}: {shortened(exc)}). "
            "Choose another backup with eternia_backup_info."
        ) from exc
    if not consistent:
        raise DamagedError(
            f"{where} describes {quoted(manifest.name)}, not {name}: a {manifest.kind} of {manifest.created_at}, "
            f"encoded by {shortened('.'.join(manifest.stored.encoding), 40) or 'nothing'}. Choose another backup."
        )
    return manifest


def _is_too_large(raw: bytes) -> bool:
    return len(raw) > MOST_BYTES or raw.count(b"{") + raw.count(b"[") > _MOST_BRACKETS


def _from_fields(fields: Mapping[str, Any]) -> Manifest:
    content, stored, verified = fields["content"], fields["stored"], fields["verified"]
    parts = content["parts"]
    digests = tuple(untrusted.hexadecimal(part) for part in parts["digests"])
    if digests and len(digests) != -(-untrusted.size(content["bytes"]) // (untrusted.size(parts["bytes"]) or 1)):
        raise ValueError(f"{len(digests)} parts of {parts['bytes']} bytes do not make up the content")
    frames = tuple(untrusted.size(frame) for frame in stored.get("frames", ()))
    if frames and untrusted.size(parts["bytes"]) > part_bytes(untrusted.size(content["bytes"])):
        # One at a time is in memory.
        raise ValueError(f"no part of {content['bytes']} bytes has {parts['bytes']}")
    if frames and (len(frames), sum(frames)) != (len(digests), stored["bytes"]):
        raise ValueError(f"{len(frames)} frames of {sum(frames)} bytes do not make up what is stored")
    found = Manifest(
        name=untrusted.text(fields["name"]),
        kind=untrusted.text(fields["kind"]),
        environment=untrusted.text(fields["environment"]),
        host=untrusted.text(fields["host"]),
        machine=None if fields.get("machine") is None else untrusted.text(fields["machine"]),
        created_at=untrusted.text(fields["created_at"]),
        tool_version=untrusted.text(fields["tool_version"]),
        source=untrusted.facts(fields["source"]),
        content=Content(
            bytes=untrusted.size(content["bytes"]),
            digest=_digest(content["digest"]),
            parts=Parts(bytes=untrusted.size(parts["bytes"]), digests=digests),
        ),
        stored=Stored(
            bytes=untrusted.size(stored["bytes"]),
            digest=_digest(stored["digest"]),
            crc64nvme=None if stored["crc64nvme"] is None else untrusted.text(stored["crc64nvme"]),
            encoding=tuple(untrusted.text(step) for step in stored["encoding"]),
            frames=frames,
        ),
        verified=Verified(
            check=untrusted.text(verified["check"]),
            at=untrusted.text(verified["at"]),
            result=untrusted.ok(verified["result"]),
        ),
        transfer=None if fields.get("transfer") is None else _transfer(fields["transfer"]),
    )
    as_stored, as_restored = ((one.bytes, one.digest) for one in (found.stored, found.content))
    if not found.stored.encoding and as_stored != as_restored:
        raise ValueError("what is stored as it is has other bytes than the content")
    return found


def _transfer(fields: Mapping[str, Any]) -> Transfer:
    return Transfer(
        check=untrusted.text(fields["check"]),
        create_only=fields["create_only"] is True,
        bytes_sent=untrusted.size(fields["bytes_sent"]),
        bytes_copied=untrusted.size(fields.get("bytes_copied", 0)),
    )


def _digest(fields: Mapping[str, Any]) -> Digest:
    algorithm = untrusted.text(fields["algorithm"])
    if algorithm not in ("blake3", "sha256"):
        raise ValueError(f"unknown digest algorithm {quoted(algorithm)}")
    return Digest(algorithm, untrusted.hexadecimal(fields["value"]))

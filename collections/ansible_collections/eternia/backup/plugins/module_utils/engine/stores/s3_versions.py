# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets that keep versions: what lies there behind the names of ours, paid for and seen by nobody.

In one, a delete puts a marker above the object, and whoever takes the marker away has the object back. So what is to
go for good goes version by version, and the marker last: at no moment does anything come back by itself.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from .. import log
from ..names import MANIFEST_SUFFIX, PIN_SUFFIX, BackupName, iso, parse_with_sidecar
from .base import Copy
from .s3_client import S3Client
from .s3_errors import S3Error

# https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_AT_ONCE = 1000


@dataclass(frozen=True)
class Version:
    """One version of one object, `suffix` of a backup (its data, or a sidecar), or a marker that it was deleted."""

    name: BackupName
    suffix: str
    key: str
    id: str
    bytes: int
    is_current: bool
    is_marker: bool
    etag: str = ""


@dataclass
class Removal:
    """The versions that went, markers apart, and those that the store did not let go, each with its reason."""

    gone: list[Version] = field(default_factory=list)
    refused: dict[Version, S3Error] = field(default_factory=dict)


class Versions:
    """The versions of backups right under `folder`, which is empty or ends with a slash."""

    def __init__(self, client: S3Client, folder: str) -> None:
        self._client, self._folder = client, folder

    def are_kept(self) -> bool | None:
        """Whether the bucket keeps versions, or did; None where the store does not tell, or not this key."""
        try:
            return self._client.call("get_bucket_versioning", None).get("Status") in ("Enabled", "Suspended")
        except S3Error as exc:
            log.info(f"Whether the bucket keeps versions cannot be known. {exc}")
            return None

    def noncurrent_bytes(self) -> int:
        """The size of all that is billed and not seen: a page at a time. Raises S3Error."""
        return sum(version.bytes for version in self._listed() if not version.is_current)

    def behind(self, leaving: Collection[BackupName] = ()) -> dict[BackupName, list[Version]]:
        """All versions and markers of backups of which nothing is to be seen, or that are `leaving`. Raises S3Error."""
        found: dict[BackupName, list[Version]] = defaultdict(list)
        seen = set()
        for version in self._listed():
            if version.is_current and not version.is_marker and version.name not in leaving:
                seen.add(version.name)
                found.pop(version.name, None)
            elif version.name not in seen:
                found[version.name].append(version)
        return dict(found)

    def remove(self, versions: Sequence[Version], done: Removal, go_on: Callable[[], None]) -> None:
        """Remove versions for good: manifests first, so that nothing that comes back looks whole, and markers last.

        Where a manifest has to stay its data stays, and a marker stays above whatever stays. `go_on` is called before
        each request, and may raise; `done` says how far it came.
        """
        real = [version for version in versions if not version.is_marker]
        self._remove([one for one in real if one.suffix == MANIFEST_SUFFIX], done, go_on)
        whole = {one.name for one in done.refused}
        self._remove([one for one in real if one.suffix != MANIFEST_SUFFIX and one.name not in whole], done, go_on)
        gone = set(done.gone)
        left = {one.key for one in real if one not in gone}
        # What becomes of a marker is not worth a word: it takes no room.
        self._remove([one for one in versions if one.is_marker and one.key not in left], Removal(), go_on)

    def why_kept(self, version: Version, refusal: S3Error) -> str:
        """Why the store does not let a version go: until when it is locked, where the store says so."""
        where = self._client.location(version.key)
        try:
            head = self._client.call("head_object", version.key, VersionId=version.id)
        except S3Error:
            return str(refusal).rstrip(".")
        if head.get("ObjectLockLegalHoldStatus") == "ON":
            return f"{where} has a legal hold"
        until = head.get("ObjectLockRetainUntilDate")
        return str(refusal).rstrip(".") if until is None else f"{where} is locked until {iso(until)}"

    def _remove(self, versions: Sequence[Version], done: Removal, go_on: Callable[[], None]) -> None:
        for at in range(0, len(versions), _AT_ONCE):
            batch = versions[at : at + _AT_ONCE]
            go_on()
            try:
                refused = self._client.delete([(one.key, one.id) for one in batch])
            except S3Error as exc:
                done.refused.update(dict.fromkeys(versions[at:], exc))
                return
            done.refused.update({one: refused[one.key, one.id] for one in batch if (one.key, one.id) in refused})
            done.gone.extend(one for one in batch if one not in done.refused)

    def _listed(self) -> Iterator[Version]:
        """What a listing says of names of ours, key by key; foreign ones are passed over."""
        markers: dict[str, str] = {}
        while True:
            page = self._client.call(
                "list_object_versions", None, Prefix=f"{self._folder}eternia_", Delimiter="/", **markers
            )
            for kind in ("Versions", "DeleteMarkers"):
                for entry in page.get(kind, ()):
                    parsed = parse_with_sidecar(entry["Key"][len(self._folder) :])
                    if parsed is not None:
                        size, is_current = entry.get("Size", 0), bool(entry.get("IsLatest"))
                        is_marker = kind == "DeleteMarkers"
                        etag = entry.get("ETag", "")
                        yield Version(*parsed, entry["Key"], entry["VersionId"], size, is_current, is_marker, etag)
            following = {name: page.get(f"Next{name}") for name in ("KeyMarker", "VersionIdMarker")}
            if not page.get("IsTruncated") or not following["KeyMarker"]:
                return
            then = {name: value for name, value in following.items() if value}
            if then == markers:
                raise self._client.endless(self._folder)
            markers = then


def as_it_was(name: BackupName, versions: Sequence[Version]) -> Copy:
    """A backup that is gone, as it would be listed were its versions still current; a pin that went with it, too.

    Whoever deletes all there is by mistake deletes the pin as well.
    """
    real = [one for one in versions if not one.is_marker]
    data = [one.bytes for one in real if not one.suffix]
    suffixes = {one.suffix for one in real}
    return Copy(
        name, data[0] if data else None, has_manifest=MANIFEST_SUFFIX in suffixes, pinned=PIN_SUFFIX in suffixes
    )


def was_overwritten(versions: Sequence[Version]) -> bool:
    """Whether somebody put other data over a backup, which we never do: below lies what was one once."""
    return len({one.etag for one in versions if not one.is_marker and not one.suffix}) > 1

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying a store in S3 with small objects of our own: does it do what it was asked, and what may this key do there?

Never with a backup's name. One name is used over and over, so that a key that may not delete leaves one object behind,
and not one for each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from ..promises import CREATE_ONLY, CREATE_ONLY_IN_PARTS, KEPT, NOT_KEPT, UNKNOWN, Finding
from . import s3_bucket
from .s3_client import S3Client
from .s3_create import created, refuses_wrong_bytes
from .s3_errors import S3Error
from .s3_objects import Objects

TRIED = "eternia_backup.check-store"

_BODY = b"eternia-backup check-store was here. Nothing of this is a backup, and it may be deleted.\n"


def look(objects: Objects, *, wrong: str) -> tuple[list[Finding], str]:
    """Every promise, whether it is kept, and what of ours stays in the store. Raises S3Error where it cannot be asked.

    `wrong` is the name of what is sent with a wrong checksum.
    """
    client, encryption = objects.client, objects.client.settings.encryption
    trial, where = _Trial(client, objects.key(TRIED), encryption), objects.location("")
    versions, lock, rules = s3_bucket.versions(client), s3_bucket.lock(client), s3_bucket.rules(client, objects.key(""))
    findings = [*trial.create_only(), _checksums(client, objects.key(wrong), encryption)]
    span = s3_bucket.span_of_old_versions(rules)
    may = list(trial.what_the_key_may(keeps_versions=versions.verdict == KEPT, span=span))
    may_harm = any(one.verdict == NOT_KEPT for one in may)
    versions = s3_bucket.lasting(versions, rules, where, may_harm=may_harm)
    findings += [*may, versions, lock, s3_bucket.lifecycle(rules, where), s3_bucket.private(client)]
    return findings, trial.left()


class _Trial:
    """One object, by its key: what this key could do to it."""

    def __init__(self, client: S3Client, key: str, encryption: Mapping[str, str]) -> None:
        self._client, self._key, self._encryption = client, key, encryption
        self._version: str | None = None
        self._is_there = self._versions_stay = False

    def create_only(self) -> list[Finding]:
        ways: dict[str, Callable[[], bool]] = {
            CREATE_ONLY: lambda: created(self._client, self._key, _BODY, self._encryption),
            CREATE_ONLY_IN_PARTS: self._completed,
        }
        try:
            created(self._client, self._key, _BODY, self._encryption)
            self._is_there = True
            with suppress(S3Error):
                self._version = self._client.call("head_object", self._key).get("VersionId")
        except S3Error as exc:
            if exc.code != "AccessDenied":
                raise
            return [_may_not_write(promise, exc) for promise in ways]
        return [_kept_or_not(promise, overwrites) for promise, overwrites in ways.items()]

    def _completed(self) -> bool:
        """Whether a multipart upload that was to create came through, although the object is there."""
        upload = {"UploadId": self._client.call("create_multipart_upload", self._key, **self._encryption)["UploadId"]}
        try:
            proof = self._client.proof(_BODY)
            part = self._client.call("upload_part", self._key, PartNumber=1, Body=_BODY, **proof, **upload)
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            self._client.call("complete_multipart_upload", self._key, MultipartUpload=parts, IfNoneMatch="*", **upload)
        except S3Error as exc:
            with suppress(S3Error):
                self._client.call("abort_multipart_upload", self._key, **upload)
            if exc.code != "PreconditionFailed":
                raise
            return False
        return True

    def what_the_key_may(self, *, keeps_versions: bool, span: str) -> Iterator[Finding]:
        """Overwrite, delete, delete old versions, which stay for `span`: what whoever steals the key may do, too."""
        stays = f" What was there stays as an old version{span and f' for {span}'}." if keeps_versions else ""
        yield self._tried(
            "no overwriting",
            self._overwrite,
            "overwrite",
            f"Whoever steals it can spoil the backups there.{stays} Give the host the policy `writer`.",
        )
        yield self._tried(
            "no deleting",
            lambda: self._client.call("delete_object", self._key),
            "delete",
            f"Whoever steals it can delete the backups there.{stays} Give the host the policy `writer`, set "
            "cloud_backup.prune to false, and prune with another key.",
        )
        if keeps_versions:
            yield self._tried(
                "no deleting of versions",
                self._delete_versions,
                "delete old versions",
                "Whoever steals it can destroy for good what is not locked. Take s3:DeleteObjectVersion away from it.",
            )

    def _tried(self, promise: str, attempt: Callable[[], object], may: str, then: str) -> Finding:
        if not self._is_there:
            return Finding(promise, UNKNOWN, "Nothing could be put there to try it with.", False)
        try:
            attempt()
        except S3Error as exc:
            if exc.code == "AccessDenied":
                return Finding(promise, KEPT, f"Asked to {may} with this key, the store refuses.", False)
            return Finding(promise, UNKNOWN, str(exc), False)
        return Finding(promise, NOT_KEPT, f"This key may {may}. {then}", False)

    def _overwrite(self) -> None:
        self._client.call("put_object", self._key, Body=_BODY, **self._client.proof(_BODY), **self._encryption)

    def _delete_versions(self) -> None:
        """All that can be listed, and the markers above them last; raises what the first was refused for."""
        versions, markers = ([] if self._version is None else [self._version]), []
        with suppress(S3Error):
            listed = self._client.call("list_object_versions", None, Prefix=self._key)
            versions = [one["VersionId"] for one in listed.get("Versions", ()) if one["Key"] == self._key]
            markers = [one["VersionId"] for one in listed.get("DeleteMarkers", ()) if one["Key"] == self._key]
        if not versions and not markers:
            raise S3Error("No version is known that could be deleted: this key may not list them.")
        self._versions_stay = True
        for version in (*versions, *markers):
            self._client.call("delete_object", self._key, VersionId=version)
        self._versions_stay = False

    def left(self) -> str:
        """What stays there; "" where that is nothing."""
        where = self._client.location(self._key)
        try:
            self._client.call("head_object", self._key)
        except S3Error as exc:
            if exc.code == "NoSuchKey" or not self._is_there:
                return f"Small old versions of {where} stay. They are no backups." if self._versions_stay else ""
        return f"{where} stays: this key may not delete it. It is no backup, and the next check uses it again."


def _may_not_write(promise: str, why: S3Error) -> Finding:
    return Finding(promise, UNKNOWN, f"This key may not write there. {why}", True)


def _kept_or_not(promise: str, overwrites: Callable[[], bool]) -> Finding:
    try:
        return _create_only(promise, overwrites())
    except S3Error as exc:
        if exc.code != "AccessDenied":
            raise
        return _may_not_write(promise, exc)


def _create_only(promise: str, overwrites: bool) -> Finding:
    if not overwrites:
        return Finding(promise, KEPT, "The store refuses to overwrite where it is asked to.", True)
    how = "a put" if promise == CREATE_ONLY else "a multipart upload"
    return Finding(
        promise,
        NOT_KEPT,
        f"The store overwrites by {how} what it was asked not to (If-None-Match). Runs look before they write, but "
        "whoever has this host's key can destroy the backups there. Use a store that keeps its word, or a newer "
        "release of this one.",
        True,
    )


def _checksums(client: S3Client, key: str, encryption: Mapping[str, str]) -> Finding:
    promise = "checksums"
    try:
        if refuses_wrong_bytes(client, key, encryption):
            return Finding(promise, KEPT, "The store refuses bytes that do not match their checksum.", True)
    except S3Error as exc:
        if exc.code != "AccessDenied":
            raise
        return Finding(promise, UNKNOWN, f"This key may not write there. {exc}", True)
    return Finding(
        promise,
        NOT_KEPT,
        "The store takes bytes that do not match their checksum. Each backup is read back once it was sent, and again "
        "whenever it is proven, which takes the line. Use a store that looks at checksums.",
        True,
    )

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
from dataclasses import dataclass, replace
from typing import Any

from ..promises import CREATE_ONLY, CREATE_ONLY_IN_PARTS, KEPT, NOT_KEPT, OBJECT_LOCK, UNKNOWN, Finding
from .s3_client import S3Client
from .s3_create import created, refuses_wrong_bytes
from .s3_errors import S3Error

TRIED = "eternia_backup.check-store"

_BODY = b"eternia-backup check-store was here. Nothing of this is a backup, and it may be deleted.\n"

# What keeps a bucket from being asked anything.
_UNREACHABLE = ("NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_NOT_KNOWN = ("NotImplemented", "XNotImplemented", "MethodNotAllowed", "405", "501")
_COLD = ("GLACIER", "DEEP_ARCHIVE")
_OPEN, _CLOSE = "The bucket is open to everybody", "Block public access to it at once."
_EVERYBODY = "http://acs.amazonaws.com/groups/global/"


def look(
    client: S3Client, key_of: Callable[[str], str], encryption: Mapping[str, str], *, wrong: str
) -> tuple[list[Finding], str]:
    """Every promise, whether it is kept, and what of ours stays in the store. Raises S3Error where it cannot be asked.

    `wrong` is what is sent with a wrong checksum.
    """
    trial = _Trial(client, key_of(TRIED), encryption)
    versions, lock = _versions(client), _lock(client, needed=client.settings.object_lock_days > 0)
    findings = [
        *trial.create_only(),
        _checksums(client, key_of(wrong), encryption),
        *trial.what_the_key_may(keeps_versions=versions.verdict == KEPT),
        versions,
        lock,
        _lifecycle(client, key_of("")),
        _private(client),
    ]
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

    def what_the_key_may(self, *, keeps_versions: bool) -> Iterator[Finding]:
        """Overwrite, delete, delete old versions: what whoever steals the key may do, too."""
        stays = " What was there stays as an old version." if keeps_versions else ""
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


@dataclass(frozen=True)
class _Question:
    """What a bucket is asked about itself. `path` leads to what an answer cannot be without."""

    operation: str
    path: tuple[str, ...]

    def ask(self, client: S3Client, promise: str, *, needed: bool) -> dict[str, Any] | Finding:
        """The answer, empty where there is no such setting; a finding where the store does not tell."""
        no_answer = Finding(promise, UNKNOWN, "The store does not know the question.", needed)
        try:
            answer = client.call(self.operation, None)
        except S3Error as exc:
            if exc.no_answer or exc.code in _UNREACHABLE:
                raise
            if exc.code == "AccessDenied":
                return replace(no_answer, meaning=f"This key may not read it. {exc}")
            if exc.code.startswith(("NoSuch", "ObjectLockConfigurationNotFound")):
                return {}
            return no_answer if exc.code in _NOT_KNOWN else replace(no_answer, meaning=str(exc))
        found: Any = answer
        for step in self.path:
            found = found.get(step) if isinstance(found, dict) else None
        # Some answer any question about a bucket with a listing of it.
        return no_answer if found is None else answer


_VERSIONS = _Question("get_bucket_versioning", ())
_LOCK = _Question("get_object_lock_configuration", ("ObjectLockConfiguration", "ObjectLockEnabled"))
_LIFECYCLE = _Question("get_bucket_lifecycle_configuration", ("Rules",))
_BLOCK = _Question("get_public_access_block", ("PublicAccessBlockConfiguration", "BlockPublicAcls"))
_POLICY = _Question("get_bucket_policy_status", ("PolicyStatus", "IsPublic"))
_ACL = _Question("get_bucket_acl", ("Owner",))


def _versions(client: S3Client) -> Finding:
    promise = "versions"
    answer = _VERSIONS.ask(client, promise, needed=False)
    if isinstance(answer, Finding):
        return answer
    if answer.get("Status") == "Enabled":
        return Finding(promise, KEPT, "What is deleted or overwritten stays as an old version, and is billed.", False)
    return Finding(
        promise,
        NOT_KEPT,
        "The bucket keeps no versions: what is deleted or overwritten is gone. Switch versioning on, as a last resort.",
        False,
    )


def _lock(client: S3Client, *, needed: bool) -> Finding:
    promise = OBJECT_LOCK
    answer = _LOCK.ask(client, promise, needed=needed)
    if isinstance(answer, Finding):
        return answer
    found = answer.get("ObjectLockConfiguration", {})
    if found.get("ObjectLockEnabled") != "Enabled":
        return Finding(
            promise,
            NOT_KEPT,
            "The bucket locks nothing"
            + (
                ", and cloud_backup.object_lock_days is set: no backup can be sent. Create a bucket with Object Lock, "
                "or take object_lock_days out of the configuration."
                if needed
                else ": an administrator's key, or a stolen one that may delete versions, destroys what it wants. "
                "Create a bucket with Object Lock, and set cloud_backup.object_lock_days."
            ),
            needed,
        )
    rule = found.get("Rule", {}).get("DefaultRetention", {})
    if rule:
        span = f"{rule['Days']} days" if rule.get("Days") else f"{rule.get('Years')} years"
        return Finding(promise, KEPT, f"The bucket locks what arrives for {span} ({rule.get('Mode')}).", needed)
    if needed:
        return Finding(promise, KEPT, "The bucket has Object Lock, and backups are sent with a lock.", needed)
    return Finding(
        promise,
        NOT_KEPT,
        "The bucket has Object Lock, and nothing is locked by itself. Set cloud_backup.object_lock_days.",
        needed,
    )


def _lifecycle(client: S3Client, folder: str) -> Finding:
    promise = "no lifecycle"
    answer = _LIFECYCLE.ask(client, promise, needed=True)
    if isinstance(answer, Finding):
        return answer
    rules = answer.get("Rules", ())
    harmful = [words for rule in rules if _concerns(rule, folder) for words in _harm(rule)]
    if not harmful:
        return Finding(promise, KEPT, "No rule of the bucket removes or archives backups by itself.", True)
    return Finding(
        promise,
        NOT_KEPT,
        f"A rule of the bucket {', '.join(harmful)}, whatever retention wants. Take it off {client.location(folder)}.",
        True,
    )


def _concerns(rule: Mapping[str, Any], folder: str) -> bool:
    """Whether a rule may apply to what lies in `folder`. Our objects have no tags."""
    chosen = rule.get("Filter", {})
    both = chosen.get("And", {})
    if rule.get("Status") != "Enabled" or "Tag" in chosen or both.get("Tags"):
        return False
    prefix = str(rule.get("Prefix") or chosen.get("Prefix") or both.get("Prefix") or "")
    return prefix.startswith(folder) or folder.startswith(prefix)


def _harm(rule: Mapping[str, Any]) -> Iterator[str]:
    expiration = rule.get("Expiration", {})
    if "Days" in expiration or "Date" in expiration:
        yield f"removes objects ({expiration.get('Days') or expiration.get('Date')}{' days' * ('Days' in expiration)})"
    if any(one.get("StorageClass") in _COLD for one in rule.get("Transitions", ())):
        yield "moves objects to where they have to be thawed before a restore"


def _private(client: S3Client) -> Finding:
    promise = "private"
    kept = "Nobody without a key can read what lies there."
    block = _BLOCK.ask(client, promise, needed=True)
    blocked = {} if isinstance(block, Finding) else block.get("PublicAccessBlockConfiguration", {})
    if blocked and all(blocked.values()):
        return Finding(promise, KEPT, f"{kept} Public access is blocked.", True)
    policy, acl = (question.ask(client, promise, needed=True) for question in (_POLICY, _ACL))
    if isinstance(policy, dict) and policy.get("PolicyStatus", {}).get("IsPublic") is True:
        return Finding(promise, NOT_KEPT, f"{_OPEN} by its policy. {_CLOSE}", True)
    grants = acl.get("Grants", ()) if isinstance(acl, dict) else ()
    if any(str(grant.get("Grantee", {}).get("URI", "")).startswith(_EVERYBODY) for grant in grants):
        return Finding(promise, NOT_KEPT, f"{_OPEN} by its access control list. {_CLOSE}", True)
    for answer in (policy, acl):
        if isinstance(answer, Finding):
            return answer
    return Finding(promise, KEPT, kept, True)

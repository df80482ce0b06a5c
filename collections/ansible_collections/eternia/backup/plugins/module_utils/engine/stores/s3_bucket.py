# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bucket says of itself when it is asked: versions, locks, rules of its own, and who else may read it.

Each function raises S3Error where the bucket cannot be asked anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

from ..promises import KEPT, NOT_KEPT, OBJECT_LOCK, UNKNOWN, Finding
from ..units import counted
from .s3_client import S3Client
from .s3_errors import S3Error

# Rules of a bucket's lifecycle, or why they are not known.
Rules = Union[Sequence[Mapping[str, Any]], Finding]

_NO_LIFECYCLE = "no lifecycle"
# What keeps a bucket from being asked anything.
_UNREACHABLE = ("NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_NOT_KNOWN = ("NotImplemented", "XNotImplemented", "MethodNotAllowed", "405", "501")
_COLD = ("GLACIER", "DEEP_ARCHIVE")
_OPEN, _CLOSE = "The bucket is open to everybody", "Block public access to it at once."
_EVERYBODY = "http://acs.amazonaws.com/groups/global/"


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


def versions(client: S3Client) -> Finding:
    """Whether what is deleted or overwritten stays."""
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


def lock(client: S3Client) -> Finding:
    """Whether the bucket can lock, and what it locks; needed where the settings have backups locked."""
    promise, needed = OBJECT_LOCK, client.settings.object_lock_days > 0
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


def rules(client: S3Client, folder: str) -> Rules:
    """The rules of the bucket's own that may apply to what lies in `folder`."""
    answer = _LIFECYCLE.ask(client, _NO_LIFECYCLE, needed=True)
    return answer if isinstance(answer, Finding) else [one for one in answer.get("Rules", ()) if _concerns(one, folder)]


def lifecycle(found: Rules, where: str) -> Finding:
    """Whether none of the rules takes backups out of `where`."""
    if isinstance(found, Finding):
        return found
    harmful = [words for rule in found for words in _harm(rule)]
    if not harmful:
        return Finding(_NO_LIFECYCLE, KEPT, "No rule of the bucket removes or archives backups by itself.", True)
    return Finding(
        _NO_LIFECYCLE,
        NOT_KEPT,
        f"A rule of the bucket {', '.join(harmful)}, whatever retention wants. Take it off {where}.",
        True,
    )


def span_of_old_versions(found: Rules) -> str:
    """For how long the rules leave old versions there, `7 days`; "" where none removes them, or that is not known.

    That a rule spares the newest of them is no help: whoever overwrites does so once more.
    """
    expiring = () if isinstance(found, Finding) else (rule.get("NoncurrentVersionExpiration") for rule in found)
    days = [int(one.get("NoncurrentDays", 0)) for one in expiring if one]
    return counted(min(days), "day") if days else ""


def lasting(kept: Finding, found: Rules, where: str, *, may_harm: bool) -> Finding:
    """What was found of versions, with how long the rules leave them there.

    That is not kept where this key `may_harm` what they are of: its thief has but to wait.
    """
    if kept.verdict != KEPT:
        return kept
    if may_harm and isinstance(found, Finding):
        unknown = f"This key may overwrite or delete, and for how long they stay is not known: see '{_NO_LIFECYCLE}'."
        return replace(kept, verdict=UNKNOWN, meaning=f"{kept.meaning} {unknown}")
    span = span_of_old_versions(found)
    if not span:
        return kept
    stays = (
        f"What is deleted or overwritten stays as an old version for {span}, then a rule of the bucket removes it "
        "(what is locked, when its lock has ended)."
    )
    if not may_harm:
        return replace(kept, meaning=stays)
    return replace(
        kept,
        verdict=NOT_KEPT,
        meaning=f"{stays} This key may overwrite or delete: what whoever steals it does to the backups there is for "
        f"good after {span}. Take that right away from the key, or the rule off {where}, or give the rule more days "
        "than a theft can stay unseen.",
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


def private(client: S3Client) -> Finding:
    """Whether nobody can read it without a key."""
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

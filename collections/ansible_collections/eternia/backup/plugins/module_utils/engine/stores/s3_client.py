# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to S3: one boto3 client, and the one place where botocore's errors become ours."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from .. import files
from ..errors import StoreError, without_secrets

# The first with full-object CRC64NVME and with create-only multipart uploads.
OLDEST_BOTO3 = (1, 36)

# Three attempts of three seconds and the pauses between them: an endpoint that is down is known to be within 15 s.
CONNECT_SECONDS = 3
READ_SECONDS = 60
ATTEMPTS = 3


@dataclass(frozen=True)
class S3Settings:
    """Where the store is and how to talk to it.

    `prefix` has no slash at either end and may hold some. `checksum` is auto, crc64nvme, sha256 or md5, `sse` AES256 or
    aws:kms. `credentials_file` has the format of AWS's shared credentials, profile `default`; where it is given it is
    the only source of credentials, otherwise they come from boto3's ordinary chain. `limit_rate` is in bytes a second,
    all connections together. With `remove_versions` nothing of what retention removes stays in a bucket that keeps
    versions. Without `prune` retention removes nothing there: this key may not, and another does it. What is sent is
    locked for `object_lock_days`, in S3's `object_lock_mode`; 0 locks nothing.
    """

    bucket: str
    prefix: str
    region: str | None = None
    endpoint_url: str | None = None
    storage_class: str | None = None
    remove_versions: bool = False
    prune: bool = True
    sse: str | None = None
    kms_key_id: str | None = None
    checksum: str = "auto"
    credentials_file: Path | None = None
    limit_rate: int | None = None
    object_lock_days: int = 0
    object_lock_mode: str = "COMPLIANCE"

    @property
    def place(self) -> str:
        """Which store this is, in words."""
        return f"s3://{self.bucket}/{self.prefix} at {self.endpoint_url or 'AWS'}"

    def lock_until(self, now: datetime) -> datetime | None:
        """Until when what is sent now is locked; None where nothing is."""
        days = self.object_lock_days
        return now.replace(microsecond=0) + timedelta(days=days) if days else None


# Not a word of S3's: what was to be sent could not be read.
_UNREADABLE = "Unreadable"


class S3Error(StoreError):
    """S3 refused. `code` is S3's own word for it, `NoSuchKey` for example; "" where no answer came."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


# A key, and the id of a version of it, None for the object itself.
Address = tuple[str, "str | None"]

# What each operation is to a person, and what it needs to be allowed: the service authorization reference,
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
_OPERATIONS = {
    "list_objects_v2": ("Listing", "s3:ListBucket"),
    "head_object": ("Looking at", "s3:GetObject (and s3:ListBucket, without which a key that is missing looks denied)"),
    "get_object": ("Reading", "s3:GetObject (and s3:ListBucket, without which a key that is missing looks denied)"),
    "put_object": ("Writing", "s3:PutObject"),
    "create_multipart_upload": ("Writing", "s3:PutObject"),
    "upload_part": ("Writing", "s3:PutObject"),
    "upload_part_copy": ("Copying into", "s3:PutObject (and s3:GetObject on what is copied)"),
    "complete_multipart_upload": ("Writing", "s3:PutObject"),
    "list_multipart_uploads": ("Listing open uploads of", "s3:ListBucketMultipartUploads"),
    "list_parts": ("Listing the parts of", "s3:ListMultipartUploadParts"),
    "abort_multipart_upload": ("Giving up the upload of", "s3:AbortMultipartUpload"),
    "delete_object": ("Deleting", "s3:DeleteObject"),
    "delete_objects": ("Deleting", "s3:DeleteObject (and s3:DeleteObjectVersion, for old versions)"),
    "get_bucket_versioning": ("Asking for versions of", "s3:GetBucketVersioning"),
    "list_object_versions": ("Listing the versions of", "s3:ListBucketVersions"),
    "put_object_retention": ("Locking", "s3:PutObjectRetention"),
    "get_object_lock_configuration": ("Asking for Object Lock of", "s3:GetBucketObjectLockConfiguration"),
    "get_bucket_lifecycle_configuration": ("Asking for the lifecycle of", "s3:GetLifecycleConfiguration"),
    "get_public_access_block": ("Asking for public access to", "s3:GetBucketPublicAccessBlock"),
    "get_bucket_policy_status": ("Asking for the policy of", "s3:GetBucketPolicyStatus"),
    "get_bucket_acl": ("Asking for the access control list of", "s3:GetBucketAcl"),
}

# An answer to HEAD has no body, so botocore has only the status to name it by.
_BY_STATUS = {
    "301": "PermanentRedirect",
    "403": "AccessDenied",
    "404": "NoSuchKey",
    "412": "PreconditionFailed",
    "503": "SlowDown",
    "507": "QuotaExceeded",
}

_REGION = "bucket {bucket} is in another region than {region}{elsewhere}. Correct cloud_backup.region"
_LATER = (
    "the store is overloaded or down for the moment ({answer}). Run again later: what has not been sent lies on the "
    "host and is sent then"
)
_CHANGED = (
    "the checksum was refused: the bytes that arrived are not those the manifest describes, so they changed on the "
    "disk after they were hashed, or on the way ({answer}). Nothing was stored. Verify the local copy, then run again"
)
_CANNOT = (
    "the store does not know how to do that ({answer}). Backups need one with multipart uploads and conditional writes "
    "(If-None-Match)"
)
_FULL = "the store is full or over its quota ({answer}). Make room there, or shorten the retention, then run again"

_ADVICE = {
    "NoSuchBucket": "there is no bucket {bucket} at {endpoint}. Create it, or correct cloud_backup.bucket, region or "
    "endpoint_url",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": "wrong key: {endpoint} does not know the access key. Correct it in {credentials}",
    "SignatureDoesNotMatch": "wrong key: the secret key does not belong to the access key. Correct it in {credentials}",
    "AccessDenied": "access denied ({answer}). Allow {action} there to the key in {credentials}",
    "ExpiredToken": "the session token has expired. Renew it in {credentials}",
    "RequestTimeTooSkewed": "this host's clock and the store's are too far apart. Set the clock (is NTP running?), "
    "then run again",
    "NoSuchKey": "there is no such key",
    "PreconditionFailed": "something lies there already, and nothing is ever overwritten",
    "InvalidObjectState": "the object is archived in a cold storage class ({answer}). Restore it there first",
    "SlowDown": _LATER,
    "ServiceUnavailable": _LATER,
    "InternalError": _LATER,
    "BadDigest": _CHANGED,
    "InvalidDigest": _CHANGED,
    "XAmzContentSHA256Mismatch": _CHANGED,
    "XAmzContentChecksumMismatch": _CHANGED,
    "NotImplemented": _CANNOT,
    "XNotImplemented": _CANNOT,
    "QuotaExceeded": _FULL,
    "InsufficientStorage": _FULL,
    "XMinioStorageFull": _FULL,
}
_OTHERWISE = "{answer}. Look the code up in the documentation of the store, correct the cause, then run again"


def require_boto3() -> None:
    """Raises StoreError where this Python has no boto3, or one that is too old."""
    try:
        import boto3
    except ImportError as exc:
        raise StoreError(
            f"S3 needs the Python library boto3, which {sys.executable} cannot import ({exc}). Install boto3 there, "
            "apply the role eternia.backup.agent to this host, or set cloud_backup.enabled to false."
        ) from exc
    if tuple(int(number) for number in boto3.__version__.split(".")[:2]) < OLDEST_BOTO3:
        raise StoreError(
            f"S3 needs boto3 {'.'.join(map(str, OLDEST_BOTO3))} or newer; {sys.executable} has {boto3.__version__}. "
            "Upgrade boto3 there, or apply the role eternia.backup.agent, which brings its own from a package index or "
            "a wheelhouse."
        )


class S3Client:
    """Holds the boto3 client of one store, made at the first request. Raises S3Error, or StoreError without boto3."""

    def __init__(self, settings: S3Settings) -> None:
        # Whoever only reads the settings, as every run does, has no use for it.
        from .s3_pace import Pace

        self.settings = settings
        self.pace = Pace(settings.limit_rate)
        # AWS's own variables, which boto3 obeys: an endpoint that comes from them is no more AWS than a configured one.
        self._endpoint = (
            settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )

    def location(self, key: str) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.settings.bucket}/{key}"

    def call(self, operation: str, key: str | None, **params: Any) -> dict[str, Any]:
        """One request, by the name of its boto3 method: on a key, or on the bucket where `key` is None."""
        target = {"Bucket": self.settings.bucket} if key is None else {"Bucket": self.settings.bucket, "Key": key}
        try:
            with self._translated(operation, key or "") as client:
                answer: dict[str, Any] = getattr(client, operation)(**target, **params)
        except S3Error as exc:
            failure = getattr(params.get("Body"), "failure", None)
            if failure is None:
                raise
            raise S3Error(
                f"{_OPERATIONS[operation][0]} {self.location(key or '')} failed: what is sent could not be read "
                f"({files.reason(failure)}). Look at the disk, then run again.",
                _UNREADABLE,
            ) from exc
        return answer

    def entries(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys under `prefix`, without those in deeper folders, and their sizes in bytes: sorted, a page at a time."""
        with self._translated("list_objects_v2", prefix) as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield entry["Key"], entry["Size"]

    def open(self, key: str, **params: Any) -> BinaryIO:
        """An object's bytes, or with `Range` some of them, to be read once from the front."""
        return io.BufferedReader(_Body(self, key, self.call("get_object", key, **params)["Body"]), 1024 * 1024)

    def proof(self, body: bytes) -> dict[str, str]:
        """The checksum that has to go with a small body: without one, a bucket with Object Lock takes nothing.

        None where botocore adds its own. MD5, because every server knows it:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
        """
        if self._client.meta.config.request_checksum_calculation != "when_required":
            return {}
        return {"ContentMD5": b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}

    def delete(self, wanted: Sequence[Address]) -> dict[Address, S3Error]:
        """Delete up to 1,000 objects, or versions of them, by one request; why those are still there that are.

        An error that names nothing of what was wanted may be about any of it.
        """
        objects = [{"Key": key} if version is None else {"Key": key, "VersionId": version} for key, version in wanted]
        answer = self.call("delete_objects", None, Delete={"Objects": objects, "Quiet": True})
        refused: dict[Address, S3Error] = {}
        for error in answer.get("Errors", ()):
            key, version = error.get("Key", ""), error.get("VersionId")
            of_key = [one for one in wanted if one[0] == key]
            meant = [one for one in of_key if one[1] == version] or of_key or wanted
            words = self.refusal("delete_objects", key, error.get("Code", ""), error.get("Message", ""))
            refused.update(dict.fromkeys(meant, words))
        return refused

    def refusal(self, operation: str, key: str, code: str, answer: str, region: str | None = None) -> S3Error:
        """What S3's `code` means here and what to do next. `region` is the one that the answer names, if it does."""
        code, answer = _BY_STATUS.get(code, code), answer.rstrip(".")
        verb, action = _OPERATIONS[operation]
        if self.settings.object_lock_days and operation in ("put_object", "create_multipart_upload"):
            action += " (and s3:PutObjectRetention, for the lock)"
        reason = _ADVICE.get(code, _OTHERWISE).format(
            bucket=self.settings.bucket,
            endpoint=self._endpoint or "AWS",
            region=self._client.meta.region_name,
            elsewhere=f": {region}" if region else f" ({answer})",
            answer=f"{code}: {answer}",
            action=action,
            credentials=self._credentials,
        )
        return S3Error(without_secrets(f"{verb} {self.location(key)} failed: {reason}."), code)

    @property
    def _credentials(self) -> str:
        return str(self.settings.credentials_file or "the environment, the profile or the instance role")

    @cached_property
    def _client(self) -> Any:
        require_boto3()
        from botocore.exceptions import BotoCoreError

        from .s3_pace import hear_of_sending

        try:
            client = _connect(self.settings, self._endpoint)
        except (BotoCoreError, ValueError) as exc:
            raise self._unanswered("", "The S3 client cannot be made", exc) from exc
        hear_of_sending(client)
        return client

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[Any]:
        # Before the import: the client says what to do where the library is missing.
        client = self._client
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield client
        except ClientError as exc:
            error = exc.response.get("Error", {})
            headers = exc.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = error.get("Region") or headers.get("x-amz-bucket-region")
            raise self.refusal(
                operation, key, error.get("Code", ""), error.get("Message", "no message"), region
            ) from exc
        except BotoCoreError as exc:
            verb = _OPERATIONS[operation][0]
            raise self._unanswered(key, f"{verb} {self.location(key)} failed", exc) from exc
        except Exception as exc:
            if not type(exc).__module__.startswith("awscrt"):
                raise
            # Where awscrt is installed it reads and signs what is sent, and has no words for what it meets there.
            raise S3Error(
                f"{_OPERATIONS[operation][0]} {self.location(key)} failed: what is sent could not be read and signed "
                f"({exc}). Look at the disk, then run again."
            ) from exc

    def _unanswered(self, key: str, failure: str, exc: Exception) -> S3Error:
        from botocore import exceptions as botocore

        endpoint, answer = self._endpoint or "AWS", str(exc).rstrip(".")
        if isinstance(exc, botocore.SSLError):
            advice = f"{answer}. Correct the certificate of {endpoint}, or name its authority in AWS_CA_BUNDLE"
        elif isinstance(exc, (botocore.NoCredentialsError, botocore.CredentialRetrievalError)):
            advice = (
                f"there is no access key in {self._credentials}. Put one there, with its secret key, or name another "
                "file: cloud_backup.credentials_file"
            )
        elif isinstance(exc, botocore.PartialCredentialsError):
            advice = f"the credentials are not whole ({answer}). Complete them in {self._credentials}"
        elif isinstance(exc, botocore.FlexibleChecksumError):
            advice = (
                f"what arrived has another checksum than the object ({answer}). Run again; if it stays, it is damaged"
            )
        elif exc.__class__ is botocore.HTTPClientError:
            # The text of an unexpected fault may quote a header, and with it a session token.
            fault = getattr(exc, "kwargs", {}).get("error")
            cause = fault.strerror if isinstance(fault, OSError) and fault.strerror else type(fault).__name__
            advice = (
                f"the request to {endpoint} could not be sent whole ({cause}). Run again; if it stays, look for a line "
                f"break in {self._credentials}"
            )
        elif isinstance(exc, (botocore.ConnectionError, botocore.HTTPClientError, botocore.IncompleteReadError)):
            advice = (
                f"no whole answer from {endpoint} ({answer}). Check that it is up, and that cloud_backup.endpoint_url "
                "and region are right, then run again"
            )
        else:
            advice = f"{answer}. Correct cloud_backup.bucket, region or endpoint_url, or what is in {self._credentials}"
        return S3Error(without_secrets(f"{failure}: {advice}."))


class _Body(io.RawIOBase):
    """The answer to a GET as a plain file, so that what botocore raises while it is read becomes ours too."""

    def __init__(self, client: S3Client, key: str, body: Any) -> None:
        self._client, self._key, self._body = client, key, body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._client._translated("get_object", self._key):
            data: bytes = self._body.read(min(len(buffer), self._client.pace.most))
        self._client.pace.keep(len(data))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._body.close()
        super().close()


def _connect(settings: S3Settings, endpoint: str | None) -> Any:
    import boto3
    import botocore.session
    from botocore.config import Config
    from botocore.credentials import CredentialResolver, SharedCredentialProvider

    core = botocore.session.get_session()
    if settings.credentials_file is not None:
        # A profile that the environment names is not for this store, and need not exist here.
        core = botocore.session.Session({"profile": (None, None, None, None)})
        only = SharedCredentialProvider(str(settings.credentials_file), "default")
        core.register_component("credential_provider", CredentialResolver([only]))
    session = boto3.Session(botocore_session=core, region_name=settings.region)
    options: dict[str, Any] = {}
    if endpoint is not None:
        options = {"signature_version": "s3v4", "s3": {"addressing_style": "path"}}
    if endpoint is not None or settings.checksum == "md5":
        # Checksums that nobody asked for are what many servers that are not AWS stumble over.
        options |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    if endpoint is None or endpoint.startswith("https:"):
        # TLS and a checksum protect the body; botocore then leaves out its SHA-256, but not where the checksum is ours.
        options["s3"] = {**options.get("s3", {}), "payload_signing_enabled": False}
    return session.client(
        "s3",
        endpoint_url=endpoint,
        region_name=session.region_name or "us-east-1",
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            **options,
        ),
    )

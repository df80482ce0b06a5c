# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store's refusals, and a line that gives no answer, mean to an operator, and what he does next."""

from __future__ import annotations

from ..errors import StoreError, printable, shortened, without_secrets
from .s3_settings import S3Settings


class S3Error(StoreError):
    """S3 refused. `code` is S3's own word for it, `NoSuchKey` for example; "" where it has none.

    `no_answer` says that none came: whoever asks for something else will fare no better.
    """

    def __init__(self, message: str, code: str = "", *, no_answer: bool = False) -> None:
        # It may quote what the store answered.
        super().__init__(printable(message))
        self.code = code
        self.no_answer = no_answer


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
    "NoSuchKey": "there is no such key. Look at the store, then run again",
    "PreconditionFailed": "something lies there already, and nothing is ever overwritten. Look at it there, then run "
    "again",
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


class ErrorTranslator:
    """Makes an S3Error of what one store says, and of what botocore says about it."""

    def __init__(self, settings: S3Settings, endpoint: str | None) -> None:
        self._settings, self._endpoint = settings, endpoint

    def refused(
        self, operation: str, key: str, code: str, answer: str, *, region: str, other_region: str | None = None
    ) -> S3Error:
        """What S3's `code` means here and what to do next. `other_region` is the one that the answer names, if any."""
        code, key, answer = shortened(_BY_STATUS.get(code, code)), shortened(key, 1024), shortened(answer).rstrip(".")
        _verb, action = _OPERATIONS[operation]
        if self._settings.object_lock_days and operation in ("put_object", "create_multipart_upload"):
            action += " (and s3:PutObjectRetention, for the lock)"
        reason = _ADVICE.get(code, _OTHERWISE).format(
            bucket=self._settings.bucket,
            endpoint=self._endpoint or "AWS",
            region=region,
            elsewhere=f": {other_region}" if other_region else f" ({answer})",
            answer=f"{code}: {answer}",
            action=action,
            credentials=self._credentials,
        )
        return S3Error(without_secrets(f"{self._failed(operation, key)}: {reason}."), code)

    def unread(self, operation: str, key: str, failure: str) -> S3Error:
        """What is to be sent could not be read: `failure` goes on from "could not be"."""
        return S3Error(
            f"{self._failed(operation, key)}: what is sent could not be {failure}. Look at the disk, then run again."
        )

    def unanswered(self, operation: str | None, key: str, exc: Exception) -> S3Error:
        """What botocore or urllib3 raised in the place of an answer; before any request where `operation` is None."""
        from botocore import exceptions as botocore
        from urllib3.exceptions import HTTPError

        endpoint, answer, credentials = self._endpoint or "AWS", str(exc).rstrip("."), self._credentials
        if isinstance(exc, botocore.SSLError):
            advice = f"{answer}. Correct the certificate of {endpoint}, or name its authority in AWS_CA_BUNDLE"
        elif isinstance(exc, (botocore.NoCredentialsError, botocore.CredentialRetrievalError)):
            file = self._settings.credentials_file
            why = ", which does not exist" if file is not None and not file.exists() else ""
            advice = (
                f"there is no access key in {credentials}{why}. Put one there, with its secret key, under [default], "
                "or name another file"
            )
        elif isinstance(exc, botocore.PartialCredentialsError):
            advice = f"the credentials are not whole ({answer}). Complete them in {credentials}"
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
                f"break in {credentials}"
            )
        elif isinstance(
            exc, (botocore.ConnectionError, botocore.HTTPClientError, botocore.IncompleteReadError, HTTPError)
        ):
            advice = (
                f"no whole answer from {endpoint} ({answer}). Check that it is up, and that cloud_backup.endpoint_url "
                "and region are right, then run again"
            )
        else:
            advice = f"{answer}. Correct cloud_backup.bucket, region or endpoint_url, or what is in {credentials}"
        came = isinstance(exc, botocore.FlexibleChecksumError)
        failure = self._failed(operation, key) if operation else "The S3 client cannot be made"
        return S3Error(without_secrets(f"{failure}: {advice}."), no_answer=not came)

    @property
    def _credentials(self) -> str:
        return str(self._settings.credentials_file or "the environment, the profile or the instance role")

    def _failed(self, operation: str, key: str) -> str:
        return f"{_OPERATIONS[operation][0]} {self._settings.location(key)} failed"

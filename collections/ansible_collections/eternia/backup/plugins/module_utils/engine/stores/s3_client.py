# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to S3: one boto3 client, and the one place where botocore's errors are caught, to become ours."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO

from .. import files
from ..errors import StoreError
from .s3_errors import ErrorTranslator, S3Error
from .s3_settings import S3Settings

# The first with full-object CRC64NVME and with create-only multipart uploads.
OLDEST_BOTO3 = (1, 36)

# Three attempts of three seconds and the pauses between them: an endpoint that is down is known to be within 15 s.
CONNECT_SECONDS = 3
READ_SECONDS = 60
ATTEMPTS = 3

# A key, and the id of a version of it, None for the object itself.
Address = tuple[str, "str | None"]


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
        self._errors = ErrorTranslator(settings, self._endpoint)

    def location(self, key: str) -> str:
        """`s3://bucket/key`."""
        return self.settings.location(key)

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
            raise self._errors.unread(operation, key or "", f"read ({files.reason(failure)})") from exc
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

    def endless(self, key: str) -> S3Error:
        """What a store says that goes on listing from where it began, so that nobody waits for its end."""
        return S3Error(
            f"{self.location(key)} is listed without an end: a page is followed by itself. Look at the store."
        )

    def refusal(self, operation: str, key: str, code: str, answer: str, other_region: str | None = None) -> S3Error:
        """What S3's `code` means here and what to do next. `other_region` is the one that the answer names, if any."""
        region = self._client.meta.region_name
        return self._errors.refused(operation, key, code, answer, region=region, other_region=other_region)

    @cached_property
    def _client(self) -> Any:
        require_boto3()
        from botocore.exceptions import BotoCoreError

        from .s3_pace import hear_of_sending

        try:
            client = _connect(self.settings, self._endpoint)
        except (BotoCoreError, ValueError) as exc:
            raise self._errors.unanswered(None, "", exc) from exc
        hear_of_sending(client)
        return client

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[Any]:
        # Before the import: the client says what to do where the library is missing.
        client = self._client
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield client
        except ClientError as exc:
            error = exc.response.get("Error", {})
            headers = exc.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = error.get("Region") or headers.get("x-amz-bucket-region")
            raise self.refusal(
                operation, key, error.get("Code", ""), error.get("Message", "no message"), region
            ) from exc
        except (BotoCoreError, HTTPError) as exc:
            # The second where what is cut off is the body of a refusal: botocore lets that through as it is.
            raise self._errors.unanswered(operation, key, exc) from exc
        except Exception as exc:
            if not type(exc).__module__.startswith("awscrt"):
                raise
            # Where awscrt is installed it reads and signs what is sent, and has no words for what it meets there.
            raise self._errors.unread(operation, key, f"read and signed ({exc})") from exc


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

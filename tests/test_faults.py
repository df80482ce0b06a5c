# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make faults`, very small: so that it stays alive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from development import CHECKOUT


def test_some_calls_fail_and_nothing_is_found(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": "collections", "FAULTS": "tiny", "FAULTS_ONLY": "prune calls"}
    done = subprocess.run(
        [sys.executable, "-m", "faults"],
        cwd=CHECKOUT,
        env={**environment, "FAULTS_RESULTS": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
    assert (tmp_path / "faults.json").exists()

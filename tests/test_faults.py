# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make faults`, very small: so that it stays alive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from development import CHECKOUT

from faults import promises
from faults.child import Ended


def test_some_calls_fail_and_nothing_is_found(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": "collections", "FAULTS": "tiny", "FAULTS_ONLY": "prune calls"}
    done = subprocess.run(
        [sys.executable, "-m", "faults"],
        cwd=CHECKOUT,
        env={**environment, "RELIABILITY_DIR": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["faults.part.json"]


@pytest.mark.parametrize(
    ("said", "is_told"),
    [
        ("eternia-backup: /srv/x cannot be read: no such file. Correct storage_path, then run again.", True),
        ("eternia-backup: /srv/x is locked. Wait for it to end, then run again.", True),
        ("eternia-backup: Something went wrong at /srv/x", False),
        ("eternia-backup: Something went wrong at /srv/x. Nothing was changed.", False),
        ("eternia-backup: Something went wrong. Run again.", False),
        ("Traceback (most recent call last): x", False),
    ],
)
def test_what_says_where_and_what_to_do_is_told_from_what_does_not(said: str, is_told: bool) -> None:
    assert (not list(promises.told(Ended(1, said, met=True)))) is is_told

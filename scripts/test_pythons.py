# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests on the oldest and the newest Python: the engine alone on a host's oldest, all modules on the newest.

The newest Python resolves the newest ansible-core, .venv's may resolve the oldest that is supported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from interpreters import find_interpreter

CHECKOUT = Path(__file__).resolve().parents[1]
UNIT = "collections/ansible_collections/eternia/backup/tests/unit"
MODULES = ["tests/test_integration.py", "tests/playbooks/test_playbooks.py"]
OLDEST = "3.9"
NEWEST = ("3.14", "3.13", "3.12")


def main() -> int:
    failed = [
        run(OLDEST, find_interpreter(OLDEST), "requirements/target.txt", [UNIT]),
        run(*newest(), "requirements/test.txt", [UNIT, *MODULES]),
    ]
    return int(any(failed))


def newest() -> tuple[str, str | None]:
    found = ((version, find_interpreter(version)) for version in NEWEST)
    return next((pair for pair in found if pair[1]), (" or ".join(NEWEST), None))


def run(version: str, interpreter: str | None, requirements: str, tests: list[str]) -> bool:
    """Run tests in an environment of that version's own; returns whether they failed."""
    if interpreter is None:
        print(f"Skipped: Python {version}: no interpreter with ensurepip and venv on PATH or in pyenv", flush=True)
        return False
    environment = CHECKOUT / "build/pythons" / version
    print(f"Python {version} ({interpreter}): {' '.join(tests)}", flush=True)
    subprocess.run([interpreter, "-m", "venv", environment], check=True)
    pip = [environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", CHECKOUT / requirements], check=True)
    command = [environment / "bin/pytest", "-q", "-n", "4", "--dist", "loadfile", "--max-worker-restart", "0", *tests]
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main())

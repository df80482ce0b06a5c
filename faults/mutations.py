# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the harness can fail: each of these makes a copy of the engine worse, and it has to be found out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report

from .calls import ENGINE

_COLLECTIONS = Path(ENGINE).parents[5]


@dataclass(frozen=True)
class Mutation:
    """In `file`, `right` becomes `wrong`; `only` says where that has to show, and `scene` in which scenes."""

    name: str
    file: str
    right: str
    wrong: str
    only: str
    scene: str = ""


MUTATIONS = (
    Mutation(
        "an fsync is removed",
        "files.py",
        "        os.rename(staged, final)\n    fsync_path(final.parent)\n",
        "        os.rename(staged, final)\n",
        "backup calls",
        "WAL with a live log",
    ),
    Mutation(
        "the manifest goes before the data",
        "stores/local.py",
        "            files.commit(path, self.path / manifest.name)\n"
        "            files.commit(staged_manifest, self.path / staged_manifest.name)\n",
        "            files.commit(staged_manifest, self.path / staged_manifest.name)\n"
        "            files.commit(path, self.path / manifest.name)\n",
        "backup calls",
        "WAL with a live log",
    ),
    Mutation(
        "the sidecars stay where they are",
        "swap.py",
        '            os.replace(target.beside(suffix), target.staging / f"{_OLD}{suffix}")\n    files.fsync_path',
        "            pass\n    files.fsync_path",
        "restore calls",
        "over a live log",
    ),
    Mutation(
        "an error of S3 is ignored",
        "stores/s3_create.py",
        '        if exc.code != "PreconditionFailed":\n            raise\n        return False\n    return True\n',
        "        return False\n    return True\n",
        "backup calls",
        "to S3",
    ),
)


def figure() -> report.Figure:
    """Lets each be looked for; `raw["survived"]` names those that were not found out."""
    made = report.Figure("The harness can fail", "The engine is made worse in one place, and the same faults are met.")
    survived = []
    for one in MUTATIONS:
        found = _violations(one)
        made.add(one.name, f"{found} violations" if found else "not found out", "at least 1 violation", found > 0)
        survived += [] if found else [one.name]
    made.raw = {"survived": survived}
    return made


def _violations(mutation: Mutation) -> int:
    with tempfile.TemporaryDirectory(prefix="eternia-mutation-") as folder:
        copy = Path(folder, "collections")
        shutil.copytree(_COLLECTIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
        path = copy / Path(ENGINE).relative_to(_COLLECTIONS) / mutation.file
        text = path.read_text()
        if text.count(mutation.right) != 1:
            sys.exit(
                f"{mutation.file} no longer has what is to be mutated ({mutation.name}). Correct faults/mutations.py."
            )
        path.write_text(text.replace(mutation.right, mutation.wrong))
        environment = {**os.environ, "PYTHONPATH": str(copy), "FAULTS_ONLY": mutation.only, "FAULTS_RESULTS": folder}
        environment.update(FAULTS="short", FAULTS_SCENE=mutation.scene, FAULTS_STOP="1")
        command = [sys.executable, "-m", "faults"]
        done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    return done.stdout.count("VIOLATION") or done.stderr.count("without a fault: [")

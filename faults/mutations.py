# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the harness can fail: each of these makes a copy of the engine worse, and it has to be found out."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report

from .calls import ENGINE

# Longer than all that is tried of one scene takes.
_PATIENCE_SECONDS = 1800
_TIDY_SECONDS = 30
_COLLECTIONS = Path(ENGINE).parents[5]


@dataclass(frozen=True)
class Mutation:
    """In `file`, `right` becomes `wrong`; `only` says where that has to show, and `scene` in which scenes.

    `shows` is a pattern of the promise that it breaks, and `broke` says it in words: where another one is broken, it is
    not found out.
    """

    name: str
    file: str
    right: str
    wrong: str
    only: str
    scene: str
    shows: str
    broke: str


TITLE = "The harness can fail"

MUTATIONS = (
    Mutation(
        "an fsync is removed",
        "files.py",
        "        os.rename(staged, final)\n    fsync_path(final.parent)\n",
        "        os.rename(staged, final)\n",
        "backup calls",
        "WAL with a live log",
        "a manifest without its data",
        "a manifest lay there without its data",
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
        "a manifest without its data",
        "a manifest lay there without its data",
    ),
    Mutation(
        "the sidecars stay where they are",
        "swap.py",
        '            os.replace(target.beside(suffix), target.staging / f"{_OLD}{suffix}")\n    files.fsync_path',
        "            pass\n    files.fsync_path",
        "restore calls",
        "over a live log",
        "it said that it was restored, and it was not|the target is neither old nor new",
        "a restore said that it had succeeded, and had not, or left what is neither old nor new",
    ),
    Mutation(
        "an error of S3 is ignored",
        "stores/s3_create.py",
        '        if exc.code != "PreconditionFailed":\n            raise\n',
        '        if exc.code != "PreconditionFailed":\n            return True\n',
        "backup calls",
        "to S3",
        "and S3 lacks it|S3 has no new backup",
        "a run said that it had succeeded, and S3 had no such backup",
    ),
    Mutation(
        "the log is lost when a restore is taken back",
        "swap.py",
        '                os.replace(target.staging / f"{_OLD}{suffix}", target.beside(suffix))\n    files.fsync_path',
        '                os.unlink(target.staging / f"{_OLD}{suffix}")\n    files.fsync_path',
        "restore calls",
        "over what is damaged",
        "of the old target only",
        "of the old target only a part came back",
    ),
    Mutation(
        "what is locked is deleted",
        "judgement.py",
        "if remote is None or self.config.cloud is None or not self.config.cloud.object_lock_days:",
        "if True:",
        "backup calls",
        "to S3, locked",
        "was deleted in S3 while it was locked",
        "a backup was deleted while it was locked",
    ),
    Mutation(
        "a file is written where it is to lie",
        "files.py",
        "        os.link(staged, final)\n        staged.unlink()\n",
        "        write_new(final, staged.read_bytes())\n        staged.unlink()\n",
        "backup calls",
        "WAL with a live log",
        "which has no manifest: not what its source was",
        "half a backup lay under a final name",
    ),
)


def figure() -> report.Figure:
    """Lets each be looked for; `raw["survived"]` names those that were not found out."""
    made = report.Figure(
        TITLE,
        f"Of {len(MUTATIONS)} mistakes that we chose one at a time is made in the engine, and the promise has to break "
        "that it breaks; that says nothing of others. Every call of these scenes is killed, and the power fails behind "
        "every one, until it does.",
    )
    survived = []
    for one in MUTATIONS:
        found = _is_found_out(one)
        made.add(one.name, f"found out: {one.broke}" if found else "not found out", "found out", found)
        survived += [] if found else [one.name]
    made.raw = {"survived": survived}
    return made


def _is_found_out(mutation: Mutation) -> bool:
    """Whether it was seen to break its promise."""
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
        # The keys are those of our own store, which has gone.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment.update(PYTHONPATH=str(copy), FAULTS_ONLY=mutation.only, RELIABILITY_DIR=folder)
        environment.update(FAULTS="short", FAULTS_SCENE=mutation.scene, FAULTS_STOP=mutation.shows)
        code, said = _ran([sys.executable, "-m", "faults"], environment)
    broken = [line for line in said.splitlines() if line.startswith("VIOLATION")]
    return code == 1 and re.search(mutation.shows, "\n".join(broken)) is not None


def _ran(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """How it ended and what it said. Its store and its workers end with it, however we do."""
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as running:
        try:
            said, _nothing = running.communicate(timeout=_PATIENCE_SECONDS)
        except BaseException:
            # It tidies; what does not end by then is ended.
            running.terminate()
            with suppress(subprocess.TimeoutExpired):
                running.wait(_TIDY_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            raise
    return running.returncode, said

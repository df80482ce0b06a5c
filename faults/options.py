# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run was asked for, by environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VERBS = ("backup", "prune", "restore", "drill", "install")
# What is looked at: each call, or each answer of the store.
CALLS, ANSWERS = "calls", "answers"
FORMS = ("short", "full", "tiny")


@dataclass(frozen=True)
class Options:
    """`form` says how many of the faults happen, `verbs` to which commands; `seed` draws those of a short run.

    `at` is what is made to fail: calls, answers, or both. `place` is where everything is written, `jobs` how many hosts
    are broken at once.
    """

    form: str
    verbs: tuple[str, ...]
    at: tuple[str, ...]
    seed: int
    place: Path
    jobs: int

    @property
    def full(self) -> bool:
        return self.form == "full"


def from_environment() -> Options:
    """Raises ValueError for what does not exist."""
    get = os.environ.get
    form, words = get("FAULTS") or "short", (get("FAULTS_ONLY") or "").split()
    unknown = {form} - {*FORMS} | {*words} - {*VERBS, CALLS, ANSWERS}
    if unknown:
        raise ValueError(
            f"{', '.join(sorted(unknown))}: FAULTS is one of {', '.join(FORMS)}; FAULTS_ONLY has some of "
            f"{', '.join((*VERBS, CALLS, ANSWERS))}"
        )
    memory = Path("/dev/shm")
    return Options(
        form=form,
        verbs=tuple(verb for verb in VERBS if verb in words) or VERBS,
        at=tuple(one for one in (CALLS, ANSWERS) if one in words) or (CALLS, ANSWERS),
        seed=int(get("FAULTS_SEED") or 1),
        place=Path(get("FAULTS_DIR") or (memory if os.access(memory, os.W_OK) else "build/faults")).absolute(),
        jobs=int(get("FAULTS_JOBS") or os.cpu_count() or 1),
    )

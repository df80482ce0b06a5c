# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run was asked for, by environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .scenes import Scene

VERBS = ("backup", "prune", "restore", "drill", "install")
# What is looked at: each call, each answer of the store, and whether an engine that was made worse is found out.
CALLS, ANSWERS, MUTATIONS = "calls", "answers", "mutations"
AT = (CALLS, ANSWERS, MUTATIONS)
FORMS = ("tiny", "short", "full", "every")


@dataclass(frozen=True)
class Options:
    """`form` says how many of the faults happen, `verbs` to which commands; `seed` draws those of a short run.

    `at` are some of AT; `scene` is a part of the names of those that count, "" for all. `place` is where everything is
    written, `jobs` how many hosts are broken at once. A violation that the pattern `stops` is found in is enough.
    """

    form: str
    verbs: tuple[str, ...]
    at: tuple[str, ...]
    scene: str
    seed: int
    place: Path
    jobs: int
    stops: str

    @property
    def full(self) -> bool:
        """Whether whatever can go wrong at a line does, and not only what the seed draws."""
        return self.form in ("full", "every")

    @property
    def every(self) -> bool:
        """Whether it does so at each call of a line, in every scene, and about each answer."""
        return self.form == "every"

    def wants(self, scene: Scene) -> bool:
        return scene.verb in self.verbs and self.scene in str(scene)


def from_environment() -> Options:
    """Raises ValueError for what does not exist."""
    get = os.environ.get
    form, words = get("FAULTS") or "short", (get("FAULTS_ONLY") or "").split()
    unknown = {form} - {*FORMS} | {*words} - {*VERBS, *AT}
    if unknown:
        raise ValueError(
            f"{', '.join(sorted(unknown))}: FAULTS is one of {', '.join(FORMS)}; FAULTS_ONLY has some of "
            f"{', '.join((*VERBS, *AT))}"
        )
    memory = Path("/dev/shm")
    return Options(
        form=form,
        verbs=tuple(verb for verb in VERBS if verb in words) or VERBS,
        # The whole engine is mutated only where the whole is looked at.
        at=tuple(one for one in AT if one in words) or ((CALLS, ANSWERS) if words or form == "tiny" else AT),
        scene=get("FAULTS_SCENE") or "",
        seed=int(get("FAULTS_SEED") or 1),
        place=Path(get("FAULTS_DIR") or (memory if os.access(memory, os.W_OK) else "build/faults")).absolute(),
        jobs=int(get("FAULTS_JOBS") or os.cpu_count() or 1),
        stops=get("FAULTS_STOP") or "",
    )

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found, scene by scene: a run of an hour that is ended keeps it, and another may bring what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks import reliability, report

from . import answers, installs, lies, mutations, scenes
from .calls import Point
from .harness import Tally
from .options import ANSWERS, CALLS, MUTATIONS, Options

# So many lies of different kinds each verb that speaks to S3 has to be told.
_KINDS = 25

_TITLES = {CALLS: "Calls that fail", ANSWERS: "Answers that lie", MUTATIONS: mutations.TITLE}
_SCENES = {CALLS: (*scenes.SCENES, *installs.SCENES), ANSWERS: answers.SCENES}
_HOW = {
    CALLS: (
        "Calls of a command to the system, to SQLite and to S3 meet EIO, ENOSPC, EDQUOT, EACCES, EROFS, a short write, "
        "SIGKILL or SIGTERM, once or for ever; and after any of them the power may fail, so that what was not put onto "
        "the disk is lost. Then the command is given again. A point is one call, found by running the command once "
        "without a fault; a fault is what really happened to one run, power cuts included, and the run that recovers "
        "may meet one more. What never came was drawn, and the call did not come that time, or was one that it cannot "
        "happen to (a full disk, and a file that is emptied). In the full form each fault happens to two runs; where "
        "nothing came at a line, another call from there is tried, and where nothing comes there either, it is said. A "
        "scene has few faults where a line of the product that it has in common with another was tried there. Not seen "
        "are what SQLite itself does, what is asked of the kernel through ctypes (the gate), and what pip does while "
        "it installs."
    ),
    ANSWERS: (
        f"Between the command and a real store one of {len(lies.LIES)} things goes wrong with an answer, or with all "
        "from then on, over plain HTTP or TLS. Then the command is given again, over a good line. A point is one "
        "request."
    ),
}
# What of it happens: to calls, and to answers.
_FORMS = {
    "every": {
        CALLS: "Everything that can go wrong with every call, and once more with another fault in the run that "
        "recovers; of what installs, and of what travels in parts, the first and the last call from each line.",
        ANSWERS: "Every answer, over both.",
    },
    "full": {
        CALLS: "Each line of the product that calls meets everything that can go wrong with it, once for each command, "
        "at a call drawn by a seed and in the simplest scene that comes there, and once more with another fault in the "
        "run that recovers; in every scene some more and some power cuts.",
        ANSWERS: "Of every lie the first answer, the last and one that is drawn.",
    },
    "short": {
        CALLS: "Of each line of the product one call meets one thing that can go wrong with it, once for each command, "
        "drawn by a seed, and in every scene some more and some power cuts; every third is followed by another in the "
        "run that recovers.",
        ANSWERS: "Of every lie one answer.",
    },
    "tiny": {CALLS: "A few.", ANSWERS: "A few."},
}


class Findings:
    """Figures of this run. In a full form also what earlier ones found of other scenes, while the product is the same.

    (In a short one the seed draws in which scene a line of the product is tried: parts of two would miss some.)
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._about = reliability.tried(options.place)
        is_dirty = self._about["commit"].endswith("-dirty")
        self._form = f"{options.form}-dirty" if is_dirty else options.form
        may_add = options.full and not is_dirty
        earlier = reliability.kept("faults", self._form) if may_add else []
        self._found = {figure["title"]: figure for figure in earlier}
        self._tallies = {at: self._of_earlier(at) for at in (CALLS, ANSWERS)}

    def add(self, at: str, tally: Tally) -> None:
        """Put it in the place of what was known of its scene, and keep it."""
        self._tallies[at][tally.scene] = tally
        self._keep(self._figure(at), is_whole=self._has_all(at))

    def add_mutations(self, figure: report.Figure) -> None:
        self._keep(figure, is_whole=True)

    def figures(self) -> list[dict[str, Any]]:
        """All of them, as they are kept."""
        return [self._found[title] for title in _TITLES.values() if title in self._found]

    def violations(self) -> list[str]:
        """What broke, in every figure."""
        said = [one for its in self._tallies.values() for tally in its.values() for one in tally.violations]
        survived = self._found.get(_TITLES[MUTATIONS], {"raw": {"survived": []}})["raw"]["survived"]
        return said + [f"not found out: {name}" for name in survived]

    def _keep(self, figure: report.Figure, *, is_whole: bool) -> None:
        self._found[figure.title] = reliability.stamped(figure, self._about)
        if self._options.stops:
            # One violation was enough: nothing was looked at to its end.
            return
        reliability.keep_part("faults", self._form, self.figures())
        if is_whole and self._options.form != "tiny":
            # Every scene was looked at.
            reliability.publish("faults", self._found[figure.title])

    def _has_all(self, at: str) -> bool:
        return {str(scene) for scene in _SCENES[at]} <= self._tallies[at].keys()

    def _of_earlier(self, at: str) -> dict[str, Tally]:
        figure = self._found.get(_TITLES[at])
        if figure is None or figure["how"] != self._how(at):
            return {}
        return {scene: _tally(raw) for scene, raw in figure["raw"].items()}

    def _how(self, at: str) -> str:
        form = self._options.form
        return f"{_HOW[at]} The {form} form: {_FORMS[form][at]}"

    def _figure(self, at: str) -> report.Figure:
        known = self._tallies[at]
        tallies = [known[name] for name in map(str, _SCENES[at]) if name in known]
        figure = report.Figure(_TITLES[at], self._how(at))
        untried = [len(tally.untried) for tally in tallies]
        for tally, lines in zip((*tallies, _all(tallies)), (*untried, sum(untried)), strict=True):
            figure.add(tally.scene, _words(tally, lines), "0 violations", not tally.violations)
        for verb in dict.fromkeys(tally.verb for tally in tallies) if at == ANSWERS else ():
            kinds = len(set().union(*(tally.kinds for tally in tallies if tally.verb == verb)))
            met = kinds >= _KINDS if self._has_all(at) and self._options.form != "tiny" else None
            figure.add(f"different lies told to {verb}", str(kinds), f"≥ {_KINDS}", met)
        figure.raw = {tally.scene: _raw(tally) for tally in tallies}
        return figure


def _raw(tally: Tally) -> dict[str, Any]:
    untried = [point for point in tally.lost if point[:2] in tally.untried]
    return {**asdict(tally), "kinds": sorted(tally.kinds), "lost": sorted(untried), "came": []}


def _tally(raw: dict[str, Any]) -> Tally:
    lost = {Point(*point) for point in raw["lost"]}
    return Tally(**{**raw, "kinds": set(raw["kinds"]), "lost": lost, "came": set()})


def _all(tallies: Sequence[Tally]) -> Tally:
    total = Tally("all", "", points=sum(tally.points for tally in tallies))
    for tally in tallies:
        total.add(tally)
    return total


def _words(tally: Tally, lines: int) -> str:
    different = f" ({tally.different:,} different)" if tally.different != tally.faults else ""
    more = f" and {tally.seconds_faults:,} more in the run that recovers" if tally.seconds_faults else ""
    missed = f"; {tally.missed:,} never came" if tally.missed else ""
    untried = f", at {lines} lines none" if lines else ""
    found = f"{len(tally.violations)} violations"
    return f"{tally.points:,} points; {tally.faults:,} faults{different}{more}{missed}{untried}; {found}"

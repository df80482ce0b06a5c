# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make faults`, very small: so that it stays alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from development import CHECKOUT

from benchmarks import reliability, report
from faults import answers, calls, child, installs, mutations, promises, scenes
from faults.calls import Point
from faults.child import Ended
from faults.findings import Findings
from faults.harness import Tally, once_more
from faults.kinds import ONCE, Fault
from faults.options import ANSWERS, AT, CALLS, VERBS, Options
from faults.power import NOTHING


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
    assert [path.name.replace("-dirty", "") for path in tmp_path.iterdir()] == ["faults.tiny.part.json"]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """A full run, whose findings are kept apart, of a product of which all is committed."""
    monkeypatch.setattr(reliability, "_RESULTS", tmp_path)
    monkeypatch.setattr(reliability, "tried", lambda _place: {"commit": "c0ffee", "machine": {}})
    monkeypatch.setattr(reliability, "_changed", lambda _commit, *_places: [])
    return Options("full", VERBS, AT, "", 1, tmp_path, 1, "")


def _labels(findings: Findings) -> list[str]:
    return [row["label"] for figure in findings.figures() for row in figure["rows"]]


def test_what_an_earlier_run_found_stays_while_the_product_is_the_same(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = map(str, scenes.SCENES[:2])
    Findings(options).add(CALLS, Tally(second, "backup", points=3, faults=2, violations=["it hung"]))
    later = Findings(options)
    later.add(CALLS, Tally(first, "backup", points=4))
    assert _labels(later) == [first, second, "all"]
    assert [row["met"] for row in later.figures()[0]["rows"]] == [True, False, False]
    assert later.violations() == ["it hung"]
    assert _labels(Findings(replace(options, form="every"))) == []
    monkeypatch.setattr(reliability, "_changed", lambda _commit, *_places: ["plugins/module_utils/engine/prune.py"])
    assert _labels(Findings(options)) == []


def _published() -> list[str]:
    path = reliability._RESULTS / "faults.json"
    return [figure["title"] for figure in json.loads(path.read_text())] if path.exists() else []


def test_only_what_looked_at_every_scene_is_published(options: Options) -> None:
    titles = []
    for at, wanted in ((CALLS, (*scenes.SCENES, *installs.SCENES)), (ANSWERS, answers.SCENES)):
        for scene in wanted:
            assert _published() == titles
            findings = Findings(options)
            findings.add(at, Tally(str(scene), scene.verb, faults=1))
        titles.append(findings.figures()[-1]["title"])
        assert _published() == titles
    Findings(options).add_mutations(report.Figure(mutations.TITLE, "how", raw={"survived": []}))
    assert _published() == [*titles, mutations.TITLE]


@pytest.mark.parametrize(("form", "commit"), [("short", "c0ffee"), ("full", "c0ffee-dirty")])
def test_parts_of_a_short_run_or_of_what_is_not_committed_do_not_add_up(
    options: Options, monkeypatch: pytest.MonkeyPatch, form: str, commit: str
) -> None:
    monkeypatch.setattr(reliability, "tried", lambda _place: {"commit": commit, "machine": {}})
    options = replace(options, form=form)
    Findings(options).add(CALLS, Tally("backup, JSON state", "backup"))
    assert Findings(options).figures() == []


def test_where_one_violation_is_enough_nothing_is_kept(options: Options, tmp_path: Path) -> None:
    findings = Findings(replace(options, stops="hung"))
    findings.add(CALLS, Tally("backup, JSON state", "backup", violations=["it hung"]))
    assert findings.violations() == ["it hung"]
    assert list(tmp_path.iterdir()) == []


def _names_renamed(root: Path) -> Callable[[], int]:
    """What the product could do, from a file of its."""
    code = compile(
        "def change():\n"
        "    with open(f'{root}/new', 'wb') as stream:\n"
        "        stream.write(b'x')\n"
        "        stream.flush()\n"
        "        os.fsync(stream.fileno())\n"
        "    os.rename(f'{root}/new', f'{root}/old')\n"
        "    os.unlink(f'{root}/old')\n"
        "    os.mkdir(f'{root}/dir')\n"
        "    os.rmdir(f'{root}/dir')\n"
        "    return 0\n",
        f"{calls.ENGINE}/of_this_test.py",
        "exec",
    )
    names = {"os": os, "root": str(root)}
    exec(code, names)
    return cast("Callable[[], int]", names["change"])


@pytest.fixture
def disk(tmp_path: Path) -> tuple[Path, Path]:
    root, place = tmp_path / "host", tmp_path
    root.mkdir()
    return root, place


def test_what_the_harness_asks_itself_is_no_point(disk: tuple[Path, Path]) -> None:
    root, place = disk
    ended = child.run(_names_renamed(root), None, place, root)
    assert [point.call for point in ended.points] == [
        *("create", "write", "fsync", "rename", "unlink", "mkdir", "rmdir")
    ]
    assert NOTHING in ended.ways[ended.points[1]]


@pytest.mark.parametrize(("nth", "is_met"), [(0, True), (7, False)])
def test_a_fault_that_never_came_is_told_from_one_that_did(disk: tuple[Path, Path], nth: int, is_met: bool) -> None:
    root, place = disk
    point = child.run(_names_renamed(root), None, place, root).points[3]
    assert child.run(_names_renamed(root), Fault("EIO", ONCE, point._replace(nth=nth)), place, root).met is is_met


def test_where_no_fault_came_another_call_from_there_is_tried() -> None:
    points = [Point("pread", "copying.py:1 copy", nth) for nth in range(3)]
    tally = Tally("a scene", "backup", lost={points[1]})
    assert {fault.point for fault in once_more(Ended(0, "", met=False, points=points), tally)} == {points[0]}
    tally.add(Tally("a scene", "backup", came={points[0][:2]}))
    assert once_more(Ended(0, "", met=False, points=points), tally) == []
    assert tally.untried == set()


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


@pytest.mark.parametrize(
    ("met", "left", "said", "is_told"),
    [
        (True, {"a", "b", "c"}, "DONE: kept 3 copies: nothing is removed: the record cannot be read", True),
        # Part of it is gone all the same, or nothing went wrong.
        (True, {"b", "c"}, "DONE: kept 2 copies: nothing is removed: the record cannot be read", False),
        (False, {"a", "b", "c"}, "DONE: kept 3 copies: nothing is removed: the record cannot be read", False),
        (True, {"b", "c"}, "WARNING: b cannot be read, and stays.", True),
        (True, {"d"}, "WARNING: b cannot be read, and stays.", False),
        (True, {"b", "c"}, "DONE: removed 1 copy", False),
    ],
)
def test_a_prune_that_leaves_more_than_is_wanted_says_why(met: bool, left: set[str], said: str, is_told: bool) -> None:
    assert promises._is_told(Ended(0, said, met=met), {"a", "b", "c"}, {"c"}, left) is is_told

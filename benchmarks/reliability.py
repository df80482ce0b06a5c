# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/reliability.md of what `make faults`, `make fuzz` and `make soak` found last: `make reliability`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from . import machine
from .report import Figure, section, table

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = _ROOT / "docs" / "reliability.md"
_RESULTS = Path(os.environ.get("RELIABILITY_DIR") or _ROOT / "build" / "reliability")
# What found it, and how many figures a page has of it at least.
SOURCES = {"faults": 3, "fuzz": 2, "soak": 1}
_COLLECTION = "collections/ansible_collections/eternia/backup"
_PRODUCT = [f"{_COLLECTION}/{name}" for name in ("plugins", "roles", "playbooks")]
# What breaks, and what judges.
_HARNESS = (
    *("faults", "fuzz", "soak", "requirements", "benchmarks/object_store.py"),
    *(f"{_COLLECTION}/tests/unit/{name}.py" for name in ("builders", "histories", "situations")),
)

_WORDS = """\
# Reliability

What was done to break eternia.backup, how often, and what came of it. `make faults`, `make fuzz` and `make soak` do it
again and print these figures; `make reliability` makes this page of what they found last, where all of it was looked
at. Each ends with an error when it finds anything.

- `make faults` takes 20 minutes, and the package index for what it installs. `FAULTS_SEED=2` draws other faults than 1
  does, which is where it begins; `FAULTS=full` takes an hour and a half, `FAULTS=every` a day. Each scene is kept as it
  is done: `FAULTS=full FAULTS_ONLY="install calls" make faults` adds to what another run of that form found, while
  product and harness are the same. A table below is of one form, and has every scene.
- `make fuzz` takes 10 minutes, and begins elsewhere each time, but where `FUZZ_SEED` says.
- `make soak` takes two hours.
- `.ci/run` runs much smaller forms of the three, before a change lands.

A *violation* is a promise broken: the live source changed by a backup; a file under a final name that is not whole, in
any store (but the record of the last run, which is taken back by writing over its head); a restored target that is
neither wholly old nor wholly new, or what was there lost; the newest verified backup deleted by retention, or the
pinned one, or any while there are fewer than `minimum_kept`, or one that Object Lock holds hidden; a foreign file
touched; an exit code that is not true; an error that does not say what failed and what to do; a secret in what was said
or written; a command that hangs; a next run that does not succeed, or leaves anything that is nobody's.

## The promises, and what tries to break each

Unit tests are in `collections/ansible_collections/eternia/backup/tests/unit`; `make lint` installs `.venv/bin/pytest`.

"""

_PROMISES = (
    (
        "The live source is only read; a source that is missing, empty, locked, corrupt or half-written is an error",
        "`.venv/bin/pytest -k snapshot`, `make faults` (backup), `make soak`",
    ),
    (
        "After a crash at any instant nothing partial lies under a final name; the next run cleans up and succeeds",
        "`make faults`: calls from the lines that backup, prune, restore, drill and install come to, killed and "
        "failed, and again in the run that recovers",
    ),
    (
        "A restore changes the live data by one rename, after everything was checked; what was there is kept (what is "
        "damaged and has a log: see promise 3 in [README.md](../README.md))",
        "`make faults` (restore), `.venv/bin/pytest -k restore`, `make test-hosts`",
    ),
    (
        "Retention never deletes the newest verified backup, anything while fewer than `minimum_kept` verified ones "
        "exist, a pinned, foreign or future one; and nothing at all when the run before it failed, or behind a gap in "
        "which the clock may have jumped ahead",
        "`make fuzz` (retention), `make faults` (prune)",
    ),
    (
        "Exit code 0 and `changed` are true; check mode prints what the run would do, and changes nothing",
        "`make faults` (exit codes), `make fuzz` (the plan is the run), `.venv/bin/pytest tests/test_integration.py` "
        "(`changed`)",
    ),
    (
        "Everything that fails says what failed, where, and what to do next",
        "`make faults`: any error of another kind is a violation",
    ),
)

_NOT_TRIED = """
## What was not tried

- *A real power cut.* It is played: what was not synced is lost, each file's bytes whole, each name by itself. Half of
  what was not synced, or a disk that lies about a sync, is not played.
- *Calls and answers* fail on small databases in memory (`/dev/shm`), with parts of 5 MiB, a clock that stands still and
  no waiting between attempts: no clones on xfs or btrfs, which unit tests cover, and no large files.
- *Other commands than backup, prune, restore, drill and install*: `status`, `list`, `verify`, `download`, `hold` and
  the checks only read, or write one small file. The playbooks, which stop and start the application, are tried by
  `make test-playbooks` and `make test-hosts`.
- *Other stores.* Faults and lies are those of SeaweedFS on this machine. The stores' own tests also run against moto
  and rclone's server; nothing here was run against AWS.
- *In S3:* lies about encrypted or locked backups, faults in restoring from a locked bucket, random histories.
- *In the soak:* S3, compression, encryption, kills, a restore over the live database.
- *Whether prune or drill did all that they should* where the store says that it has less than it has ("404", an empty
  or a stale list): nobody can know then. Under all other lies their exit code is judged.
- *Whether advice is right*: only that an error names a place and something to do.
"""


def keep(source: str, figures: Sequence[Figure], place: Path, *, whole: bool) -> Path:
    """Write what one of SOURCES found, on the disk of `place`, and return where; what is not `whole` is on no page."""
    path = _RESULTS / f"{source}.json" if whole else _part(source)
    about = tried(place)
    _write(path, [stamped(figure, about) for figure in figures])
    return path


def tried(place: Path) -> dict[str, Any]:
    """What is tried from now on, and where: the commit, with "-dirty" where something is other, and the machine."""
    commit = (_git("describe", "--always", "--abbrev=12", "--exclude=*") or "unknown").strip()
    is_other = _git("status", "--porcelain", "--", *_PRODUCT, *_HARNESS) != ""
    return {"commit": f"{commit}{'-dirty' * is_other}", "machine": machine.facts(place)}


def stamped(figure: Figure, about: dict[str, Any]) -> dict[str, Any]:
    """A figure as it is kept, with what tried() said."""
    return {**asdict(figure), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **about}


def kept(source: str, form: str) -> list[dict[str, Any]]:
    """Those figures of a part that were found in the product, and by the harness, that are committed now."""
    path = _part(source, form)
    found = _read(path) if path.exists() else []
    return [figure for figure in found if _changed(figure["commit"], *_PRODUCT, *_HARNESS) == []]


def keep_part(source: str, form: str, figures: list[dict[str, Any]]) -> None:
    """Write figures that may still be added to."""
    _write(_part(source, form), figures)


def publish(source: str, figure: dict[str, Any]) -> None:
    """Put a figure in the place of what was published under its title."""
    path = _RESULTS / f"{source}.json"
    found = {one["title"]: one for one in (_read(path) if path.exists() else [])}
    _write(path, [*{**found, figure["title"]: figure}.values()])


def _read(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def _write(path: Path, figures: list[dict[str, Any]]) -> None:
    _RESULTS.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(figures, indent=2) + "\n")
    new.replace(path)


def _part(source: str, form: str = "") -> Path:
    return _RESULTS / f"{source}.{form + '.' if form else ''}part.json"


def _git(*words: str) -> str | None:
    """What git answers; None where it does not know."""
    try:
        return subprocess.run(["git", "-C", str(_ROOT), *words], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def page(figures: Iterable[dict[str, Any]]) -> str:
    """The page of figures, each with the commit that was tried and the machine."""
    blocks = [_WORDS + "\n".join(table(("promise", "what tries"), _PROMISES))]
    for tried, its in groupby(figures, key=_tried):
        for figure in its:
            blocks += section(figure)
        blocks += ["", tried]
    return "\n".join(blocks) + f"\n{_NOT_TRIED}"


def _tried(figure: dict[str, Any]) -> str:
    names = ("cpu", "cores", "memory", "filesystem", "kernel", "python")
    facts = ", ".join(f"{name} {figure['machine'][name]}" for name in names)
    return f"Of commit {figure['commit']}{_since(figure['commit'])}, on: {facts}."


def _since(commit: str) -> str:
    """How much of the product is other than it was then."""
    changed = _changed(commit, *_PRODUCT)
    if changed is None:
        return ""
    return (
        f" (since when {len(changed)} of the product's files have changed)"
        if changed
        else " (the product is as it was then)"
    )


def _changed(commit: str, *places: str) -> list[str] | None:
    """The files below `places` that are other than they were then; None where nobody knows."""
    changed = _git("diff", "--name-only", commit, "HEAD", "--", *places)
    return None if changed is None else changed.splitlines()


def main() -> None:
    paths = {name: _RESULTS / f"{name}.json" for name in SOURCES}
    found = {name: _read(path) if path.exists() else [] for name, path in paths.items()}
    missing = [name for name, least in SOURCES.items() if len(found[name]) < least]
    if missing:
        sys.exit(
            f"{_RESULTS} lacks figures of {', '.join(missing)}. Run first, and not a part of it alone or a short "
            f"form that .ci/run takes: make {' '.join(missing)}"
        )
    _PAGE.write_text(page(chain.from_iterable(found.values())))


if __name__ == "__main__":
    main()

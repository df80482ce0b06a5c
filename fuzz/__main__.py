# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look for a history or a document that breaks a promise: `make fuzz`. Ends with an error where it finds one.

FUZZ_HISTORIES (100,000) and FUZZ_DISK (5,000) say how many histories, FUZZ_SECONDS (60) how long for each target,
FUZZ_ONLY which of them, FUZZ_SEED where it begins: at another place each time, else.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks import reliability, report
from benchmarks.report import Figure

# Not `targets`, which loads the engine: only their names are needed, and `tests/test_fuzz.py` compares them.
NAMES = (
    *("names", "manifest", "config-yaml", "config-block", "journal", "record", "history", "hold", "claim", "seen"),
    *("locks", "store-check", "staged"),
)
_ROOT = Path(__file__).resolve().parent.parent
_FOLDER = _ROOT / "build" / "fuzz"
# A worker that takes longer, in seconds, goes on for ever.
_PATIENCE = 3600
# How many histories, and where they are lived through.
_COUNTS = {"FUZZ_HISTORIES": ("paper", 100_000), "FUZZ_DISK": ("disk", 5_000)}
_WHERE = {
    "paper": "judged, and lived through run by run",
    "disk": "pruned, with real files (in /dev/shm, where there is one)",
}


class Found:
    """What a worker came to: how much it did, in how many seconds, and what it found, if anything."""

    def __init__(self, did: dict[str, int], seconds: float, finding: str) -> None:
        self.did, self.seconds, self.finding = did, seconds, finding


def main() -> None:
    cores, seed = len(os.sched_getaffinity(0)), int(os.environ.get("FUZZ_SEED") or random.randrange(1, 1 << 30))
    only = os.environ.get("FUZZ_ONLY", "").split() or ["histories", *NAMES]
    unknown = set(only) - {"histories", *NAMES}
    if unknown:
        sys.exit(f"FUZZ_ONLY names {', '.join(sorted(unknown))}; it must be some of: histories {' '.join(NAMES)}")
    shutil.rmtree(_FOLDER, ignore_errors=True)
    with ThreadPoolExecutor(cores) as pool:
        figures = list(_figures(only, cores, seed, pool))
    findings = [row for figure in figures for row in figure.rows if row.met is False]
    whole = not any(os.environ.get(name) for name in ("FUZZ_ONLY", "FUZZ_SECONDS", *_COUNTS))
    print(f"\nWritten to {reliability.keep('fuzz', figures, _ROOT, whole=whole)}")
    if findings:
        sys.exit(f"Found: {', '.join(row.label for row in findings)}. What exactly stands above and in {_FOLDER}.")


def _figures(only: list[str], cores: int, seed: int, pool: ThreadPoolExecutor) -> Iterator[Figure]:
    if "histories" in only:
        yield _shown(_histories(cores, seed, pool))
    if wanted := [name for name in NAMES if name in only]:
        yield _shown(_targets(wanted, seed, pool))


def _shown(figure: Figure) -> Figure:
    print(report.text({**asdict(figure), "at": ""}), flush=True)
    return figure


def _histories(cores: int, seed: int, pool: ThreadPoolExecutor) -> Figure:
    figure = Figure(
        "Random histories of retention",
        "hypothesis: gaps, nights when clocks change, leap days, one second twice, the future and ancient times, "
        "clocks that jump, legacy and foreign names, failed runs, holds, pins, drills. Keep and remove are all; "
        "promise 4 holds, and nothing goes behind a jump of the clock that makes half of what is kept old; what stayed "
        "stays; the order of a listing does not matter. With real files, check mode is the run, a second run removes "
        "nothing, and nothing at all goes behind a failed run or under a hold. Each worker draws by itself: of those "
        "that differ within one, another may have drawn some, too.",
    )
    figure.raw["seed"] = seed
    for variable, (where, count) in _COUNTS.items():
        count = int(os.environ.get(variable) or count)
        work = partial(_history_worker, where, -(-count // cores))
        found = list(pool.map(work, (seed + 1000 * worker for worker in range(cores))))
        did = {key: sum(one.did.get(key, 0) for one in found) for key in ("histories", "runs", "different")}
        if did["histories"] < count:
            found.append(Found({}, 0.0, f"only {did['histories']:,} histories of {count:,} were lived through"))
        _add(figure, f"histories {_WHERE[where]}", did, "histories", found)
    return figure


def _history_worker(where: str, count: int, seed: int) -> Found:
    def did(out: str, _err: str) -> dict[str, int]:
        return json.loads(out) if out.strip() else {}

    return _run(["fuzz.histories", where, str(count), str(seed)], did)


def _targets(wanted: list[str], seed: int, pool: ThreadPoolExecutor) -> Figure:
    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    figure = Figure(
        "Fuzzed documents",
        f"{_how()}, {seconds} s each, from what the engine writes itself. Whatever is read is refused with the "
        "engine's own error and a message that fits a terminal, or is right: nothing else is raised, nothing goes on "
        "for ever.",
    )
    figure.raw["seed"] = seed

    def fuzzed(name: str) -> Found:
        return _run(["fuzz.worker", name, str(seconds), str(_FOLDER / name), str(seed)], _executions)

    found = pool.map(fuzzed, wanted)
    for name, one in zip(wanted, found):
        _add(figure, name, one.did, "executions", [one])
    return figure


def _how() -> str:
    done = subprocess.run([sys.executable, "-c", "import atheris"], capture_output=True, check=False)
    return "atheris, by coverage" if done.returncode == 0 else "bent at random (atheris has no wheel for this Python)"


def _executions(_out: str, err: str) -> dict[str, int]:
    match = re.search(r"stat::number_of_executed_units: (\d+)", err)
    return {"executions": int(match[1]) if match else 0}


def _run(arguments: list[str], did: Callable[[str, str], dict[str, int]]) -> Found:
    began = time.monotonic()
    command = [sys.executable, "-m", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired as exc:
        return Found({}, time.monotonic() - began, f"{' '.join(arguments)} had not ended after {_PATIENCE} s: {exc}")
    finding = f"{done.stdout}{done.stderr}"[-6000:] if done.returncode else ""
    return Found(did(done.stdout, done.stderr), time.monotonic() - began, finding)


def _add(figure: Figure, label: str, did: dict[str, int], what: str, found: list[Found]) -> None:
    findings = [one.finding for one in found if one.finding]
    done = ", ".join(f"{count:,} {key}" for key, count in did.items())
    figure.add(f"{label}", f"{done}; {len(findings)} findings", "0 findings", met=not findings and bool(did.get(what)))
    figure.raw[label] = {**did, "seconds": round(max(one.seconds for one in found), 1), "findings": len(findings)}
    for finding in findings:
        print(finding, file=sys.stderr)


if __name__ == "__main__":
    main()

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the figures of the project: `make bench`. See docs/benchmarks.md for what each of them means."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import (
    growth,
    hold,
    listing,
    machine,
    memory,
    object_store,
    peers,
    playbook,
    plot,
    report,
    restore,
    retention,
    scale,
    speed,
    startup,
    waits,
)
from .options import Options, from_environment
from .report import Figure
from .scene import NoRoomError, Scene

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write-docs", action="store_true", help="make docs/benchmarks.md and its picture of the last results instead"
    )
    parser.add_argument("--only", nargs="+", choices=_GROUPS, help="measure these anew, and keep the other results")
    args = parser.parse_args()
    options = from_environment()
    results = options.place / "results.json"
    if args.write_docs:
        _PAGE.parent.mkdir(exist_ok=True)
        measured = json.loads(results.read_text())
        _PAGE.write_text(report.page(measured))
        if picture := plot.svg(measured):
            _PAGE.with_name(report.PICTURE).write_text(picture)
        return
    # So that the large files go, whatever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with suppress(object_store.NoStoreError):
        # Whoever needs it says so; here it is for the facts, which name its version.
        object_store.binary("s5cmd")
    with _folder(options.place / "scene") as folder:
        facts = machine.facts(options.place)
        print(report.machine_text(facts), flush=True)
        found = {
            "at": _now(),
            "options": {"MiB": options.mib, "large MiB": options.large_mib, "runs": options.runs},
            "machine": facts,
        }
        figures: dict[str, dict[str, Any]] = {}
        if args.only and results.exists():
            # The page is of one machine and one size, whenever its figures were measured.
            figures = {one["title"]: one for one in json.loads(results.read_text())["figures"]}
        for group in args.only or _GROUPS:
            for figure in _GROUPS[group](folder / group, options):
                figures[figure.title] = {**asdict(figure), "at": _now()}
                print(report.text(figures[figure.title]), flush=True)
                # One by one, so that whoever stops a run of hours keeps what it has measured.
                words = json.dumps({**found, "figures": [*figures.values()]}, indent=2, ensure_ascii=False)
                results.write_text(words + "\n")
    if not options.full:
        print("\nTargets of time and memory are not judged: they are about the default sizes and at least 3 runs.")
    print(f"\nWritten to {results}")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _backup(folder: Path, options: Options) -> Iterator[Figure]:
    """How long it takes, whom it keeps waiting, and its memory, also at the large size."""
    scene = Scene(folder / "small", options.mib)
    figure, ours = speed.measure(scene, options)
    yield figure
    yield waits.measure_wal(scene, options)
    yield waits.measure_rollback(scene, options)
    shutil.rmtree(folder / "small")
    yield memory.measure(ours, folder / "large", options)
    shutil.rmtree(folder / "large", ignore_errors=True)


_GROUPS: dict[str, Callable[[Path, Options], Iterable[Figure]]] = {
    "listing": lambda _folder, options: [listing.measure(options)],
    "retention": lambda _folder, options: [retention.measure(options)],
    "startup": lambda folder, options: [startup.measure(folder, options)],
    "scale": lambda folder, options: [scale.measure(folder, options)],
    "playbook": lambda folder, options: [playbook.measure(folder, options)],
    "backup": _backup,
    "restore": restore.measure,
    "peers-disk": peers.measure_disk,
    "peers-s3": peers.measure_s3,
    "hold": lambda folder, options: [hold.measure(folder, options)],
    "growth": lambda folder, options: [growth.measure(folder, options)],
}


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except NoRoomError as exc:
        sys.exit(f"{exc}. Choose another place with BENCH_DIR, or a smaller BENCH_MIB.")

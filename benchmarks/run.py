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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from . import listing, machine, memory, playbook, report, restore, retention, scale, speed, startup, waits
from .options import Options, from_environment
from .report import Figure
from .scene import NoRoomError, Scene

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write-docs", action="store_true", help="make docs/benchmarks.md of the last results instead")
    write_docs = parser.parse_args().write_docs
    options = from_environment()
    results = options.place / "results.json"
    if write_docs:
        _PAGE.parent.mkdir(exist_ok=True)
        _PAGE.write_text(report.page(json.loads(results.read_text())))
        return
    # So that the large files go, whatever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with _folder(options.place / "scene") as folder:
        facts = machine.facts(options.place)
        print(report.machine_text(facts), flush=True)
        figures = []
        for figure in _figures(folder, options):
            figures.append(asdict(figure))
            print(report.text(figures[-1]), flush=True)
    found = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "options": {"MiB": options.mib, "large MiB": options.large_mib, "runs": options.runs},
        "machine": facts,
        "figures": figures,
    }
    results.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if not options.full:
        print("\nTargets of time and memory are not judged: they are about the default sizes and at least 3 runs.")
    print(f"\nWritten to {results}")


def _figures(folder: Path, options: Options) -> Iterator[Figure]:
    yield listing.measure(options)
    yield retention.measure(options)
    yield startup.measure(folder / "startup", options)
    yield scale.measure(folder / "fleet", options)
    yield playbook.measure(folder / "playbook", options)
    scene = Scene(folder / "small", options.mib)
    figure, ours = speed.measure(scene, options)
    yield figure
    yield waits.measure_wal(scene, options)
    yield waits.measure_rollback(scene, options)
    shutil.rmtree(folder / "small")
    yield memory.measure(ours, folder / "large", options)
    shutil.rmtree(folder / "large", ignore_errors=True)
    yield from restore.measure(folder / "restore", options)


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

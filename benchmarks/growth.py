# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the time of a verified backup grows with the database."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median

from .options import Options
from .peers import DISK, FIRST, MOST_MEMORY, Step, in_words, on_disk, raw
from .processes import Usage, python, run
from .report import Figure
from .rivals import Cp, MissingError, Ours, Restic, Rival
from .scene import NoRoomError, need_room, settle

_RIVALS: tuple[type[Rival], ...] = (Ours, Cp, Restic)
# What a backup took, and the bytes that are kept of it.
_First = tuple[Usage, int]
_LABEL = "time at {0:,} MiB ÷ at {1:,} MiB"


def measure(folder: Path, options: Options) -> Figure:
    """Verified backups to the disk at the huge size, where it is asked for and there is room, and rivals beside."""
    figure = Figure(
        "A verified backup to the disk as it grows",
        "The median of each at the large size ÷ that at the usual one: 10 times as large may take "
        "11 times as long. Where the source and its copy do not fit into memory together, all of them wait for the "
        "disk: then the time of the processor grows less than that on the clock, and what was just read or written is "
        "read again, from the disk.",
    )
    if options.huge_mib is None:
        figure.add("time ÷ time", "not measured: BENCH_HUGE_MIB names no size, such as 20480")
        return figure
    label = _LABEL.format(options.huge_mib, options.mib)
    folder.mkdir(parents=True)
    try:
        need_room(folder, 2 * options.huge_mib)
    except NoRoomError as exc:
        figure.add(label, f"not measured: {exc}")
        return figure
    missing: dict[str, str] = {}
    usual = _taken(folder, options.mib, options.runs, missing)
    huge = _taken(folder, options.huge_mib, options.runs, missing)
    for name, reason in missing.items():
        figure.add(name, reason)
    times = 1.1 * options.huge_mib / options.mib
    for name, taken in huge.items():
        growth = _median(taken, "seconds") / _median(usual[name], "seconds")
        target = (f"≤ {times:.1f}", options.judge(growth <= times)) if name == Ours.name else ()
        figure.add(f"{name}: {label}", f"{growth:.1f}", *target)
        figure.add("— of the processor alone", f"{_median(taken, 'processor') / _median(usual[name], 'processor'):.1f}")
        figure.add("— read from the disk, small and large", ", ".join(map(_fetched, (usual[name], taken))))
        figure.add(f"{name} at {options.huge_mib:,} MiB", in_words(_steps(taken), FIRST, away=False))
    peak = max(usage.peak for usage, _kept in huge[Ours.name]) / 2**20
    met = options.judge(peak <= MOST_MEMORY)
    figure.add(f"peak memory at {options.huge_mib:,} MiB", f"{peak:,.0f} MiB", f"≤ {MOST_MEMORY} MiB", met)
    figure.raw = raw(DISK, options.huge_mib, {name: {FIRST: _steps(taken)} for name, taken in huge.items()})
    figure.raw["processor_seconds_and_bytes_from_disk"] = {
        name: [[(usage.processor, usage.fetched) for usage, _kept in some] for some in (usual[name], taken)]
        for name, taken in huge.items()
    }
    return figure


def _median(taken: list[_First], what: str) -> float:
    return median(getattr(usage, what) for usage, _kept in taken)


def _fetched(taken: list[_First]) -> str:
    return f"{_median(taken, 'fetched') / 2**20:,.0f} MiB"


def _steps(taken: list[_First]) -> list[Step]:
    return [Step(usage.seconds, usage.peak, 0, 0, kept, {}) for usage, kept in taken]


def _taken(folder: Path, mib: int, runs: int, missing: dict[str, str]) -> dict[str, list[_First]]:
    """By the name of who took part: first backups of one database, in turns."""
    database = folder / "eternia.db"
    run(python("make_database", database, mib))
    taken: dict[str, list[_First]] = {}
    for _round in range(runs):
        for rival in _RIVALS:
            place = folder / "one"
            place.mkdir()
            try:
                contender = rival(place, database)
                settle(database)
                usage = contender.back_up()
                taken.setdefault(rival.name, []).append((usage, on_disk(contender.kept)))
            except MissingError as exc:
                missing[rival.name] = str(exc)
            finally:
                shutil.rmtree(place)
    database.unlink()
    return taken

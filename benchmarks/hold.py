# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the source is held where the filesystem has clones."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .options import Options
from .peers import told
from .processes import Ratio, python, run, spread
from .report import Figure
from .scene import NoRoomError, need_room, settle

_LABEL = "time held ÷ `cp` + fsync"


class _NoMountError(Exception):
    """There can be no such filesystem here; why."""


def measure(folder: Path, options: Options) -> Figure:
    """On a filesystem that has clones, for which root mounts a file."""
    figure = Figure(
        f"How long the source is held on xfs, {options.mib:,} MiB",
        "In a file that is mounted, with reflinks: the engine clones the file and lets go, and counts rows later. "
        "Beside it `cp --reflink=never` + fsync, and `cp --reflink=always` + fsync, there too. First a database that "
        "lies in one piece, then, with every backup kept, after 0.1 % of its rows changed at random before each: what "
        "is written after a clone lies elsewhere, and a clone takes time for each piece.",
    )
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        figure.add(_LABEL, "not measured: needs root and mkfs.xfs: apt-get install xfsprogs")
        return figure
    folder.mkdir(parents=True)
    try:
        need_room(folder, 4 * options.mib)
        with _xfs(folder, 4 * options.mib + 400) as place:
            database = place / "eternia.db"
            run(python("make_database", database, options.mib))
            figure.raw = {"fresh": _rounds(figure, "", database, options, changes=False)}
            figure.raw["in pieces"] = _rounds(figure, ", in pieces", database, options, changes=True)
    except (NoRoomError, _NoMountError) as exc:
        figure.add(_LABEL, f"not measured: {exc}")
    return figure


@contextlib.contextmanager
def _xfs(folder: Path, mib: int) -> Iterator[Path]:
    image, place = folder / "image", folder / "mounted"
    place.mkdir()
    run(["truncate", "-s", f"{mib}M", str(image)])
    run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)])
    try:
        run(["mount", "-o", "loop", str(image), str(place)])
    except RuntimeError as exc:
        # A container may not mount.
        raise _NoMountError(str(exc).splitlines()[-1]) from exc
    try:
        yield place
    finally:
        run(["umount", str(place)])
        shutil.rmtree(folder)


def _rounds(figure: Figure, which: str, database: Path, options: Options, *, changes: bool) -> dict[str, list[float]]:
    backups, copy = database.with_name("backups"), database.with_name("copy.db")
    seconds: dict[str, list[float]] = {"held": [], "ours": [], "never": [], "always": []}
    for number in range(options.runs):
        if changes:
            run(python("change_rows", database, number, "random"))
        settle(database)
        usage = run(python("backup", database, backups))
        seconds["held"].append(told(usage)["pinned_seconds"])
        seconds["ours"].append(usage.seconds)
        if not changes:
            shutil.rmtree(backups)
        for reflink in ("never", "always"):
            settle(database)
            copying = run(["sh", "-c", f"cp --reflink={reflink} {database} {copy} && sync {copy}"])
            seconds[reflink].append(copying.seconds)
            copy.unlink()
    ratio = Ratio.of(seconds["held"], seconds["never"])
    # Two digits of a hundredth.
    shown = f"{ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f})"
    figure.add(f"{_LABEL}{which}", shown, "≤ 0.02", options.judge(ratio.value <= 0.02))
    figure.add(f"time held{which}", spread([one * 1000 for one in seconds["held"]], "ms", 1))
    figure.add(f"`cp --reflink=always` + fsync{which}", spread([one * 1000 for one in seconds["always"]], "ms", 1))
    figure.add(f"`cp --reflink=never` + fsync{which}", spread(seconds["never"], "s", 2))
    figure.add(f"the whole verified backup ÷ it{which}", str(Ratio.of(seconds["ours"], seconds["never"])))
    return seconds

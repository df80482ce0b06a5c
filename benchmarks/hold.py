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


def measure(folder: Path, options: Options) -> Figure:
    """On a filesystem that has clones, for which root mounts a file."""
    figure = Figure(
        f"How long the source is held on xfs, {options.mib:,} MiB",
        "In a file that is mounted, with reflinks: the engine clones the file and lets go, and counts rows later. "
        "Beside it `cp --reflink=never` + fsync, and `cp --reflink=always` + fsync, there too.",
    )
    label = "time held ÷ `cp` + fsync"
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        figure.add(label, "not measured: needs root and mkfs.xfs: apt-get install xfsprogs")
        return figure
    folder.mkdir(parents=True)
    try:
        need_room(folder, 4 * options.mib)
        with _xfs(folder, 4 * options.mib + 400) as place:
            _hold(figure, label, place, options)
    except (NoRoomError, RuntimeError) as exc:
        # A container may not mount.
        figure.add(label, f"not measured: {str(exc).splitlines()[-1]}")
    return figure


@contextlib.contextmanager
def _xfs(folder: Path, mib: int) -> Iterator[Path]:
    image, place = folder / "image", folder / "mounted"
    place.mkdir()
    run(["truncate", "-s", f"{mib}M", str(image)])
    run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)])
    run(["mount", "-o", "loop", str(image), str(place)])
    try:
        yield place
    finally:
        run(["umount", str(place)])
        shutil.rmtree(folder)


def _hold(figure: Figure, label: str, place: Path, options: Options) -> None:
    database, copy = place / "eternia.db", place / "copy.db"
    run(python("make_database", database, options.mib))
    seconds: dict[str, list[float]] = {"held": [], "ours": [], "never": [], "always": []}
    for _round in range(options.runs):
        settle(database)
        usage = run(python("backup", database, place / "backups"))
        seconds["held"].append(told(usage)["pinned_seconds"])
        seconds["ours"].append(usage.seconds)
        shutil.rmtree(place / "backups")
        for reflink in ("never", "always"):
            settle(database)
            copying = run(["sh", "-c", f"cp --reflink={reflink} {database} {copy} && sync {copy}"])
            seconds[reflink].append(copying.seconds)
            copy.unlink()
    ratio = Ratio.of(seconds["held"], seconds["never"])
    # Two digits of a hundredth.
    shown = f"{ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f})"
    figure.add(label, shown, "≤ 0.02", options.judge(ratio.value <= 0.02))
    figure.add("time held", spread([one * 1000 for one in seconds["held"]], "ms", 1))
    figure.add("`cp --reflink=always` + fsync", spread([one * 1000 for one in seconds["always"]], "ms", 1))
    figure.add("`cp --reflink=never` + fsync", spread(seconds["never"], "s", 2))
    figure.add("the whole verified backup ÷ it", str(Ratio.of(seconds["ours"], seconds["never"])))
    figure.raw = {"seconds": seconds}

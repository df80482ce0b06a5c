# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a backup needs, and that it does not grow with the database."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from .options import Options
from .processes import Usage, spread
from .report import Figure
from .scene import NoRoomError, Scene

MOST = 150


def measure(small: list[Usage], folder: Path, options: Options) -> Figure:
    """`small` are the runs at `options.mib`; the large ones are made here."""
    figure = Figure(
        "Peak memory of a backup",
        "The largest resident set of the whole process, the Python interpreter included, as the kernel reports it.",
    )
    peaks = [usage.peak / 2**20 for usage in small]
    figure.add(f"{options.mib:,} MiB", spread(peaks, "MiB"), f"< {MOST} MiB", options.judge(max(peaks) < MOST))
    figure.raw = {"small": peaks}
    try:
        scene = Scene(folder, options.large_mib)
    except NoRoomError as exc:
        figure.add(f"{options.large_mib:,} MiB", f"not measured: {exc}")
        return figure
    usages = [scene.ours() for _ in range(options.runs)]
    large = [usage.peak / 2**20 for usage in usages]
    growth = median(large) / median(peaks)
    figure.add(f"{options.large_mib:,} MiB", spread(large, "MiB"))
    figure.add(
        f"{options.large_mib:,} MiB ÷ {options.mib:,} MiB",
        f"{growth:.2f}",
        "0.90 to 1.10",
        options.judge(0.9 <= growth <= 1.1),
    )
    figure.add(f"time at {options.large_mib:,} MiB", spread([usage.seconds for usage in usages], "s"))
    figure.raw["large"] = large
    return figure

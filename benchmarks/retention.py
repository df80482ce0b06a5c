# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to judge very many backups."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from .options import Options
from .processes import Ratio, python, run, spread
from .report import Figure

_MOST_GROWTH = 1.25


def measure(options: Options) -> Figure:
    """A quarter, a half, and the whole of a million names."""
    most = 1_000_000 if options.full else 100_000
    counts = (most // 4, most // 2, most)
    figure = Figure(
        f"Retention over {most:,} names",
        "`names.parse` of every name against `apply_policy` with all rules over as many copies, one every ten minutes, "
        "in one process for each number.",
    )
    found: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    for _ in range(options.runs):
        for count in counts:
            usage = run(python("judge_names", count))
            found[count].append({**json.loads(usage.output), "peak_mib": usage.peak / 2**20})
    for count in counts:
        ratio = Ratio.of([one["judging"] for one in found[count]], [one["parsing"] for one in found[count]])
        last = count == most
        figure.add(
            f"judging ÷ parsing, {count:,} names",
            str(ratio),
            "≤ 3" * last,
            options.judge(ratio.value <= 3) if last else None,
        )
    each = {count: median(one["judging"] for one in found[count]) / count for count in counts}
    growth = each[most] / each[counts[0]]
    figure.add(
        f"time for one name of {most:,} ÷ of {counts[0]:,}",
        f"{growth:.2f}",
        f"≤ {_MOST_GROWTH}",
        options.judge(growth <= _MOST_GROWTH),
    )
    for count in counts:
        figure.add(f"judging {count:,} names", spread([one["judging"] for one in found[count]], "s", 2))
    figure.add(f"peak memory, {most:,} names", spread([one["peak_mib"] for one in found[most]], "MiB", 0))
    figure.raw = {str(count): its for count, its in found.items()}
    return figure

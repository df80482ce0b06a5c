# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How times grow with the database, as a picture: docs/benchmarks.svg, made of the results alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

# What is drawn: the place, the step, and what people call it.
_PANELS = (
    ("the disk", "first", "first backup to the disk"),
    ("S3", "first", "first backup to S3"),
    ("S3", "1 % in a range", "second backup to S3, 1 % of the rows changed"),
    ("S3", "restore", "restore from S3"),
)
_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 120, 32, 36
# Told apart also by those who see fewer colours: https://jfly.uni-koeln.de/color/
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#999999", "#8c6d1f", "#5b5b5b")
_OURS = "#d55e00"

# The points of one line: MiB and seconds.
Line = list[tuple[float, float]]


def svg(results: Mapping[str, Any]) -> str:
    """The picture; empty where nothing was compared side by side."""
    panels = [(title, lines) for where, step, title in _PANELS if (lines := _lines(results, where, step))]
    if not panels:
        return ""
    # In the order of the panels, so that everybody has one colour in all of them.
    others = dict.fromkeys(name for _, lines in panels for name in lines if not _is_ours(name))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(others)}
    rows = -(-len(panels) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _WIDTH} {rows * _HEIGHT}"'
        ' font-family="sans-serif" font-size="11">',
        "<!-- Copyright (c) 2026 The Eternia maintainers, GNU General Public License v3.0 or later",
        "SPDX-License-Identifier: GPL-3.0-or-later -->",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for place, (title, lines) in enumerate(panels):
        corner = f"{place % 2 * _WIDTH} {place // 2 * _HEIGHT}"
        parts += [f'<g transform="translate({corner})">', *_panel(title, lines, colours), "</g>"]
    return "\n".join((*parts, "</svg>")) + "\n"


def _lines(results: Mapping[str, Any], where: str, step: str) -> dict[str, Line]:
    """By contender: the medians of all sizes, the smallest size first."""
    found: dict[str, Line] = {}
    for raw in (figure["raw"] for figure in results["figures"]):
        if raw.get("where") != where:
            continue
        for name, steps in raw.get("taken", {}).items():
            if step in steps:
                found.setdefault(name, []).append((raw["mib"], median(one["seconds"] for one in steps[step])))
    return {name: sorted(line) for name, line in found.items()}


def _panel(title: str, lines: dict[str, Line], colours: Mapping[str, str]) -> list[str]:
    sizes = sorted({mib for line in lines.values() for mib, _ in line})
    times = [seconds for line in lines.values() for _, seconds in line]
    low, high = 10 ** math.floor(math.log10(min(times))), 10 ** math.ceil(math.log10(max(times) * 1.01))

    def x(mib: float) -> float:
        span = math.log(sizes[-1] / sizes[0]) or 1
        return _LEFT + math.log(mib / sizes[0]) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(seconds: float) -> float:
        share = math.log(seconds / low) / math.log(high / low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="{_LEFT}" y="18" font-size="13" font-weight="bold">{escape(title)}</text>']
    tick = low
    while tick <= high * 1.01:
        parts.append(f'<path d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g} s</text>')
        tick *= 10
    for mib in sizes:
        parts.append(f'<path d="M{x(mib):.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(mib):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_size(mib)}</text>')
    labels: dict[float, list[tuple[float, str, str]]] = {}
    for name, line in lines.items():
        colour, width = (_OURS, 2.5) if _is_ours(name) else (colours[name], 1.5)
        dashes = ' stroke-dasharray="5 3"' if _is_ours(name) and name != "ours" else ""
        points = " ".join(f"{x(mib):.1f},{y(seconds):.1f}" for mib, seconds in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')
        parts += [f'<circle cx="{x(mib):.1f}" cy="{y(took):.1f}" r="{width}" fill="{colour}"/>' for mib, took in line]
        last, seconds = line[-1]
        labels.setdefault(x(last), []).append((y(seconds), name.replace("`", ""), colour))
    return [*parts, *(text for end, at_it in labels.items() for text in _labels(end, at_it))]


def _labels(end: float, labels: list[tuple[float, str, str]]) -> list[str]:
    """Of the lines that end there: each beside its own, or below the one before where there is no room."""
    parts, free = [], float(_TOP)
    for wanted, name, colour in sorted(labels):
        free = max(free, wanted)
        shown = name if len(name) <= 20 else f"{name[:19]}…"
        parts.append(f'<text x="{end + 8:.1f}" y="{free + 4:.1f}" fill="{colour}">{escape(shown)}</text>')
        free += 12
    return parts


def _is_ours(name: str) -> bool:
    return name.startswith("ours")


def _size(mib: float) -> str:
    return f"{mib / 1024:g} GiB" if mib >= 1024 else f"{mib:g} MiB"

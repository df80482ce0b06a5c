# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's `status` and pruning cost when very many hosts share one bucket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from typing import Any

from .canned_store import PAGE, Body, serving
from .options import Options
from .processes import Usage, python, run, spread
from .report import Figure

NOW = datetime(2027, 1, 1, tzinfo=timezone.utc)
_HOSTS, _HOURS = 200, 90 * 24
_OWN = "production/host-100"
# A page each for what is left over, and one request for who the prefix belongs to.
_PAGES = -(-2 * _HOURS // PAGE)
_MOST_GROWTH = 1.05
_DELAY = 0.02
# For the newest backup: its manifest twice, a look at the object, its bytes; the manifests of those that always stay.
_OF_PRUNING = 8


def measure(folder: Path, options: Options) -> Figure:
    """One of 200 hosts, and the same host alone in the bucket."""
    figure = Figure(
        f"{_HOSTS} hosts in one bucket, {_HOURS // 24} days of hours",
        f"{_HOSTS * _HOURS:,} backups, each with its manifest: {2 * _HOSTS * _HOURS:,} keys, of which {2 * _HOURS:,} "
        f"are those of one host, which has the same {_HOURS:,} backups on its disk. That host asks: first with the "
        "others beside it (`production/host-…`), then with the others below its own prefix (`production`), then alone. "
        f"The server is the canned one of the listing, and answers {_DELAY * 1000:.0f} ms late, as from far away.",
    )
    folder.mkdir(parents=True)
    size = int(run(python("make_fleet", folder, _HOURS)).output)
    others = tuple(f"production/host-{number:03}" for number in range(_HOSTS))
    # By their names these are as near to the host's own backups as can be.
    below = (*(one.replace("host-", "eternia_") for one in others[1:]), "production")
    for verb, words, most in (
        # Its claim, the newest manifest, and whether the bucket keeps versions.
        ("status", "status", 3 + _PAGES),
        ("prune", "plan of pruning", 1 + _PAGES + _OF_PRUNING),
        ("manifests", "status that reads every manifest", 2 + _PAGES + _HOURS),
    ):
        peaks: dict[str, list[float]] = {"many": [], "alone": []}
        seconds: dict[str, list[float]] = {"s3": [], "disk": []}
        counts = []
        for _ in range(options.runs):
            for hosts, own in ((others, _OWN), (below, "production"), ((_OWN,), _OWN)):
                with serving(_Keys(hosts), _bodies(folder / "backups", own), size=size, delay=_DELAY) as (
                    endpoint,
                    counted,
                ):
                    usage, took = _look(folder, verb, 2 * _HOURS, endpoint, own)
                counts.append(len(counted))
                peaks["alone" if len(hosts) == 1 else "many"].append(usage.peak / 2**20)
                seconds["s3"].append(took)
            seconds["disk"].append(_look(folder, verb, _HOURS)[1])
        growth = median(peaks["many"]) / median(peaks["alone"])
        # Counts and memory are the same on every machine, so every run may judge them.
        figure.add(f"requests of a {words}", str(max(counts)), f"≤ {most}", max(counts) <= most)
        figure.add(f"— peak memory, {_HOSTS} hosts", spread(peaks["many"], "MiB", 0))
        figure.add("— that ÷ alone", f"{growth:.2f}", f"≤ {_MOST_GROWTH}", growth <= _MOST_GROWTH)
        figure.add("— time, with the canned server", spread(seconds["s3"], "s", 2))
        figure.add("— time, on the disk alone", spread(seconds["disk"], "s", 2))
        figure.raw[verb] = {"requests": counts, "peaks": peaks, "seconds": seconds}
    return figure


def _look(folder: Path, verb: str, copies: int, *away: str) -> tuple[Usage, float]:
    usage = run(python("look_at_fleet", folder, verb, *away))
    found = json.loads(usage.output)
    wanted = {"listed": copies, "troubles": []}
    if {key: found[key] for key in wanted} != wanted or (found["removed"] == 0) is (verb == "prune"):
        raise RuntimeError(f"{verb} of {copies} copies found {usage.output}")
    return usage, found["seconds"]


class _Keys(Sequence[str]):
    """The keys of a bucket, made as they are asked for; each host has the same names. Sorted, if the prefixes are."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._prefixes = prefixes
        names = [f"eternia_backup_{NOW - timedelta(hours=hours):%Y%m%d_%H%M%S}.db" for hours in range(_HOURS)]
        self._names = sorted(f"{name}{suffix}" for name in names for suffix in ("", ".manifest.json"))

    def __len__(self) -> int:
        return len(self._prefixes) * len(self._names)

    def __getitem__(self, index: Any) -> Any:
        host, name = divmod(index, len(self._names))
        return f"{self._prefixes[host]}/{self._names[name]}"


def _bodies(backups: Path, prefix: str) -> Body:
    """What the objects under a prefix hold: the same as the host's files."""

    def body(key: str) -> bytes:
        folder, _slash, name = key.rpartition("/")
        path = backups / name
        if folder != prefix or not path.is_file():
            raise KeyError(key)
        return path.read_bytes()

    return body

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to list very many objects. The store is canned: it answers ListObjectsV2 from memory, and counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from .canned_store import PAGE, serving
from .options import Options
from .processes import python, run, spread
from .report import Figure

_FIRST = datetime(2020, 1, 1, tzinfo=timezone.utc)


def measure(options: Options) -> Figure:
    """Count the requests of one listing."""
    objects = 100_000 if options.full else 10_000
    pages = objects // PAGE
    figure = Figure(
        f"Listing {objects:,} objects in S3",
        f"{objects // 2:,} backups, each with its manifest, listed by the S3 store as pruning does. The server is a "
        "canned one on loopback that only knows ListObjectsV2: putting that many objects into a real store takes too "
        "long here. What is counted are its requests; its speed says nothing about S3.",
    )
    usages, requests = [], []
    for _ in range(options.runs):
        with serving(_Keys(objects)) as (endpoint, counted):
            usage = run(python("list_store", endpoint))
        if int(usage.output) != objects // 2:
            raise RuntimeError(f"{usage.output.strip()} backups were listed, there are {objects // 2}.")
        usages.append(usage)
        requests.append(len(counted))
    # A count is the same at every size of the database, so every run may judge it.
    figure.add("requests", str(max(requests)), f"≤ {pages}", max(requests) <= pages)
    figure.add("peak memory", spread([usage.peak / 2**20 for usage in usages], "MiB", 0))
    figure.add("time, with the canned server", spread([usage.seconds for usage in usages], "s"))
    figure.raw = {"requests": requests, "peak": [usage.peak for usage in usages]}
    return figure


class _Keys(Sequence[str]):
    """Backups of one host, one an hour, each with its manifest: made as they are asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        name = f"eternia_backup_{_FIRST + timedelta(hours=index // 2):%Y%m%d_%H%M%S}.db"
        return f"production/{name}{'.manifest.json' * (index % 2)}"

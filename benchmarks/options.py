# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run was asked for, by environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# The sizes that the targets are about.
_MIB, _LARGE_MIB, _RUNS = 2048, 8192, 3


@dataclass(frozen=True)
class Options:
    """`mib` and `large_mib` are sizes of databases, `place` is where everything is written.

    `other` is a folder on another filesystem, for what depends on there being two. `huge_mib` is for whoever has hours.
    """

    mib: int
    large_mib: int
    runs: int
    place: Path
    other: Path | None = None
    huge_mib: int | None = None

    @property
    def full(self) -> bool:
        """Whether this run is large enough to judge a target by it."""
        return self.mib >= _MIB and self.large_mib >= _LARGE_MIB and self.runs >= _RUNS

    def judge(self, met: bool) -> bool | None:
        """`met` where the run may judge, None where it may not."""
        return met if self.full else None


def from_environment() -> Options:
    """Raises ValueError for a number that is none."""
    get = os.environ.get
    return Options(
        mib=int(get("BENCH_MIB") or _MIB),
        large_mib=int(get("BENCH_LARGE_MIB") or _LARGE_MIB),
        runs=int(get("BENCH_RUNS") or _RUNS),
        place=Path(get("BENCH_DIR") or "build/bench").absolute(),
        huge_mib=int(get("BENCH_HUGE_MIB", "")) if get("BENCH_HUGE_MIB") else None,
        other=Path(get("BENCH_OTHER_DIR", "")).absolute() if get("BENCH_OTHER_DIR") else None,
    )

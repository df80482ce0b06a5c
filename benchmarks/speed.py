# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a verified backup takes, against copies that prove nothing."""

from __future__ import annotations

import json

from .options import Options
from .processes import Ratio, Usage, interleaved, python, run, spread
from .report import Figure
from .scene import Scene, has_sqlite3

LOG_MIB = 32


def measure(scene: Scene, options: Options) -> tuple[Figure, list[Usage]]:
    """The figure, and our own runs for whoever asks for their memory."""
    figure = Figure(
        f"A verified backup of {options.mib:,} MiB to disk",
        "Ours is the engine's `backup.run` with a local store alone: snapshot, row counts, quick check, digests of the "
        "whole and of its parts, fsync, manifest, with the start of Python. The rival copies check nothing; only `cp` "
        "is followed by an fsync of the copy (`sync FILE`), SQLite does its own.",
    )
    rival = '`sqlite3 SRC ".backup DST"`' if has_sqlite3() else "`Connection.backup()` (no sqlite3 command here)"
    found = interleaved(
        options.runs,
        {
            "ours": scene.ours,
            "cp": scene.cp,
            "sqlite": scene.sqlite if has_sqlite3() else scene.connection_backup,
        },
    )
    seconds = {name: [usage.seconds for usage in usages] for name, usages in found.items()}
    to_cp, to_sqlite = Ratio.of(seconds["ours"], seconds["cp"]), Ratio.of(seconds["ours"], seconds["sqlite"])
    pinned = [json.loads(usage.output.splitlines()[-1])["pinned_seconds"] for usage in found["ours"]]
    figure.add("ours ÷ (`cp` + fsync)", str(to_cp), "≤ 2.5", options.judge(to_cp.value <= 2.5))
    figure.add(f"ours ÷ {rival}", str(to_sqlite), "≤ 0.6", options.judge(to_sqlite.value <= 0.6))
    figure.add("ours", spread(seconds["ours"], "s", 2))
    figure.add("of it with the source held", spread(pinned, "s", 2))
    figure.add("`cp` + fsync", spread(seconds["cp"], "s", 2))
    figure.add(rival, spread(seconds["sqlite"], "s", 2))
    figure.raw = {"seconds": seconds, "pinned_seconds": pinned}

    run(python("fill_log", scene.database, LOG_MIB))
    logged = interleaved(options.runs, {"ours": scene.ours, "cp": scene.cp})
    seconds = {name: [usage.seconds for usage in usages] for name, usages in logged.items()}
    ratio = Ratio.of(seconds["ours"], seconds["cp"])
    figure.add(f"the same with {LOG_MIB} MiB in the log ÷ (`cp` + fsync) of the database file", str(ratio))
    figure.raw["seconds_with_log"] = seconds
    return figure, found["ours"]

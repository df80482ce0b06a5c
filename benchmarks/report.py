# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as people read them: on the terminal, and in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PICTURE = "benchmarks.svg"

_METHOD = """\
`BENCH_HUGE_MIB=20480 make bench` as root, with Debian's restic, borgbackup, zstd, sqlite3 and xfsprogs, measures what
this page says, prints it and writes `build/bench/results.json`; `.venv/bin/python -m benchmarks.run --write-docs` makes
this page of the last run, which `.ci/run` replaces by a small one. Nothing here is a test: times depend on the machine,
so they are given as ratios to something that everybody has, measured in the same run.

Every measured thing runs in a process of its own, its start included. Contenders take turns (A B C A B C), with the
source in the page cache and what the one before wrote removed and synced. They rest first, until a virtual machine's
host has its free memory back: whoever came right after a deletion would have memory for nothing. Where two sections ask
the same, the later one counts. Each section says when it was measured.

A value is the median, the range behind it the smallest and the largest; a ratio is that of the medians, its
range that of the single rounds.

"Side by side" is ours and what one would pick instead, each through a first backup, two more after changes, and a
restore that had to bring back what was there. `restic`, `borg`, `zstd` and `sqlite3` are Debian's, the others come with
pip (`requirements/bench.txt`); who is not installed has a row that says so. They do not promise the same: ours opens,
counts and checks the database that it copied, the others take the file as it lies, and restic and borg encrypt or
deduplicate besides. The rows say where ours is the slower one.

What is known of the targets that are missed on the machine below, and what would lift them. What is said of processor
time is of 2026-11-30, and, but for growth, measured apart (`/proc/PID/stat` of the store, `eternia-backup run
--timings`):

- *a backup to the disk*: on two cores it is the copy, SQLite's check of it, its digests and two counts of the rows, 4.9
  seconds of processor time for 2 GiB, so 2.45 on the clock at best; `cp` has 0.8. More cores lift it. The virtual disk
  takes writes fast until a burst is used up: the same `cp` takes from 1.5 to 6.5 s, so this ratio was from 1.6 to 3.0
  in runs of this bench. restic is fast on this database, whose rows compress 5 to 1.
- *zstd*: `zstd -T0` has both cores busy already. Ours takes the copy, checks it, counts it, and makes each frame
  plain again to compare it. More cores lift it; leaving out the proof would, too.
- *a first upload*: while it is sent both cores are busy, and 15 of their 19 seconds for each GiB are the store's own.
  Over plain HTTP we sign each body, which rclone leaves out. A store on another machine lifts it.
- *a second backup to S3*: what did not change is copied by the store, and SeaweedFS copies every byte: 39 seconds of
  processor time for 2 GiB, so both cores are busy for all of the 20 seconds in which we wait for it. That saves the
  line and no time: to a store on the same machine all of it can be sent anew as fast. The local backup that comes first
  takes longer than all of restic's. A store that copies by reference lifts the copying; nothing lifts the local backup.
- *a restore from S3*: the check cannot begin before the last byte is there, and s5cmd's download has both cores busy
  with the store's work: even beside it, without waiting, the check would make it about 1.15, by processor time. A
  store on another machine, or more cores, lift that. restic fetches 683 of the 2,048 MiB, for its own format.
- *20 GiB against 2 GiB*: most of it is the disk and the memory of this machine; the processor's time alone grows by
  11.3. 2 GiB fit into the disk's burst, and the copy is in memory when it is checked and hashed; 20 GiB do not, and
  source and copy together are more than the memory: at 2 GiB nothing is read from the disk, at 20 GiB `cp` + fsync
  reads 14,522 MiB and grows by 13.1, ours, which looks at the copy again, reads 21,777 MiB and grows by 17.2. restic
  grows by 9.4, and takes 77 s where ours takes 47 s. A disk without a burst, and more memory, lift it.
- *peak memory at 8 GiB* is less than the target allows, which asks for the same as at 2 GiB: there one process takes
  76 MiB and the next 92, at 8 GiB all took 76.
- *how long the source is held on xfs, where it lies in pieces*: as long as the filesystem takes to clone it, from
  0.5 ms to 281 ms from one copy of the same database to the next; `cp --reflink` takes from 5 ms to 248 ms.
"""


@dataclass(frozen=True)
class Row:
    """One line of a figure. `met` is None where there is no target, or where this run cannot judge it."""

    label: str
    value: str
    target: str = ""
    met: bool | None = None


@dataclass
class Figure:
    """One question and its answers. `how` says how it was measured, `raw` holds the numbers themselves."""

    title: str
    how: str
    rows: list[Row] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def add(self, label: str, value: str, target: str = "", met: bool | None = None) -> None:
        self.rows.append(Row(label, value, target, met))


def text(figure: Mapping[str, Any]) -> str:
    """One figure for the terminal."""
    rows = [(row["label"], row["value"], row["target"], _verdict(row)) for row in figure["rows"]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ("  ".join((*(cell.ljust(width) for cell, width in zip(row, widths)), row[3])).rstrip() for row in rows)
    return "\n".join(("", figure["title"], *(f"  {line}" for line in lines)))


def machine_text(machine: Mapping[str, str]) -> str:
    """The machine for the terminal."""
    return "\n".join(f"  {key}: {value}" for key, value in machine.items())


def page(results: Mapping[str, Any]) -> str:
    """docs/benchmarks.md, whole."""
    missed = [row for figure in results["figures"] for row in figure["rows"] if row["met"] is False]
    judged = [row for figure in results["figures"] for row in figure["rows"] if row["met"] is not None]
    blocks = ["# Figures", "", _METHOD]
    blocks += [f"{_options(results)}; {_summary(judged, missed)}", ""]
    blocks += [f"- not met: {row['label']}: {row['value']}, target {row['target']}" for row in missed]
    blocks += [""] * bool(missed)
    blocks += table(("machine", ""), [(key, value) for key, value in results["machine"].items()])
    if any("taken" in figure["raw"] for figure in results["figures"]):
        blocks += ["", f"![Seconds by size, ours beside the others, both on logarithmic axes]({PICTURE})"]
    for figure in results["figures"]:
        blocks += section(figure)
    return "\n".join(blocks) + "\n"


def section(figure: Mapping[str, Any]) -> list[str]:
    """One figure for a page."""
    rows = [(row["label"], row["value"], row["target"], _verdict(row)) for row in figure["rows"]]
    when = f"Measured {figure['at']}." if "at" in figure else ""
    head = ["", f"## {figure['title']}", "", f"{figure['how']} {when}".strip(), ""]
    return head + table(("", "measured", "target", ""), rows)


def _options(results: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in results["options"].items())


def _summary(judged: list[Any], missed: list[Any]) -> str:
    if not judged:
        return "sizes too small to judge any target."
    return f"{len(judged) - len(missed)} of {len(judged)} targets are met."


def _verdict(row: Mapping[str, Any]) -> str:
    return {True: "met", False: "NOT MET", None: ""}[row["met"]]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A table for a page."""
    return [_line(head), _line(("---",) * len(head)), *map(_line, rows)]


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

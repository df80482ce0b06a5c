# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Side by side with what a user would pick instead: a first backup, two more after changes, and a restore."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from . import line, object_store
from .line import Line
from .object_store import BUCKET, NoStoreError
from .options import Options
from .processes import Ratio, Usage, python, run, spread
from .report import Figure
from .rivals import AWAY, LOCAL, Cp, MissingError, Ours, OursCompressed, Rival, Zstd
from .scene import CP, NoRoomError, need_room, settle

FIRST, RANGE, RANDOM, RESTORE = "first", "1 % in a range", "0.1 % at random", "restore"
DISK, S3 = "the disk", "S3"
_SMALL_MIB = 256
_PART = 16 << 20
MOST_MEMORY = 200


@dataclass(frozen=True)
class Step:
    """What one step took: seconds, and bytes of memory, sent to the store, had from it, and kept once it was done."""

    seconds: float
    peak: int
    sent: int
    received: int
    kept: int
    told: dict[str, Any]


# By the name of the rival, by the step: one for each round.
Taken = dict[str, dict[str, list[Step]]]


def measure_disk(folder: Path, options: Options) -> Iterator[Figure]:
    """A figure for each size, then what is asked of the larger one."""
    return _side_by_side(folder, options, DISK, LOCAL, _disk_targets)


def measure_s3(folder: Path, options: Options) -> Iterator[Figure]:
    """The same with S3."""
    return _side_by_side(folder, options, S3, AWAY, _s3_targets)


def _side_by_side(
    folder: Path,
    options: Options,
    where: str,
    rivals: tuple[type[Rival], ...],
    targets: Callable[[Taken, Options], Figure],
) -> Iterator[Figure]:
    found: dict[int, Taken] = {}
    for mib in _sizes(options):
        taken, reasons = _rounds(folder / f"{where[-2:]}-{mib}", mib, rivals, options)
        found[mib] = taken
        yield _figure(where, mib, taken, reasons)
    yield targets(found[options.mib], options)
    yield _memory(where, found, options)


def _sizes(options: Options) -> list[int]:
    return sorted({min(_SMALL_MIB, options.mib), options.mib})


def _rounds(folder: Path, mib: int, rivals: tuple[type[Rival], ...], options: Options) -> tuple[Taken, dict[str, str]]:
    """A B C A B C …, each in a folder and in front of a store of its own, from the same database.

    Beside it, by name, why who took no part did not.
    """
    folder.mkdir(parents=True)
    try:
        # The database and its like, three backups here and three in the store, and what comes back.
        need_room(folder, 9 * mib)
    except NoRoomError as exc:
        return {}, {rival.name: f"not measured: {exc}" for rival in rivals}
    base = folder / "base.db"
    run(python("make_database", base, mib))
    taken: Taken = {}
    reasons: dict[str, str] = {}
    is_large = mib > _SMALL_MIB
    for _round in range(options.runs):
        for rival in rivals:
            if rival.name in reasons or (is_large and not rival.at_large):
                continue
            try:
                steps = _one(folder / "one", base, rival, is_away=rivals is AWAY, is_large=is_large)
            except MissingError as exc:
                reasons[rival.name] = str(exc)
                continue
            except NoStoreError as exc:
                reasons[rival.name] = f"not measured: {exc}"
                continue
            except RuntimeError as exc:
                if issubclass(rival, Ours):
                    raise
                # Who fails once has no figures at all.
                reasons[rival.name] = f"failed: {str(exc).splitlines()[-1]}"
                taken.pop(rival.name, None)
                continue
            for step, value in steps.items():
                taken.setdefault(rival.name, {}).setdefault(step, []).append(value)
    shutil.rmtree(folder)
    return taken, reasons


def _one(folder: Path, base: Path, rival: type[Rival], *, is_away: bool, is_large: bool) -> dict[str, Step]:
    folder.mkdir()
    database = folder / "data" / "eternia.db"
    database.parent.mkdir()
    run([*CP, str(base), str(database)])
    try:
        with _store(folder, is_away) as way:
            contender = rival(folder, database, None if way is None else way.endpoint)
            return _steps(contender, base, way, is_large=is_large)
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _store(folder: Path, is_away: bool) -> Iterator[Line | None]:
    if not is_away:
        yield None
        return
    with object_store.running(folder / "weed") as endpoint, line.counted(endpoint, folder) as way:
        yield way


def _steps(rival: Rival, base: Path, way: Line | None, *, is_large: bool) -> dict[str, Step]:
    steps = {FIRST: _step(rival, base, way)}
    if isinstance(rival, Zstd):
        return steps
    for step, how in ((RANGE, "range"), (RANDOM, "random")):
        if is_large and rival.sends_all:
            break
        run(python("change_rows", rival.database, 1, how, *["log"] * rival.needs_log))
        steps[step] = _step(rival, base, way)
    expected = _sum(rival.database)
    rival.lose()
    steps[RESTORE] = _step(rival, base, way, expected)
    if isinstance(rival, Ours) and rival.endpoint is not None:
        # As it is most of the time: the database is damaged, or went wrong, and is there.
        run(python("change_rows", rival.database, 2, "range"))
        shutil.rmtree(rival.kept / "backups")
        steps["restore over a database of which 1 % is other"] = _step(rival, base, way, expected)
    return steps


def _step(rival: Rival, base: Path, way: Line | None, expected: tuple[Any, ...] | None = None) -> Step:
    """One backup; with what has to be found then, a restore. `base` is as large as what is copied."""
    read_next = [rival.database] if expected is None else [path for path in rival.kept.rglob("*") if path.is_file()]
    # What comes from S3 is not read here, and rests as long all the same.
    settle(*read_next or [base])
    before = (0, 0) if way is None else way.passed()
    back = rival.database
    if expected is None:
        usage = rival.back_up()
    else:
        usage, back = rival.restore()
    after = (0, 0) if way is None else way.passed()
    os.sync()
    if expected is not None and _sum(back) != expected:
        raise RuntimeError(f"{rival.name} brought back something else")
    said = told(usage) if isinstance(rival, Ours) else {}
    kept = on_disk(rival.kept) if rival.endpoint is None else _in_bucket(rival.endpoint)
    return Step(usage.seconds, usage.peak, after[0] - before[0], after[1] - before[1], kept, said)


def _sum(path: Path) -> tuple[Any, ...]:
    """What tells one state of the database from another."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found: tuple[Any, ...] = connection.execute("SELECT count(*), sum(clarity) FROM memories").fetchone()
    return found


def told(usage: Usage) -> dict[str, Any]:
    """What a backup of ours says of itself."""
    said: dict[str, Any] = json.loads(usage.output.splitlines()[-1])
    return said


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _in_bucket(endpoint: str) -> int:
    return int(run(python("bucket_bytes", endpoint, BUCKET)).output)


def _figure(where: str, mib: int, taken: Taken, reasons: dict[str, str]) -> Figure:
    away = where == S3
    figure = Figure(f"Side by side: {mib:,} MiB to {where}", _how(where, mib))
    for name, steps in taken.items():
        for step, values in steps.items():
            figure.add(f"{name} — {step}", in_words(values, step, away=away))
    for rival in AWAY if away else LOCAL:
        if rival.name in reasons:
            figure.add(rival.name, reasons[rival.name])
    figure.raw = raw(where, mib, taken)
    return figure


def raw(where: str, mib: int, taken: Taken) -> dict[str, Any]:
    """As the plot reads it too."""
    steps = {name: {step: [asdict(one) for one in all_] for step, all_ in its.items()} for name, its in taken.items()}
    return {"mib": mib, "where": where, "taken": steps}


def _how(where: str, mib: int) -> str:
    words = [
        "A first backup, a second after 1 % of the rows changed one behind the other, a third after 0.1 % changed "
        "anywhere, then a restore."
    ]
    if where == S3:
        words += [
            "SeaweedFS on this machine, a new one for each contender; the restore is onto an empty disk. Everybody's "
            "bytes pass one process that counts them. Ours takes a verified backup to the disk too; s5cmd, rclone and "
            "boto3 send the live file as it lies, each time to a new key; litestream is `replicate -once`, with the "
            "log kept for it that was written since. It keeps another copy beside the database."
        ]
    else:
        words += [
            "Ours proves what it takes and what it brings back, restic and borg have checksums, the others prove "
            "nothing. `zstd` is there for comparison with our own compression."
        ]
    words += [
        "Every restore is followed by an fsync, and had to bring back the same rows. Bytes kept are those of all "
        "backups together; less than 30 MiB of memory cannot be told from what starts the process."
    ]
    if mib > _SMALL_MIB:
        words += ["s5cmd, rclone and boto3 would send all of it again, which is left out here."] * (where == S3)
        words += ["borg without compression only at the small size."] * (where == DISK)
    return " ".join(words)


def in_words(values: list[Step], step: str, *, away: bool) -> str:
    words = [
        spread([one.seconds for one in values], "s", 2),
        f"{max(one.peak for one in values) / 2**20:,.0f} MiB memory",
    ]
    last = values[-1]
    if step.startswith(RESTORE):
        words += [f"{last.received / 2**20:,.1f} MiB received"] * away
    else:
        words += [f"{last.sent / 2**20:,.1f} MiB sent"] * away + [f"{last.kept / 2**20:,.0f} MiB kept"]
    return "; ".join(words)


def _disk_targets(taken: Taken, options: Options) -> Figure:
    figure = Figure(
        f"What is asked of {options.mib:,} MiB to the disk",
        "Ratios of the rounds above: whole processes, of which ours alone checks anything.",
    )
    if Ours.name not in taken:
        figure.add("ours", "not measured: see above")
        return figure
    ours, zstd = taken[Ours.name], taken[OursCompressed.name]
    _ratio(figure, options, "verified backup ÷ (`cp` + fsync)", ours[FIRST], _of(taken, Cp.name, FIRST), 1.8)
    rival = '`sqlite3 SRC ".backup DST"`'
    _ratio(figure, options, f"verified backup ÷ {rival}", ours[FIRST], _of(taken, rival, FIRST), 0.5)
    _ratio(figure, options, "verified backup ÷ restic's first", ours[FIRST], _of(taken, "restic", FIRST), 0.25)
    _ratio(figure, options, "zstd backup ÷ `zstd -T0 -3`", zstd[FIRST], _of(taken, Zstd.name, FIRST), 1.1)
    more = [mine.seconds - plain.seconds for mine, plain in zip(zstd[FIRST], ours[FIRST])]
    _ratio(figure, options, "— what it takes more than the plain one ÷ it", more, _of(taken, Zstd.name, FIRST))
    return figure


def _s3_targets(taken: Taken, options: Options) -> Figure:
    figure = Figure(
        f"What is asked of {options.mib:,} MiB to S3",
        "Ratios of the rounds above. Our upload is the whole run less the steps that take the local backup, so the "
        "start of Python and of boto3 count; of the others it is the whole process, and nothing is checked in it. "
        "Touched parts are those of 16 MiB whose digests in the manifests differ.",
    )
    if Ours.name not in taken:
        figure.add("ours", "not measured: see above")
        return figure
    ours = taken[Ours.name]
    copiers = [steps[FIRST] for name in ("s5cmd", "rclone") if (steps := taken.get(name))]
    best = min(copiers, key=lambda one: median(step.seconds for step in one), default=None)
    local_steps = [sum(took for step, took in one.told["steps"].items() if step != "send") for one in ours[FIRST]]
    upload = [one.seconds - took for one, took in zip(ours[FIRST], local_steps)]
    _ratio(figure, options, "first upload ÷ the best of s5cmd and rclone", upload, best, 1.0)
    _ratio(figure, options, "— the whole run ÷ it", ours[FIRST], best)
    size = options.mib << 20
    sent = max(one.sent for one in ours[RANGE]) / size
    figure.add("1 % in a range: bytes sent ÷ the file", f"{sent:.3f}", "≤ 0.05", options.judge(sent <= 0.05))
    _ratio(figure, options, "second backup, 1 % in a range ÷ restic's", ours[RANGE], _of(taken, "restic", RANGE), 0.5)
    touched, over = _touched(ours), 1 << 20
    sent_random = max(one.sent for one in ours[RANDOM])
    figure.add(
        "0.1 % at random: bytes sent less what the touched parts weigh",
        f"{(sent_random - touched) / 2**20:,.2f} MiB of {touched / 2**20:,.0f} MiB",
        "≤ 1 MiB",
        options.judge(sent_random - touched <= over),
    )
    _ratio(figure, options, "restore, checked ÷ s5cmd's download", ours[RESTORE], _of(taken, "s5cmd", RESTORE), 1.1)
    _ratio(figure, options, "restore, checked ÷ restic's restore", ours[RESTORE], _of(taken, "restic", RESTORE), 0.5)
    return figure


def _of(taken: Taken, name: str, step: str) -> list[Step] | None:
    return taken.get(name, {}).get(step)


def _ratio(
    figure: Figure,
    options: Options,
    label: str,
    ours: list[Step] | list[float],
    theirs: list[Step] | None,
    most: float | None = None,
) -> None:
    if not theirs:
        figure.add(label, "not measured: nothing to compare with")
        return
    mine, others = ([one if isinstance(one, float) else one.seconds for one in side] for side in (ours, theirs))
    ratio = Ratio.of(mine, others)
    target = () if most is None else (f"≤ {most}", options.judge(ratio.value <= most))
    figure.add(label, str(ratio), *target)


def _touched(steps: dict[str, list[Step]]) -> int:
    """What the parts weigh that the third backup has other than the second, by their digests in the manifests."""
    before, after = (steps[step][-1].told["parts"] for step in (RANGE, RANDOM))
    size = steps[RANDOM][-1].told["bytes"]
    changed = [place for place, (one, other) in enumerate(zip(before, after)) if one != other]
    return sum(min(_PART, size - place * _PART) for place in changed)


def _memory(where: str, found: dict[int, Taken], options: Options) -> Figure:
    figure = Figure(
        f"Peak memory of all that is ours, to {where}", "The largest of all steps above, the interpreter included."
    )
    for name in (Ours.name, OursCompressed.name):
        for mib, taken in found.items():
            peaks = [one.peak / 2**20 for values in taken.get(name, {}).values() for one in values]
            if peaks:
                met = options.judge(max(peaks) <= MOST_MEMORY)
                figure.add(f"{name}, {mib:,} MiB", f"{max(peaks):,.0f} MiB", f"≤ {MOST_MEMORY} MiB", met)
    return figure

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a restore takes, from disk and from S3, how much of it the application is stopped for, and its memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from . import object_store
from .object_store import BUCKET, NoStoreError
from .options import Options
from .processes import Ratio, Usage, interleaved, python, run, spread
from .report import Figure
from .scene import CP, NoRoomError, need_room, read, settle

MOST_MEMORY = 150
# What a restore does to the backup alone: nothing of it may happen while the application is stopped.
_BEFOREHAND = ("fetch", "prove")


def measure(folder: Path, options: Options) -> Iterator[Figure]:
    """From disk, from S3, and the memory of both at the two sizes."""
    disk = _disk_figure(options)
    peaks: dict[str, list[float]] = {}
    with _host(folder, options.mib) as host:
        ours = _from_disk(host, disk, options)
        peaks[f"from disk, {options.mib:,} MiB"] = ours
    if options.other is None:
        disk.add("with the storage on another filesystem", "not measured: BENCH_OTHER_DIR names no folder on one")
    else:
        _from_other(folder, disk, options)
    yield disk
    away = Figure(
        f"A restore of {options.mib:,} MiB from S3",
        "From SeaweedFS on this machine, whose work is on the same cores; no copy lies on the disk. Ours as above; "
        "what the live database has of it is taken from there. The "
        "rivals download the same object, then fsync; then the same checks of what came, in a process of their own: "
        "quick check, row counts, digest. They keep nothing of what was there, and do not look at it.",
    )
    try:
        with object_store.running(folder / "weed") as endpoint, _host(folder, options.mib, endpoint) as host:
            peaks[f"from S3, {options.mib:,} MiB"] = _from_s3(host, away, options)
    except NoStoreError as exc:
        away.add("ours", f"not measured: {exc}")
    yield away
    yield _memory(folder, peaks, options)


class _Host:
    """A host whose application went on after its last backup: a database, and a store that holds the backup.

    The backup lies on the disk, in `storage`, or in S3 alone where there is an `endpoint`.
    """

    def __init__(self, folder: Path, mib: int, endpoint: str | None, storage: Path) -> None:
        self.endpoint, self.storage, self.mib = endpoint, storage, mib
        self.database = folder / "data" / "eternia.db"
        self.database.parent.mkdir(parents=True)
        self.copy = folder / "copy" / "eternia.db"
        run(python("make_database", self.database, mib))
        where = [self.database, storage, *([endpoint] * bool(endpoint))]
        self.name: str = json.loads(run(python("backup", *where)).output.splitlines()[-1])["name"]
        self.manifest = folder / f"{self.name}.manifest.json"
        shutil.copy(storage / self.manifest.name, self.manifest)
        if endpoint is not None:
            shutil.rmtree(storage)
        run(python("change_rows", self.database, 1))

    @property
    def backup(self) -> Path:
        return self.storage / self.name

    def restore(self) -> Usage:
        """By the engine. What was there is put back when it is measured next."""
        self._rest()
        return self._engine("run", self.name)

    def downtime(self) -> Usage:
        """What is left to do when an earlier run has fetched and proven."""
        self._rest()
        # From the place that was staged: whoever asks for the name has the stores asked again.
        location = _told(self._engine("stage", self.name))["location"]
        # As an application would that works until it is stopped.
        read(self.database)
        return self._engine("run", location)

    def cp(self) -> Usage:
        """`cp`, then fsync."""
        self._rest()
        return run([*CP, str(self.backup), str(self.copy)])

    def s5cmd(self, command: str) -> Usage:
        """`s5cmd cp`, then fsync."""
        self._rest()
        # Not quoted by us: the key and the path hold no letter that a shell would see.
        download = f"{command} --log error --endpoint-url {self.endpoint} cp s3://{BUCKET}/{self._key} {self.copy}"
        return run(["sh", "-c", f"{download} && sync {self.copy}"])

    def boto3(self) -> Usage:
        """boto3's download_file, then fsync."""
        self._rest()
        return run(python("download", self.endpoint, BUCKET, self._key, self.copy))

    def check(self) -> Usage:
        """The checks of what was just downloaded."""
        return run(python("check", self.copy, self.manifest))

    def _engine(self, verb: str, backup: str) -> Usage:
        where = [self.database, self.storage, *([self.endpoint] * bool(self.endpoint))]
        return run(python("restore", verb, backup, *where))

    @property
    def _key(self) -> str:
        return f"development/{self.name}"

    def _rest(self) -> None:
        """As it was before the last restore, on a disk that is at rest, in the page cache."""
        safety = self.storage / "safety"
        if safety.exists():
            (kept,) = safety.glob("*.db")
            if kept.stat().st_dev == self.database.parent.stat().st_dev:
                os.replace(kept, self.database)
            else:
                run(python("change_rows", self.database, 1))
            shutil.rmtree(safety)
        shutil.rmtree(self.copy.parent, ignore_errors=True)
        self.copy.parent.mkdir()
        settle(self.backup, self.database)


@contextmanager
def _host(folder: Path, mib: int, endpoint: str | None = None, storage: Path | None = None) -> Iterator[_Host]:
    folder.mkdir(parents=True, exist_ok=True)
    # The live database, the backup, and the one that takes the live one's place.
    need_room(folder, 3 * mib)
    place = folder / "host"
    try:
        yield _Host(place, mib, endpoint, storage or place / "backups")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _disk_figure(options: Options) -> Figure:
    return Figure(
        f"A restore of {options.mib:,} MiB from disk",
        "Ours is the engine's `restore.run` over a live database that has gone on since its backup (1 % of the rows "
        "are others, the size is the same): fetch, digest, quick check, row counts, the safety backup with the same "
        "proofs of what was there, fsync, swap, with the start of Python. Downtime is what is left of it when "
        "`restore.stage` has run while the application still works: nothing of the fetch and the checks of the backup.",
    )


def _from_disk(host: _Host, figure: Figure, options: Options) -> list[float]:
    found = interleaved(options.runs, {"ours": host.restore, "cp": host.cp, "downtime": host.downtime})
    seconds = _seconds(found)
    ratio = Ratio.of(seconds["ours"], seconds["cp"])
    figure.add("ours ÷ (`cp` + fsync)", str(ratio), "≤ 4", options.judge(ratio.value <= 4))
    figure.add("ours", spread(seconds["ours"], "s", 2))
    figure.add("`cp` + fsync", spread(seconds["cp"], "s", 2))
    _add_downtime(figure, found)
    return _peaks(found["ours"])


def _from_s3(host: _Host, figure: Figure, options: Options) -> list[float]:
    contenders: dict[str, Callable[[], Usage]] = {"ours": host.restore}
    rivals = ["boto3"]
    try:
        command = object_store.binary("s5cmd")
        contenders |= {"s5cmd": lambda: host.s5cmd(command), "s5cmd's checks": host.check}
        rivals.insert(0, "s5cmd")
    except NoStoreError as exc:
        figure.add("ours ÷ (`s5cmd cp` + fsync, then the checks)", f"not measured: {exc}")
    contenders |= {"boto3": host.boto3, "boto3's checks": host.check, "downtime": host.downtime}
    found = interleaved(options.runs, contenders)
    seconds = _seconds(found)
    names = {"s5cmd": "`s5cmd cp`", "boto3": "boto3 `download_file`"}
    for rival in rivals:
        whole = [one + more for one, more in zip(seconds[rival], seconds[f"{rival}'s checks"])]
        ratio = Ratio.of(seconds["ours"], whole)
        target = ("≤ 1.3", options.judge(ratio.value <= 1.3)) if rival == "s5cmd" else ()
        figure.add(f"ours ÷ ({names[rival]} + fsync, then the checks)", str(ratio), *target)
    figure.add("ours", spread(seconds["ours"], "s", 2))
    for rival in rivals:
        figure.add(f"{names[rival]} + fsync", spread(seconds[rival], "s", 2))
        figure.add("— the checks after it", spread(seconds[f"{rival}'s checks"], "s", 2))
    _add_downtime(figure, found)
    return _peaks(found["ours"])


def _from_other(folder: Path, figure: Figure, options: Options) -> None:
    """The same with the storage on another filesystem: what is kept has to be copied there."""
    assert options.other is not None
    label = f"with the storage on another filesystem, {options.other}: ours ÷ (`cp` + fsync) from there"
    storage = options.other / "eternia-bench"
    try:
        if options.other.stat().st_dev == folder.stat().st_dev:
            figure.add(label, "not measured: it is the same filesystem")
            return
        need_room(options.other, 2 * options.mib)
        with _host(folder, options.mib, storage=storage) as host:
            seconds = _seconds(interleaved(options.runs, {"ours": host.restore, "cp": host.cp}))
        figure.add(label, str(Ratio.of(seconds["ours"], seconds["cp"])))
        figure.add("— ours", spread(seconds["ours"], "s", 2))
    except (NoRoomError, OSError) as exc:
        figure.add(label, f"not measured: {exc}")
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _add_downtime(figure: Figure, found: dict[str, list[Usage]]) -> None:
    seconds = _seconds(found)
    told = {name: [_told(usage)["steps"] for usage in found[name]] for name in ("ours", "downtime")}
    within = sorted({step for steps in told["downtime"] for step in steps if step in _BEFOREHAND})
    figure.add("downtime", spread(seconds["downtime"], "s", 2))
    figure.add("downtime ÷ ours", str(Ratio.of(seconds["downtime"], seconds["ours"])))
    # What happens in it is the same at every size, so every run may judge it.
    figure.add("fetch and checks of the backup in the downtime", ", ".join(within) or "none", "none", not within)
    for name, label in (("ours", "ours"), ("downtime", "the downtime")):
        steps = {step: median(one.get(step, 0.0) for one in told[name]) for step in told[name][0]}
        figure.add(f"steps of {label}", ", ".join(f"{step} {took:.2f} s" for step, took in steps.items()))
    figure.raw = {"seconds": seconds, "steps": told}


def _memory(folder: Path, peaks: dict[str, list[float]], options: Options) -> Figure:
    figure = Figure(
        "Peak memory of a restore",
        "As for a backup; one run of each at the large size.",
    )
    large: dict[str, list[float]] = {}
    for label, way in (("from disk", _once_from_disk), ("from S3", _once_from_s3)):
        small = peaks.get(f"{label}, {options.mib:,} MiB")
        if small is None:
            continue
        figure.add(
            f"{label}, {options.mib:,} MiB",
            spread(small, "MiB"),
            f"< {MOST_MEMORY} MiB",
            options.judge(max(small) < MOST_MEMORY),
        )
        try:
            usage = way(folder, options)
        except (NoRoomError, NoStoreError) as exc:
            figure.add(f"{label}, {options.large_mib:,} MiB", f"not measured: {exc}")
            continue
        large[label] = _peaks([usage])
        growth = large[label][0] / median(small)
        figure.add(f"{label}, {options.large_mib:,} MiB", f"{large[label][0]:,.1f} MiB in {usage.seconds:,.1f} s")
        figure.add("— ÷", f"{growth:.2f}", "0.90 to 1.10", options.judge(0.9 <= growth <= 1.1))
    figure.raw = {"small": peaks, "large": large}
    return figure


def _once_from_disk(folder: Path, options: Options) -> Usage:
    with _host(folder, options.large_mib) as host:
        return host.restore()


def _once_from_s3(folder: Path, options: Options) -> Usage:
    with (
        object_store.running(folder / "weed") as endpoint,
        _host(folder, options.large_mib, endpoint) as host,
    ):
        return host.restore()


def _told(usage: Usage) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(usage.output.splitlines()[-1])
    return told


def _seconds(found: dict[str, list[Usage]]) -> dict[str, list[float]]:
    return {name: [usage.seconds for usage in usages] for name, usages in found.items()}


def _peaks(usages: list[Usage]) -> list[float]:
    return [usage.peak / 2**20 for usage in usages]

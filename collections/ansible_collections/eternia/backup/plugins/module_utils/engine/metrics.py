# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells Prometheus: a file for the textfile collector of the node exporter. What is not known is left out.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import catalog, files, names, record
from .config import Config
from .errors import StoreError
from .failure import KINDS
from .health import Level
from .status import Status, StoreStatus
from .stores.base import S3
from .version import VERSION


class Metric(NamedTuple):
    """One metric: its values, by the value of `label` where it has one. None is not known."""

    name: str
    help: str
    values: Mapping[str, float | None]
    label: str = ""


def render(config: Config, found: Status, level: Level) -> str:
    """The page, whole."""
    common = {"environment": config.environment, "host": config.host}
    metrics = (*_host(config, found, level), *_last_run(config, found), *_stores(found), *_drills(found))
    return "".join(line for metric in metrics for line in _lines(metric, common))


def write(path: Path, page: str) -> None:
    """Put the page into the place of the one before, readable for the exporter. Raises StoreError."""
    # The collector reads what ends with .prom; another command of ours may write at this moment.
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    # A link in its own place is replaced, and not followed.
    files.require_followable(path.parent, of="backup.report.metrics_file")
    _sweep(path)
    try:
        # Whoever owns the directory can know the name, and have a FIFO wait there.
        staged.unlink(missing_ok=True)
        with files.opened(files.make(staged, mode=0o644)) as descriptor:
            # Whatever the umask is.
            os.fchmod(descriptor, 0o644)
            files.write_at(descriptor, page.encode(), 0)
            os.fsync(descriptor)
        os.replace(staged, path)
    except OSError as exc:
        with suppress(OSError):
            staged.unlink()
        raise StoreError(
            f"The metrics {path} could not be written: {files.reason(exc)}. No backup depends on that; make the "
            f"directory (mkdir -p {path.parent}), give this user the right to write there, or correct "
            "backup.report.metrics_file."
        ) from exc


def _sweep(path: Path) -> None:
    """Remove what commands of ours staged that were killed before they put it into place, as far as that can be."""
    # No process has a number of more than seven digits: PID_MAX_LIMIT in linux/threads.h.
    ours = re.compile(rf"\.{re.escape(path.name)}\.([1-9][0-9]{{0,6}})")
    try:
        there = os.listdir(path.parent)
    except OSError:
        # A page can be put there all the same, or the next step says why not.
        return
    for staged in filter(None, map(ours.fullmatch, there)):
        if _is_gone(int(staged[1])):
            with suppress(OSError):
                path.with_name(staged[0]).unlink()


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        # It is another user's.
        pass
    return False


def _host(config: Config, found: Status, level: Level) -> Iterator[Metric]:
    yield Metric("info", "Which engine the host has.", {VERSION: 1}, "version")
    yield _one("enabled", "Whether the host's backups are switched on.", config.enabled)
    yield _one("held", "Whether somebody holds the host's backups.", found.held is not None)
    yield _one("status", "What `eternia-backup status` exits with: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.", level)
    yield _one("max_age_seconds", "How old the newest verified backup may be.", found.max_age_seconds)
    age = "How old the newest verified backup of all stores was when this was written."
    yield _one("newest_verified_age_seconds", age, found.age_seconds)


def _last_run(config: Config, found: Status) -> Iterator[Metric]:
    last = found.record
    if last is None:
        return
    # One that goes on has not ended yet; one that is said to go on, and does not, was cut off.
    ended = last.result != record.RUNNING or not found.running
    with_backup = ended and last.backup is not None
    seconds = last.seconds if ended and last.seconds else None
    success = last.result == record.SUCCEEDED if ended else None
    yield _one("last_run_timestamp_seconds", "When the last run ended.", _unix(last.at) if ended else None)
    yield _one("last_run_success", "Whether the last run succeeded.", success)
    yield _one("last_success_timestamp_seconds", "When a run last succeeded.", _unix(last.last_success_at))
    yield _one("last_duration_seconds", "How long the last run took to bring a backup to every store.", seconds)
    stored = last.bytes_stored if with_backup else None
    yield _one("last_stored_bytes", "The size of the last run's backup.", stored)
    sent = last.bytes_sent if with_backup else None
    yield _one("last_sent_bytes", "What the last run sent to S3.", sent)
    copied = last.bytes_copied if with_backup else None
    words = "What S3 copied from earlier backups itself in the last run, so that it did not travel."
    yield _one("last_copied_bytes", words, copied)
    # What lies below a disk that is missing, or in another host's storage, does not count this host's.
    if found.obstacle is None and catalog.local(config).name not in found.unlisted:
        failures = {kind: last.failures.get(kind, 0) for kind in KINDS}
        yield Metric(
            "failures_total",
            "Failed runs, by what failed, as the last record counts them.",
            failures,
            "kind",
        )
    if config.cloud is not None:
        append_only = {S3: last.create_only}
        yield Metric("append_only", "Whether the store was seen to refuse an overwrite.", append_only, "store")


def _stores(found: Status) -> Iterator[Metric]:
    def each(name: str, words: str, value: Callable[[StoreStatus], float | None]) -> Metric:
        return Metric(name, words, {store.name: value(store) for store in found.stores}, "store")

    yield each("kept", "Backups in the store.", lambda store: store.kept)
    yield each("kept_bytes", "The size of the backups in the store.", lambda store: store.bytes)
    taken = "What the backups take on the disk, where several may share a file or blocks."
    yield each("kept_disk_bytes", taken, lambda store: store.disk_bytes)
    newest = "When the newest verified backup of the store was taken, or the source last seen to have its content."
    yield each("newest_verified_timestamp_seconds", newest, lambda store: _unix(store.newest_verified_at))
    noncurrent = "Old versions of backups that a bucket keeps, and that are billed; where they were counted."
    yield each("noncurrent_bytes", noncurrent, lambda store: store.noncurrent_bytes)
    missing = (
        "Verified backups that the policy wants in the store and only another store has; of local, none that are older "
        "than all that it has."
    )
    yield each("stores_missing", missing, lambda store: store.missing)
    listed = {**{store.name: 1 for store in found.stores}, **dict.fromkeys(found.unlisted, 0)}
    yield Metric("store_listed", "Whether the store could be listed.", listed, "store")


def _drills(found: Status) -> Iterator[Metric]:
    if found.drill is not None:
        yield _one("last_drill_timestamp_seconds", "When the last drill began.", _unix(found.drill.at))
        success = "Whether the last drill came to its end, and everything came back in it."
        yield _one("last_drill_success", success, found.drill.succeeded)
    seconds = "How long a recovery from the store would have taken in its last drill that came back."
    yield Metric("drill_seconds", seconds, found.drill_seconds, "store")


def _one(name: str, words: str, value: float | None) -> Metric:
    return Metric(name, words, {"": value})


def _unix(moment: str | None) -> float | None:
    return None if moment is None else names.from_iso(moment).timestamp()


def _lines(metric: Metric, common: Mapping[str, str]) -> Iterator[str]:
    name = f"eternia_backup_{metric.name}"
    known = {key: value for key, value in metric.values.items() if value is not None}
    if known:
        yield f"# HELP {name} {metric.help}\n# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n"
    for key, value in known.items():
        labels = {**common, metric.label: key} if metric.label else common
        words = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{words}}} {int(value) if value == int(value) else value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scheduled run costs where there is hardly anything to back up: a thousand hosts do that every hour."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import sqlite3
import sys
import time
import zipapp
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from ansible_collections.eternia.backup.plugins.module_utils import engine

from . import object_store
from .object_store import BUCKET, NoStoreError
from .options import Options
from .processes import Ratio, Usage, interleaved, run, spread
from .report import Figure

# What the rivals are: the start of Python with the libraries that a backup cannot do without.
_LIBRARIES = "import sqlite3, json, argparse, yaml"
_BOTO3 = 'import boto3; boto3.client("s3", region_name="us-east-1")'
_LEAST_RUNS = 9
_PACKAGE = "eternia_backup"
_COMMAND = [sys.executable, "-m", f"{_PACKAGE}.cli"]
_ZIPPED = "ours in a zipapp"


def measure(folder: Path, options: Options) -> Figure:
    """Without S3 and with it, beside what Python itself takes to load the libraries."""
    folder.mkdir(parents=True)
    figure = Figure(
        "A scheduled run on a database of 1 MiB",
        "`eternia-backup run` in a process of its own, installed as the agent does it: lock, backup, prune, record. "
        f"Beside it `python -c '{_LIBRARIES}'` of the same interpreter, and with S3 (SeaweedFS on this machine) "
        "`python -c 'import boto3; boto3.client(\"s3\")'`. At least nine rounds; each begins with a new second, "
        "because backups are named after it.",
    )
    _make_database(folder / "eternia.db")
    runs = max(options.runs, _LEAST_RUNS)
    with _installed(folder / "app"):
        local = _configured(folder, "local", {})
        zipped = _zipped(folder / "app", folder / "eternia-backup.pyz")
        ours = {"ours": [*_COMMAND, *local], _ZIPPED: [sys.executable, str(zipped), *local]}
        _compare(figure, runs, ours, _LIBRARIES, most=3)
        try:
            with object_store.running(folder / "weed") as endpoint:
                cloud = {"enabled": True, "bucket": BUCKET, "region": "us-east-1", "endpoint_url": endpoint}
                ours = {"ours with S3": [*_COMMAND, *_configured(folder, "s3", cloud)]}
                _compare(figure, runs, ours, _BOTO3, most=2)
        except NoStoreError as exc:
            figure.add("ours with S3", f"not measured: {exc}")
    shutil.rmtree(folder)
    return figure


def _compare(figure: Figure, runs: int, ours: Mapping[str, list[str]], rival: str, *, most: int) -> None:
    contenders = {rival: [sys.executable, "-c", rival], **ours}
    measured = {name: partial(_on_time, command) for name, command in contenders.items()}
    for contender in measured.values():
        # The first time everything comes from the disk.
        contender()
    usages = interleaved(runs, measured)
    seconds = {name: [usage.seconds for usage in usages[name]] for name in contenders}
    for name in ours:
        ratio = Ratio.of(seconds[name], seconds[rival])
        target, met = (f"≤ {most}", ratio.value <= most) if name != _ZIPPED else ("", None)
        figure.add(f"{name} ÷ `{rival}`", str(ratio), target, met)
    for name, taken in seconds.items():
        figure.add(name if name in ours else f"`{name}`", spread([1000 * one for one in taken], "ms", 0))
    figure.raw |= seconds


def _on_time(command: list[str]) -> Usage:
    """From the begin of a second: who comes twice in one waits for the next, as a backup is named after it."""
    time.sleep(1 - time.time() % 1)
    return run(command)


def _make_database(path: Path) -> None:
    """1 MiB, as an application leaves it: in WAL mode."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE memories (id INTEGER PRIMARY KEY, data BLOB)")
        connection.executemany("INSERT INTO memories (data) VALUES (zeroblob(?))", [(3000,)] * 256)


@contextmanager
def _installed(app: Path) -> Iterator[None]:
    """The engine as a package of its own, compiled: while this lasts, whatever is started finds it."""
    shutil.copytree(Path(str(engine.__file__)).parent, app / _PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(app, quiet=1)
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{app}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PYTHONPATH"] = before


def _zipped(app: Path, archive: Path) -> Path:
    """The same in one file of bytecode."""
    whole = app.with_name("zipped")
    shutil.copytree(app, whole, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(whole, quiet=1, legacy=True)
    for source in whole.rglob("*.py"):
        source.unlink()
    (whole / "__main__.py").write_text(f"from {_PACKAGE}.cli import main\nraise SystemExit(main())\n")
    zipapp.create_archive(whole, archive)
    return archive


def _configured(folder: Path, name: str, cloud: Mapping[str, object]) -> list[str]:
    """What cron would type behind the command on a host of that name."""
    block = {"database_path": "eternia.db", "storage_path": name, "cloud_backup": cloud}
    fields = {"environment": "development", "host": name, "base_dir": str(folder), "backup": block}
    # JSON is YAML, too.
    (folder / f"{name}.yml").write_text(json.dumps(fields))
    return ["--config", str(folder / f"{name}.yml"), "run"]

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scheduled run costs where there is hardly anything to back up: a thousand hosts do that every hour."""

from __future__ import annotations

import compileall
import json
import shutil
import sys
import time
import zipapp
from collections.abc import Callable, Mapping
from pathlib import Path

from ansible_collections.eternia.backup.plugins.module_utils import engine

from . import object_store
from .object_store import BUCKET, NoStoreError
from .options import Options
from .processes import Ratio, Usage, interleaved, python, run, spread
from .report import Figure

# What the rivals are: the start of Python with the libraries that a backup cannot do without.
_LIBRARIES = "import sqlite3, json, argparse, yaml"
_BOTO3 = 'import boto3; boto3.client("s3", region_name="us-east-1")'
_LEAST_RUNS = 9
_ARCHIVED = "as a zipapp of bytecode"


def measure(folder: Path, options: Options) -> Figure:
    """Without S3 and with it, beside what Python itself takes to load the libraries."""
    folder.mkdir(parents=True)
    figure = Figure(
        "A scheduled run on a database of 1 MiB",
        f"`eternia-backup run`: lock, backup, prune, record, in a process of its own. Beside it `python -c '{_LIBRARIES}'` "
        "of the same interpreter, and with S3 (SeaweedFS on this machine) `python -c 'import boto3; "
        'boto3.client("s3")\'`. At least nine rounds; each begins with a new second, after which backups are named.',
    )
    run(python("make_database", folder / "eternia.db", 1))
    runs = max(options.runs, _LEAST_RUNS)
    local = _command(folder, "local", {})
    contenders = {"ours": local, _ARCHIVED: [sys.executable, str(_archive(folder)), *local[3:]]}
    _compare(figure, runs, contenders, _LIBRARIES, most=3)
    try:
        with object_store.running(folder / "weed") as endpoint:
            cloud = {"enabled": True, "bucket": BUCKET, "region": "us-east-1", "endpoint_url": endpoint}
            _compare(figure, runs, {"ours with S3": _command(folder, "s3", cloud)}, _BOTO3, most=2)
    except NoStoreError as exc:
        figure.add("ours with S3", f"not measured: {exc}")
    shutil.rmtree(folder)
    return figure


def _compare(figure: Figure, runs: int, contenders: Mapping[str, list[str]], rival: str, *, most: int) -> None:
    measured: dict[str, Callable[[], Usage]] = {"rival": lambda: _on_time([sys.executable, "-c", rival])}
    measured |= {name: lambda command=command: _on_time(command) for name, command in contenders.items()}  # type: ignore[misc]
    for contender in measured.values():
        contender()
    found = {name: [usage.seconds for usage in usages] for name, usages in interleaved(runs, measured).items()}
    theirs = found.pop("rival")
    for name, ours in found.items():
        ratio = Ratio.of(ours, theirs)
        judged = ("", None) if name == _ARCHIVED else (f"≤ {most}", ratio.value <= most)
        figure.add(f"{name} ÷ `{rival}`", str(ratio), *judged)
        figure.add(name, spread([1000 * seconds for seconds in ours], "ms", 0))
    figure.add(f"`{rival}`", spread([1000 * seconds for seconds in theirs], "ms", 0))
    figure.raw |= {**found, rival: theirs}


def _on_time(command: list[str]) -> Usage:
    """From the begin of a second: who comes twice in one waits for the next, as it is named after it."""
    time.sleep(1 - time.time() % 1)
    return run(command)


def _command(folder: Path, name: str, cloud: Mapping[str, object]) -> list[str]:
    """How cron would run a host of that name."""
    block = {"database_path": "eternia.db", "storage_path": name, "cloud_backup": cloud}
    fields = {"environment": "development", "host": name, "base_dir": str(folder), "backup": block}
    # JSON is YAML, too.
    (folder / f"{name}.yml").write_text(json.dumps(fields))
    return [sys.executable, "-m", f"{engine.__name__}.cli", "--config", str(folder / f"{name}.yml"), "run"]


def _archive(folder: Path) -> Path:
    """The engine in one file, compiled."""
    package = folder / "app" / "eternia_backup"
    shutil.copytree(Path(str(engine.__file__)).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package.parent / "__main__.py").write_text("from eternia_backup.cli import main\nraise SystemExit(main())\n")
    compileall.compile_dir(package, quiet=1, legacy=True)
    for source in package.rglob("*.py"):
        source.unlink()
    zipapp.create_archive(package.parent, folder / "eternia-backup.pyz")
    return folder / "eternia-backup.pyz"

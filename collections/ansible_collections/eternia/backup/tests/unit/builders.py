# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several tests build: real databases, a configuration, a clock that stands where it is put, other processes."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.eternia.backup.plugins.module_utils.engine import config as config_
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import Clock
from ansible_collections.eternia.backup.plugins.module_utils.engine.config import Config

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=timezone.utc)
NOBODY = 65534


@dataclass
class SetClock:
    """A clock that goes on only while somebody waits."""

    moment: datetime = NOON
    waited: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.moment, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.moment += timedelta(seconds=seconds)


def clock(hours: float = 0) -> Clock:
    """A clock that stands so many hours after NOON."""
    return SetClock(NOON + timedelta(hours=hours)).clock()


def configuration(base: Path, **block: Any) -> Config:
    """A configuration of staging, host web1, with everything below `base` and no S3."""
    return config_.parse(block, environment="staging", host="web1", base_dir=str(base))


def database(path: Path, *, rows: int = 50, mode: str = "wal", page_size: int = 4096) -> Path:
    """A closed database with a table `memories` of rows that fill some pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE memories (id INTEGER PRIMARY KEY, description TEXT)")
        add_rows(connection, rows)
    return path


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def add_rows(connection: sqlite3.Connection, rows: int = 1) -> None:
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO memories (description) VALUES (?)", [(f"m{n}" * 100,) for n in range(rows)])
    connection.execute("COMMIT")


def query(path: Path, sql: str) -> list[Any]:
    """What plain SQLite reads, without writing anything beside the file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def flip(path: Path, offset: int = 5000) -> None:
    """Damage a file by one bit, whatever stands there; a negative offset counts from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def tree(path: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below `path`: kind and mode, owner, and of files time and bytes."""
    found: dict[str, tuple[Any, ...]] = {}
    for entry in (path, *sorted(path.rglob("*"))):
        facts = entry.lstat()
        is_file = stat.S_ISREG(facts.st_mode)
        found[str(entry)] = (facts.st_mode, facts.st_uid, *((facts.st_mtime_ns, entry.read_bytes()) if is_file else ()))
    return found


def of_this_worker(blocks: range) -> range:
    """Those blocks of ports that no other worker of pytest tries: what is free there stays so until it is bound."""
    return blocks[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8 :: 8]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for a while, so that rights on files count; whoever is not root is that already."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that everybody can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="eternia-test-"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path)


def in_child(function: Callable[[], Any]) -> int:
    """Run `function` in a fork; returns 0, 1 where it raised (the trace is on stderr), or minus the signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Late(BaseException):
    """Nobody takes it for an error that was expected."""


@contextmanager
def in_time(seconds: int = 20) -> Iterator[None]:
    """Whatever waits for ever is interrupted."""

    def late(*_unused: object) -> None:
        raise Late("it goes on for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def leave_in_log(database_path: Path) -> None:
    """A writer that dies before what it wrote is anywhere but in the log."""

    def work_and_die() -> None:
        application = sqlite3.connect(database_path, isolation_level=None)
        application.execute("PRAGMA wal_autocheckpoint = 0")
        application.execute("INSERT INTO memories (description) VALUES ('PRECIOUS')")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work_and_die) == -signal.SIGKILL


@contextmanager
def process(script: str, *arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """Another Python that runs `script` and has said `ready`; killed afterwards, however it stands."""
    running = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.send_signal(signal.SIGKILL)
        running.communicate()


# What a run does to the disk, call by call.
CALLS = (
    *("open", "mkdir", "copy_file_range", "ftruncate", "truncate", "pwrite", "fsync", "fdatasync"),
    *("chmod", "fchmod", "chown", "fchown", "setxattr", "link", "replace", "rename", "unlink", "rmdir"),
)


def at_call(
    step: int,
    fault: Callable[[str], None],
    patch: Callable[[object, str, Any], None] = setattr,
    *,
    lasting: bool = False,
) -> None:
    """Let the `step`-th call that goes to the disk, counted over all of CALLS, meet `fault`.

    If `lasting` every later one does, too. A write gets half-way first. `fault` is told the call, `create` for an
    `open` that makes a file. Nothing is waited for: what is tested is not the disk. Before Python 3.11 pathlib has
    calls of its own, which are not counted.
    """
    count = itertools.count(1)

    def faulty(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            now = next(count)
            if now == step or (lasting and now > step):
                if name == "pwrite":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2], arguments[2])
                if name == "copy_file_range":
                    with suppress(OSError):
                        real(*arguments[:2], arguments[2] // 2, *arguments[3:])
                fault("create" if name == "open" and arguments[1] & os.O_CREAT else name)
            return None if name in ("fsync", "fdatasync") else real(*arguments, **keywords)

        return call

    for name in CALLS:
        patch(os, name, faulty(name, getattr(os, name)))


def die(_unused: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

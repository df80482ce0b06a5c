# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One scene: writers at a rate in a journal mode, backups one after the other, and everything beside them.

Everything of ours goes through the door that a host uses: the command `eternia-backup`, each in a process of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .rows import Compared, Log, compare, make

WRITERS = 2
# How many runs begin at the same moment, in turns; the lock lets one of them go on.
AT_ONCE = (1, 2, 1, 4, 1, 8, 1, 16)
_LOCKED = 11
# No exit code: a command that does not end.
_HUNG = -1
# A backup has to be there until it has been restored; behind these, prune has something to remove.
_KEEP_LAST = 20
_PATIENCE = 300
_COMMAND = [sys.executable, "-m", "ansible_collections.eternia.backup.plugins.module_utils.engine.cli"]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and when it began and ended on the machine's monotonic clock, in seconds."""

    code: int
    said: str
    began: float
    ended: float


@dataclass
class Results:
    """What a scene came to. `seconds` are those of each backup, from the start of its process to the end."""

    mode: str
    rate: int
    taken: int = 0
    compared: list[Compared] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    restores: list[float] = field(default_factory=list)
    refused: int = 0
    refused_restores: int = 0
    prunes: int = 0
    removed: int = 0
    commits: int = 0
    achieved: float = 0.0
    longest_wait: float = 0.0
    p99_wait: float = 0.0
    violations: list[str] = field(default_factory=list)

    def broke(self, what: str) -> None:
        """A promise was broken: tell at once, and go on, because the next one may say why."""
        self.violations.append(what)
        print(f"VIOLATION ({self.mode}, {self.rate}/s): {what}", file=sys.stderr, flush=True)


class Scene:
    """A folder with a live database, a storage path, and a second target to restore into."""

    def __init__(self, folder: Path, mode: str, rate: int, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.results = Results(mode, rate)
        self.live, self.restored = folder / "live" / "eternia.db", folder / "restored" / "eternia.db"
        for path in (self.live, self.restored):
            path.parent.mkdir(parents=True)
        make(self.live, mode)
        self._host = self._configure("host", self.live)
        self._second = self._configure("second", self.restored)
        # What is left when a writer is behind, and what a clock that runs late would add.
        self._most = int(rate / WRITERS * (seconds + 2 * _PATIENCE))
        self._logs = {who: Log(folder / f"writer-{who}", self._most) for who in range(1, WRITERS + 1)}

    def play(self) -> Results:
        """Let it go on for so many seconds. Whatever breaks a promise stands in the results."""
        began = time.monotonic()
        with ThreadPoolExecutor(max(AT_ONCE) + 2) as pool:
            with self._writing():
                checking: list[Future[None]] = []
                number = 0
                while time.monotonic() < began + self.seconds or not self.results.taken:
                    taken = self._group(AT_ONCE[number % len(AT_ONCE)], number, pool)
                    # Restored beside the runs that come next, but not left behind by them.
                    for one in checking:
                        one.result()
                    checking = [pool.submit(self._check, taken)]
                    number += 1
                    if time.monotonic() > began + self.seconds + _PATIENCE:
                        self.results.broke(f"no backup was taken within {_PATIENCE} s")
                        break
                for one in checking:
                    one.result()
            self._count_commits(time.monotonic() - began)
        return self.results

    def _group(self, size: int, number: int, pool: ThreadPoolExecutor) -> list[tuple[str, Ended]]:
        """Begin so many runs at once, and now and then a prune with them; returns the backups that were taken."""
        runs = [pool.submit(self._type, self._host, "run") for _one in range(size)]
        pruning = pool.submit(self._type, self._host, "prune") if number % 3 == 1 else None
        taken = []
        for run in runs:
            ended = run.result()
            found = re.search(r"^  backup +(\S+),", ended.said, re.MULTILINE)
            if ended.code == 0 and found:
                taken.append((Path(found[1]).name, ended))
                self.results.taken += 1
                self.results.seconds.append(ended.ended - ended.began)
                self.results.removed += ended.said.count("no keep rule wants it")
            elif ended.code == _LOCKED:
                self.results.refused += 1
            else:
                self.results.broke(f"a run ended with {ended.code}: {ended.said}")
        if pruning is not None:
            ended = pruning.result()
            self.results.prunes += ended.code == 0
            if ended.code not in (0, _LOCKED):
                self.results.broke(f"a prune ended with {ended.code}: {ended.said}")
        names = [name for name, _ended in taken]
        if len(set(names)) != len(names):
            self.results.broke(f"two runs say that they took the same backup: {names}")
        return taken

    def _check(self, taken: list[tuple[str, Ended]]) -> None:
        for name, ended in taken:
            if not self._restore(name):
                continue
            found = compare(self.restored, self._logs, began=ended.began, ended=ended.ended)
            self.results.compared.append(found)
            if found.lost or found.extra or found.wrong:
                told = "; ".join((f"{found.lost} lost", f"{found.extra} extra", *found.wrong[:5]))
                self.results.broke(f"{name}: {told}")
                shutil.copy(self.folder / "backups" / name, self.folder.parent / f"violation-{name}")

    def _restore(self, name: str) -> bool:
        for left in self.restored.parent.iterdir():
            # Else each restore would keep what the one before it brought.
            left.unlink() if left.is_file() else shutil.rmtree(left)
        patience = time.monotonic() + _PATIENCE
        while True:
            ended = self._type(self._second, "restore", name, "--yes")
            if ended.code == 0:
                self.results.restores.append(ended.ended - ended.began)
                return True
            if ended.code != _LOCKED or time.monotonic() > patience:
                self.results.broke(f"the restore of {name} ended with {ended.code}: {ended.said}")
                return False
            self.results.refused_restores += 1
            time.sleep(0.2)

    def _configure(self, name: str, database: Path) -> Path:
        path = self.folder / f"{name}.yml"
        block = {
            "source": "database",
            "database_path": str(database),
            "storage_path": str(self.folder / "backups"),
            "retention": {"keep_last": _KEEP_LAST},
        }
        fields = {"environment": "development", "host": "soak", "base_dir": str(self.folder), "backup": block}
        # JSON is YAML.
        path.write_text(json.dumps(fields))
        return path

    def _type(self, configuration: Path, *words: str) -> Ended:
        began = time.monotonic()
        command = [*_COMMAND, "--config", str(configuration), *words]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_PATIENCE
            )
        except subprocess.TimeoutExpired as exc:
            return Ended(_HUNG, f"it had not ended after {_PATIENCE} s: {exc.stderr!r}", began, time.monotonic())
        return Ended(done.returncode, done.stdout + done.stderr, began, time.monotonic())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        rate = self.results.rate / WRITERS
        writers = []
        for who in self._logs:
            words = map(str, (self.live, who, rate, self.folder / f"writer-{who}", self._most))
            writers.append(subprocess.Popen([sys.executable, "-m", "soak.writer", *words]))
        try:
            yield
            for writer in writers:
                if writer.poll() is not None:
                    self.results.broke(f"a writer has ended with {writer.returncode}")
        finally:
            for writer in writers:
                writer.send_signal(signal.SIGTERM)
            for writer in writers:
                writer.wait()

    def _count_commits(self, seconds: float) -> None:
        waits = sorted(wait for log in self._logs.values() for wait in log.waits())
        self.results.commits = len(waits)
        self.results.achieved = len(waits) / seconds
        if waits:
            self.results.longest_wait, self.results.p99_wait = waits[-1], waits[int(len(waits) * 0.99)]

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Promise 3 at every call that goes to the disk: killed or refused there, the target is wholly old or wholly new."""

from __future__ import annotations

import ast
import errno
import itertools
import os
import re
import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    holders,
    restore,
    snapshot,
    swap,
    target,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import EngineError
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request
from ansible_collections.eternia.backup.tests.unit.builders import (
    CALLS,
    NOON,
    SetClock,
    at_call,
    configuration,
    database,
    die,
    in_child,
)
from ansible_collections.eternia.backup.tests.unit.situations import MISSING, SITUATIONS, Situation, view


def later(hours=1):
    return SetClock(NOON + timedelta(hours=hours)).clock()


PLACES = ("linked", "copied")


@dataclass
class Host:
    """A host with one backup and something else at the target. `was` and `restored` are what an application sees."""

    base: Path
    scenario: Situation
    storage: Path
    was: Any = None
    restored: Any = None
    remains: dict[str, bytes] = field(default_factory=dict)

    @property
    def config(self):
        return configuration(self.base, storage_path=str(self.storage), source=self.scenario.kind)

    @property
    def target(self):
        return target.of(self.config, self.scenario.kind)

    def build(self):
        path = self.target.path
        if self.scenario.mode:
            database(path, mode=self.scenario.mode)
        else:
            path.parent.mkdir(parents=True)
            path.write_text('{"version": 1, "memories": [1]}')
        self.restored = self.seen()
        backup.run(self.config, clock=SetClock().clock())
        self.scenario.make(self.config)
        path.parent.chmod(0o750)
        if path.exists():
            path.chmod(0o640)
        self.was = self.seen()
        assert self.was != self.restored
        self.remains = {suffix: self.target.beside(suffix).read_bytes() for suffix in self.target.present()}

    def seen(self):
        """What an application finds that is started now; it works on a copy of the whole directory."""
        return view(self.target, {suffix: self.target.beside(suffix) for suffix in self.target.present()})

    def run(self, hours=1):
        name = "eternia_backup_20261122_120000.db" if self.scenario.mode else "eternia_state_20261122_120000.json"
        return restore.run(self.config, Request(name), clock=later(hours))

    def kept(self):
        """What each safety backup would bring back."""
        place = self.config.storage_path / "safety"
        for path in sorted(place.iterdir()) if place.exists() else ():
            if path.is_dir():
                found = {suffix: path / self.target.beside(suffix).name for suffix in self.target.suffixes}
                yield view(self.target, {suffix: one for suffix, one in found.items() if one.exists()})
            elif not path.name.endswith(".manifest.json"):
                yield view(self.target, {"": path})

    def kept_bytes(self):
        """The files of each safety backup of something that was not sound."""
        place = self.config.storage_path / "safety"
        for path in sorted(place.glob("*.raw")):
            yield {
                suffix: (path / one.name).read_bytes()
                for suffix in self.target.suffixes
                if (one := self.target.beside(suffix)) and (path / one.name).exists()
            }

    def require_whole(self, *allowed):
        found = self.seen()
        assert found in allowed, f"neither old nor new: {found!r:.300}"
        return found

    def require_settled(self):
        """Nothing of a restore lies about, and no safety backup is the file that the application writes to."""
        left = [str(path) for path in (self.target.staging, self.storage / ".staging") if path.exists()]
        assert not left, f"left behind: {left}"
        links = self.target.real.stat().st_nlink if self.target.real.exists() else 1
        assert links == 1, "the live file has another name"

    def require_restored(self):
        """The next run succeeded: the new data, dressed as the old, and the old data in a safety backup."""
        self.require_settled()
        self.require_whole(self.restored)
        beside = os.listdir(self.target.real.parent)
        assert beside == [self.target.real.name], f"left behind: {beside}"
        mode = self.target.real.stat().st_mode & 0o777
        assert mode == (0o640 if "" in self.remains else 0o600), f"its mode is {mode:o}"
        self.require_kept()

    def require_kept(self):
        """What was there can be brought back, and byte for byte where it was damaged."""
        kept = list(self.kept())
        assert self.was in kept, f"{self.was} is lost, there are {kept}"
        if self.was[0] in (MISSING, "damaged"):
            wanted = without_index(self.remains)
            assert wanted in map(without_index, self.kept_bytes()), f"{list(wanted)} are not kept as they were"


def without_index(parts):
    """A reader notes in the index of a log where he is."""
    return {suffix: raw for suffix, raw in parts.items() if suffix != "-shm"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(snapshot, "_STATE_PAUSE", 0)


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch):
    """Nobody but us: each look goes over every open file of the machine, and here thousands of restores look."""
    tests = os.getpid()

    def descriptors():
        others = [tests] if os.getpid() != tests else []
        return ((pid, f"/proc/{pid}/fd/{number}") for pid in others for number in os.listdir(f"/proc/{pid}/fd"))

    monkeypatch.setattr(holders, "_descriptors", descriptors)


@pytest.fixture(scope="module")
def filesystems(tmp_path_factory):
    """Two directories on two filesystems; the first where nothing waits for a disk."""
    base = tmp_path_factory.mktemp("host")
    fast = tempfile.mkdtemp(dir="/dev/shm", prefix="eternia-test-")
    yield Path(fast), base
    shutil.rmtree(fast)


@pytest.fixture(scope="module")
def templates(filesystems):
    """A host of every scenario, built once."""
    built = {}

    def of(name):
        if name not in built:
            base = filesystems[0] / name
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(snapshot, "_STATE_PAUSE", 0)
                built[name] = Host(base, SITUATIONS[name], base / "backups")
                built[name].build()
        return built[name]

    return of


@pytest.fixture
def hosts(templates, filesystems):
    """Makes hosts of a scenario, each in place of the one before."""
    base, elsewhere = (directory / "one" for directory in filesystems)
    assert filesystems[0].stat().st_dev != filesystems[1].stat().st_dev

    def make(name, place="linked"):
        template = templates(name)
        storage = base / "backups" if place == "linked" else elsewhere
        host = Host(base, template.scenario, storage, template.was, template.restored, template.remains)
        for path in (base, elsewhere):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(template.target.real.parent, host.target.real.parent)
        shutil.copytree(template.storage, storage)
        return host

    return make


def killed(host, step, act=Host.run):
    """Whether the child that ran `act` died at its `step`-th call."""

    def child():
        at_call(step, die)
        act(host)

    ended = in_child(child)
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


# So many violations are enough to know.
MOST_WRONG = 30


def each_point(make, act):
    """Do `act` with a host and every number, until it says that there was no such point; all violations together."""
    wrong = []
    for step in itertools.count(1):
        try:
            if not act(make(), step):
                break
        except (AssertionError, EngineError) as exc:
            wrong.append(f"{step}: {str(exc).splitlines()[0]:.400}")
            # It may go wrong at points that do not exist, too.
            if len(wrong) == MOST_WRONG:
                break
    assert not wrong, f"{len(wrong)} of {step} points:\n" + "\n".join(wrong)
    return step


def layout(host):
    """Which names there are, which of them are the same file, and their sizes."""
    inodes = {}
    found = []
    for path in (*sorted(host.target.real.parent.rglob("*")), *sorted(host.storage.rglob("*"))):
        facts = path.lstat()
        found.append((str(path), inodes.setdefault(facts.st_ino, len(inodes)), facts.st_size))
    return tuple(found)


# A copy costs as much as all the rest, and what it is a copy of matters little.
COMBINATIONS = [
    *((name, "linked") for name in SITUATIONS),
    *((name, "copied") for name in ("log", "damaged, garbage", "state")),
]


@pytest.mark.parametrize(("name", "place"), COMBINATIONS)
def test_killed_at_any_call_it_is_wholly_old_or_wholly_new_and_the_next_run_works(hosts, name, place):
    seen = set()

    def die_and_run_again(host, step):
        was_killed = killed(host, step)
        host.require_whole(host.was, host.restored)
        if layout(host) not in seen:
            seen.add(layout(host))
            if len(seen) % 2 and was_killed:
                settled_by_a_backup(host)
            host.run(2)
            host.require_restored()
        return was_killed

    assert each_point(lambda: hosts(name, place), die_and_run_again) > 40


def settled_by_a_backup(host):
    """A backup settles what a restore left; of what is damaged or missing it takes none, and says so."""
    with suppress(EngineError):
        backup.run(host.config, clock=later(1.5))
    host.require_whole(host.was, host.restored)
    host.require_settled()


# What a full disk refuses; what takes no room goes on working.
NEEDS_ROOM = {"create", "mkdir", "copy_file_range", "ftruncate", "pwrite", "fsync", "setxattr", "link"}


def full_disk(name):
    if name in NEEDS_ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken_disk(name):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


FAULTS = {
    "broken": (broken_disk, False),
    "full from then on": (full_disk, True),
    "broken from then on": (broken_disk, True),
}


class KilledError(BaseException):
    """As good as a signal while every later call meets it too, and cheaper than a child."""


def kill(_name):
    raise KilledError


def met_at(step, fault, lasting, act):
    """Whether `act` came to its `step`-th call, and what became of it: an EngineError, a KilledError, or None."""
    met = []

    def meet(name):
        met.append(name)
        fault(name)

    with pytest.MonkeyPatch.context() as patched:
        at_call(step, meet, patched.setattr, lasting=lasting)
        try:
            act()
        except (EngineError, KilledError) as exc:
            return bool(met), exc
    return bool(met), None


@pytest.mark.parametrize(
    ("name", "place", "faults"),
    [
        *((*one, "broken") for one in COMBINATIONS),
        *(
            (*one, "full from then on")
            for one in (("log", "linked"), ("damaged, garbage", "copied"), ("state", "linked"))
        ),
        *((*one, "broken from then on") for one in (("damaged, log", "linked"), ("log", "copied"))),
    ],
)
def test_refused_at_any_call_it_is_as_it_was_and_the_next_run_works(hosts, name, place, faults):
    fault, lasting = FAULTS[faults]
    seen = set()

    def refuse_and_run_again(host, step):
        was_met, failure = met_at(step, fault, lasting, host.run)
        if failure is None:
            host.require_whole(host.restored)
        else:
            # It says what to do, too.
            assert re.search(r"\. [A-Z][a-z]+ ", str(failure)), failure
            # What cannot even be taken back now is a matter for the next run, which knows how.
            found = host.require_whole(host.was, host.restored)
            assert found == host.was or "could not be taken back" in str(failure), failure
        if layout(host) not in seen:
            seen.add(layout(host))
            host.run(2)
            host.require_restored()
        return was_met

    assert each_point(lambda: hosts(name, place), refuse_and_run_again) > 40
    assert len(seen) >= 4


def cut_off(host, step):
    """Whether a restore that is killed at its `step`-th call leaves something to be settled; None: there is none."""
    was_met, _failure = met_at(step, kill, True, host.run)
    return swap.pending(host.target) is not None if was_met else None


@pytest.fixture(scope="module")
def cut_offs():
    """By scenario the calls of a restore at which a kill leaves something to be settled, one for each layout."""
    known = {}

    def of(make, *combination):
        if combination not in known:
            layouts = {}
            for step in itertools.count(1):
                host = make(*combination)
                left = cut_off(host, step)
                if left is None:
                    break
                if left:
                    layouts.setdefault(layout(host), step)
            known[combination] = list(layouts.values())
            assert len(known[combination]) >= 4
        return known[combination]

    return of


# Of each way to keep what is there and to take back, one.
DIFFERENT = [("log", "linked"), ("log", "copied"), ("damaged, log", "linked"), ("damaged, garbage", "copied")]


@pytest.mark.parametrize("combination", [*DIFFERENT, ("missing, orphan", "linked"), ("state", "linked")], ids=" ".join)
@pytest.mark.parametrize("ended_by", ["a kill", "an error"])
def test_killed_while_it_is_settled_or_taken_back(hosts, cut_offs, combination, ended_by):
    def die_twice(first, seen, host, second):
        if ended_by == "a kill":
            assert cut_off(host, first)
            was_met, _failure = met_at(second, kill, True, lambda: swap.tidy(host.target))
        else:
            with pytest.MonkeyPatch.context() as patched:
                at_call(first, broken_disk, patched.setattr)
                was_met, _failure = met_at(first + second, kill, True, host.run)
        now = layout(host)
        if now not in seen:
            seen.add(now)
            host.require_whole(host.was, host.restored)
            host.run(2)
            host.require_restored()
        return was_met

    for first in cut_offs(hosts, *combination):
        each_point(lambda: hosts(*combination), partial(die_twice, first, set()))


def add_a_row(path):
    """An application that finds what is there, or begins anew; nothing where it cannot."""
    with closing(sqlite3.connect(path, isolation_level=None)) as application, suppress(sqlite3.Error):
        application.execute("CREATE TABLE IF NOT EXISTS memories (id INTEGER PRIMARY KEY, description TEXT)")
        application.execute("INSERT INTO memories (description) VALUES ('of the application')")


def add_a_row_and_die(path):
    def write():
        application = sqlite3.connect(path, isolation_level=None)
        with suppress(sqlite3.Error):
            application.execute("CREATE TABLE IF NOT EXISTS memories (id INTEGER PRIMARY KEY, description TEXT)")
            application.execute("INSERT INTO memories (description) VALUES ('of the application')")
        die("")

    in_child(write)


def look_and_close(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as application, suppress(sqlite3.Error):
        application.execute("SELECT count(*) FROM memories").fetchall()


def begin_anew(path):
    """An operator who loses patience: the same inode may be given again."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
    add_a_row(path)


@pytest.mark.parametrize("application", [add_a_row, add_a_row_and_die, look_and_close, begin_anew])
@pytest.mark.parametrize(
    "combination", [*DIFFERENT, ("hot journal", "linked"), ("missing, orphan", "linked")], ids=" ".join
)
def test_what_an_application_writes_after_a_cut_off_restore_is_never_lost(hosts, cut_offs, combination, application):
    for step in cut_offs(hosts, *combination):
        host = hosts(*combination)
        assert cut_off(host, step)
        application(host.target.path)
        found = host.seen()
        swap.tidy(host.target)
        host.require_whole(found, *([host.was] if application is look_and_close else []))
        assert not host.target.staging.exists()
        found = host.seen()
        host.run(2)
        host.require_whole(host.restored)
        assert found in (host.restored, *host.kept()), f"{step}: lost {found}"


# What only looks, and what has nothing to do with a disk.
READS = {
    *(
        "access",
        "close",
        "cpu_count",
        "dup2",
        "fdopen",
        "fsdecode",
        "fsencode",
        "fspath",
        "fstat",
        "geteuid",
        "getgrouplist",
    ),
    *("getpid", "getxattr", "kill", "killpg"),
    *("listdir", "listxattr", "lstat", "pipe", "pread", "readlink", "scandir", "stat", "statvfs", "strerror", "uname"),
}


def test_every_call_of_the_engine_that_changes_a_disk_is_counted():
    """A step that is new is covered by itself only if its calls are known."""
    for path in sorted(Path(restore.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                module, name = node.func.value, node.func.attr
                is_of_os = isinstance(module, ast.Name) and module.id == "os"
                assert not is_of_os or name in {*CALLS, *READS}, f"os.{name} in {path}:{node.lineno}"

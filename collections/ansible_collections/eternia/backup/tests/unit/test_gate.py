# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody comes in while the live file is replaced: an application that has the old file and the new one mixes them."""

from __future__ import annotations

import errno
import os
import resource
import select
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from io import FileIO

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, gate, placing, restore, swap
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import LockedError, TargetError
from ansible_collections.eternia.backup.tests.unit.builders import (
    add_rows,
    clock,
    configuration,
    connect,
    database,
    query,
)

# Reads which generation of the data it has, and notes it: a note of another generation came through a mixed log.
_SWARM = """
import contextlib, random, sqlite3, sys, time
end = time.monotonic() + float(sys.argv[2])
noted = 0
while time.monotonic() < end:
    with contextlib.suppress(sqlite3.Error):
        with contextlib.closing(sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO notes SELECT generation FROM generations")
            connection.execute("COMMIT")
            noted += 1
    time.sleep(random.expovariate(20))
print(noted)
"""


class InterruptedByASignal(BaseException):
    """As SIGTERM's handler raises it."""


def can_be_shut(path) -> bool:
    path.write_bytes(b"")
    with gate.shut(path) as is_shut:
        return is_shut


@pytest.fixture(autouse=True)
def require_gate(tmp_path):
    if not can_be_shut(tmp_path / "probe"):
        pytest.skip("only root may refuse an open (fanotify)")


def opened(path) -> subprocess.CompletedProcess[str]:
    program = "import sys; print(open(sys.argv[1], 'rb').read(6))"
    return subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)


def test_others_are_refused_by_every_name_and_only_while_it_lasts(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"inside")
    os.link(path, tmp_path / "second-name")
    with gate.shut(path) as is_shut:
        assert is_shut
        assert path.read_bytes() == b"inside"
        for name in ("file", "second-name"):
            assert "Operation not permitted" in opened(tmp_path / name).stderr
        assert opened(tmp_path / "probe").stdout == "b''\n"
    assert opened(path).stdout == "b'inside'\n"


def test_whoever_waits_when_it_ends_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"inside")
    answer = gate._answer
    waits = threading.Event()

    def late(queue, wake):
        if select.select([queue], [], [], 20)[0]:
            waits.set()
        # Nobody answers until the gate is being opened again.
        select.select([wake], [], [])
        answer(queue, wake)

    monkeypatch.setattr(gate, "_answer", late)
    with gate.shut(path):
        waiting = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert waits.wait(20)
        assert waiting.poll() is None
    output, error = waiting.communicate(timeout=10)
    assert (output, waiting.returncode) == ("", 1)
    assert "Operation not permitted" in error


@pytest.mark.parametrize("done", [False, True])
def test_a_signal_while_it_is_opened_again_leaves_no_file_shut(tmp_path, monkeypatch, done):
    """Nobody waits for an answering that was not told to end."""
    path = tmp_path / "file"
    path.write_bytes(b"inside")
    told = []

    class Signalled(FileIO):
        def close(self):
            if self.mode == "wb":
                told.append(self)
                if len(told) > 1 or done:
                    super().close()
                if len(told) == 1:
                    raise InterruptedByASignal
            else:
                super().close()

    monkeypatch.setattr(gate, "FileIO", Signalled)

    def shut_and_open():
        with gate.shut(path) as is_shut:
            assert is_shut

    with pytest.raises(InterruptedByASignal):
        shut_and_open()
    assert len(told) > 1
    assert not [one for one in threading.enumerate() if one.daemon]
    assert opened(path).stdout == "b'inside'\n"


def test_a_process_that_is_killed_leaves_no_file_shut(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"inside")
    program = (
        "import os, signal, sys, pathlib\n"
        f"from {gate.__name__} import shut\n"
        "with shut(pathlib.Path(sys.argv[1])) as is_shut:\n"
        "    assert is_shut\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -9
    assert opened(path).stdout == "b'inside'\n"


def test_what_is_not_there_cannot_be_shut_and_that_is_said(tmp_path):
    with gate.shut(tmp_path / "missing") as is_shut:
        assert not is_shut


@pytest.fixture
def config(tmp_path):
    database(tmp_path / "data" / "eternia.db")
    return configuration(tmp_path)


def test_a_lock_that_is_let_go_of_with_an_error_makes_no_failure_of_a_restore(config, monkeypatch):
    backup.run(config, clock=clock())
    with closing(connect(config.database_path)) as application:
        add_rows(application, 5)
    check, close, failed = placing._check_in_place, os.close, []

    def close_badly(descriptor):
        close(descriptor)
        failed.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    def check_and_break(*arguments):
        check(*arguments)
        monkeypatch.setattr(os, "close", close_badly)

    monkeypatch.setattr(placing, "_check_in_place", check_and_break)
    restored = restore.run(config, restore.Request(), clock=clock(1))
    monkeypatch.setattr(os, "close", close)
    assert len(failed) >= 4
    assert restored.changed
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(50,)]
    assert opened(config.database_path).stdout == "b'SQLite'\n"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_comes_in_beside_the_rename_gets_neither_file(config, monkeypatch, moment):
    backup.run(config, clock=clock())
    with closing(connect(config.database_path)) as application:
        add_rows(application, 5)
    commit, came = swap.commit, []

    def with_visitor(*arguments):
        if moment == "before":
            came.append(opened(config.database_path))
        commit(*arguments)
        if moment == "after":
            came.append(opened(config.database_path))

    monkeypatch.setattr(swap, "commit", with_visitor)
    restore.run(config, restore.Request(), clock=clock(1))
    assert "Operation not permitted" in came[0].stderr
    assert query(config.database_path, "SELECT count(*) FROM memories") == [(50,)]
    assert opened(config.database_path).stdout == "b'SQLite'\n"


def test_what_appears_where_nothing_was_is_not_replaced(config, monkeypatch):
    backup.run(config, clock=clock())
    config.database_path.unlink()
    for companion in ("-wal", "-shm"):
        config.database_path.with_name(f"{config.database_path.name}{companion}").unlink(missing_ok=True)
    commit = swap.commit

    def with_visitor(*arguments):
        config.database_path.write_bytes(b"somebody's")
        commit(*arguments)

    monkeypatch.setattr(swap, "commit", with_visitor)
    with pytest.raises(TargetError, match="was replaced or written to by somebody"):
        restore.run(config, restore.Request(), clock=clock(1))
    assert config.database_path.read_bytes() == b"somebody's"


@contextmanager
def swarm(path, seconds, count=3):
    command = [sys.executable, "-c", _SWARM, str(path), str(seconds)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _number in range(count)]
    outputs: list[int] = []
    yield outputs
    outputs += [int(process.communicate(timeout=60)[0]) for process in processes]


def test_restores_under_applications_that_come_and_go_are_done_or_refused_and_mix_nothing(config):
    made = []
    for generation in (1, 2):
        with closing(connect(config.database_path)) as application:
            application.execute("CREATE TABLE IF NOT EXISTS generations (generation)")
            application.execute("CREATE TABLE IF NOT EXISTS notes (generation)")
            application.execute("DELETE FROM generations")
            application.execute("DELETE FROM notes")
            application.execute("INSERT INTO generations VALUES (?)", [generation])
            application.commit()
        made.append(str(backup.run(config, clock=clock(generation)).name))
    restored = 0
    with swarm(config.database_path, 4) as noted:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            with suppress(LockedError):
                restore.run(config, restore.Request(made[restored % 2]), clock=clock(3))
                restored += 1
    assert restored > 0
    assert sum(noted) > 0
    assert query(config.database_path, "PRAGMA integrity_check") == [("ok",)]
    ((generation,),) = query(config.database_path, "SELECT generation FROM generations")
    assert query(config.database_path, "SELECT DISTINCT generation FROM notes") in ([], [(generation,)])


def test_it_ends_however_many_knock(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"inside")
    program = "import sys\nwhile True:\n    try: open(sys.argv[1]).close()\n    except OSError: pass"
    knocking = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _number in range(16)]
    try:
        time.sleep(1)
        with gate.shut(path):
            started = time.monotonic()
        assert time.monotonic() - started < 10
    finally:
        for process in knocking:
            process.kill()
            process.wait()


def test_it_is_shut_beyond_a_thousand_descriptors(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"inside")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with ExitStack() as opened_files:
        for _number in range(1100):
            opened_files.enter_context(path.open())
        with gate.shut(path) as is_shut:
            assert is_shut
            assert "Operation not permitted" in opened(path).stderr


def test_one_descriptor_that_cannot_be_closed_keeps_nobody_waiting(monkeypatch):
    """Otherwise the thread that answers ends there, and whoever knocks afterwards waits until the gate is gone."""
    answered = []

    class Queue:
        def read(self, _size):
            return b"".join(gate._EVENT.pack(gate._EVENT.size, 3, 0, gate._EVENT.size, 0, one, 1) for one in (901, 902))

        def write(self, answer):
            answered.append(answer)

    def close(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(gate.os, "close", close)
    assert gate._answer_some(Queue())
    assert len(answered) == 2

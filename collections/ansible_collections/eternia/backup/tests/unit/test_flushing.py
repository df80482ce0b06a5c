# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flushing what was copied while more is copied: no more than two steps lie in memory, and no failure is lost."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import copying

STEP, STEPS = 4096, 10


@pytest.fixture
def pair(tmp_path):
    """Two open files, of which the first has ten steps of bytes; clones are out of the question."""
    (tmp_path / "source").write_bytes(os.urandom(STEPS * STEP))
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("w+b") as target:
        yield source.fileno(), target.fileno()


@pytest.fixture(autouse=True)
def _no_clones(monkeypatch):
    monkeypatch.setattr(copying, "clone", lambda *_: False)


def copy(pair):
    return copying.copy_bytes(*pair, STEPS * STEP, flush_bytes=STEP)


def test_all_is_copied_and_each_step_flushed(pair, monkeypatch):
    sizes, flushed = [], []
    flush = os.fdatasync

    def slow(descriptor):
        begun = os.fstat(descriptor).st_size
        flush(descriptor)
        flushed.append(begun)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(copying.os, "fdatasync", slow)
    assert copy(pair) == "copy_file_range"
    assert os.pread(pair[1], STEPS * STEP, 0) == os.pread(pair[0], STEPS * STEP, 0)
    assert len(flushed) == STEPS
    # While one step is flushed, one more is copied, and then it is waited for.
    assert all(size - begun <= STEP for size, begun in zip(sizes, range(STEP, STEPS * STEP, STEP)))


@pytest.mark.parametrize("at", [1, 5, STEPS], ids=["the first", "one in the middle", "the last"])
def test_a_flush_that_fails_is_a_copy_that_fails(pair, monkeypatch, at):
    done = []

    def flush(descriptor):
        done.append(descriptor)
        if len(done) == at:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(copying.os, "fdatasync", flush)
    with pytest.raises(OSError, match="Input/output error"):
        copy(pair)


def test_no_flush_outlives_the_copy(pair, monkeypatch):
    """What ends the copy meets a flush at work, even when it ends the wait for it too."""
    let_go, ended = threading.Event(), []

    def flush(_descriptor):
        let_go.wait(10)
        ended.append(True)

    join = threading.Thread.join

    def interrupted(thread, *arguments):
        if not let_go.is_set():
            let_go.set()
            raise KeyboardInterrupt
        join(thread, *arguments)

    monkeypatch.setattr(copying.os, "fdatasync", flush)
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        copy(pair)
    assert ended == [True]


def test_where_no_thread_can_be_had_it_is_done_one_after_the_other(pair, monkeypatch):
    def start(_thread):
        raise RuntimeError("can't start new thread")

    flushed = []
    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(copying.os, "fdatasync", flushed.append)
    copy(pair)
    assert flushed == [pair[1]] * STEPS

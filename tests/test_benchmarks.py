# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the figures stand on: bytes are counted right, nobody wins by doing nothing, who is missing is named."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import threading
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from development import CHECKOUT

from benchmarks import line, peers, plot, report
from benchmarks.options import Options
from benchmarks.processes import Usage, python, run
from benchmarks.rivals import Cp, Restic


@pytest.fixture(autouse=True)
def _from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make bench` starts it."""
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("PYTHONPATH", "collections")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    made = tmp_path / "eternia.db"
    run(python("make_database", made, 1))
    return made


def one_round(folder: Path) -> Options:
    return Options(mib=1, large_mib=1, runs=1, place=folder)


def results(*sizes: int) -> dict[str, Any]:
    """As a run leaves them that compared ours with `cp` at these sizes in MiB."""
    figures = []
    for mib in sizes:
        step = peers.Step(seconds=mib / 100, peak=1, sent=0, received=0, kept=0, told={})
        taken = {name: {peers.FIRST: [step]} for name in ("ours", "`cp` + fsync")}
        figures.append(asdict(peers._figure("the disk", mib, taken, {})))
    return {"options": {"MiB": max(sizes, default=0)}, "machine": {}, "figures": figures}


def test_the_line_counts_every_byte_both_ways(tmp_path: Path) -> None:
    asked, answered = b"q" * 3_000_000, b"a" * 2_000_001
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as accepted:
                while accepted.recv(1 << 16):
                    pass
                accepted.sendall(answered)

        threading.Thread(target=serve, daemon=True).start()
        with line.counted(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path) as way:
            with socket.create_connection(("127.0.0.1", int(way.endpoint.rpartition(":")[2]))) as client:
                client.sendall(asked)
                client.shutdown(socket.SHUT_WR)
                got = b"".join(iter(lambda: client.recv(1 << 16), b""))
            assert got == answered
            assert way.passed() == (len(asked), len(answered))


@pytest.mark.parametrize(("how", "share"), [("range", 100), ("random", 1000)])
def test_rows_change_as_they_are_said_to(database: Path, how: str, share: int) -> None:
    def rows() -> dict[int, float]:
        with closing(sqlite3.connect(database)) as connection:
            return dict(connection.execute("SELECT rowid, clarity FROM memories"))

    before = rows()
    run(python("change_rows", database, 1, how))
    after = rows()
    changed = [row for row in before if before[row] != after[row]]
    assert len(changed) == len(before) // share + (how == "range")
    assert (changed[-1] - changed[0] + 1 == len(changed)) is (how == "range")


def test_litestream_finds_the_log_of_the_changes(database: Path) -> None:
    run(python("change_rows", database, 1, "range", "log"))
    assert Path(f"{database}-wal").stat().st_size > 0


def test_who_is_not_installed_has_a_row_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _command: None)
    options = one_round(tmp_path)
    taken, reasons = peers._rounds(tmp_path / "rounds", 1, (Restic, Cp), options)
    figure = peers._figure("the disk", 1, taken, reasons)
    rows = {row.label: row.value for row in figure.rows}
    assert rows["restic"] == "not installed: apt-get install restic"
    assert {f"{Cp.name} — {step}" for step in (peers.FIRST, peers.RANGE, peers.RANDOM, peers.RESTORE)} <= set(rows)


def test_who_brings_back_something_else_has_no_figures(tmp_path: Path) -> None:
    class Forgetful(Cp):
        """Always restores its first backup."""

        def restore(self) -> tuple[Usage, Path]:
            return run(["true"]), min(self.kept.iterdir())

    taken, reasons = peers._rounds(tmp_path / "rounds", 1, (Forgetful,), one_round(tmp_path))
    assert taken == {}
    assert reasons == {Cp.name: f"failed: {Cp.name} brought back something else"}


def test_the_picture_shows_everybody_at_every_size() -> None:
    root = ElementTree.fromstring(plot.svg(results(256, 2048)))
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"first backup to the disk", "ours", "cp + fsync", "256 MiB", "2 GiB"} <= set(texts)
    lines = [one.attrib["points"].split() for one in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(points) for points in lines] == [2, 2]


def test_the_page_shows_the_picture_where_there_is_one() -> None:
    assert f"]({report.PICTURE})" in report.page(results(256))
    assert report.PICTURE not in report.page(results())
    assert plot.svg(results()) == ""

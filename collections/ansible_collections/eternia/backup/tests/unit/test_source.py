# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source: which file is meant, and what is wrong with it, said before anything is copied."""

from __future__ import annotations

import os
import random
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, catalog, selection
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import SourceError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE, STATE
from ansible_collections.eternia.backup.plugins.module_utils.engine.source import (
    Source,
    examine,
    of_host,
    resolve,
)
from ansible_collections.eternia.backup.tests.unit.builders import (
    clock,
    configuration,
    database,
    open_directory,
    unprivileged,
)


def socket_at(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


MISSHAPEN = [
    (lambda path: None, r"does not exist. If it was lost, restore it; otherwise correct {kind}_path"),
    (lambda path: path.mkdir(), r"is a directory, not a file. Correct {kind}_path"),
    (os.mkfifo, r"is a FIFO, not a file. Correct {kind}_path"),
    (socket_at, r"is a socket, not a file"),
    (lambda path: path.symlink_to("/nowhere/at/all"), r"is a symbolic link to nothing \(/nowhere/at/all\)"),
    (lambda path: path.symlink_to(path), r"is a symbolic link to nothing \(source\)"),
    (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\). Nothing was backed up; if its content was lost, rest"),
]
NO_DATABASE = [
    (b"S", r"has 1 bytes, which is too short for a SQLite database"),
    (b"SQLite format 3\0" + bytes(83), r"has 99 bytes, which is too short"),
    (b"x" * 5000, r"is not a SQLite database, or it is encrypted .* correct database_path"),
    (random.Random(1).randbytes(4096), r"is not a SQLite database, or it is encrypted"),
    (b'{"version": 1, ' + b'"memories": []}'.rjust(200), r"is not a SQLite database"),
    (b"\0" * 8192, r"is not a SQLite database"),
]


@pytest.mark.parametrize("kind", [DATABASE, STATE])
@pytest.mark.parametrize(
    ("make", "message"), MISSHAPEN, ids=["missing", "directory", "FIFO", "socket", "dangling link", "loop", "empty"]
)
def test_what_is_no_file_with_content(tmp_path, monkeypatch, kind, make, message):
    # The path of a socket must be short.
    monkeypatch.chdir(tmp_path)
    path = Path("source")
    make(path)
    with pytest.raises(SourceError, match="^source " + message.format(kind=kind)):
        examine(Source(kind, path))


@pytest.mark.parametrize(
    ("content", "message"), NO_DATABASE, ids=["one byte", "99 bytes", "text", "encrypted", "JSON", "zeros"]
)
def test_what_is_no_database(tmp_path, content, message):
    path = tmp_path / "eternia.db"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"^{path} {message}"):
        examine(Source(DATABASE, path))
    assert path.read_bytes() == content


def test_unreadable():
    with open_directory() as base:
        path = database(base / "eternia.db")
        path.chmod(0)
        with (
            unprivileged(),
            pytest.raises(SourceError, match=rf"^{path} cannot be read: user \w+ may not read {path} \("),
        ):
            examine(Source(DATABASE, path))


def test_in_a_directory_that_cannot_be_entered():
    with open_directory() as base:
        path = database(base / "data" / "eternia.db")
        path.parent.chmod(0)
        with unprivileged(), pytest.raises(SourceError, match=rf" may not search the directory {path.parent} \("):
            examine(Source(DATABASE, path))
        path.parent.chmod(0o700)


def test_the_size_is_the_files(tmp_path):
    path = database(tmp_path / "eternia.db")
    assert examine(Source(DATABASE, path)) == path.stat().st_size


@pytest.mark.parametrize(
    ("wanted", "there", "backed_up", "kind"),
    [
        ("auto", {DATABASE, STATE}, set(), DATABASE),
        ("auto", {DATABASE}, {STATE}, DATABASE),
        ("auto", {STATE}, set(), STATE),
        ("auto", {STATE}, {STATE}, STATE),
        ("auto", set(), {STATE}, STATE),
        # Its absence is a loss to be told.
        ("auto", {STATE}, {DATABASE}, DATABASE),
        ("auto", set(), {DATABASE}, DATABASE),
        ("database", {STATE}, set(), DATABASE),
        ("state", {DATABASE}, {DATABASE}, STATE),
    ],
)
def test_which_source_is_meant(tmp_path, wanted, there, backed_up, kind):
    config = configuration(tmp_path, source=wanted, database_path="eternia.db", state_path="state.json")
    paths = {DATABASE: config.database_path, STATE: config.state_path}
    for one in there:
        paths[one].touch()
    assert resolve(config, backed_up=backed_up) == Source(kind, paths[kind])


def test_a_database_that_is_a_dangling_link_is_not_passed_over_for_the_state(tmp_path):
    config = configuration(tmp_path, database_path="eternia.db", state_path="state.json")
    config.state_path.write_text("{}")
    config.database_path.symlink_to("/nowhere")
    assert resolve(config, backed_up=set()).kind == DATABASE


def test_nothing_to_back_up(tmp_path):
    with pytest.raises(SourceError, match=r"neither .*/data/eternia\.db nor .*/logs/state_snapshot\.json exists\."):
        resolve(configuration(tmp_path), backed_up=set())


def found(config):
    return of_host(config, catalog.build([catalog.local(config)]))


@pytest.fixture
def bereft(tmp_path):
    """A host that had a database, and has an empty storage path and a state now."""
    config = configuration(tmp_path)
    config.state_path.parent.mkdir()
    config.state_path.write_text('{"agents": [1]}')
    return config


@pytest.fixture
def out_of_reach(bereft, s3_settings):
    """The same host, whose backups go to where nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    return replace(bereft, cloud=replace(s3_settings, endpoint_url=endpoint))


@pytest.mark.parametrize("folder", ["data/backups", "logs/backups"])
def test_a_database_that_eternias_own_manager_backed_up_is_a_loss(bereft, tmp_path, folder):
    database(tmp_path / folder / "eternia_backup_20261101_000000.db")
    assert found(bereft) == Source(DATABASE, bereft.database_path)
    message = rf"^{bereft.database_path} does not exist\. If it was lost, restore it"
    with pytest.raises(SourceError, match=message):
        backup.plan(bereft, clock=clock())
    with pytest.raises(backup.RunFailedError, match=message):
        backup.run(bereft, clock=clock())
    assert list(catalog.local(bereft).copies()) == []


def test_a_database_that_only_s3_remembers_is_a_loss(bereft, s3_settings):
    config = replace(bereft, cloud=s3_settings)
    database(config.database_path)
    backup.run(config, clock=clock())
    config.database_path.unlink()
    shutil.rmtree(config.storage_path)
    assert found(config) == Source(DATABASE, config.database_path)
    with pytest.raises(backup.RunFailedError, match=r"eternia\.db does not exist\. If it was lost, restore it"):
        backup.run(config, clock=clock(1))


def test_a_host_that_never_had_a_database_backs_up_its_state(bereft, s3_settings):
    config = replace(bereft, cloud=s3_settings)
    for hour in range(2):
        assert backup.run(config, clock=clock(hour)).name.kind == STATE


def test_while_s3_cannot_be_asked_the_state_is_not_taken_for_a_lost_database(out_of_reach):
    config = out_of_reach
    with pytest.raises(backup.RunFailedError) as failed:
        backup.run(config, clock=clock())
    message = str(failed.value)
    assert message.startswith(
        f"{config.database_path} does not exist, and whether it was ever backed up cannot be known, so "
        f"{config.state_path} is not taken for it. "
    )
    assert f"no whole answer from {config.cloud.endpoint_url}" in message
    assert message.endswith(" If this host never had a database, set source to state.")
    assert list(catalog.local(config).copies()) == []
    assert found(replace(config, source=STATE)) == Source(STATE, config.state_path)


def test_another_hosts_prefix_does_not_tell_what_this_one_had(bereft, s3_settings):
    config = replace(bereft, cloud=s3_settings)
    database(config.database_path)
    backup.run(config, clock=clock())
    config.database_path.unlink()
    with pytest.raises(StoreError, match=r"cannot be known, .* belongs to host web1 .* Give each host its own prefix"):
        found(replace(config, host="web2", storage_path=config.storage_path / "web2"))


def test_in_the_ordinary_case_s3_is_not_asked(out_of_reach):
    config = out_of_reach
    backup.run(replace(config, cloud=None), clock=clock())
    assert found(config).kind == STATE
    config.database_path.parent.mkdir()
    config.database_path.touch()
    assert found(config).kind == DATABASE
    config.database_path.unlink()
    config.state_path.unlink()
    shutil.rmtree(config.storage_path)
    with pytest.raises(SourceError, match=r"^There is nothing to back up"):
        found(config)


def test_whoever_restores_means_what_a_run_would_back_up(bereft):
    assert selection.kind_of_host(bereft, []) == STATE
    bereft.database_path.parent.mkdir()
    bereft.database_path.touch()
    assert selection.kind_of_host(bereft, []) == DATABASE

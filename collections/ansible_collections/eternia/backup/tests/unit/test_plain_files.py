# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is read where somebody else may put what he likes: no FIFO is waited for, and no link of his followed.

What lies there was looked at before, and may be another thing a moment later.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    clone,
    compression,
    digest,
    encryption,
    files,
    holders,
    status,
    wal,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import EngineError
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores import s3_upload
from ansible_collections.eternia.backup.plugins.module_utils.engine.target import Target
from ansible_collections.eternia.backup.tests.unit.builders import configuration, database, in_time
from ansible_collections.eternia.backup.tests.unit.command_line import Host


def fifo(path):
    os.mkfifo(path)


def link(path):
    precious = path.with_name("precious")
    precious.write_bytes(b"precious")
    path.symlink_to(precious)


def encrypt(path):
    pytest.importorskip("pyrage", reason="nothing is encrypted here")
    expected = digest.of_whole(database(path.with_name("x.db")), "sha256").digest
    encryption.encrypt(path, path.with_name("x.age"), [], expected, for_s3=False, encoding=("age",))


def decrypt(path):
    library = pytest.importorskip("pyrage", reason="nothing is encrypted here")
    encryption.Identity([library.x25519.Identity.generate()]).decrypt(path, path.with_name("x.db"), None)


def decode(path):
    pytest.importorskip("zstandard", reason="nothing is compressed here")
    compression.decode(path, path.with_name("x.db"), None)


def lock(path):
    with holders.kept_out_of("database", path):
        pass


def send(path):
    upload = s3_upload.Upload(None, path, "key", None, {}, before_commit=lambda: None)
    s3_upload.send(upload, (s3_upload.MD5,))


READERS = {
    "a digest": lambda path: digest.of_whole(path, "sha256"),
    "digests of parts": lambda path: list(digest.read_parts(path, 5, digest.Sums("sha256", for_s3=False))),
    "what is encrypted": encrypt,
    "what was encrypted": decrypt,
    "what was compressed": decode,
    "what is sent to S3": send,
    "what is locked": lock,
}


@pytest.mark.parametrize(("plant", "why"), [(fifo, "it is a FIFO, not a file"), (link, "symbolic links")])
@pytest.mark.parametrize("reader", READERS)
def test_what_took_the_place_of_a_file_is_refused(tmp_path, reader, plant, why):
    plant(tmp_path / "planted")
    with in_time(), pytest.raises((OSError, EngineError), match=rf"(?i){why}"):
        READERS[reader](tmp_path / "planted")


def test_a_flush_waits_for_no_fifo(tmp_path):
    fifo(tmp_path / "planted")
    with in_time(), pytest.raises(OSError, match="Invalid argument"):
        files.fsync_path(tmp_path / "planted")


def test_the_copy_of_a_log_that_became_a_fifo_is_not_folded(tmp_path):
    target = database(tmp_path / "copy.db")
    fifo(clone._log_of(clone._original(target)))
    mark = wal.Mark(b"", frames=1, pages=1, page_size=4096, salts=b"", backfilled=0)
    descriptor = os.open(target, os.O_RDWR)
    with files.opened(descriptor), in_time(), pytest.raises(OSError, match="it is a FIFO"):
        clone.Clone(target, target, 0, {}, mark).complete(descriptor)


def test_a_fifo_in_the_place_of_the_database_has_nobody_wait_who_asks_how_the_application_stands(tmp_path):
    """As the runbook does, with the application stopped."""
    config = configuration(tmp_path)
    config.database_path.parent.mkdir()
    fifo(config.database_path)
    with in_time():
        told = status.live(config)
        assert holders.find(Target("database", config.database_path)) == []
    assert told["problem"] == f"{config.database_path} is a FIFO, not a file. Correct database_path."
    assert (told["kind"], told["exists"], told["holders"]) == ("database", True, [])


def test_a_fifo_that_is_to_be_restored_is_refused(tmp_path, capsys):
    host = Host(tmp_path, capsys)
    fifo(tmp_path / "planted")
    with in_time():
        message = host.fail(1, "restore", tmp_path / "planted", "--yes")
    assert f"{tmp_path}/planted cannot be read: it is a FIFO, not a file. Choose another backup." in message


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to(path.with_name("x"))])
def test_what_lies_where_a_manifest_is_downloaded_to_is_not_read(tmp_path, capsys, plant):
    host = Host(tmp_path, capsys)
    taken = Path(f"{host.back_up()}.manifest.json")
    directory = tmp_path / "downloaded"
    directory.mkdir()
    planted = directory / taken.name
    shutil.copy(taken, directory / "x")
    plant(planted)
    with in_time():
        message = host.fail(1, "download", "latest", "--to", directory)
    assert f"{planted} exists already, holds something else, and is never overwritten. Move it away" in message

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted backups: the host that takes them cannot read them, whoever has the key can, also by hand."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    cli_identity,
    config,
    digest,
    download,
    drill,
    encoding,
    encryption,
    fetch,
    files,
    key_check,
    names,
    restore,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    ConfigError,
    DamagedError,
    EngineError,
    NotFoundError,
    StoreError,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import STATE
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    clock,
    configuration,
    connect,
    database,
    die,
    flip,
    in_child,
    process,
    query,
)
from ansible_collections.eternia.backup.tests.unit.command_line import COLLECTIONS, Host, child_environment

pyrage = pytest.importorskip("pyrage")

ROWS = "SELECT count(*) FROM memories"
FIRST, SECOND, THIRD, FOURTH = (f"eternia_backup_20261122_1{hour}0000.db" for hour in range(2, 6))
COMPRESSIONS = {"plain": "none", "compressed": "zstd"}


class Key:
    """A secret key and its public half, as `age-keygen` writes them into a file."""

    def __init__(self, folder):
        secret = pyrage.x25519.Identity.generate()
        self.secret, self.public = str(secret), str(secret.to_public())
        self.path = folder / f"{self.public[-8:]}.key"
        self.path.write_text(f"# created: 2026-11-28T20:00:00Z\n# public key: {self.public}\n{self.secret}\n")
        self.path.chmod(0o600)

    @property
    def identity(self):
        return encryption.identity_of(self.path)


@pytest.fixture
def key(tmp_path):
    return Key(tmp_path)


@pytest.fixture
def other(tmp_path):
    return Key(tmp_path)


def host(tmp_path, key, *, compression="none", more=(), **fields):
    """A configuration whose backups are encrypted, and a database of 500 rows."""
    found = replace(configuration(tmp_path), recipients=(key.public, *more), compression=compression, **fields)
    database(found.database_path, rows=500)
    return found


def lose(found):
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.unlink(f"{found.database_path}{suffix}")


def taken(found, hours=0):
    """The path of a backup that is taken now."""
    return found.storage_path / str(backup.run(found, clock=clock(hours)).name)


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_whoever_has_the_key_gets_it_back(tmp_path, key, compression):
    found = host(tmp_path, key, compression=compression)
    path = taken(found)
    assert path.name.endswith({"none": ".db.age", "zstd": ".db.zst.age"}[compression])
    lose(found)
    done = restore.run(found, restore.Request(identity=key.identity), clock=clock(1))
    assert (done.name, query(found.database_path, ROWS)) == (path.name, [(500,)])
    assert "decode" in done.steps


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_nothing_plain_of_it_stays_and_nobody_finds_its_rows(tmp_path, key, compression):
    found = host(tmp_path, key, compression=compression)
    with closing(connect(found.database_path)) as application:
        application.execute("UPDATE memories SET description = 'canary in a coal mine'")
    taken(found)
    for path in (one for one in found.storage_path.rglob("*") if one.is_file()):
        assert b"canary" not in path.read_bytes(), path
        assert b"SQLite format" not in path.read_bytes(), path
        assert path.stat().st_mode & 0o077 == 0, path
    assert not any((found.storage_path / ".staging").glob("*"))


def test_a_manifest_says_what_was_done_and_what_comes_back(tmp_path, key):
    path = taken(host(tmp_path, key, compression="zstd"))
    fields = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
    assert fields["stored"]["encoding"] == ["zst", "age"]
    assert fields["stored"]["bytes"] == path.stat().st_size
    assert fields["content"]["bytes"] > path.stat().st_size
    assert key.public not in json.dumps(fields)


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_by_hand_with_debians_age(tmp_path, key, compression):
    if shutil.which("age") is None or shutil.which("zstd") is None:
        pytest.skip("needs age and zstd: apt-get install age zstd")
    found = host(tmp_path, key, compression=compression)
    path = taken(found)
    unpack = " | zstd -d" if compression == "zstd" else ""
    subprocess.run(
        ["bash", "-c", f"set -o pipefail; age -d -i {key.path} {path}{unpack} > {tmp_path}/plain"], check=True
    )
    assert query(tmp_path / "plain", ROWS) == [(500,)]
    assert query(tmp_path / "plain", "PRAGMA integrity_check") == [("ok",)]


def test_what_age_made_by_hand_comes_back(tmp_path, key):
    """As after an operator put a file into the store himself: it has no manifest, and is allowed for."""
    if shutil.which("age") is None:
        pytest.skip("needs age: apt-get install age")
    found = host(tmp_path, key)
    plain = database(tmp_path / "by-hand.db", rows=7)
    place = tmp_path / "eternia_backup_20261101_120000.db.age"
    subprocess.run(["age", "-r", key.public, "-o", str(place), str(plain)], check=True)
    lose(found)
    request = restore.Request(str(place), allow_unverified=True, identity=key.identity)
    restore.run(found, request, clock=clock(1))
    assert query(found.database_path, ROWS) == [(7,)]


def test_each_recipient_opens_it_alone_and_nobody_else(tmp_path, key, other):
    found = host(tmp_path, key, more=(other.public,))
    path = taken(found)
    for one in (key, other):
        assert key_check.run(found, one.identity) == [key_check.Found(str(path), key_check.Verdict.OPENS, None)]
    (refused,) = key_check.run(found, Key(tmp_path).identity)
    assert "encrypted to other recipients" in refused.problem
    assert refused.verdict is key_check.Verdict.DOES_NOT


def test_a_key_of_ssh(tmp_path):
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")], check=True)
    found = replace(configuration(tmp_path), recipients=((tmp_path / "id.pub").read_text().strip(),))
    database(found.database_path)
    taken(found)
    (opened,) = key_check.run(found, encryption.identity_of(tmp_path / "id"))
    assert opened.problem is None


REFUSED = {
    "no key": (lambda _key: None, "is encrypted, and no identity was given that opens it.*--identity FILE.*age -d"),
    "another key": (lambda folder: Key(folder).identity, "was encrypted to other recipients than this identity is of"),
}


@pytest.mark.parametrize(("identity", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("act", [restore.run, restore.stage])
def test_without_its_key_nothing_is_touched(tmp_path, key, identity, words, act):
    found = host(tmp_path, key)
    taken(found)
    before = found.database_path.read_bytes()
    with closing(connect(found.database_path)) as application:
        application.execute("DELETE FROM memories")
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    after = found.database_path.read_bytes()
    assert after != before
    with pytest.raises(StoreError, match=words):
        act(found, restore.Request(identity=identity(tmp_path)), clock=clock(1))
    assert found.database_path.read_bytes() == after
    assert not (found.storage_path / "safety").exists()


def test_a_plan_says_that_the_key_is_missing_where_no_manifest_is_there_too(tmp_path, key):
    found = host(tmp_path, key)
    path = taken(found)
    path.with_name(f"{path.name}.manifest.json").unlink()
    lose(found)
    for act in (restore.plan, restore.run):
        with pytest.raises(StoreError, match="no identity was given"):
            act(found, restore.Request(path.name, allow_unverified=True), clock=clock(1))
    restore.run(found, restore.Request(path.name, allow_unverified=True, identity=key.identity), clock=clock(1))
    assert query(found.database_path, ROWS) == [(500,)]


def test_a_plan_says_that_the_key_is_missing(tmp_path, key):
    found = host(tmp_path, key)
    taken(found)
    lose(found)
    with pytest.raises(StoreError, match="no identity was given"):
        restore.plan(found, restore.Request(), clock=clock(1))
    assert restore.plan(found, restore.Request(identity=key.identity), clock=clock(1)).bytes > 0


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_a_plan_knows_the_wrong_key_before_anything_is_fetched(tmp_path, key, other, compression):
    found = host(tmp_path, key, compression=compression)
    path = taken(found)
    lose(found)
    with pytest.raises(StoreError, match=rf"{path} cannot be opened: it was encrypted to other recipients"):
        restore.plan(found, restore.Request(identity=other.identity), clock=clock(1))


DAMAGES = {
    "cut off": lambda raw: raw[: len(raw) // 2],
    "cut off in its head": lambda raw: raw[:60],
    "a flipped bit": lambda raw: raw[:-50] + bytes([raw[-50] ^ 1]) + raw[-49:],
    "a flipped bit in its head": lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
    "no age file": lambda raw: bytes(len(raw)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_damage_is_damage_and_an_older_one_takes_its_place(tmp_path, key, damage, compression):
    found = host(tmp_path, key, compression=compression)
    older, path = taken(found), taken(found, 1)
    path.write_bytes(damage(path.read_bytes()))
    identity = key.identity
    (wrong,) = key_check.run(found, identity)
    assert wrong.location == str(path)
    assert wrong.problem
    lose(found)
    with pytest.raises(DamagedError, match="damaged"):
        restore.run(found, restore.Request(path.name, identity=identity), clock=clock(2))
    assert restore.run(found, restore.Request(identity=identity), clock=clock(2)).name == older.name


@pytest.mark.parametrize("act", [restore.plan, restore.run])
def test_a_head_that_is_damaged_is_said_alike_in_the_plan_and_the_run(tmp_path, key, act):
    """Without a manifest nothing else tells."""
    found = host(tmp_path, key)
    path = taken(found)
    path.with_name(f"{path.name}.manifest.json").unlink()
    path.write_bytes(DAMAGES["cut off in its head"](path.read_bytes()))
    request = restore.Request(path.name, allow_unverified=True, identity=key.identity)
    with pytest.raises(DamagedError) as refused:
        act(found, request, clock=clock(1))
    assert str(refused.value).startswith(f"{path} is damaged: it is no whole age file: ")
    assert str(refused.value).endswith(". Choose another backup.")
    assert str(refused.value).count("Choose") == 1


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_whole_and_not_what_its_manifest_says(tmp_path, key, compression):
    """Somebody who can write to the store encrypts something else to the same public key."""
    found = host(tmp_path, key, compression=compression)
    path = taken(found)
    swapped = pyrage.encrypt(b"x" * 100_000_000, [pyrage.x25519.Recipient.from_str(key.public)])
    path.write_bytes(swapped)
    (wrong,) = key_check.run(found, key.identity)
    assert wrong.problem
    plain = tmp_path / "plain"
    manifest = status.catalog.local(found).manifest(names.parse(path.name))
    with pytest.raises(DamagedError, match=r"holds more than|cannot be made plain"):
        encoding.decode(path, plain, names.parse(path.name), manifest, key.identity)
    # No more of it was written than the manifest allows.
    assert not plain.exists() or plain.stat().st_size <= manifest.content.bytes


def test_a_host_proves_what_it_cannot_read(tmp_path, key):
    found = host(tmp_path, key)
    path = taken(found)
    assert status.read(found, now=NOON, verify="full").backups[0].status == "verified"
    flip(path, -10)
    (backup_,) = status.read(found, now=NOON, verify="full").backups
    assert backup_.copies[0].damaged


def test_a_drill_needs_the_key_and_marks_nothing_without(tmp_path, key):
    found = host(tmp_path, key)
    path = taken(found)
    with pytest.raises(drill.DrillFailedError, match="is encrypted, and no identity was given"):
        drill.run(found, clock=clock(1))
    assert not path.with_name(f"{path.name}.drilled.json").exists()
    assert drill.run(found, clock=clock(2), identity=key.identity).changed
    assert path.with_name(f"{path.name}.drilled.json").exists()


def test_a_download_is_plain(tmp_path, key):
    found = host(tmp_path, key, compression="zstd")
    taken(found)
    (tmp_path / "there").mkdir()
    done = download.run(found, "latest", directory=tmp_path / "there", clock=clock(1), identity=key.identity)
    assert query(tmp_path / "there" / done.target, ROWS) == [(500,)]


def test_the_same_content_is_seen_and_never_shared(tmp_path, key):
    found = host(tmp_path, key)
    first = taken(found)
    # Nobody here could tell whether it is for those that it has to be for now.
    second = backup.run(found, clock=clock(1), skip_unchanged=True).name
    assert first.read_bytes() != (found.storage_path / str(second)).read_bytes()


def test_what_is_plain_does_not_leave_the_host_once_backups_are_encrypted(tmp_path, key, s3_settings):
    """They were taken before anybody wanted them in S3, or encrypted."""
    found = host(tmp_path, key, cloud=s3_settings)
    plain = backup.run(replace(found, recipients=(), cloud=None), clock=clock())
    planned = backup.plan(found, clock=clock(1))
    done = backup.run(found, clock=clock(1))
    for outcome in (planned, done):
        assert list(outcome.transfers) == [done.name]
        assert "1 backup on the disk not encrypted, of before that was switched on" in " ".join(outcome.warnings)
    remote = status.catalog.remote(found)
    assert {copy.name for copy in remote.copies()} == {done.name}
    (_local, s3) = status.read(found, now=clock(2).now()).stores
    assert s3.missing == 0
    assert (found.storage_path / str(plain.name)).exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), StoreError("S3 is gone."), KeyboardInterrupt()]
)
@pytest.mark.parametrize("at", [1, 3])
def test_what_goes_wrong_while_it_is_read_is_no_damage(tmp_path, key, error, at):
    """Otherwise an older backup would take the place of one that is whole."""
    path = taken(host(tmp_path, key))

    class Failing:
        def __init__(self, stream):
            self.stream, self.reads = stream, 0

        def read(self, size):
            self.reads += 1
            if self.reads == at:
                raise error
            return self.stream.read(size)

    with path.open("rb") as stream, pytest.raises(type(error)) as raised:
        encoding.content_of(Failing(stream), names.parse(path.name), key.identity, "sha256", 1 << 40)
    assert raised.value is error


def test_a_signal_while_it_is_encrypted_ends_it(tmp_path, key, monkeypatch):
    found = host(tmp_path, key)
    write_at = files.write_at

    def interrupted(descriptor, data, offset):
        if data[:3] == b"age":
            raise KeyboardInterrupt
        write_at(descriptor, data, offset)

    monkeypatch.setattr(files, "write_at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backup.run(found, clock=clock())
    assert not list(found.storage_path.glob("*.age"))


def test_a_small_file_that_grows_without_end_is_cut_off(tmp_path, key):
    """Whoever can write to the bucket has the public key, too."""
    zstandard = pytest.importorskip("zstandard")
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 30))
    sealed = pyrage.encrypt(bomb, [pyrage.x25519.Recipient.from_str(key.public)])
    name = names.parse("eternia_backup_20261122_120000.db.zst.age")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedError, match="holds more than the 1000 bytes"):
        encoding.content_of(io.BytesIO(sealed), name, key.identity, "sha256", 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


def test_to_s3_and_back_with_the_local_copy_lost(tmp_path, key, s3_settings):
    found = host(tmp_path, key, compression="zstd", cloud=s3_settings)
    paths = []
    for hours in range(2):
        paths.append(taken(found, hours))
        with closing(connect(found.database_path)) as application:
            application.execute("UPDATE memories SET description = 'another' WHERE id = 7")
    assert len(key_check.run(found, key.identity)) == 2
    for path in paths:
        path.unlink()
        path.with_name(f"{path.name}.manifest.json").unlink()
    lose(found)
    done = restore.run(found, restore.Request(identity=key.identity), clock=clock(3))
    assert (done.store, query(found.database_path, ROWS)) == ("s3", [(500,)])


def test_a_large_one_sends_all_of_it_each_time(tmp_path, key, s3_settings, monkeypatch):
    """Two encrypted files have no part in common, however alike the databases are."""
    monkeypatch.setattr("ansible_collections.eternia.backup.plugins.module_utils.engine.parts.SMALLEST", 5 << 20)
    found = host(tmp_path, key, cloud=s3_settings)
    with closing(connect(found.database_path)) as application:
        application.execute("UPDATE memories SET description = zeroblob(30000)")
    outcomes = []
    for hours in range(2):
        outcomes.append(backup.run(found, clock=clock(hours)))
        with closing(connect(found.database_path)) as application:
            application.execute("UPDATE memories SET description = 'another' WHERE id = 7")
    for one in outcomes:
        (transfer,) = one.transfers.values()
        assert one.bytes > 2 * (5 << 20)
        assert (transfer.bytes_sent, transfer.bytes_copied) == (one.bytes, 0)


def test_a_state_of_json(tmp_path, key):
    found = replace(configuration(tmp_path, source="state"), recipients=(key.public,))
    found.state_path.parent.mkdir(parents=True)
    found.state_path.write_text('{"memories": [1, 2]}')
    done = backup.run(found, clock=clock())
    assert (done.name.kind, str(done.name).endswith(".json.age")) == (STATE, True)
    found.state_path.write_text("{")
    restore.run(found, restore.Request(identity=key.identity), clock=clock(1))
    assert json.loads(found.state_path.read_text()) == {"memories": [1, 2]}


def test_a_full_disk_while_it_is_encrypted(tmp_path, key, monkeypatch):
    found = host(tmp_path, key)
    write_at = files.write_at

    def full(descriptor, data, offset):
        if data[:3] == b"age":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_at(descriptor, data, offset)

    monkeypatch.setattr(files, "write_at", full)
    with pytest.raises(EngineError, match="no space left on device"):
        backup.run(found, clock=clock())
    assert not list(found.storage_path.glob("*.age"))


def test_a_disk_that_is_full_at_the_last_bytes_is_said_to_be_full(tmp_path, key, monkeypatch):
    """Of what is written last, pyrage loses the error."""
    (tmp_path / "plain").write_bytes(b"x" * 1000)
    expected = digest.of_whole(tmp_path / "plain", "sha256").digest

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_at", full)
    with pytest.raises(OSError, match="No space left"):
        encryption.encrypt(
            tmp_path / "plain", tmp_path / "out", [key.public], expected, for_s3=False, encoding=("age",)
        )


def test_what_lies_there_for_all_to_read_is_not_taken_for_unchanged(tmp_path, key):
    found = host(tmp_path, key)
    plain = replace(found, recipients=())
    backup.run(plain, clock=clock())
    assert not backup.plan(found, clock=clock(1), skip_unchanged=True).unchanged
    first = backup.run(found, clock=clock(1), skip_unchanged=True)
    assert first.name.is_encrypted
    assert not backup.run(plain, clock=clock(3), skip_unchanged=True).unchanged


def test_a_drill_without_a_key_draws_nothing_that_only_a_key_opens(tmp_path, key):
    found = host(tmp_path, key)
    plain = replace(found, recipients=())
    taken(plain)
    for hours in (1, 2, 3):
        taken(found, hours)
    taken(plain, 4)
    drilled = {one.name for one in drill.run(plain, clock=clock(5)).drilled}
    assert drilled == {"eternia_backup_20261122_160000.db", "eternia_backup_20261122_120000.db"}


def test_what_does_not_come_back_is_no_backup(tmp_path, key, monkeypatch):
    """As where the memory of the host is bad: it is opened once, with a key that nobody keeps."""
    found = host(tmp_path, key)
    update = encryption.digest.Sums.update
    monkeypatch.setattr(encryption.digest.Sums, "update", lambda sums, chunk: update(sums, bytes(chunk)[::-1]))
    with pytest.raises(EngineError, match="did not come back from age"):
        backup.run(found, clock=clock())
    assert not list(found.storage_path.glob("*.age"))


@pytest.mark.parametrize("missing", ["pyrage", "zstandard"])
def test_a_library_that_is_missing_is_said_before_anything_is_done(tmp_path, key, monkeypatch, missing):
    found = host(tmp_path, key, compression="zstd")
    where = encryption if missing == "pyrage" else encoding.compression
    monkeypatch.setattr(where, "_library", lambda: None)
    for act in (backup.run, backup.plan):
        with pytest.raises(EngineError, match=rf"has no Python library {missing}"):
            act(found, clock=clock())
    assert not list(found.storage_path.glob("*.age"))


BLOCKS = {
    "no list": ("age1x", r"encryption.recipients is 'age1x'; it must be a list of public keys"),
    "an empty list": ([], r"encryption.recipients is \[\]; it must be"),
    "twice the same": (["age1" + "q" * 58] * 2, "it must be a list of public keys, each once"),
    "a word": (["nobody"], r"is \['nobody'\]; it must be a list of public keys, each once: age1…"),
    "a number": ([7], r"is \[7\]; it must be"),
    "two in one": (["age1" + "q" * 58 + "\nage1" + "q" * 58], "it must be a list of public keys"),
}


@pytest.mark.parametrize(("recipients", "words"), BLOCKS.values(), ids=BLOCKS)
def test_recipients_that_are_none(tmp_path, recipients, words):
    with pytest.raises(ConfigError, match=words):
        configuration(tmp_path, encryption={"recipients": recipients})


@pytest.mark.parametrize("block", [None, {}, {"recipients": None}])
def test_a_block_that_encrypts_to_nobody_is_refused(tmp_path, block):
    """Whoever took the last recipient out did not mean plain backups."""
    with pytest.raises(ConfigError, match="encryption is given without recipients, so nothing would be encrypted"):
        configuration(tmp_path, encryption=block)


def test_a_public_key_with_a_slip_of_the_keyboard(tmp_path, key):
    wrong = key.public[:-1] + ("q" if key.public[-1] != "q" else "p")
    found = replace(configuration(tmp_path), recipients=(wrong,))
    database(found.database_path)
    with pytest.raises(EngineError, match=rf"recipients has '{wrong}', which is no public key.*age-keygen -y"):
        backup.run(found, clock=clock())


def test_a_secret_in_the_place_of_a_key_is_not_shown(tmp_path, key):
    for block in (
        {"encryption": {key.secret: None}},
        {key.secret: None},
        {"encryption": {"recipients": {key.secret: 1}}},
    ):
        with pytest.raises(ConfigError) as raised:
            configuration(tmp_path, **block)
        assert key.secret[20:] not in str(raised.value)


def test_a_secret_key_in_the_inventory_is_refused_and_not_shown(tmp_path, key):
    for given in ([key.secret], key.secret, [key.public, key.secret.lower()], [{"key": key.secret}]):
        with pytest.raises(ConfigError, match="has a secret key, which is not shown here") as raised:
            configuration(tmp_path, encryption={"recipients": given})
        assert key.secret[20:40].lower() not in str(raised.value).lower()
    with pytest.raises(ConfigError, match="encryption is a secret key, which is not shown here; it must be a block"):
        configuration(tmp_path, encryption=key.secret)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"AGE-SECRET-KEY-1XX", bytes(range(256)) * 10, b"-----BEGIN OPENSSH PRIVATE KEY-----\nx"]
)
def test_what_is_no_identity(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=rf"{path} (holds no identity|could not be opened as an identity)") as raised:
        encryption.identity_of(path)
    assert "XX" not in str(raised.value)
    with pytest.raises(ConfigError, match="cannot be read: no such file"):
        encryption.identity_of(tmp_path / "none")


def test_an_identity_shows_nothing_of_itself(tmp_path, key):
    assert key.secret[20:40] not in repr(restore.Request(identity=key.identity))


def test_a_key_that_others_can_read_is_said(tmp_path, key, caplog):
    key.path.chmod(0o644)
    assert key.identity is not None
    assert "can be read by others than its owner: chmod 600 it" in caplog.text


def test_a_passphrase_is_asked_for(tmp_path, key):
    locked = tmp_path / "locked.age"
    locked.write_bytes(pyrage.passphrase.encrypt(key.path.read_bytes(), "open sesame"))
    locked.chmod(0o600)
    found = host(tmp_path, key)
    taken(found)
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return "open sesame"

    (opened,) = key_check.run(found, encryption.identity_of(locked, ask))
    assert (opened.problem, asked) == (None, [f"Passphrase of {locked}: "])
    with pytest.raises(ConfigError, match="could not be opened as an identity"):
        encryption.identity_of(locked, lambda _prompt: "wrong")
    with pytest.raises(ConfigError, match="protected by a passphrase, and nobody is there to be asked"):
        encryption.identity_of(locked)


def test_a_file_that_is_locked_in_letters_is_known_too(tmp_path):
    """As `age -p -a` makes it. To open one takes seconds, on purpose, and is the library's part."""
    asked = []
    locked = tmp_path / "locked.age"
    locked.write_text("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n")
    with pytest.raises(ConfigError, match="protected by a passphrase"):
        encryption.identity_of(locked)
    with pytest.raises(ConfigError, match="could not be opened"):
        encryption.identity_of(locked, lambda prompt: asked.append(prompt) or "words")
    assert asked == [f"Passphrase of {locked}: "]


def test_a_newest_one_that_is_not_encrypted_is_said(tmp_path, key):
    found = host(tmp_path, key)
    taken(found)
    plain = replace(found, recipients=())
    newest = taken(plain, 1)
    first = key_check.run(found, key.identity)[0]
    assert (first.location, first.verdict) == (str(newest), key_check.Verdict.NOT_ENCRYPTED)
    # Who switched it off asks for the old ones.
    assert [one.problem for one in key_check.run(plain, key.identity)] == [None]


def test_a_key_without_a_backup(tmp_path, key):
    with pytest.raises(NotFoundError, match="no encrypted backup to try the key on"):
        key_check.run(host(tmp_path, key), key.identity)


class Typist(Host):
    """Somebody who types commands on a host whose backups are encrypted."""

    def __init__(self, folder, capsys, key):
        super().__init__(folder, capsys, encryption={"recipients": [key.public]})


def test_the_commands(tmp_path, capsys, key, other):
    host_ = Typist(tmp_path, capsys, key)
    path = host_.back_up()
    assert host_.succeed("check-key", "--identity", key.path) == f"OPENS   {path}\n"
    code, out, _err = host_.type("check-key", "--identity", other.path)
    assert (code, out.splitlines()[0]) == (1, f"DOES NOT OPEN   {path}")
    assert "other recipients" in out
    assert "no identity was given" in host_.fail(1, "restore", "latest", "--yes")
    assert "no identity was given" in host_.fail(1, "drill")
    assert "RESTORED" in host_.succeed("restore", "latest", "--yes", "--identity", key.path)
    assert "everything came back" in host_.succeed("drill", "--identity", key.path)
    (tmp_path / "there").mkdir()
    assert "DONE" in host_.succeed("download", "latest", "--to", tmp_path / "there", "--identity", key.path)
    assert "no terminal to ask at" in host_.fail(2, "check-key", "--identity", "-")
    locked = tmp_path / "locked.age"
    locked.write_text("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n")
    words = f"{locked} is protected by a passphrase, and nobody is there to be asked."
    assert words in host_.fail(2, "check-key", "--identity", locked)


# A command, but for the step that has just made a backup plain: it waits to be told to end.
STUCK = f"""
import os, sys, time
sys.path.insert(0, {str(COLLECTIONS)!r})
# A restore has said its plan by then.
told = os.dup(1)
os.dup2(2, 1)
from ansible_collections.eternia.backup.plugins.module_utils.engine import cli, fetch
def stuck(*_, **__):
    os.write(told, b"ready\\n")
    time.sleep(60)
fetch._proven = stuck
sys.exit(cli.main(sys.argv[1:]))
"""
BRINGING = {
    "download": ["download", "latest", "--to", "there"],
    "restore": ["restore", "latest", "--yes"],
    "drill": ["drill"],
}


def plain_files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path for path in found if path.read_bytes().startswith(b"SQLite format 3")}


@pytest.fixture
def bringing(tmp_path, capsys, monkeypatch, key):
    """Makes what somebody types who brings a backup to where it lies plain for a while."""
    host_ = Typist(tmp_path, capsys, key)
    host_.back_up()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    return lambda verb: ["--config", host_.file, "--log-file", "log", *BRINGING[verb], "--identity", key.path]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("verb", BRINGING)
def test_whoever_is_told_to_end_leaves_nothing_plain(tmp_path, bringing, verb, number):
    before = plain_files(tmp_path)
    with process(STUCK, *bringing(verb)) as running:
        assert plain_files(tmp_path) > before
        running.send_signal(number)
        assert running.wait(timeout=60) == 1
    assert plain_files(tmp_path) == before
    assert f"It was told to end ({number.name}). What was not finished counts for nothing" in Path("log").read_text()


def test_a_session_that_is_lost_leaves_nothing_plain(tmp_path, bringing):
    """Its terminal takes no words any more, and no bar."""
    before, words = plain_files(tmp_path), bringing("download")
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-c", STUCK, *map(str, words)], child_environment())
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 4096)
    assert plain_files(tmp_path) > before
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert plain_files(tmp_path) == before
    assert "It was told to end (SIGHUP)." in Path("log").read_text()


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_what_a_killed_download_left_is_removed_by_the_next_to_the_same_directory(
    tmp_path, key, monkeypatch, compression
):
    found = host(tmp_path, key, compression=compression)
    older, newer = taken(found), taken(found, 1)
    there = tmp_path / "there"
    there.mkdir()

    def bring(path):
        download.run(found, path.name, directory=there, clock=clock(2), identity=key.identity)

    with monkeypatch.context() as patched:
        patched.setattr(fetch, "_proven", lambda *_: die(""))
        assert in_child(lambda: bring(older)) == -signal.SIGKILL
    (left,) = plain_files(there)
    assert left == there / f".{FIRST}.restore" / FIRST
    stays = dict.fromkeys((".eternia.db.restore/eternia.db", f".{THIRD}.restore/arriving", f".{THIRD}.old/{THIRD}"))
    for name in stays:
        (there / name).parent.mkdir()
        (there / name).write_text("somebody's")
    # Through a link nobody is led to what somebody else is about.
    (tmp_path / f".{FOURTH}.restore").mkdir()
    (there / FOURTH).symlink_to(tmp_path / FOURTH)
    (there / f".{FOURTH}.restore").symlink_to(tmp_path / f".{FOURTH}.restore")
    bring(newer)
    assert not left.parent.exists()
    assert plain_files(there) == {there / SECOND}
    assert all((there / name).exists() for name in stays)
    assert (tmp_path / f".{FOURTH}.restore").is_dir()


def test_a_key_that_is_typed_is_not_shown(tmp_path, capsys, monkeypatch, key):
    host_ = Typist(tmp_path, capsys, key)
    host_.back_up()
    keyboard, terminal = pty.openpty()
    with os.fdopen(terminal, "r") as stdin, os.fdopen(keyboard, "wb", buffering=0) as person:
        monkeypatch.setattr(cli_identity.sys, "stdin", stdin)
        monkeypatch.setattr(cli_identity.getpass, "getpass", lambda _prompt: stdin.readline().strip())
        person.write(f"{key.secret}\n".encode())
        code, out, err = host_.type("check-key", "--identity", "-")
    assert (code, err) == (0, "")
    assert key.secret not in out


def test_the_key_is_in_no_log_and_no_file(tmp_path, capsys, key):
    host_ = Typist(tmp_path, capsys, key)
    host_.back_up()
    log = tmp_path / "log"
    for words in (("restore", "latest", "--yes"), ("drill",), ("check-key",)):
        _code, out, err = host_.type("--verbose", "--log-file", log, *words, "--identity", key.path)
        assert key.secret not in out + err
    for path in (one for one in tmp_path.rglob("*") if one.is_file() and one != key.path):
        assert key.secret.encode() not in path.read_bytes(), path


def test_the_block_of_an_inventory():
    found = config.parse(
        {"encryption": {"recipients": ["age1" + "q" * 58]}, "compression": "zstd"},
        environment="staging",
        host="web1",
        base_dir="/opt/eternia",
    )
    assert found.encoding == ("zst", "age")

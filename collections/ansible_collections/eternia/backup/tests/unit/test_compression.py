# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compressed backup is one that `zstd -d` reads, comes back as every other, and sends only what changed."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import tracemalloc
from contextlib import closing
from dataclasses import replace

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    catalog,
    compression,
    digest,
    download,
    drill,
    parts,
    restore,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    ConfigError,
    DamagedError,
    EngineError,
    StoreError,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.manifest import from_json
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.parts import runs
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request
from ansible_collections.eternia.backup.tests.unit.builders import (
    add_rows,
    clock,
    configuration,
    connect,
    database,
    query,
)

MIB = 1024 * 1024
PART = 16 * MIB
ROWS = "SELECT count(*) FROM memories"


def plainly(path):
    """What zstd itself makes of a file, in one go."""
    command = shutil.which("zstd")
    if command is not None:
        return subprocess.run([command, "-d", "-c", str(path)], check=True, capture_output=True).stdout
    import zstandard

    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as reader:
        return reader.read()


def write(config):
    """Let the application go on."""
    with closing(connect(config.database_path)) as application:
        add_rows(application)


def half_random(size, seed=5):
    """Bytes of which half can be compressed away."""
    made = random.Random(seed)
    return b"".join(made.randbytes(2048) + bytes(2048) for _block in range(-(-size // 4096)))[:size]


def encoded(folder, data, algorithm="sha256"):
    plain, file = folder / "plain", folder / "file.zst"
    file.unlink(missing_ok=True)
    plain.write_bytes(data)
    return file, compression.encode(plain, file, algorithm)


def manifest_of(folder, data):
    """The manifest of a backup of those bytes, with the file that it describes."""
    file, (content, stored) = encoded(folder, data)
    config = configuration(folder / "host", compression="zstd")
    database(config.database_path)
    taken = backup.run(config, clock=clock()).manifest
    return file, replace(taken, content=content, stored=stored)


@pytest.fixture
def config(tmp_path):
    found = configuration(tmp_path, compression="zstd")
    database(found.database_path)
    return found


@pytest.mark.parametrize("size", [1, 1000, PART, PART + 1, 2 * PART + 12_345])
def test_every_part_becomes_a_frame_and_zstd_reads_all_of_them(tmp_path, size):
    data = half_random(size)
    file, (content, stored) = encoded(tmp_path, data)
    assert plainly(file) == data
    (tmp_path / "again").write_bytes(data)
    assert content == digest.of_file(tmp_path / "again", "sha256")[0]
    described = digest.of_file(file, "sha256")[1]
    assert (stored.bytes, stored.digest, stored.crc64nvme) == (
        file.stat().st_size,
        described.digest,
        described.crc64nvme,
    )
    assert stored.encoding == ("zst",)
    assert len(stored.frames) == -(-size // PART)
    assert sum(stored.frames) == stored.bytes


def test_a_part_that_did_not_change_becomes_the_same_bytes(tmp_path):
    data = half_random(3 * PART)
    file, (_content, stored) = encoded(tmp_path, data)
    before = file.read_bytes()
    file, (_content, later) = encoded(tmp_path, bytes(1000) + data[1000:])
    assert file.read_bytes()[later.frames[0] :] == before[stored.frames[0] :]


def test_what_is_sent_at_once_are_whole_frames_and_as_much_as_s3_takes():
    sizes = [1 * MIB, 3 * MIB, 2 * MIB, 16 * MIB, 4 * MIB, 1 * MIB]
    found = runs(sizes)
    assert [list(pieces) for _part, pieces in found] == [[0, 1, 2], [3], [4, 5]]
    assert [(part.number, part.start, part.bytes) for part, _pieces in found] == [
        (1, 0, 6 * MIB),
        (2, 6 * MIB, 16 * MIB),
        (3, 22 * MIB, 5 * MIB),
    ]
    assert [list(pieces) for _part, pieces in runs([5 * MIB, 1])] == [[0], [1]]


def test_the_backup_lies_compressed_and_says_so(config):
    taken = backup.run(config, clock=clock())
    name = "eternia_backup_20261122_120000.db.zst"
    assert taken.path == str(config.storage_path / name)
    fields = json.loads((config.storage_path / f"{name}.manifest.json").read_bytes())
    assert fields["stored"]["encoding"] == ["zst"]
    assert fields["stored"]["bytes"] == (config.storage_path / name).stat().st_size < fields["content"]["bytes"]
    (config.storage_path / "by_hand.db").write_bytes(plainly(config.storage_path / name))
    assert query(config.storage_path / "by_hand.db", ROWS) == [(50,)]
    assert sorted(path.name for path in config.storage_path.glob("eternia_backup_2*")) == [
        name,
        f"{name}.manifest.json",
    ]


@pytest.mark.parametrize(
    "wanted", ["latest", "eternia_backup_20261122_120000.db.zst", "a path", "2026-11-22T12:30:00Z"]
)
def test_it_comes_back_whatever_it_is_asked_for_by(config, wanted):
    taken = backup.run(config, clock=clock())
    write(config)
    wanted = taken.path if wanted == "a path" else wanted
    planned = restore.plan(config, Request(wanted), clock=clock(1))
    assert planned.bytes_to_fetch == taken.bytes
    assert planned.space_needed == taken.bytes + taken.manifest.content.bytes
    done = restore.run(config, Request(wanted), clock=clock(1))
    assert {"fetch", "decode", "prove"} <= set(done.steps)
    assert query(config.database_path, ROWS) == [(50,)]
    assert done.changed
    assert not restore.run(config, Request(wanted), clock=clock(1)).changed


def test_it_comes_back_in_a_drill_and_from_a_state(tmp_path):
    config = configuration(tmp_path, compression="zstd", source="state")
    config.state_path.parent.mkdir(parents=True)
    config.state_path.write_text(json.dumps({"memories": ["m" * 1000] * 9}))
    taken = backup.run(config, clock=clock())
    assert taken.path.endswith("eternia_state_20261122_120000.json.zst")
    drilled = drill.run(config, clock=clock(1))
    assert [(one.name, one.problem) for one in drilled.drilled] == [(taken.manifest.name, None)]
    config.state_path.unlink()
    restore.run(config, Request(), clock=clock(1))
    assert json.loads(config.state_path.read_text())["memories"] == ["m" * 1000] * 9


def test_what_is_downloaded_is_plain_and_can_be_restored_by_its_path(tmp_path, config):
    taken = backup.run(config, clock=clock())
    place = tmp_path / "away"
    place.mkdir()
    brought = download.run(config, "latest", directory=place, clock=clock(1))
    assert brought.target == str(place / "eternia_backup_20261122_120000.db")
    assert query(place / "eternia_backup_20261122_120000.db", ROWS) == [(50,)]
    raw = (place / "eternia_backup_20261122_120000.db.manifest.json").read_bytes()
    plain = from_json(raw, name=parse("eternia_backup_20261122_120000.db"), where="there")
    assert plain.content == taken.manifest.content
    assert download.run(config, "latest", directory=place, clock=clock(1)).unchanged
    config.database_path.unlink()
    restore.run(config, Request(brought.target), clock=clock(1))
    assert query(config.database_path, ROWS) == [(50,)]


def test_compression_may_be_switched_on_and_off(tmp_path, config):
    plain = configuration(tmp_path)
    for hours, one in enumerate((config, plain, config)):
        backup.run(one, clock=clock(hours))
    known = [str(one.name) for one in catalog.build([catalog.local(config)])]
    assert known == [
        "eternia_backup_20261122_140000.db.zst",
        "eternia_backup_20261122_130000.db",
        "eternia_backup_20261122_120000.db.zst",
    ]
    unchanged = backup.run(plain, clock=clock(3), skip_unchanged=True)
    assert str(unchanged.name) == known[0]
    # Two of one second would be hard to tell apart.
    assert str(backup.run(plain, clock=clock(2)).name) == "eternia_backup_20261122_140001.db"


def test_without_the_library_nothing_is_begun(config, monkeypatch):
    monkeypatch.setattr(compression, "_library", lambda: None)
    for attempt in (backup.plan, backup.run):
        with pytest.raises(EngineError, match="no Python library zstandard"):
            attempt(config, clock=clock())
    assert not list(config.storage_path.glob("*.zst"))
    monkeypatch.undo()
    backup.run(config, clock=clock())
    write(config)
    monkeypatch.setattr(compression, "_library", lambda: None)
    before = config.database_path.read_bytes()
    for attempt in (restore.plan, restore.run):
        with pytest.raises(EngineError, match="no Python library zstandard"):
            attempt(config, Request("eternia_backup_20261122_120000.db.zst"), clock=clock(1))
    assert config.database_path.read_bytes() == before


def test_a_compression_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"backup\.compression is 'gzip'"):
        configuration(tmp_path, compression="gzip")


@pytest.mark.parametrize("fate", ["flipped", "cut at a border", "cut", "no zstd", "one frame more"])
@pytest.mark.parametrize("known", [True, False], ids=["with its manifest", "legacy"])
def test_what_is_not_whole_is_damaged(tmp_path, fate, known):
    file, manifest = manifest_of(tmp_path, half_random(2 * PART + 5))
    raw, first = file.read_bytes(), manifest.stored.frames[0]
    file.write_bytes(
        {
            "flipped": raw[: first + 100] + bytes([raw[first + 100] ^ 1]) + raw[first + 101 :],
            "cut at a border": raw[: sum(manifest.stored.frames[:2])],
            "cut": raw[: first + 1000],
            "no zstd": b"SQLite format 3\0" + raw[16:],
            "one frame more": raw + raw[:first],
        }[fate]
    )
    plain = tmp_path / "again"
    try:
        compression.decode(file, plain, manifest if known else None)
    except DamagedError:
        return
    # To zstd a file is whole that ends where a frame does, and its stream ends silently where the file does. What came
    # is compared with the manifest's digest; without one, it is for SQLite to say.
    came = digest.of_file(plain, "sha256")[0].digest
    assert (came == manifest.content.digest) is (known and fate == "one frame more")


def test_a_frame_that_says_it_gets_huge_is_given_no_memory(tmp_path):
    file, manifest = manifest_of(tmp_path, bytes(PART) + b"x")
    lying = replace(manifest, content=replace(manifest.content, bytes=PART - 5))
    with pytest.raises(DamagedError, match="not what the manifest says"):
        compression.decode(file, tmp_path / "again", lying)
    unknown = replace(lying, stored=replace(lying.stored, frames=()))
    with pytest.raises(DamagedError, match="holds more than the"):
        compression.decode(file, tmp_path / "once more", unknown)


def test_a_manifest_whose_frames_do_not_fit_is_refused(config):
    taken = backup.run(config, clock=clock()).manifest
    fields = taken.fields()
    for frames in ([1], [*fields["stored"]["frames"], 0], [-1], ["7"], 7):
        raw = json.dumps({**fields, "stored": {**fields["stored"], "frames": frames}}).encode()
        with pytest.raises(DamagedError, match="not a whole manifest"):
            from_json(raw, name=taken.backup_name, where="there")


def test_a_manifest_of_parts_that_fit_into_no_memory_is_refused(config):
    """A few megabytes of zeros, packed, that are one part of 30 GB."""
    taken = backup.run(config, clock=clock()).manifest
    fields, huge = taken.fields(), 30_000_000_000
    fields["content"] |= {"bytes": huge, "parts": {"bytes": huge, "digests": [taken.content.parts.digests[0]]}}
    fields["stored"] |= {"frames": [taken.stored.bytes]}
    with pytest.raises(DamagedError, match="no part of 30000000000 bytes has 30000000000"):
        from_json(json.dumps(fields).encode(), name=taken.backup_name, where="there")


def test_a_damaged_one_is_passed_over_for_an_older_one(config):
    backup.run(config, clock=clock())
    write(config)
    newest = backup.run(config, clock=clock(1))
    write(config)
    raw = bytearray((config.storage_path / newest.manifest.name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (config.storage_path / newest.manifest.name).write_bytes(raw)
    done = restore.run(config, Request(), clock=clock(2))
    assert done.name == "eternia_backup_20261122_120000.db.zst"
    assert query(config.database_path, ROWS) == [(50,)]


@pytest.mark.parametrize("fate", ["flipped", "cut at a border"])
@pytest.mark.parametrize("damaged", ["local", "s3"])
def test_a_copy_with_a_frame_that_is_not_whole_gives_way_to_the_other(
    tmp_path, config, s3_settings, object_store, monkeypatch, damaged, fate
):
    monkeypatch.setattr(parts, "SMALLEST", MIB)
    both = replace(config, cloud=s3_settings)
    with closing(connect(config.database_path)) as application:
        application.execute("INSERT INTO memories (description) VALUES (?)", [random.Random(1).randbytes(3 * MIB)])
    taken = backup.run(both, clock=clock()).manifest
    write(config)
    here = config.storage_path / taken.name
    whole, frames = here.read_bytes(), taken.stored.frames
    assert len(frames) == 4
    harm = {
        "flipped": whole[: frames[0] + 100] + bytes([whole[frames[0] + 100] ^ 1]) + whole[frames[0] + 101 :],
        "cut at a border": whole[: sum(frames[:3])],
    }[fate]
    key = f"{s3_settings.prefix}/{taken.name}"
    if damaged == "local":
        here.write_bytes(harm)
    else:
        object_store.client().put_object(Bucket=s3_settings.bucket, Key=key, Body=harm)
    wanted = taken.name if damaged == "local" else f"s3://{s3_settings.bucket}/{key}"
    # What is whole of it there would be taken from there.
    config.database_path.unlink()
    done = restore.run(both, Request(wanted), clock=clock(1))
    assert (done.name, done.store) == (taken.name, "s3" if damaged == "local" else "local")
    assert query(config.database_path, ROWS) == [(51,)]


def test_a_disk_that_is_full_leaves_nothing(config, monkeypatch):
    write_at = compression.files.write_at

    def full(descriptor, *arguments):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".zst"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_at(descriptor, *arguments)

    monkeypatch.setattr(compression.files, "write_at", full)
    with pytest.raises(EngineError, match="no space left"):
        backup.run(config, clock=clock())
    assert not list(config.storage_path.glob("*.zst*"))
    assert not list((config.storage_path / ".staging").glob("*"))
    monkeypatch.undo()
    backup.run(config, clock=clock(1))


def test_not_more_is_taken_than_a_few_parts_of_memory(tmp_path):
    """The parts are taken as they are needed, not all of them beforehand."""
    data = half_random(12 * PART)
    tracemalloc.start()
    encoded(tmp_path, data)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 9 * PART


def test_store_error_names_the_way_out(monkeypatch):
    monkeypatch.setattr(compression, "_library", lambda: None)
    with pytest.raises(StoreError, match="zstd -d"):
        compression.require()

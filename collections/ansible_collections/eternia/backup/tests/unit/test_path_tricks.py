# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, keys, links and manifests that somebody hostile chose: they lead nowhere outside, and never on for ever."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine.exit_code import ExitCode
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import group
from ansible_collections.eternia.backup.tests.unit.builders import in_time, query, tree
from ansible_collections.eternia.backup.tests.unit.command_line import Host
from ansible_collections.eternia.backup.tests.unit.conftest import BUCKET
from botocore.exceptions import BotoCoreError, ClientError

NAME = "eternia_backup_20261122_120000.db"
CODES = {int(code) for code in ExitCode}
DEEP = "DEEP"


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A directory that is nobody's business, with names of ours in it; it has to be as it was."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in (NAME, f"{NAME}.manifest.json", "eternia_state_20200101_000000.json", "file", "hold.json"):
        (folder / name).write_text("{}")
    (folder / "empty").mkdir()
    before = tree(folder)
    yield folder
    assert tree(folder) == before


def type_all(host: Host, tmp_path: Path) -> dict[str, tuple[int, str]]:
    """Every command; each ends in time, with a code that is documented, and with words that a person can read."""
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir(exist_ok=True)
    said = {}
    for words in (
        *(("list", "--verify", "full"), ("list", "--json"), ("verify", "--full"), ("status",), ("prune",), ("drill",)),
        *(("download", "latest", "--to", str(downloaded)), ("restore", "latest", "--yes", "--allow-foreign"), ("run",)),
    ):
        with in_time():
            code, out, err = host.type(*words)
        assert code in CODES, (words, out, err)
        assert "Traceback" not in err
        assert "\x1b" not in out + err
        assert max(map(len, err.splitlines()), default=0) < 3000, words
        said[words[0]] = (code, out + err)
    assert {path.name.removesuffix(".manifest.json") for path in downloaded.iterdir()} <= {
        path.name for path in host.backups.parent.rglob("*.db")
    } | {path.name for path in downloaded.glob("eternia_backup_*.db")}
    return said


def bent(place: str, value: object) -> object:
    """Puts a value into one place of a manifest."""

    def bend(fields: dict) -> dict:
        *steps, last = place.split(".")
        inner = fields
        for step in steps:
            inner = inner[step]
        inner[last] = value
        return fields

    return bend


MANIFESTS = {
    "a host": bent("host", "../../../etc/passwd\n\x1b[2J\x1b]0;x\x07"),
    "half a character": bent("environment", "\ud800"),
    "a source elsewhere": bent("source.path", "../../precious/file"),
    "tables with paths for names": bent("source.tables", {"../../precious/file": 3, "/etc/passwd": -1, "\x1b[2J": "x"}),
    "tables that are none": bent("source.tables", ["memories"]),
    "no end of bytes": bent("content.bytes", 1 << 62),
    "no end of stored bytes": bent("stored.bytes", 1 << 62),
    "more than a number": bent("stored.bytes", 10**400),
    "parts of nothing": bent("content.parts.bytes", 0),
    "parts of a byte": bent("content.parts.bytes", 1),
    "more parts than bytes": bent("content.parts.digests", ["0" * 64] * 5000),
    "no parts": bent("content.parts.digests", []),
    "a path for an encoding": bent("stored.encoding", ["../precious/file"]),
    "frames": bent("stored.frames", [0] * 1000),
    "a checksum": bent("stored.crc64nvme", "../../x"),
    "a time": bent("created_at", "9999-12-31T23:59:59Z"),
    "depth": bent("source.tables", DEEP),
    "length": bent("host", "x" * (9 << 20)),
    "another type": lambda _fields: [1, 2, 3],
}


def text_of(fields: object) -> bytes:
    return json.dumps(fields).replace(json.dumps(DEEP), "[" * 400 + "]" * 400).encode()


@pytest.mark.parametrize("bend", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_is_data(host: Host, tmp_path: Path, precious: Path, bend) -> None:
    path = host.back_up()
    manifest = path.with_name(f"{path.name}.manifest.json")
    manifest.write_bytes(text_of(bend(json.loads(manifest.read_bytes()))))
    rows = host.rows()
    type_all(host, tmp_path)
    # What was restored, if anything, is what was backed up.
    assert host.rows() in (rows, rows - 1)
    assert query(host.live, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("what", ["a host", "tables that are none", "parts of nothing", "no end of bytes", "depth"])
def test_a_manifest_in_s3_is_data(both: Host, object_store, tmp_path: Path, precious: Path, what: str) -> None:
    assert both.type("run")[0] == 0
    both.write()
    (path,) = both.backups.glob("*.db")
    client, key = object_store.client(), f"{both.config.cloud.prefix}/{path.name}.manifest.json"
    fields = json.loads(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    client.put_object(Bucket=BUCKET, Key=key, Body=text_of(MANIFESTS[what](fields)))
    for left in both.backups.glob("eternia_backup_*.db*"):
        left.unlink()
    rows = both.rows()
    type_all(both, tmp_path)
    assert both.rows() in (rows, rows - 1)
    assert query(both.live, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    "what",
    [
        *(
            "../../etc/passwd",
            "..",
            ".",
            "",
            " ",
            f"{NAME}/../../../etc/passwd",
            f"../{NAME}",
            f"x/{NAME}",
            f"{NAME}\n",
        ),
        *(f"{NAME}\0x", "x" * 1024, "eternia_backup_\uff12\uff10261122_120000.db", f"{NAME}.manifest.json/../x"),
        *(
            "s3://",
            "s3:///",
            f"s3://b/../{NAME}",
            f"s3://b/p/../../{NAME}",
            f"s3://b//{NAME}",
            f"s3://b/p/{NAME}/..",
            "~",
        ),
        *(f"s3://../{NAME}", f"s3://b/\n{NAME}", f"s3://b/{'x' * 1024}/{NAME}", "file:///etc/passwd", "$(id)", "-x"),
    ],
)
@pytest.mark.parametrize("words", [("download", "--to"), ("restore", "--yes")])
def test_what_is_asked_for_leads_nowhere(host: Host, tmp_path: Path, precious: Path, what: str, words) -> None:
    host.back_up()
    (tmp_path / "to").mkdir()
    before = tree(host.base / "data")
    verb, option = words
    more = (str(tmp_path / "to"),) if verb == "download" else ()
    with in_time():
        code, out, err = host.type(verb, option, *more, "--", what)
    assert code in CODES - {0}, out + err
    assert "Traceback" not in err
    assert list((tmp_path / "to").iterdir()) == []
    assert tree(host.base / "data") == before


KEYS = (
    *(f"../{NAME}", f"../../{NAME}", f"/{NAME}", f"//{NAME}", f"x/../{NAME}", f"x//{NAME}", f"{NAME}/", f"{NAME}/.."),
    *(f"{NAME}/../../../../etc/passwd", f"./{NAME}", f"{NAME}\n", f"\n{NAME}", "x" * 900, f"{NAME}%2f..", "..", "."),
    *(
        "eternia_backup_\uff12\uff10261122_120000.db",
        f"{NAME}.manifest.json/../../x",
        "\u202e" + NAME,
        f"{NAME}\\..\\x",
    ),
)


def test_hostile_names_in_a_listing_are_foreign() -> None:
    assert list(group(sorted((key, 5) for key in KEYS))) == []
    there = list(group(sorted([(NAME, 5), *((f"{NAME}{suffix}", 5) for suffix in ("/..", "\0", "\n", "/.pin"))])))
    assert [(str(copy.name), copy.bytes, copy.pinned) for copy in there] == [(NAME, 5, False)]


def test_hostile_keys_in_a_bucket_are_neither_brought_nor_deleted(
    both: Host, object_store, tmp_path: Path, precious: Path
) -> None:
    both.configure(backup={**both.fields["backup"], "retention": {"keep_last": 1}, "minimum_kept": 1})
    prefix, client, put = both.config.cloud.prefix, object_store.client(), []
    for key in KEYS:
        # Some of them this store refuses, and so does boto3: no answer about them can come.
        with suppress(BotoCoreError, ClientError):
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=b"planted by somebody")
            put.append(key)
    assert len(put) > 5

    def keys() -> set[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    # Of two slashes this store makes one: what then has a name of ours, and no manifest, is a backup like any other.
    before = keys() - {f"{prefix}/{NAME}"}
    for _again in range(2):
        assert both.type("run")[0] == 0
        both.write()
    said = type_all(both, tmp_path)
    assert {verb: code for verb, (code, _words) in said.items() if code and verb != "status"} == {}
    assert before - keys() == set()
    assert "planted by somebody" not in "".join(words for _code, words in said.values())


def link_to_file(path: Path, precious: Path) -> None:
    path.symlink_to(precious / "hold.json")


def link_to_directory(path: Path, precious: Path) -> None:
    path.symlink_to(precious)


def fifo(path: Path, _precious: Path) -> None:
    os.mkfifo(path)


PLACES = (
    *("hold.json", "last-run.json", "drills.json", "drills.begun.json", "eternia_backup.host.json", ".lock"),
    *(
        ".drill.lock",
        "safety",
        ".staging",
        ".drill",
        "NEWEST",
        "NEWEST.manifest.json",
        "NEWEST.pin",
        "NEWEST.seen.json",
    ),
)


@pytest.mark.parametrize("make", [link_to_file, link_to_directory, fifo])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_planted_where_backups_lie_leads_nowhere(
    host: Host, tmp_path: Path, precious: Path, place: str, make
) -> None:
    host.configure(backup={"retention": {"keep_last": 1}, "minimum_kept": 1})
    host.back_up(30)
    newest = host.back_up()
    path = host.backups / place.replace("NEWEST", newest.name)
    if os.path.lexists(path):
        path.unlink()
    make(path, precious)
    type_all(host, tmp_path)
    host.rows()


@pytest.mark.parametrize("make", [link_to_file, link_to_directory, fifo])
@pytest.mark.parametrize("place", [".eternia.db.restore", "eternia.db-wal", "eternia.db-shm", "eternia.db-journal"])
def test_what_is_planted_beside_the_live_data_leads_nowhere(
    host: Host, tmp_path: Path, precious: Path, place: str, make
) -> None:
    host.back_up()
    for left in (path for path in host.live.parent.iterdir() if path != host.live):
        left.unlink()
    path = host.live.with_name(place)
    make(path, precious)
    type_all(host, tmp_path)
    if make is fifo and place != ".eternia.db.restore":
        with in_time():
            message = host.fail(ExitCode.FAILED, "run")
        assert f"{path} is a FIFO, not a file, so {host.live} cannot be opened. Look at it; move it away." in message
    path.unlink(missing_ok=True)
    assert query(host.live, "PRAGMA integrity_check") == [("ok",)]


def test_a_link_for_the_place_of_safety_backups_is_refused_before_anything_is_done(
    host: Host, tmp_path: Path, precious: Path
) -> None:
    host.back_up()
    (host.backups / "safety").symlink_to(precious)
    before = host.rows()
    for more in ("--check", "--yes"):
        assert "/safety is a symbolic link" in host.fail(ExitCode.FAILED, "restore", "latest", more)
    assert host.rows() == before


def test_a_storage_path_may_go_up_and_through_a_link(tmp_path: Path, capsys, precious: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    host = Host(tmp_path, capsys, storage_path=str(tmp_path / "link" / "x" / ".." / "kept"))
    host.succeed("run")
    said = SimpleNamespace(listed=host.succeed("list"), status=host.succeed("status"))
    assert "1 backup" in said.listed
    lie = {path.parent for path in tmp_path.rglob("eternia_backup_*.db")} - {precious}
    assert lie == {tmp_path / "disk" / "kept"}

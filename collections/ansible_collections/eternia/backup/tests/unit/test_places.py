# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that would share a place are named, with the fix; hosts that only look as if they did are left alone."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine.config import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse_with_sidecar
from ansible_collections.eternia.backup.plugins.plugin_utils.places import Home, machine, troubles
from ansible_collections.eternia.backup.tests.unit.builders import in_time

LOOK = Path(__file__).parents[2] / "roles/agent/files/look.py"


def home(
    host: str, *, on: str | None = None, path: str = "/backups", storage: dict[str, Any] | None = None, **cloud: Any
) -> Home:
    block = {"storage_path": path, "cloud_backup": {"enabled": bool(cloud), "bucket": "bucket", **cloud}}
    config = parse(block, environment="production", host=host, base_dir="/opt/eternia")
    return Home(on or host, config, storage or {})


def looked_at(
    root: Path,
    *,
    path: str = "/backups",
    link: str = "",
    mount: str = "/backups",
    inside: str = "/",
    source: str = "nas:/export",
    fstype: str = "nfs4",
    claim: dict[str, Any] | None = None,
) -> Home:
    """A host as the agent's look finds it, whose `mount` is the directory `inside` of the source. Its root is here."""
    (root / mount[1:]).mkdir(parents=True)
    table, storage = root / "mountinfo", root / path[1:]
    table.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:41 {inside} {root}{mount} rw - {fstype} {source} rw\n")
    if link:
        storage.symlink_to(root / link[1:])
    if claim is not None:
        (storage / "eternia_backup.host.json").write_text(json.dumps(claim))
    look = runpy.run_path(str(LOOK))["storage"]
    return home(root.name, path=str(storage), storage=look(str(storage), str(table)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"prefix": "a"}, {"prefix": "a"}),
        ({"prefix": "production"}, {"region": "us-west-2"}),
        ({"prefix": "a", "endpoint_url": "https://S3:443"}, {"prefix": "a", "endpoint_url": "https://s3/"}),
        ({"prefix": "a", "endpoint_url": "https://s3.us-west-2.amazonaws.com"}, {"prefix": "a"}),
        (
            {"prefix": "a", "endpoint_url": "http://127.0.0.1:9", "on": "x"},
            {"prefix": "a", "endpoint_url": "http://127.0.0.1:9", "on": "x", "path": "/b"},
        ),
    ],
)
def test_one_prefix_for_two(first: dict[str, Any], second: dict[str, Any]) -> None:
    (told,) = troubles([home("web1", **first), home("web2", **second)])
    prefix = first["prefix"]
    assert told.startswith(f"web1 and web2 would share s3://bucket/{prefix} (")
    assert 'for example cloud_backup.prefix: "{{ eternia_environment }}/{{ inventory_hostname }}".' in told


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"prefix": "a"}, {"prefix": "b"}),
        ({"prefix": "a"}, {"prefix": "a/b"}),
        ({"prefix": "a"}, {"prefix": "a", "bucket": "other"}),
        ({"prefix": "a"}, {"prefix": "a", "endpoint_url": "https://s3.example"}),
        (
            {"prefix": "a", "endpoint_url": "https://s3.example"},
            {"prefix": "a", "endpoint_url": "https://s3.example:9000"},
        ),
        # Each machine's own.
        ({"prefix": "a", "endpoint_url": "http://127.0.0.1:9"}, {"prefix": "a", "endpoint_url": "http://127.0.0.1:9"}),
        ({}, {}),
    ],
)
def test_places_that_are_apart(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert troubles([home("web1", **first), home("web2", **second)]) == []


def test_a_prefix_within_another_is_not_seen_from_there() -> None:
    """What a store under `a` lists of the keys under `a/...` is no name of ours."""
    name = "eternia_backup_20261122_220000.db"
    assert parse_with_sidecar(name) is not None
    assert parse_with_sidecar(f"b/{name}") is None
    assert parse_with_sidecar(f"eternia_b/{name}") is None


# Two directories of the export, each linked or bound to where a host keeps its backups.
LINKED = {"link": "/mnt/nas/web1", "mount": "/mnt/nas"}
BOUND = {"inside": "/web1"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        # Mounted in another place, or one of its directories.
        ({}, {"path": "/mnt/nas", "mount": "/mnt/nas"}),
        ({"path": "/backups/x"}, {"path": "/mnt/x", "mount": "/mnt"}),
        ({"path": "/backups/x"}, {"path": "/mnt", "mount": "/mnt", "inside": "/x"}),
        ({"path": "/link", "link": "/backups/x"}, {"path": "/backups/x"}),
        (LINKED, {"path": "/mnt/nas/web1", "mount": "/mnt/nas"}),
        (BOUND, {"path": "/mnt/nas/web1", "mount": "/mnt/nas"}),
        (BOUND, LINKED),
    ],
)
def test_one_directory_of_a_network_filesystem_for_two(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    homes = [looked_at(tmp_path / "web1", **first), looked_at(tmp_path / "web2", **second)]
    (told,) = troubles(homes)
    assert told.startswith("web1 and web2 would share /")
    assert " on nas:/export (nfs4), and each would prune" in told
    assert f'for example storage_path: "{homes[0].config.storage_path}/{{{{ inventory_hostname }}}}".' in told


@pytest.mark.parametrize(
    "fstype", ["nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.glusterfs", "fuse.sshfs", "9p", "ocfs2", "gfs2", "lustre"]
)
def test_filesystems_that_several_machines_have(tmp_path: Path, fstype: str) -> None:
    assert len(troubles([looked_at(tmp_path / host, fstype=fstype) for host in ("web1", "web2")])) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"path": "/backups/a"}, {"path": "/backups/b"}),
        ({}, {"source": "nas:/other"}),
        ({"fstype": "ext4", "source": "/dev/sda1"}, {"fstype": "ext4", "source": "/dev/sda1"}),
        (LINKED, {**LINKED, "link": "/mnt/nas/web2"}),
        (BOUND, {"inside": "/web2"}),
    ],
)
def test_directories_that_are_apart(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    assert troubles([looked_at(tmp_path / "web1", **first), looked_at(tmp_path / "web2", **second)]) == []


def test_a_host_that_nobody_looked_at(tmp_path: Path) -> None:
    assert troubles([home("web1"), looked_at(tmp_path / "web2")]) == []


def test_a_bind_mount_is_seen_for_what_it_is(tmp_path: Path) -> None:
    told = f"import json, runpy; print(json.dumps(runpy.run_path('{LOOK}')['storage']('{tmp_path}/backups')))"
    script = f"""
        cd {tmp_path} && mkdir nas backups && mount -t tmpfs nas nas && mkdir nas/web1 || exit 77
        mount --bind nas/web1 backups || exit 77
        {sys.executable} -c "{told}"
    """
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    found, backups = json.loads(done.stdout), f"{tmp_path}/backups"
    assert (found["real"], found["mount"], found["root"], found["source"]) == (backups, backups, "/web1", "nas")


def test_two_names_of_one_machine() -> None:
    (told,) = troubles([home("web1", on="10.0.0.5, port 22"), home("alias", on="10.0.0.5, port 22", path="/backups/")])
    assert told.startswith("web1 and alias would share /backups on 10.0.0.5, port 22, and each would")
    assert troubles([home("web1", on="x"), home("alias", on="x", path="/backups/alias")]) == []


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "web1, port 22"),
        ({"ansible_host": "10.0.0.5", "ansible_port": "2222"}, "10.0.0.5, port 2222"),
        ({"ansible_connection": "local"}, "this machine"),
        ({"ansible_host": "localhost"}, "this machine"),
        ({"ansible_host": "127.0.0.1", "ansible_port": 22}, "this machine"),
        # A virtual machine behind a port of this one.
        ({"ansible_host": "127.0.0.1", "ansible_port": 2201}, "127.0.0.1, port 2201"),
        ({"ansible_host": "localhost.example"}, "localhost.example, port 22"),
    ],
)
def test_which_machine_a_host_is(variables: dict[str, Any], told: str) -> None:
    assert machine("web1", variables) == told


def test_a_directory_that_says_whose_it_is(tmp_path: Path) -> None:
    ours = {"environment": "production", "host": "web1", "storage_path": "/elsewhere"}
    assert troubles([looked_at(tmp_path / "web1", claim=ours)]) == []
    for theirs in ({**ours, "host": "web2"}, {**ours, "environment": "staging"}):
        root = tmp_path / theirs["environment"] / "web1"
        (told,) = troubles([looked_at(root, claim=theirs)])
        assert told.startswith(
            f"web1 would write to {root}/backups, which belongs to host {theirs['host']} "
            f"(environment {theirs['environment']}"
        )
        assert f'for example "{root}/backups/{{{{ inventory_hostname }}}}". Only if' in told


OURS = {"environment": "production", "host": "web1", "storage_path": "/elsewhere"}


def link_to_what_only_root_may_read(path: Path) -> None:
    secret = path.with_name("secret.json")
    secret.write_text(json.dumps(OURS))
    path.symlink_to(secret)


def holding(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    "plant",
    [
        link_to_what_only_root_may_read,
        os.mkfifo,
        os.mkdir,
        holding(""),
        holding("null"),
        holding('["environment", "host"]'),
        holding("[" * 60_000),
        holding(json.dumps({**OURS, "more": "m" * 100_000})),
        holding(json.dumps({**OURS, "host": "h" * 300})),
        holding(json.dumps({**OURS, "host": "web1\nok: [web1]"})),
        holding(json.dumps({**OURS, "environment": {"password": "hunter2"}})),
        holding(json.dumps({"host": "web1"})),
    ],
)
def test_what_is_planted_in_place_of_a_claim_is_not_brought_from_the_host(
    tmp_path: Path, plant: Callable[[Path], Any]
) -> None:
    """Whoever owns the storage path decides what lies there, and root looks at it."""
    plant(tmp_path / "eternia_backup.host.json")
    with in_time():
        assert runpy.run_path(str(LOOK))["claim_in"](str(tmp_path)) is None


def test_of_a_claim_only_what_it_is_asked_for_is_brought_from_the_host(tmp_path: Path) -> None:
    holding(json.dumps({**OURS, "password": "hunter2"}))(tmp_path / "eternia_backup.host.json")
    assert runpy.run_path(str(LOOK))["claim_in"](str(tmp_path)) == {"environment": "production", "host": "web1"}


def test_a_thousand_hosts_in_one_place_are_one_sentence() -> None:
    homes = [home(f"web{number}", prefix="shared") for number in range(1000)]
    (told,) = troubles(homes)
    assert told.startswith("web0, web1, web2, web3, web4 and 995 more would share s3://bucket/shared (AWS), and each")

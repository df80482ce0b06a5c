# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts with one storage path on a shared mount: the second is refused, told why, and what to do."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import closing
from dataclasses import replace

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    catalog,
    claim,
    drill,
    files,
    prune,
    restore,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import EngineError, RefusedError, StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.recovery import Request
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    add_rows,
    clock,
    configuration,
    connect,
    database,
    query,
    tree,
)

FIRST = "eternia_backup_20261122_120000.db"


@pytest.fixture
def web1(tmp_path):
    """The first host, with one backup on the shared mount."""
    config = replace(configuration(tmp_path / "web1"), storage_path=tmp_path / "nas")
    database(config.database_path)
    run(config)
    return config


@pytest.fixture
def web2(web1, tmp_path):
    """The second, with a database of its own, and the first one's storage path."""
    config = replace(configuration(tmp_path / "web2"), host="web2", storage_path=tmp_path / "nas")
    database(config.database_path, rows=7)
    return config


def run(config, hours=0):
    return backup.run(config, clock=clock(hours))


def path_of(config):
    return config.storage_path / claim.CLAIM


VERBS = {
    "the plan of a backup": lambda config: backup.plan(config, clock=clock(1)),
    "a backup": lambda config: run(config, 1),
    "the plan of pruning": lambda config: prune.plan(config, now=NOON),
    "pruning": lambda config: prune.run(config, now=NOON),
    "the plan of a drill": lambda config: drill.plan(config, clock=clock(1)),
    "a drill": lambda config: drill.run(config, clock=clock(1)),
}


def test_the_first_run_claims_the_path_and_the_next_leaves_it(web1):
    assert json.loads(path_of(web1).read_bytes()) == {
        "environment": "staging",
        "host": "web1",
        "storage_path": str(web1.storage_path),
    }
    before = path_of(web1).stat()
    run(web1, 1)
    assert path_of(web1).stat() == before


def test_a_plan_claims_nothing(tmp_path):
    config = configuration(tmp_path)
    database(config.database_path)
    backup.plan(config, clock=clock())
    assert not config.storage_path.exists()


@pytest.mark.parametrize("claimed", [True, False], ids=["by its claim", "by its newest manifest"])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_the_second_host_is_refused_and_nothing_is_written(web1, web2, verb, claimed):
    if not claimed:
        path_of(web1).unlink()
    before = tree(web1.storage_path)
    with pytest.raises(StoreError) as refused:
        verb(web2)
    assert tree(web1.storage_path) == before
    there = web1.storage_path
    assert str(refused.value) == (
        f"{there} belongs to host web1 (environment staging, {there if claimed else 'by its newest manifest'}); this "
        "is host web2 (environment staging), and each would prune what the other needs. Nothing was written. Give each "
        f'host a storage_path of its own, for example "{there}/{{{{ inventory_hostname }}}}". Only if web1 no longer '
        'exists, or became this one, hand it over: echo \'{"environment": "staging", "host": "web2", "storage_path": '
        f'"{there}"}}\' > {path_of(web1)}'
    )


def test_another_environment_is_another_host(web1):
    with pytest.raises(
        StoreError, match=r"belongs to host web1 \(environment staging.*this is host web1 \(environment p"
    ):
        run(replace(web1, environment="production"), 1)


@pytest.mark.parametrize("claimed", [True, False])
def test_a_host_that_was_renamed_does_what_it_is_told(web1, web2, claimed):
    if not claimed:
        path_of(web1).unlink()
    with pytest.raises(StoreError) as refused:
        run(web2, 1)
    subprocess.run(str(refused.value).partition("hand it over: ")[2], shell=True, check=True)
    assert claim.require(catalog.local(web2), web2.owner)
    run(web2, 1)
    with pytest.raises(StoreError, match="belongs to host web2"):
        run(web1, 2)


def test_a_directory_that_was_moved_is_still_the_hosts(web1, tmp_path):
    web1.storage_path.rename(tmp_path / "disk")
    moved = replace(web1, storage_path=tmp_path / "disk")
    run(moved, 1)
    assert json.loads(path_of(moved).read_bytes())["storage_path"] == str(web1.storage_path)


def test_what_is_there_without_a_claim_is_adopted(web1):
    path_of(web1).unlink()
    for act in (lambda: backup.plan(web1, clock=clock(1)), lambda: prune.run(web1, now=NOON)):
        act()
        assert not path_of(web1).exists()
    run(web1, 1)
    assert json.loads(path_of(web1).read_bytes())["host"] == "web1"


def test_a_manifest_that_cannot_be_read_says_nothing(web1, web2):
    run(web1, 1)
    path_of(web1).unlink()
    newest = web1.storage_path / "eternia_backup_20261122_130000.db.manifest.json"
    newest.write_text("{")
    with pytest.raises(StoreError, match="belongs to host web1"):
        run(web2, 2)
    (web1.storage_path / f"{FIRST}.manifest.json").write_text("{")
    run(web2, 2)
    assert claim.require(catalog.local(web2), web2.owner)


@pytest.mark.parametrize("content", ["", "[]", '{"host": "web1"}', '{"environment": "staging", "host": '])
def test_a_claim_that_cannot_be_read_stops_everything(web1, content):
    path_of(web1).write_text(content)
    before = tree(web1.storage_path)
    for verb in VERBS.values():
        with pytest.raises(
            StoreError, match=rf"^{path_of(web1)} should say which host .* if nobody needs it, remove it"
        ):
            verb(web1)
    assert tree(web1.storage_path) == before


def test_of_two_that_claim_at_once_one_is_refused(web1, web2, monkeypatch):
    """Where the lock of one host means nothing to the other, as on some network filesystems."""
    path_of(web1).unlink()
    for left in web1.storage_path.glob("eternia_backup_*"):
        left.unlink()
    commit = files.commit

    def late(staged, final):
        if final == path_of(web2):
            monkeypatch.setattr(files, "commit", commit)
            claim.take(catalog.local(web1), web1.owner, staging=files_of(web1))
        commit(staged, final)

    def files_of(config):
        (config.storage_path / "elsewhere").mkdir()
        return config.storage_path / "elsewhere"

    monkeypatch.setattr(files, "commit", late)
    with pytest.raises(EngineError, match="belongs to host web1"):
        run(web2, 1)
    assert json.loads(path_of(web1).read_bytes())["host"] == "web1"
    assert not list(web1.storage_path.glob("*.db"))


def test_the_status_says_so_and_writes_nothing(web1, web2):
    before = tree(web1.storage_path)
    found = status.read(web2, now=NOON)
    assert re.match(rf"{web1.storage_path} belongs to host web1 .*this is host web2", found.unlisted["local"])
    assert (found.backups, found.newest_verified) == ((), None)
    assert tree(web1.storage_path) == before
    path_of(web1).unlink()
    assert status.read(web1, now=NOON).newest_verified == FIRST
    assert not path_of(web1).exists()


def test_a_restore_that_is_allowed_to_still_reads_what_is_there(web1, web2):
    with closing(connect(web2.database_path)) as application:
        add_rows(application)
    with pytest.raises(RefusedError, match="allow it: allow_foreign"):
        restore.run(web2, Request(), clock=clock(1))
    restore.run(web2, Request(allow_foreign=True), clock=clock(1))
    assert query(web2.database_path, "SELECT count(*) FROM memories") == [(50,)]
    assert json.loads(path_of(web1).read_bytes())["host"] == "web1"

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clone that sends where its original does is seen, and a machine that was rebuilt is not taken for one."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    catalog,
    machine,
    manifest,
    prune,
    restore,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import DamagedError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_objects import Objects
from ansible_collections.eternia.backup.tests.unit.builders import NOON, clock, configuration, database

RAW = b"3d1219c7c4c5404aaa1f6d2a48adfda4\n"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where a machine that has no identity yet would have it."""
    found = (tmp_path / "machine-id", tmp_path / "product_uuid")
    monkeypatch.setattr(machine, "_PLACES", found)
    return found


def test_the_identity_is_of_this_program_and_does_not_give_away_what_it_is_made_of(places):
    places[0].write_bytes(RAW)
    application = bytes.fromhex("2f1847bf3af5498c8838d0a57ad0ccb0")
    assert machine.identity() == hmac.new(RAW.strip(), application, hashlib.sha256).hexdigest()[:32]


def test_a_clone_that_kept_the_systems_id_is_told_by_its_firmwares(places):
    places[0].write_bytes(RAW)
    found = {machine.identity()}
    for uuid in ("one", "other"):
        places[1].write_text(uuid)
        found.add(machine.identity())
    assert len(found) == 3


def test_a_machine_that_has_none(places):
    assert machine.identity() is None
    places[0].touch()
    assert machine.identity() is None


def hours(number):
    return NOON + timedelta(hours=number)


def name_of(number):
    return f"eternia_backup_{hours(number):%Y%m%d_%H%M%S}.db"


class Machines:
    """Machines that all have the same path, the same name and the same prefix in S3; one of them runs at a time."""

    def __init__(self, folder, settings, place):
        self._folder, self._place = folder, place
        self.base = folder / "home"
        self.config = replace(configuration(self.base, retention={"keep_last": 1}, minimum_kept=1), cloud=settings)

    def disk(self, name):
        return self._folder / name

    def be(self, name, *, id_of=None):
        """Run on the disk `name`, on the machine of that name or on another."""
        with suppress(FileNotFoundError):
            self.base.unlink()
        self.base.symlink_to(self.disk(name))
        self._place.write_text(id_of or name)
        return machine.identity()

    def install(self, name):
        database(self.disk(name) / "data" / "eternia.db")

    def copy(self, name, to):
        shutil.copytree(self.disk(name), self.disk(to))

    def run(self, hour, config=None):
        return sorted(map(str, backup.run(config or self.config, clock=clock(hour)).transfers))

    def refused(self, hour, verb=backup.run):
        with pytest.raises((backup.RunFailedError, backup.StoreError)) as failed:
            verb(self.config, clock=clock(hour))
        return str(failed.value)

    def in_s3(self):
        return sorted(str(copy.name) for copy in catalog.remote(self.config).copies() if copy.verified)


@pytest.fixture
def machines(tmp_path, s3_settings, places):
    """`old` has sent one backup."""
    found = Machines(tmp_path, s3_settings, places[0])
    found.install("old")
    found.be("old")
    assert found.run(0) == [name_of(0)]
    return found


@pytest.fixture
def cloned(machines):
    """`clone` was made of `old`, and has sent a backup since, an hour ago."""
    machines.copy("old", "clone")
    machines.be("clone")
    assert machines.run(1) == [name_of(1)]
    machines.be("old")
    return machines


def test_a_clone_that_sends_to_the_same_place_is_seen(cloned):
    ours, other = cloned.be("old"), cloned.be("clone")
    cloned.be("old")
    planned = cloned.refused(2, backup.plan)
    message = cloned.refused(2)
    where = f"{cloned.config.cloud.bucket}/{cloned.config.cloud.prefix}"
    assert planned == (
        f"s3://{where}/{name_of(1)} was taken on another machine that goes by the name of this one, web1: it is "
        f"{other}, this is {ours}. Nothing was sent: each would take the other's backups for its own. If one is a "
        "clone, give it a host, a storage_path and a cloud_backup.prefix of its own, or take its schedule away. Once "
        "the other sends nothing there any more, run again: this machine's next backup goes through."
    )
    path = cloned.config.storage_path / name_of(2)
    assert message == f"{path} is valid on the disk, but S3 has not got everything. {planned}"
    assert cloned.in_s3() == [name_of(0), name_of(1)]
    local = replace(cloned.config, cloud=None)
    assert status.read(local, now=hours(2), verify="full").newest_verified == name_of(2)


def test_nothing_is_pruned_while_it_is_so(cloned):
    cloned.refused(2)
    outcome = prune.run(cloned.config, now=hours(2))
    assert outcome.removed == []
    assert cloned.in_s3() == [name_of(0), name_of(1)]


def test_it_is_so_for_as_long_as_the_clone_goes_on(cloned):
    for hour in (2, 4, 6):
        cloned.be("old")
        assert "another machine" in cloned.refused(hour)
        cloned.be("clone")
        assert cloned.run(hour + 1) == [name_of(hour + 1)]


def test_once_the_clone_is_gone_the_next_backup_goes_through(cloned):
    cloned.refused(2)
    # It is the only one that is wanted there.
    assert cloned.run(3) == [name_of(3)]
    assert [verdict.store for verdict in prune.run(cloned.config, now=hours(3)).removed].count("s3") == 2
    assert cloned.in_s3() == [name_of(3)]


def test_a_clone_that_gets_a_place_of_its_own_is_no_longer_in_the_way(cloned):
    cloned.refused(2)
    cloned.be("clone")
    own = replace(
        cloned.config,
        host="web2",
        storage_path=cloned.config.storage_path.with_name("web2"),
        cloud=replace(cloned.config.cloud, prefix=f"{cloned.config.cloud.prefix}-web2"),
    )
    assert cloned.run(3, own) == [name_of(3)]
    cloned.be("old")
    assert cloned.run(4) == [name_of(4)]


def test_an_unchanged_source_has_nothing_to_send_and_is_not_refused(cloned):
    outcome = backup.run(cloned.config, clock=clock(2), skip_unchanged=True)
    assert (outcome.unchanged, outcome.transfers) == (True, {})


def on_an_empty_disk(machines):
    machines.install("new")
    machines.be("new")


def on_the_disk_that_was_saved(machines):
    machines.copy("old", "new")
    machines.be("new")


def set_back(machines):
    """The same virtual machine, as it was before its last backup."""
    machines.copy("old", "new")
    machines.be("old")
    machines.run(0.75)
    machines.be("new", id_of="old")


def on_a_disk_that_was_copied_earlier(machines):
    machines.copy("old", "new")
    machines.be("old")
    machines.run(0.75)
    machines.be("new")


def with_a_new_id(machines):
    machines.be("old", id_of="new")


@pytest.mark.parametrize(
    "rebuilt",
    [on_an_empty_disk, on_the_disk_that_was_saved, on_a_disk_that_was_copied_earlier, set_back, with_a_new_id],
)
def test_a_machine_that_was_rebuilt_goes_on_without_help(machines, rebuilt):
    machines.run(0.5)
    rebuilt(machines)
    for hour in (1, 2):
        assert machines.run(hour) == [name_of(hour)]
        assert [verdict for verdict in prune.run(machines.config, now=hours(hour)).removed if verdict.store == "s3"]


def test_what_does_not_say_its_machine_is_no_ground_for_a_refusal(cloned, places):
    places[0].unlink()
    assert cloned.run(2) == [name_of(2)]
    # The newest backup here does not say it, either.
    cloned.be("clone")
    assert cloned.run(3) == [name_of(3)]
    cloned.be("old")
    assert cloned.run(4) == [name_of(4)]


def test_a_backup_from_the_future_is_no_ground_for_a_refusal(cloned):
    cloned.be("clone")
    cloned.run(100)
    cloned.be("old")
    cloned.refused(2)
    assert cloned.run(3) == [name_of(3)]


def test_where_nobody_else_sends_no_manifest_of_another_backup_is_read(machines, monkeypatch):
    asked = []
    real = Objects.manifest
    monkeypatch.setattr(Objects, "manifest", lambda objects, name: asked.append(str(name)) or real(objects, name))
    machines.run(1)
    assert set(asked) == {name_of(1)}


def test_the_manifest_says_the_machine_and_one_that_does_not_is_as_good(machines):
    path = machines.config.storage_path / f"{name_of(0)}.manifest.json"
    fields = json.loads(path.read_text())
    assert (fields["format"], fields["machine"]) == (1, machine.identity())

    def read():
        return manifest.from_json(json.dumps(fields).encode(), name=parse(name_of(0)), where="there")

    assert read().machine == machine.identity()
    fields["machine"] = 7
    with pytest.raises(DamagedError, match=r"^there is not a whole manifest .*text expected, found 7"):
        read()
    del fields["machine"]
    assert read().machine is None
    assert "machine" not in read().fields()


def test_a_safety_backup_says_it_too(machines):
    machines.config.database_path.unlink()
    database(machines.config.database_path, rows=3)
    restore.run(machines.config, restore.Request(), clock=clock(1))
    [kept] = (machines.config.storage_path / "safety").glob("*.manifest.json")
    assert json.loads(kept.read_text())["machine"] == machine.identity()

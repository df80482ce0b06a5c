# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pruning: what is removed, in which order, what never is, and what is said when it does not work."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import signal
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    catalog,
    claim,
    failure,
    hold,
    prune,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Store
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_client import S3Client
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    SetClock,
    add_rows,
    at_call,
    configuration,
    connect,
    database,
    die,
    in_child,
    open_directory,
    tree,
    unprivileged,
)

NAMES = [f"eternia_backup_202611{day}_120000.db" for day in (22, 23, 24, 25)]
NOW = NOON + timedelta(days=4)
GOES = ("no keep rule wants it",)


def four_backups(base, **block):
    """A host with four backups, of which the newest is to stay."""
    database(base / "data" / "eternia.db")
    config = configuration(base, **{"retention": {"keep_last": 1}, "minimum_kept": 1, **block})
    for day in range(4):
        backup.run(config, clock=SetClock(NOON + timedelta(days=day)).clock())
    return config


@pytest.fixture
def config(tmp_path):
    return four_backups(tmp_path)


OF_EVERY_RUN = (".lock", "last-run.json", claim.CLAIM)


def removed(outcome):
    return [(one.store, str(one.decision.copy.name)) for one in outcome.removed]


def listed(config):
    """What is there, without what every run leaves."""
    return sorted(entry.name for entry in config.storage_path.iterdir() if entry.name not in OF_EVERY_RUN)


def with_manifests(names):
    return sorted(f"{name}{suffix}" for name in names for suffix in ("", ".manifest.json"))


def test_the_plan_is_the_run_and_writes_nothing(config):
    before = tree(config.storage_path)
    planned = prune.plan(config, now=NOW)
    assert tree(config.storage_path) == before
    done = prune.run(config, now=NOW)
    assert done == planned
    assert [(one.store, one.location) for one in done.verdicts] == [
        ("local", str(config.storage_path / name)) for name in reversed(NAMES)
    ]
    assert removed(done) == [("local", name) for name in NAMES[:3]]
    assert done.warnings == []
    assert [one.decision.reasons for one in done.verdicts] == [("newest verified", "last 1 of 1"), GOES, GOES, GOES]
    assert listed(config) == with_manifests(NAMES[3:])
    assert removed(prune.run(config, now=NOW)) == []


def test_the_oldest_goes_first_and_its_manifest_before_its_data(config, monkeypatch):
    unlink, gone = Path.unlink, []

    def noted(path, **keywords):
        gone.append(path.name)
        unlink(path, **keywords)

    (config.storage_path / f"{NAMES[0]}.seen.json").touch()
    monkeypatch.setattr(Path, "unlink", noted)
    prune.run(config, now=NOW)
    data_and_manifests = [name for name in gone if name.endswith((".db", ".manifest.json"))]
    assert list(dict.fromkeys(data_and_manifests)) == [
        f"{name}{suffix}" for name in NAMES[:3] for suffix in (".manifest.json", "")
    ]
    assert listed(config) == with_manifests(NAMES[3:])


def test_killed_at_any_call_nothing_looks_whole_that_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    template = four_backups(tmp_path / "template")

    def killed(config, step):
        at_call(step, die)
        prune.run(config, now=NOW)

    for step in itertools.count(1):
        base = tmp_path / str(step)
        shutil.copytree(template.storage_path.parents[1], base)
        config = configuration(base, retention={"keep_last": 1}, minimum_kept=1)
        ended = in_child(lambda config=config, step=step: killed(config, step))
        assert ended in (0, -signal.SIGKILL)
        found = status.read(config, now=NOW, verify="full").backups
        assert {(one.status, copy.problem) for one in found for copy in one.copies} <= {
            ("verified", None),
            ("legacy", None),
        }
        # What is left is the newest ones, without a hole.
        assert [one.name for one in found] == NAMES[: -len(found) - 1 : -1]
        prune.run(config, now=NOW)
        assert listed(config) == with_manifests(NAMES[3:])
        if ended == 0:
            break
    assert step > 10


def test_a_removal_that_fails_says_how_far_it_came(config, monkeypatch):
    unlink = Path.unlink

    def refused(path, **keywords):
        if path.name.startswith(NAMES[1]):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path, **keywords)

    monkeypatch.setattr(Path, "unlink", refused)
    location = config.storage_path / NAMES[1]
    message = rf"^{location} could not be removed: input/output error\. .* Removed all the same: 1\.$"
    with pytest.raises(prune.PruneFailedError, match=message) as failed:
        prune.run(config, now=NOW)
    assert removed(failed.value.outcome) == [("local", NAMES[0])]
    assert failure.of(failed.value).kind == "store"
    assert len(failed.value.outcome.verdicts) == 4
    assert listed(config) == with_manifests(NAMES[1:])


def test_a_hold_ends_a_prune_that_is_under_way(config, monkeypatch):
    remove = LocalStore.remove

    def held_meanwhile(store, names):
        yield from remove(store, names)
        hold.put(config.storage_path, hold.Hold("ann", "look at it", NOW + timedelta(hours=1)))

    monkeypatch.setattr(LocalStore, "remove", held_meanwhile)
    outcome = prune.run(config, now=NOW)
    assert removed(outcome) == [("local", NAMES[0])]
    (warning,) = outcome.warnings
    assert warning.startswith("The backups of this host are held by ann until ")
    assert warning.endswith("Pruning has stopped; removed before it: 1.")
    assert set(with_manifests(NAMES[1:])) < set(listed(config))


def test_without_the_right_to_remove():
    with open_directory() as base:
        config = four_backups(base)
        for entry in (config.storage_path.parent, *config.storage_path.iterdir()):
            entry.chmod(0o777)
        config.storage_path.chmod(0o555)
        message = r"not be removed: permission denied\. Correct the rights on .* Removed all the same: 0\.$"
        with unprivileged(), pytest.raises(prune.PruneFailedError, match=message) as failed:
            prune.run(config, now=NOW)
        assert removed(failed.value.outcome) == []
        assert listed(config) == with_manifests(NAMES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("mine"), r"/staging cannot be listed: not a directory. Correct storage_path"),
        (lambda path: (path / ".lock").mkdir(parents=True), r"/staging/\.lock cannot be opened: is a directory"),
    ],
)
def test_a_store_that_cannot_be_read(tmp_path, make, message):
    config = configuration(tmp_path)
    config.storage_path.parent.mkdir()
    make(config.storage_path)
    with pytest.raises(StoreError, match=message):
        prune.run(config, now=NOW)


def test_where_nothing_was_ever_backed_up_nothing_is_made(tmp_path):
    config = configuration(tmp_path)
    assert prune.run(config, now=NOW) == prune.plan(config, now=NOW) == prune.Outcome()
    assert list(tmp_path.iterdir()) == []


RUNNING = '{"result": "running", "at": "2026-11-25T12:00:00Z", "error": ""}'


@pytest.mark.parametrize("content", [RUNNING, "", "null", "[]"])
def test_after_a_run_that_was_cut_off_nothing_is_removed(config, content):
    (config.storage_path / "last-run.json").write_text(content)
    verdicts = prune.run(config, now=NOW).verdicts
    assert listed(config) == with_manifests(NAMES)
    [reason] = {reason for one in verdicts for reason in one.decision.reasons}
    expected = "the run of 2026-11-25T12:00:00Z was cut off" if content == RUNNING else "cannot be read"
    assert re.match(rf"nothing is removed: .*{expected}", reason)


FOREIGN = (
    "eternia_backup_20260230_120000.db",
    "eternia_backup_20260101_126000.db",
    "eternia_backup_20260101_120000.db.bak",
    "eternia_backup_20260101_120000.db.gz",
    "eternia_backup_20260101_120000.db.age.zst",
    "eternia_backup_20260101_120000.db-wal",
    "eternia_backup_20260101_120000.DB",
    "eternia_backup_20260101_120000.json",
    "eternia_state_20260101_120000.db",
    "eternia_backup_20260101_120000",
    "eternia_backup_2026-01-01_120000.db",
    "my_eternia_backup_20260101_120000.db",
    "eternia_backup_20260101_120000.db.manifest.json.old",
    "eternia_backup_20260101_120000.db\n",
    "eternia_backup_٢٠٢٦٠١٠١_120000.db",
    "notes.txt",
)


def test_foreign_names_are_neither_listed_nor_removed(config):
    for name in FOREIGN:
        (config.storage_path / name).write_text("mine")
    # Nor is what has our name and is no file of ours.
    (config.storage_path / "eternia_backup_20260102_120000.db").mkdir()
    (config.storage_path / "eternia_backup_20260103_120000.db").symlink_to("/etc/passwd")
    os.mkfifo(config.storage_path / "eternia_backup_20260104_120000.db")
    (config.storage_path / "eternia_backup_20260105_120000.db.pin").touch()
    others = [name for name in listed(config) if name not in with_manifests(NAMES)]
    assert len(others) == len(FOREIGN) + 4
    assert len(removed(prune.run(config, now=NOW))) == 3
    assert listed(config) == sorted([*others, *with_manifests(NAMES[3:])])


def test_what_stays_whatever_the_policy_says(config):
    (config.storage_path / f"{NAMES[1]}.pin").touch()
    # Two days ago the last two were in the future.
    verdicts = prune.run(config, now=NOON + timedelta(days=1)).verdicts
    assert {str(one.decision.copy.name): set(one.decision.reasons) for one in verdicts} == {
        NAMES[3]: {"from the future: check the clock"},
        NAMES[2]: {"from the future: check the clock"},
        NAMES[1]: {"pinned", "newest verified", "last 1 of 1"},
        NAMES[0]: set(GOES),
    }
    assert listed(config) == sorted([*with_manifests(NAMES[1:]), f"{NAMES[1]}.pin"])


def test_while_fewer_than_the_minimum_exist_nothing_goes(tmp_path):
    config = four_backups(tmp_path, minimum_kept=5)
    assert removed(prune.run(config, now=NOW)) == []


def test_sidecars_without_data_go_too(config):
    (config.storage_path / NAMES[0]).unlink()
    assert len(removed(prune.run(config, now=NOW))) == 3
    assert listed(config) == with_manifests(NAMES[3:])


@pytest.fixture
def both(config, s3_settings):
    """The same host with everything in S3 too."""
    config = replace(config, cloud=s3_settings)
    with closing(connect(config.database_path)) as application:
        add_rows(application)
    everything = replace(config, policy=replace(config.policy, retention_days=0))
    outcome = backup.run(everything, clock=SetClock(NOW).clock())
    assert len(outcome.transfers) == 5
    return config


@pytest.mark.parametrize("pin", ["local", "s3"])
def test_a_pin_in_any_store_counts_in_all(both, object_store, pin):
    if pin == "local":
        (both.storage_path / f"{NAMES[0]}.pin").touch()
    else:
        key = f"{both.cloud.prefix}/{NAMES[0]}.pin"
        object_store.client().put_object(Bucket=both.cloud.bucket, Key=key, Body=b"")
    newest = "eternia_backup_20261126_120000.db"
    planned = prune.plan(both, now=NOW)
    assert prune.run(both, now=NOW) == planned
    assert removed(planned) == [(store, name) for store in ("local", "s3") for name in NAMES[1:]]
    assert [one.decision.reasons for one in planned.verdicts if str(one.decision.copy.name) == NAMES[0]] == [
        ("pinned",)
    ] * 2
    left = status.read(both, now=NOW, verify="full").backups
    assert {one.name: [copy.problem for copy in one.copies] for one in left} == {
        newest: [None, None],
        NAMES[0]: [None, None],
    }


@pytest.mark.parametrize("damage", ["not JSON", "another size", "none"])
def test_what_is_damaged_takes_no_place_of_what_is_good(config, damage):
    newest = config.storage_path / NAMES[3]
    if damage == "not JSON":
        Path(f"{newest}.manifest.json").write_text("{")
    elif damage == "another size":
        os.truncate(newest, 4096)
    planned = prune.plan(config, now=NOW)
    outcome = prune.run(config, now=NOW)
    assert outcome == planned
    assert [NAMES[3] in warning for warning in outcome.warnings] == ([] if damage == "none" else [True])
    gone = [name for _store, name in removed(outcome)]
    good = NAMES[3] if damage == "none" else NAMES[2]
    assert good not in gone
    assert NAMES[0] in gone
    assert (config.storage_path / good).exists()


def test_drilled_backups_stay_first_and_are_read_before_others_go(tmp_path):
    config = four_backups(tmp_path, minimum_kept=2)
    for name in NAMES[:2]:
        (config.storage_path / f"{name}.drilled.json").touch()
    planned = prune.plan(config, now=NOW)
    kept = {str(one.decision.copy.name): one.decision.reasons for one in planned.verdicts if one.decision.keep}
    assert kept == {
        NAMES[3]: ("newest verified", "one of the 2 that always stay", "last 1 of 1"),
        NAMES[1]: ("one of the 2 that always stay (drilled)",),
    }
    # The one that would take the place is not whole: the next drilled one takes it.
    os.truncate(config.storage_path / NAMES[1], 4096)
    outcome = prune.run(config, now=NOW)
    assert [NAMES[1] in warning for warning in outcome.warnings] == [True]
    assert listed(config) == sorted([*with_manifests([NAMES[0], NAMES[3]]), f"{NAMES[0]}.drilled.json"])


def test_a_mark_goes_with_its_backup(both, object_store):
    newest = "eternia_backup_20261126_120000.db"
    client, where = object_store.client(), {"Bucket": both.cloud.bucket}
    for name in [*NAMES, newest]:
        (both.storage_path / f"{name}.drilled.json").touch()
        client.put_object(**where, Key=f"{both.cloud.prefix}/{name}.drilled.json", Body=b"")
    prune.run(both, now=NOW)
    left = sorted([*with_manifests([newest]), f"{newest}.drilled.json"])
    assert listed(both) == left
    keys = client.list_objects_v2(**where, Prefix=f"{both.cloud.prefix}/eternia_backup_2")["Contents"]
    assert [Path(one["Key"]).name for one in keys] == left


def test_a_store_that_refuses_says_what_went_before_it(both, object_store, credentials_file):
    reading = replace(both, cloud=replace(both.cloud, credentials_file=credentials_file(object_store.reader)))
    message = r"^Deleting s3://.*: access denied .* Removed all the same: 4\.$"
    with pytest.raises(prune.PruneFailedError, match=message) as failed:
        prune.run(reading, now=NOW)
    assert removed(failed.value.outcome) == [("local", name) for name in NAMES]
    assert removed(prune.run(both, now=NOW)) == [("s3", name) for name in NAMES]


def test_one_that_is_refused_in_s3_keeps_no_other(both, monkeypatch):
    """Some at a time go: of the first two one is locked, the third goes all the same."""
    call = S3Client.call
    locked = f"{both.cloud.prefix}/{NAMES[0]}.manifest.json"

    def refusing(self, operation, key, **params):
        if operation != "delete_objects":
            return call(self, operation, key, **params)
        wanted = params["Delete"]["Objects"]
        call(self, operation, key, Delete={"Objects": [one for one in wanted if one["Key"] != locked], "Quiet": True})
        refused = [one for one in wanted if one["Key"] == locked]
        return {"Errors": [{**one, "Code": "AccessDenied", "Message": "Locked"} for one in refused]}

    monkeypatch.setattr(S3Client, "call", refusing)
    monkeypatch.setattr(S3Store, "at_once", 2)
    with pytest.raises(prune.PruneFailedError, match=rf"^Deleting s3://.*{NAMES[0]}.*Locked.* same: 7\.$") as failed:
        prune.run(both, now=NOW)
    assert removed(failed.value.outcome)[4:] == [("s3", name) for name in NAMES[1:]]
    assert [str(copy.name) for copy in S3Store(both.cloud).copies(parse(NAMES[0])) if copy.verified] == [NAMES[0]]


def test_a_planned_backup_counts_as_if_it_were_there(config, s3_settings):
    # Nobody has claimed the prefix yet and the last run was cut off: the run that is planned puts both right.
    (config.storage_path / "last-run.json").write_text(RUNNING)
    config = replace(config, cloud=s3_settings)
    clock = SetClock(NOW).clock()
    upcoming = backup.plan(config, clock=clock).name
    planned = prune.plan(config, now=NOW, upcoming=[upcoming])
    backup.run(config, clock=clock)
    assert removed(planned) == removed(prune.run(config, now=NOW)) == [("local", name) for name in NAMES]


def test_behind_a_newest_backup_that_has_rotted_nothing_good_goes(config):
    newest = config.storage_path / NAMES[3]
    newest.write_bytes(bytes(newest.stat().st_size))
    for act in (prune.plan, prune.run):
        outcome = act(config, now=NOW)
        assert [str(one.decision.copy.name) for one in outcome.removed] == [NAMES[0], NAMES[1]]
        assert re.search(rf"{NAMES[3]} is damaged", outcome.warnings[0])
    assert (config.storage_path / NAMES[2]).exists()


def test_a_backup_from_the_future_shields_no_damage(config):
    backup.run(config, clock=SetClock(NOON + timedelta(days=900)).clock())
    os.truncate(config.storage_path / NAMES[3], 0)
    prune.run(config, now=NOW)
    assert (config.storage_path / NAMES[2]).exists()


def test_a_lone_pin_keeps_what_lies_in_s3(config, s3_settings):
    both = replace(config, cloud=s3_settings, policy=replace(config.policy, keep_last=9))
    backup.run(both, clock=SetClock(NOON + timedelta(days=4)).clock())
    for suffix in ("", ".manifest.json"):
        (config.storage_path / f"{NAMES[1]}{suffix}").unlink()
    (config.storage_path / f"{NAMES[1]}.pin").touch()
    outcome = prune.run(replace(both, policy=config.policy), now=NOW + timedelta(days=1))
    gone = {(one.store, str(one.decision.copy.name)) for one in outcome.removed}
    assert ("s3", NAMES[0]) in gone
    assert ("s3", NAMES[1]) not in gone
    assert (config.storage_path / f"{NAMES[1]}.pin").exists()


@pytest.mark.parametrize("where", ["on the disk", "in S3"])
def test_what_is_pinned_while_others_are_proven_stays(config, s3_settings, object_store, monkeypatch, where):
    both = replace(config, cloud=s3_settings, policy=replace(config.policy, keep_last=9))
    backup.run(both, clock=SetClock(NOW).clock())
    prove = LocalStore.prove

    def prove_for_a_while(store, copy):
        if where == "on the disk":
            (config.storage_path / f"{NAMES[0]}.pin").touch()
        else:
            key = f"{s3_settings.prefix}/{NAMES[0]}.pin"
            object_store.client().put_object(Bucket=s3_settings.bucket, Key=key, Body=b"")
        prove(store, copy)

    monkeypatch.setattr(LocalStore, "prove", prove_for_a_while)
    outcome = prune.run(replace(both, policy=config.policy), now=NOW)
    gone = removed(outcome)
    assert {store for store, _name in gone} == {"local", "s3"}
    assert NAMES[0] not in [name for _store, name in gone]
    assert (config.storage_path / NAMES[0]).exists()
    kept = [one.decision for one in outcome.verdicts if str(one.decision.copy.name) == NAMES[0]]
    assert [(one.keep, one.reasons) for one in kept] == [(True, ("pinned",))] * 2


def test_a_pin_of_the_last_moment_keeps_what_is_on_the_disk(config):
    (config.storage_path / f"{NAMES[0]}.pin").touch()
    local = LocalStore(config.storage_path)
    assert [str(name) for name in local.remove([parse(NAMES[0]), parse(NAMES[1])])] == [NAMES[1]]
    assert (config.storage_path / f"{NAMES[0]}.pin").exists()


def test_what_was_pinned_at_the_last_moment_is_told_to_be_kept(config, monkeypatch):
    remove = LocalStore.remove

    def pin_and_remove(store, names):
        (config.storage_path / f"{NAMES[0]}.pin").touch()
        return remove(store, names)

    monkeypatch.setattr(LocalStore, "remove", pin_and_remove)
    outcome = prune.run(config, now=NOW)
    assert NAMES[0] not in [name for _store, name in removed(outcome)]
    told = {str(one.decision.copy.name): one.decision for one in outcome.verdicts}
    assert (told[NAMES[0]].keep, told[NAMES[0]].reasons) == (True, ("pinned",))


def test_names_in_s3_fill_no_gap_of_the_disk(tmp_path, s3_settings, object_store):
    """Who has the host's key can put there what looks like the days that a clock skipped that is ahead."""
    config = replace(four_backups(tmp_path, retention={}, retention_days=2), cloud=s3_settings)
    backup.run(config, clock=SetClock(NOW).clock())
    before = {str(copy.name) for copy in catalog.remote(config).copies()}
    assert len(before) == 3
    ahead = NOW + timedelta(days=400)
    for day in range(1, 400, 5):
        name = f"eternia_backup_{NOW + timedelta(days=day):%Y%m%d_%H%M%S}.db"
        for suffix in ("", ".manifest.json"):
            key = f"{s3_settings.prefix}/{name}{suffix}"
            object_store.client().put_object(Bucket=s3_settings.bucket, Key=key, Body=b"{}")
    for hours in range(4):
        backup.run(config, clock=SetClock(ahead + timedelta(hours=hours)).clock())
        prune.run(config, now=ahead + timedelta(hours=hours))
    assert {path.name for path in config.storage_path.glob("*.db")} >= set(NAMES)
    assert {str(copy.name) for copy in catalog.remote(config).copies()} >= before


def test_without_a_run_that_succeeded_nothing_goes(config):
    (config.storage_path / "last-run.json").unlink()
    outcome = prune.run(config, now=NOW)
    assert outcome.removed == []
    assert outcome.verdicts[0].decision.reasons == ("nothing is removed: no run has succeeded here yet",)


def test_a_backup_that_the_application_runs_on_stays(config):
    live = replace(config, database_path=config.storage_path / NAMES[0])
    outcome = prune.run(live, now=NOW)
    assert NAMES[0] not in [str(one.decision.copy.name) for one in outcome.removed]
    (reasons,) = [one.decision.reasons for one in outcome.verdicts if str(one.decision.copy.name) == NAMES[0]]
    assert reasons == ("the application runs on it",)

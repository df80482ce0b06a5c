# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A storage path whose disk is not mounted: nothing is written below the mount point, and it is said what to mount."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, drill, mounts, prune
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import ConfigError, StoreError
from ansible_collections.eternia.backup.tests.unit.builders import NOON, SetClock, configuration, database, tree

COLLECTIONS = str(Path(mounts.__file__).parents[6])
# What `unshare` needs to let us mount: root, or a user namespace in which we seem to be root.
UNSHARE = ["unshare", "--mount", *(("--user", "--map-root-user") if os.geteuid() else ())]

CLOCK = SetClock(NOON + timedelta(days=1)).clock()
VERBS = {
    "the plan of a backup": lambda config: backup.plan(config, clock=CLOCK),
    "a backup": lambda config: backup.run(config, clock=CLOCK),
    "the plan of pruning": lambda config: prune.plan(config, now=CLOCK.now()),
    "pruning": lambda config: prune.run(config, now=CLOCK.now()),
    "the plan of a drill": lambda config: drill.plan(config, clock=CLOCK),
    "a drill": lambda config: drill.run(config, clock=CLOCK),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_nothing_is_written_below_a_mount_point_that_is_not_mounted(tmp_path, verb):
    database(tmp_path / "data" / "eternia.db")
    disk = tmp_path / "disk"
    disk.mkdir()
    # Somebody took a backup while it was not mounted, before anybody looked.
    backup.run(configuration(tmp_path, storage_path="disk/backups"), clock=SetClock().clock())
    config = configuration(tmp_path, storage_path="disk/backups", storage_mount="disk")
    before = tree(tmp_path)
    message = (
        f"{disk}/backups is to be on {disk} (says backup.storage_mount), and nothing is mounted there: backups would "
        f"fill up the disk below it. Mount it (`mount {disk}`), or correct storage_path or storage_mount; then run "
        "again."
    )
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        verb(config)
    assert tree(tmp_path) == before


def required(config, fstab, table, directory):
    (directory / "fstab").write_bytes(fstab)
    (directory / "mountinfo").write_bytes(
        b"".join(b"36 35 98:0 / %b rw,noatime shared:1 - %b /dev/x rw\n" % entry for entry in table)
    )
    mounts.require(config, fstab=directory / "fstab", mounts=directory / "mountinfo")


ROOT = (b"/", b"ext4")
CASES = {
    "no fstab entry of ours": (b"/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1 /srv xfs defaults\n", [ROOT], None),
    "it is there": (b"/dev/sdb1 /backups xfs defaults 0 2\n", [ROOT, (b"/backups", b"xfs")], None),
    "it is not": (b"/dev/sdb1 /backups xfs defaults 0 2\n", [ROOT], "/backups"),
    "not even on demand": (b"LABEL=usb\t/backups\tvfat\tnoauto,user\n", [ROOT], "/backups"),
    "above the path": (b"nas:/x /backups/eternia nfs _netdev\n", [ROOT, (b"/backups", b"xfs")], "/backups/eternia"),
    "the outer one first": (b"nas:/x /backups/eternia nfs x\n/dev/sdb1 /backups xfs x\n", [ROOT], "/backups"),
    "below the path": (b"/dev/sdb1 /backups/eternia/web1/old xfs defaults\n", [ROOT], None),
    "beside the path": (b"/dev/sdb1 /backups2 xfs defaults\n/dev/sdb1 /back xfs defaults\n", [ROOT], None),
    "the root is always there": (b"/dev/sda1 / ext4 defaults\n", [], None),
    "swap and none": (b"/dev/sdc1 none swap sw\n/swap /backups swap sw\n/dev/sdd1 none xfs noauto\n", [ROOT], None),
    "comments and rubbish": (b"# /dev/sdb1 /backups xfs x\n  # x /backups xfs\n\n/dev/sdb1 /backups\n", [ROOT], None),
    "a bind mount": (b"/data/b /backups none bind\n", [ROOT, (b"/backups", b"ext4")], None),
    "a bind mount that is not": (b"/data/b /backups none bind\n", [ROOT], "/backups"),
    "an automount": (b"nas:/x /backups nfs x-systemd.automount\n", [ROOT, (b"/backups", b"autofs")], None),
    "trailing slash": (b"/dev/sdb1 /backups/ xfs defaults\n", [ROOT], "/backups"),
}


@pytest.mark.parametrize(("fstab", "table", "missing"), CASES.values(), ids=CASES)
def test_what_fstab_says(tmp_path, fstab, table, missing):
    config = configuration(tmp_path, storage_path="/backups/eternia/web1")
    message = rf"^/backups/eternia/web1 is to be on {missing} \(says {tmp_path}/fstab\).*\(`mount {missing}`\)"
    with nullcontext() if missing is None else pytest.raises(StoreError, match=message):
        required(config, fstab, table, tmp_path)


@pytest.mark.parametrize("name", ["my disk", "tab\there", "back\\slash", "B\u00fccher", "\udcff\udcfe"])
def test_names_with_what_fstab_has_to_escape(tmp_path, name):
    config = configuration(tmp_path, storage_path=f"/mnt/{name}/b")
    point = os.fsencode(f"/mnt/{name}")
    escaped = re.sub(rb"[\\ \t]|[^ -~]", lambda match: b"\\%03o" % match[0][0], point)
    for written in {escaped, point} if name.isprintable() and not {" ", "\\"} & set(name) else {escaped}:
        with pytest.raises(StoreError, match="nothing is mounted there"):
            required(config, b"/dev/sdb1 %b xfs defaults\n" % written, [ROOT], tmp_path)
        required(config, b"/dev/sdb1 %b xfs defaults\n" % written, [ROOT, (escaped, b"xfs")], tmp_path)


def test_an_automount_that_is_mounted_by_looking_inside(tmp_path, monkeypatch):
    """As autofs does with its maps: until somebody looks, the mount point is not even there."""
    config = configuration(tmp_path, storage_path="/auto/backups/web1", storage_mount="/auto/backups")
    scandir = os.scandir

    def looking(path):
        if path == Path("/auto/backups"):
            with (tmp_path / "mountinfo").open("ab") as table:
                table.write(b"40 36 0:50 / /auto/backups rw - nfs4 nas:/x rw\n")
            return scandir(tmp_path)
        return scandir(path)

    with pytest.raises(StoreError, match=r"\(`mount /auto/backups`\)"):
        required(config, b"", [ROOT, (b"/auto", b"autofs")], tmp_path)
    monkeypatch.setattr(os, "scandir", looking)
    required(config, b"", [ROOT, (b"/auto", b"autofs")], tmp_path)


def test_a_mount_that_the_storage_path_does_not_lie_on(tmp_path):
    for storage, point in (("/backups/web1", "/backups/web"), ("/backups", "/backups/web1"), ("/backups", "/mnt")):
        config = configuration(tmp_path, storage_path=storage, storage_mount=point)
        message = rf"^backup\.storage_mount is {point}, and storage_path is {storage}, which does not lie there\. Give "
        with pytest.raises(ConfigError, match=message):
            mounts.require(config)


def test_without_fstab_nothing_is_expected(tmp_path):
    mounts.require(configuration(tmp_path), fstab=tmp_path / "none")


def test_where_the_system_does_not_tell_what_is_mounted_the_directory_does(tmp_path):
    mounts.require(configuration(tmp_path, storage_mount="/", storage_path="/b"), mounts=tmp_path / "none")
    with pytest.raises(StoreError, match="nothing is mounted there"):
        mounts.require(configuration(tmp_path, storage_mount=str(tmp_path)), mounts=tmp_path / "none")


REAL = """
import subprocess, sys
from pathlib import Path
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, mounts
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import StoreError
from ansible_collections.eternia.backup.tests.unit.builders import SetClock, configuration, database

base = Path(sys.argv[1])
disk, other, link = base / "my disk", base / "other", base / "link"
for one in (disk, other):
    one.mkdir()
link.symlink_to(disk / "backups")
database(base / "data" / "eternia.db")
(base / "fstab").write_text("tmpfs %s tmpfs defaults\\n" % str(disk).replace(" ", "\\\\040"))
clock = SetClock().clock()

def refused(config):
    try:
        mounts.require(config, fstab=base / "fstab")
    except StoreError as exc:
        assert f"(`mount {disk}`)" in str(exc), exc
        return True
    return False

def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)

configured = configuration(base, storage_path=str(disk / "backups"), storage_mount=str(disk))
listed = configuration(base, storage_path=str(disk / "backups"))
linked = configuration(base, storage_path=str(link))
ways = (configured, listed, linked)
assert all(map(refused, ways)), "not mounted"

mount("-t", "tmpfs", "tmpfs", disk)
assert not any(map(refused, ways)), "a filesystem"
(disk / "backups").mkdir()
for config in ways:
    backup.run(config, clock=clock)
assert len(list((disk / "backups").glob("*.db"))) == 3

mount("--bind", disk, other)
subprocess.run(["umount", disk], check=True)
assert all(map(refused, ways)), "unmounted again"
assert list(disk.iterdir()) == []
mount("--bind", other, disk)
assert not any(map(refused, ways)), "a bind mount"
mount("--bind", base / "data", disk)
assert not any(map(refused, ways)), "a bind mount of a directory of the same disk"
print("done")
"""


def test_real_mounts(tmp_path):
    if (
        shutil.which("unshare") is None
        or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this user may not mount anything, not even in a namespace of his own")
    ended = subprocess.run(
        [*UNSHARE, sys.executable, "-c", REAL, str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": COLLECTIONS},
    )
    assert (ended.stdout, ended.returncode) == ("done\n", 0), ended.stderr

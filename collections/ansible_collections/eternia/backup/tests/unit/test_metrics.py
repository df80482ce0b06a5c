# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics: what Prometheus would read of them, that they are true, and that nobody ever reads half of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    drill,
    health,
    history,
    hold,
    lock,
    metrics,
    status,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import StoreError
from ansible_collections.eternia.backup.plugins.module_utils.engine.failure import KINDS
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import VERSION
from ansible_collections.eternia.backup.tests.unit.builders import (
    NOON,
    SetClock,
    configuration,
    database,
    in_child,
    in_time,
    open_directory,
    unprivileged,
)

# What the alert rules and docs/operations.md know: the name, the type, and the label that it has beside the host's.
KNOWN = {
    "info": ("gauge", "version"),
    "enabled": ("gauge", ""),
    "held": ("gauge", ""),
    "status": ("gauge", ""),
    "max_age_seconds": ("gauge", ""),
    "newest_verified_age_seconds": ("gauge", ""),
    "newest_verified_timestamp_seconds": ("gauge", "store"),
    "last_run_timestamp_seconds": ("gauge", ""),
    "last_run_success": ("gauge", ""),
    "last_success_timestamp_seconds": ("gauge", ""),
    "last_duration_seconds": ("gauge", ""),
    "last_stored_bytes": ("gauge", ""),
    "last_sent_bytes": ("gauge", ""),
    "last_copied_bytes": ("gauge", ""),
    "kept": ("gauge", "store"),
    "kept_bytes": ("gauge", "store"),
    "kept_disk_bytes": ("gauge", "store"),
    "noncurrent_bytes": ("gauge", "store"),
    "store_listed": ("gauge", "store"),
    "stores_missing": ("gauge", "store"),
    "append_only": ("gauge", "store"),
    "last_drill_timestamp_seconds": ("gauge", ""),
    "last_drill_success": ("gauge", ""),
    "drill_seconds": ("gauge", "store"),
    "failures_total": ("counter", "kind"),
}
LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\[\\"n])*)"')
LINE = re.compile(rf"(?P<name>[a-z_]+)\{{(?P<labels>(?:{LABEL.pattern},?)*)\}} (?P<value>-?[0-9]+(?:\.[0-9]+)?)")


@dataclass
class Page:
    """A page taken apart, by the rules of the text format alone."""

    types: dict
    helps: dict
    values: dict

    def __getitem__(self, key):
        """A value by the metric's short name, or by that and the value of its own label."""
        return self.values[key]

    def __contains__(self, key):
        return key in self.values or any(name == key for name, *_label in map(as_tuple, self.values))


def as_tuple(key):
    return key if isinstance(key, tuple) else (key,)


def parsed(text, environment="staging", host="web1"):
    """Raises AssertionError for what Prometheus would refuse, or read otherwise."""
    page, current = Page({}, {}, {}), None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _hash, _help, current, words = line.split(" ", 3)
            assert current not in page.helps, f"{current} is in two places"
            page.helps[current] = words
        elif line.startswith("# TYPE "):
            _hash, _type, name, kind = line.split(" ")
            assert name == current
            page.types[name] = kind
        else:
            match = LINE.fullmatch(line)
            assert match, line
            assert match["name"] == current
            labels = {name: unescaped(value) for name, value in LABEL.findall(match["labels"])}
            assert (labels.pop("environment"), labels.pop("host")) == (environment, host)
            short = current[len("eternia_backup_") :]
            key = (short, *labels.values()) if labels else short
            assert key not in page.values, f"{line} is there twice"
            page.values[key] = float(match["value"])
            assert (page.types[current], "".join(labels)) == KNOWN[short]
    return page


def unescaped(text):
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), text)


def page_of(config, moment=NOON, **changes):
    found = replace(status.read(config, now=moment), **changes)
    level = health.level(health.troubles(config, found, moment))
    return metrics.render(config, found, level)


@pytest.fixture
def config(tmp_path):
    database(tmp_path / "data" / "eternia.db")
    return configuration(tmp_path)


@pytest.fixture
def both(config, s3_settings):
    return replace(config, cloud=s3_settings)


def run(config, moment=NOON):
    return backup.run(config, clock=SetClock(moment).clock())


def test_a_host_where_all_is_well(both):
    size = run(both).bytes
    drill.run(both, clock=SetClock(NOON + timedelta(minutes=10)).clock())
    page = parsed(page_of(both, NOON + timedelta(minutes=30)))
    values = page.values
    assert 0 < values.pop("last_duration_seconds") < 60
    assert 0 < values.pop(("drill_seconds", "local")) < 60
    assert 0 < values.pop(("drill_seconds", "s3")) < 60
    noon = NOON.timestamp()
    assert values == {
        ("info", VERSION): 1,
        "enabled": 1,
        "held": 0,
        "status": 0,
        "max_age_seconds": 36 * 3600,
        "newest_verified_age_seconds": 1800,
        "last_run_timestamp_seconds": noon,
        "last_run_success": 1,
        "last_success_timestamp_seconds": noon,
        "last_stored_bytes": size,
        "last_sent_bytes": size,
        "last_copied_bytes": 0,
        "last_drill_timestamp_seconds": noon + 600,
        "last_drill_success": 1,
        ("append_only", "s3"): 1,
        # Whole pages are whole blocks.
        ("kept_disk_bytes", "local"): size,
        ("noncurrent_bytes", "s3"): 0,
        **{(name, store): value for store in ("local", "s3") for name, value in every_store(size, noon).items()},
        **{("failures_total", kind): 0 for kind in KINDS},
    }
    assert {name[len("eternia_backup_") :] for name in page.types} == set(KNOWN)
    assert all(page.helps[name].endswith(".") for name in page.types)


def every_store(size, noon):
    return {
        "kept": 1,
        "kept_bytes": size,
        "newest_verified_timestamp_seconds": noon,
        "stores_missing": 0,
        "store_listed": 1,
    }


def test_where_nothing_ever_ran_what_is_not_known_is_left_out(config):
    page = parsed(page_of(config))
    assert page.values == {
        ("info", VERSION): 1,
        "enabled": 1,
        "held": 0,
        "status": 2,
        "max_age_seconds": 36 * 3600,
        ("kept", "local"): 0,
        ("kept_bytes", "local"): 0,
        ("kept_disk_bytes", "local"): 0,
        ("stores_missing", "local"): 0,
        ("store_listed", "local"): 1,
    }


def test_a_run_that_failed_says_when_another_went_well(config):
    run(config)
    config.database_path.unlink()
    with pytest.raises(backup.RunFailedError):
        run(config, NOON + timedelta(hours=1))
    page = parsed(page_of(config, NOON + timedelta(hours=2)))
    assert (page["last_run_success"], page["last_run_timestamp_seconds"]) == (0, NOON.timestamp() + 3600)
    assert (page["last_success_timestamp_seconds"], page["status"]) == (NOON.timestamp(), 2)
    assert (page["failures_total", "source"], page["failures_total", "s3"]) == (1, 0)
    # What it stored is not known: it stored nothing.
    assert "last_stored_bytes" not in page


@pytest.mark.parametrize("running", [True, False])
def test_a_run_that_goes_on_has_not_ended_and_one_that_was_cut_off_has_failed(config, running):
    run(config)
    found = status.read(config, now=NOON)
    page = parsed(page_of(config, running=running, record=replace(found.record, result="running")))
    assert ("last_run_success" in page, "last_run_timestamp_seconds" in page) == (not running, not running)
    assert running or page["last_run_success"] == 0
    assert page["last_success_timestamp_seconds"] == NOON.timestamp()


def test_a_store_that_cannot_be_listed_says_so_and_nothing_else(config, tmp_path):
    run(config)
    cloud = {"enabled": True, "bucket": "b-1", "endpoint_url": "http://127.0.0.1:9", "credentials_file": "none"}
    page = parsed(page_of(configuration(tmp_path, cloud_backup=cloud)))
    assert (page["store_listed", "local"], page["store_listed", "s3"], page["status"]) == (1, 0, 1)
    assert [key for key in page.values if as_tuple(key)[1:] == ("s3",)] == [
        ("failures_total", "s3"),
        ("store_listed", "s3"),
    ]
    assert "stores_missing" not in page
    assert "append_only" not in page


def test_a_host_that_is_held_and_one_that_is_switched_off(config, tmp_path):
    run(config)
    hold.put(config.storage_path, hold.Hold("ann", "repairs", NOON + timedelta(hours=1)))
    assert parsed(page_of(config))["held"] == 1
    page = parsed(page_of(configuration(tmp_path, enabled=False), NOON + timedelta(days=90)))
    assert (page["enabled"], page["held"], page["status"]) == (0, 0, 0)


def test_a_drill_that_failed(config):
    run(config)
    newest = next(config.storage_path.glob("*.db"))
    os.truncate(newest, 4096)
    with pytest.raises(drill.DrillFailedError):
        drill.run(config, clock=SetClock(NOON + timedelta(hours=1)).clock())
    page = parsed(page_of(config, NOON + timedelta(hours=2)))
    assert (page["last_drill_success"], page["last_drill_timestamp_seconds"]) == (0, NOON.timestamp() + 3600)
    assert "drill_seconds" not in page


def test_a_drill_that_was_cut_off_has_failed_and_one_that_goes_on_has_not_ended(config):
    run(config)
    drill.run(config, clock=SetClock(NOON + timedelta(hours=1)).clock())
    with lock.held_drill(config.storage_path):
        history.begin(config.storage_path)
        page = parsed(page_of(config, NOON + timedelta(hours=2)))
        assert (page["last_drill_success"], page["last_drill_timestamp_seconds"]) == (1, NOON.timestamp() + 3600)
    began = (config.storage_path / "drills.begun.json").stat().st_mtime
    page = parsed(page_of(config, NOON + timedelta(hours=2)))
    assert (page["last_drill_success"], page["last_drill_timestamp_seconds"]) == (0, int(began))
    assert page["drill_seconds", "local"] > 0


ODD = 'a"b\\n{c}\n, d="e" \\'


def test_a_name_that_is_odd_is_read_as_it_is(config):
    run(config)
    parsed(page_of(replace(config, host=ODD, environment="ü")), environment="ü", host=ODD)


def test_promtool_reads_it(both, tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    run(both)
    drill.run(both, clock=SetClock(NOON + timedelta(minutes=10)).clock())
    both.database_path.unlink()
    pages = [page_of(both), page_of(replace(both, host=ODD)), page_of(configuration(tmp_path / "none"))]
    with pytest.raises(backup.RunFailedError):
        run(both, NOON + timedelta(hours=1))
    for page in [*pages, page_of(both, NOON + timedelta(hours=1))]:
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


# The file


def test_it_is_readable_whatever_the_umask_is_and_appears_by_a_rename(tmp_path):
    path, before = tmp_path / "x.prom", os.umask(0o077)
    try:
        for words in ("one\n", "two\n"):
            metrics.write(path, words)
            assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (words, 0o644)
        kept = path.open()
        metrics.write(path, "three\n")
    finally:
        os.umask(before)
    with kept:
        assert kept.read() == "two\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_collector_finds_is_never_half(tmp_path, monkeypatch):
    path, seen = tmp_path / "x.prom", []
    metrics.write(path, "before\n")
    replace_ = os.replace

    def looked(source, target):
        seen.extend((one.name, one.read_text()) for one in tmp_path.glob("*.prom"))
        replace_(source, target)

    monkeypatch.setattr(os, "replace", looked)
    metrics.write(path, "after\n")
    assert seen == [("x.prom", "before\n")]
    assert path.read_text() == "after\n"


def link(path):
    path.symlink_to(path.with_name("precious"))


@pytest.mark.parametrize("plant", [os.mkfifo, link, lambda path: path.write_text("half")])
def test_what_lies_where_the_page_is_staged_gives_way(tmp_path, plant):
    """Whoever owns the directory can guess the number of a process."""
    path, precious = tmp_path / "x.prom", tmp_path / "precious"
    precious.write_text("precious")
    plant(tmp_path / f".x.prom.{os.getpid()}")
    with in_time():
        metrics.write(path, "page\n")
    assert (path.read_text(), precious.read_text()) == ("page\n", "precious")
    assert sorted(tmp_path.iterdir()) == [precious, path]


def ended():
    """The number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_a_run_left_that_was_killed_goes_with_the_next(tmp_path):
    path = tmp_path / "[x]*.prom"

    def write_and_die():
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        metrics.write(path, "before\n")

    assert in_child(write_and_die) == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    metrics.write(path, "after\n")
    assert list(tmp_path.iterdir()) == [path]


def test_what_another_writes_at_this_moment_stays_and_what_is_not_ours(tmp_path):
    kept = {f".x.prom.{name}" for name in (os.getppid(), 1, 0, "9" * 30, f"{ended()}.bak", f"0{ended()}", "new", "")}
    kept |= {f".y.prom.{ended()}", f"x.prom.{ended()}", f".xyprom.{ended()}", f"..x.prom.{ended()}"}
    for name in kept:
        (tmp_path / name).write_text("kept")
    metrics.write(tmp_path / "x.prom", "page\n")
    assert {path.name for path in tmp_path.iterdir()} == {"x.prom", *kept}


def test_what_cannot_be_swept_keeps_no_page_away(tmp_path):
    left = [tmp_path / f".x.prom.{ended()}" for _each in range(2)]
    for directory in left:
        directory.mkdir()
    (tmp_path / f".x.prom.{ended()}").write_text("half")
    metrics.write(tmp_path / "x.prom", "page\n")
    assert set(tmp_path.iterdir()) == {*left, tmp_path / "x.prom"}


def test_a_directory_that_cannot_be_listed_takes_a_page():
    with open_directory() as directory:
        directory.chmod(0o333)
        with unprivileged():
            metrics.write(directory / "x.prom", "page\n")
        assert (directory / "x.prom").read_text() == "page\n"


WRONG = [
    (lambda path: None, "no such file or directory"),
    (lambda path: path.parent.write_text("mine"), "not a directory"),
    (lambda path: path.mkdir(parents=True), "is a directory"),
]


@pytest.mark.parametrize(("make", "reason"), WRONG)
def test_a_page_that_cannot_be_written_says_what_to_do(tmp_path, make, reason):
    path = tmp_path / "collector" / "x.prom"
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError) as failed:
        metrics.write(path, "page\n")
    assert str(failed.value) == (
        f"The metrics {path} could not be written: {reason}. No backup depends on that; make the directory (mkdir -p "
        f"{path.parent}), give this user the right to write there, or correct backup.report.metrics_file."
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_user_who_may_not_write_there_is_told():
    with open_directory() as directory, unprivileged():
        if os.access(directory, os.W_OK, effective_ids=True):
            pytest.skip("the directory belongs to this user")
        with pytest.raises(StoreError, match=r"could not be written: permission denied\. .* give this user the right"):
            metrics.write(directory / "x.prom", "page\n")

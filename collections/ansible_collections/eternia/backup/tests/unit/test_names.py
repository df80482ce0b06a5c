# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is a backup's name, and what only looks like one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import (
    DATABASE,
    SIDECAR_SUFFIXES,
    STATE,
    BackupName,
    from_iso,
    iso,
    parse,
    parse_with_sidecar,
)
from hypothesis import given, settings
from hypothesis import strategies as st

AT = datetime(2026, 11, 22, 22, 0, 0, tzinfo=timezone.utc)
ENCODINGS = ((), ("zst",), ("age",), ("zst", "age"))

names = st.builds(
    BackupName,
    st.datetimes(datetime(1000, 1, 1), timezones=st.just(timezone.utc)).map(lambda at: at.replace(microsecond=0)),
    st.sampled_from((DATABASE, STATE)),
    st.sampled_from(ENCODINGS),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("eternia_backup_20261122_220000.db", BackupName(AT, DATABASE)),
        ("eternia_backup_20261122_220000.db.zst", BackupName(AT, DATABASE, ("zst",))),
        ("eternia_backup_20261122_220000.db.age", BackupName(AT, DATABASE, ("age",))),
        ("eternia_backup_20261122_220000.db.zst.age", BackupName(AT, DATABASE, ("zst", "age"))),
        ("eternia_state_20261122_220000.json", BackupName(AT, STATE)),
        ("eternia_state_20261122_220000.json.zst.age", BackupName(AT, STATE, ("zst", "age"))),
        (
            "eternia_backup_20240229_235959.db",
            BackupName(datetime(2024, 2, 29, 23, 59, 59, tzinfo=timezone.utc), DATABASE),
        ),
    ],
)
def test_a_name_of_ours(text: str, name: BackupName) -> None:
    assert parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eternia_backup_20260229_120000.db",  # no leap year
        "eternia_backup_19000229_120000.db",
        "eternia_backup_20261301_120000.db",
        "eternia_backup_20260001_120000.db",
        "eternia_backup_20260431_120000.db",
        "eternia_backup_20260100_120000.db",
        "eternia_backup_00000101_120000.db",
        "eternia_backup_20261122_240000.db",
        "eternia_backup_20261122_226000.db",
        "eternia_backup_20261122_220060.db",
        "eternia_backup_2026112_220000.db",
        "eternia_backup_20261122_2200000.db",
        "eternia_backup_20261122-220000.db",
        "eternia_backup_20261122T220000Z.db",
        "eternia_backup_20261122_220000",
        "eternia_backup_20261122_220000_db",
        "eternia_backup_20261122_220000.DB",
        "Eternia_backup_20261122_220000.db",
        "ETERNIA_BACKUP_20261122_220000.db",
        "eternia_backup_٢٠٢٦١١٢٢_220000.db",
        "eternia_backup_\uff120261122_220000.db",
        "eternia_backup_20261122_22000².db",
        "eternia_backup_20261122_220000.db\n",
        "eternia_backup_20261122_220000.db ",
        " eternia_backup_20261122_220000.db",
        "eternia_backup_20261122_220000.db\0",
        "eternia_backup_+2261122_220000.db",
        "eternia_backup_20261122_220000.db.age.zst",  # compressed after it was encrypted
        "eternia_backup_20261122_220000.db.zst.zst",
        "eternia_backup_20261122_220000.db.gz",
        "eternia_backup_20261122_220000.db.partial",
        "eternia_backup_20261122_220000.db.",
        "eternia_backup_20261122_220000.db-wal",
        "eternia_backup_20261122_220000.db-journal",
        "eternia_backup_20261122_220000.sqlite",
        "eternia_backup_20261122_220000.json",
        "eternia_state_20261122_220000.db",
        "eternia_state_20261122_220000.db.zst",
        "eternia_other_20261122_220000.db",
        "eternia_backup_20261122_220000 (1).db",
        "copy_of_eternia_backup_20261122_220000.db",
        "backups/eternia_backup_20261122_220000.db",
        "eternia_backup_20261122_220000.db.manifest.json",
        "eternia_backup_20261122_220000.db.pin",
    ],
)
def test_a_name_that_only_looks_like_ours(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("suffix", ["", *SIDECAR_SUFFIXES])
def test_a_sidecar_belongs_to_its_backup(suffix: str) -> None:
    name = BackupName(AT, DATABASE, ("zst",))
    assert parse_with_sidecar(f"{name}{suffix}") == (name, suffix)


@pytest.mark.parametrize(
    "text",
    [
        ".manifest.json",
        "eternia_backup_20260229_120000.db.manifest.json",
        "eternia_backup_20261122_220000.db.manifest.json.manifest.json",
        "eternia_backup_20261122_220000.db.manifest.json.pin",
        "eternia_backup_20261122_220000.db.manifest.JSON",
        "eternia_backup_20261122_220000.manifest.json",
        "eternia_backup_20261122_220000.db.pin\n",
        "eternia_backup_20261122_220000.db.seen",
    ],
)
def test_a_sidecar_of_nothing_of_ours(text: str) -> None:
    assert parse_with_sidecar(text) is None


@settings(deadline=None)
@given(names)
def test_every_name_comes_back(name: BackupName) -> None:
    assert parse(str(name)) == name
    assert from_iso(iso(name.created_at)) == name.created_at


def test_names_sort_by_time() -> None:
    earlier, later = BackupName(AT - timedelta(seconds=1), STATE, ("zst",)), BackupName(AT, DATABASE)
    assert sorted([later, earlier]) == [earlier, later]


def test_times_are_shown_in_utc() -> None:
    assert iso(AT.astimezone(timezone(timedelta(hours=2)))) == "2026-11-22T22:00:00Z"


@pytest.mark.parametrize("text", ["2026-11-22", "2026-11-22T22:00:00", "2026-11-22T22:00:00+00:00", "now"])
def test_only_its_own_spelling_is_read(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time of the form"):
        from_iso(text)

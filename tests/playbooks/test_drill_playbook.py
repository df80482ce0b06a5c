# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the drill as a weekly job would: several hosts, one with a damaged backup, and nobody who watches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.eternia.backup.tests.unit.builders import flip
from development import Checkout
from test_playbooks import TELLS, Operator, plain, require_no_secret, tree


class Driller(Operator):
    """An operator whose reports are kept."""

    @property
    def reports(self) -> Path:
        return self.directory / "kept/reports"

    def write(self) -> None:
        for variables in self.hosts.values():
            variables["backup_reports"] = str(self.reports)
        super().write()

    def report(self, host: str, kind: str) -> str:
        (path,) = self.reports.glob(f"restore_drill_{host}_*.{kind}")
        assert re.fullmatch(rf"restore_drill_{host}_\d{{8}}T\d{{6}}Z\.{kind}", path.name)
        return path.read_text()

    def fields(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.report(host, "json"))
        return found


@pytest.fixture
def operator(services: Checkout, tmp_path: Path) -> Driller:
    return Driller(services, tmp_path)


def test_a_host_that_fails_keeps_no_other_from_its_drill(operator: Driller) -> None:
    homes = {host: operator.add(host, f"drills/{host}") for host in ("first", "second", "third")}
    operator.succeed("backup")
    (newest,) = homes["first"].glob("*.db")
    flip(newest, -1)
    # One at a time, so that a play that stops at a host that fails would never see the others.
    result = operator.run("restore_drill", "-e", "backup_serial=1")
    assert result.returncode == 2, result.stdout + result.stderr
    output = plain(result.stdout)
    assert "FAILED: 1 of 2 drills of first came back" in output
    assert f"NOT OK: {newest} is damaged: " in output
    assert "eternia.backup.status --limit first -e backup_verify=full   find out which others" in output
    for host in ("second", "third"):
        assert f"DRILLED: {host} restored 2 backups into scratch, in " in output
        assert f"The backups of {host} come back." in output
        assert operator.fields(host)["result"] == "ok"
        assert "s to recover from s3, before the application starts (no trend yet" in operator.report(host, "txt")
    assert f"first: 1 of 2 drills failed. {newest} is damaged" in " ".join(output.split())

    found = operator.fields("first")
    assert (found["result"], found["host"], found["environment"]) == ("failed", "first", "staging")
    assert [(one["store"], one["ok"]) for one in found["drilled"]] == [("local", False), ("s3", True)]
    assert [one["store"] for one in found["predicted"]] == ["s3"]
    assert found["reason"].startswith("1 of 2 drills failed. ")
    assert operator.report("first", "txt") in output + "\n"
    assert operator.reports.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in operator.reports.iterdir()} == {0o600}
    assert len(list(operator.reports.iterdir())) == 6

    marks = [key for key in operator.objects() if key.startswith("drills/") and key.endswith(".drilled.json")]
    assert [key.split("/")[1] for key in marks] == ["first", "second", "third"]
    assert not list(homes["first"].glob("*.drilled.json"))
    operator.succeed("restore_drill", "--limit", "second,third")


def test_check_mode_names_what_would_be_drilled_and_writes_nothing(operator: Driller) -> None:
    operator.add("planned", "drill-planned")
    operator.succeed("backup")
    before, keys = tree(operator.directory), operator.objects()
    output = plain(operator.succeed("restore_drill", "--check", "--diff"))
    assert "PLAN for planned (check mode: nothing was written)" in output
    assert re.search(r"s3 +eternia_backup_\d{8}_\d{6}\.db, the newest there, ", output)
    assert "rows in 7 tables, as its manifest says" in output
    assert tree(operator.directory) == before
    assert operator.objects() == keys


def test_the_trend_of_a_state(operator: Driller) -> None:
    operator.add("written", "drill-written", source="state")
    state = operator.home("written") / "logs/state_snapshot.json"
    state.parent.mkdir()
    state.write_text('{"last_zone": "harbour", "memories": []}')
    operator.succeed("backup")
    assert "ok: 2 keys, as its manifest says" in operator.succeed("restore_drill")
    assert re.search(
        r"s to recover from s3, .* \([+-]\d+ % against the drill before; [+-]\d+ % for each MB\)",
        operator.succeed("restore_drill"),
    )


def test_a_drill_that_cannot_begin_leaves_its_evidence_too(operator: Driller) -> None:
    operator.add("bare", "drill-bare")
    del operator.hosts["bare"]["eternia_home"]
    operator.write()
    message = operator.fail("restore_drill")
    assert "FAILED: bare was not drilled" in message
    assert "bare lacks eternia_home. Set it in group_vars/all.yml" in operator.fields("bare")["reason"]


def test_switched_off_means_nothing_is_drilled(operator: Driller) -> None:
    backups = operator.add("off", "drill-off", enabled=False)
    assert "SWITCHED OFF: backup.enabled is false for off, so nothing was drilled" in operator.succeed("restore_drill")
    assert operator.fields("off")["result"] == "off"
    assert not backups.exists()


def test_no_secret_is_shown_or_kept(operator: Driller) -> None:
    operator.add("quiet", "drill-quiet", report=TELLS)
    operator.succeed("backup")
    log = operator.overhear()
    require_no_secret(operator, "restore_drill")
    assert " config={" in log.read_text()

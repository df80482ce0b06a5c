# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook on a host whose application keeps a JSON state: proven by its keys, and no S3 far and wide."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
from recovery import StateSite


@pytest.fixture
def state_site(tmp_path: Path) -> Iterator[StateSite]:
    made = StateSite(tmp_path)
    made.tell("start")
    deadline = time.monotonic() + 20
    while made.health() != "healthy" and time.monotonic() < deadline:
        time.sleep(0.05)
    yield made
    made.tell("stop")


def test_a_state_comes_back_and_is_proven_by_its_keys(state_site: StateSite) -> None:
    name = state_site.back_up()
    keys = {key: len(value) if hasattr(value, "__len__") else 1 for key, value in in_state(state_site, name).items()}
    state_site.tell("stop")
    state_site.state.write_text('{"version": ')

    plan = state_site.succeed("-e", "backup=latest", "--check")
    assert f"keys none that can be read now, {len(keys)} then" in " ".join(plan.split())
    output = state_site.succeed("-e", "backup=latest")
    assert "RESTORED: scribe is back, healthy" in output
    assert f"keys none that could be read before, {len(keys)} after" in " ".join(output.split())
    evidence = state_site.evidence()
    assert (evidence["result"], evidence["kind"], evidence["backup"]) == ("restored", "state", name)
    assert evidence["rows_after"] == keys
    assert (Path(evidence["safety_backup"]) / "state_snapshot.json").read_text() == '{"version": '
    assert [step["step"] for step in evidence["steps"]][-3:] == ["become healthy", "prove", "release"]
    assert state_site.health() == "healthy"
    assert state_site.held()["evolution"]["intellect"] > in_state(state_site, name)["evolution"]["intellect"]

    # What was too damaged to be a backup comes back too, with nothing claimed of it.
    state_site.tell("stop")
    raw = evidence["safety_backup"]
    message = state_site.fail(
        *("-e", f"backup={raw}", "-e", "backup_allow_unverified=true", "-e", "eternia_health_seconds=6")
    )
    assert "FAILED: scribe was not restored" in message
    assert "What was there before was put back. The application was started again and is healthy." in message
    assert state_site.held()["evolution"]["intellect"] > in_state(state_site, name)["evolution"]["intellect"]


def test_what_is_encrypted_comes_back_with_the_key_that_lies_here(state_site: StateSite, tmp_path: Path) -> None:
    """The key is a file on the control node, and is nowhere to be found afterwards."""
    secret = pyrage.x25519.Identity.generate()
    key = tmp_path / "eternia.key"
    key.write_text(f"{secret}\n")
    key.chmod(0o600)
    state_site.configure(encryption={"recipients": [str(secret.to_public())]}, compression="zstd")
    name = state_site.back_up()
    assert name.endswith(".json.zst.age")

    drilled = state_site.play("playbooks/restore_drill.yml")
    assert drilled.returncode == 2
    assert "is encrypted, and no identity was given that opens it" in " ".join(drilled.stdout.split())
    for said in (
        state_site.play("playbooks/restore_drill.yml", "-e", "identity_file=none.key").stdout,
        state_site.fail("-e", "backup=latest", "-e", "identity_file=none.key"),
    ):
        assert "/none.key here, on the control node, which identity_file names. Name the" in " ".join(said.split())
    drilled = state_site.play("playbooks/restore_drill.yml", "-e", f"identity_file={key}", "-vvvv", "--diff")
    assert drilled.returncode == 0, drilled.stdout + drilled.stderr
    assert (state_site.backups / f"{name}.drilled.json").exists()

    state_site.tell("stop")
    state_site.state.write_text("{}")
    assert "no identity was given" in state_site.fail("-e", "backup=latest")
    assert state_site.state.read_text() == "{}" or state_site.health() == "healthy"
    said = state_site.succeed("-e", "backup=latest", "-e", f"identity_file={key}", "--check", "-vvvv", "--diff")
    said += state_site.succeed("-e", "backup=latest", "-e", f"identity_file={key}", "-vvvv", "--diff")
    assert "RESTORED: scribe is back, healthy" in said
    assert state_site.evidence()["backup"] == name

    assert str(secret) not in said + drilled.stdout + drilled.stderr
    for path in (one for one in tmp_path.rglob("*") if one.is_file() and one != key):
        assert str(secret).encode() not in path.read_bytes(), path


def in_state(site: StateSite, name: str) -> dict[str, Any]:
    return site.held(site.backups / name)


def test_a_key_that_an_application_lost_while_it_started_is_the_reason(state_site: StateSite) -> None:
    state_site.tell("stop")
    state_site.state.write_text(json.dumps({**state_site.held(), "of_old": "a chronicle"}))
    state_site.back_up()
    state_site.state.write_text("{}")
    # Eternia writes only what it knows.
    state_site.fail("-e", "backup=latest", "-e", "eternia_health_seconds=10")
    evidence = state_site.evidence()
    assert "of_old was restored, and is not there any more. What was there before was put back." in evidence["reason"]
    assert state_site.state.read_text() == "{}" or "of_old" not in state_site.held()


@pytest.mark.parametrize("playbook", ["backup", "status", "restore_drill"])
def test_a_name_in_the_place_of_the_block_is_refused_with_the_reason(state_site: StateSite, playbook: str) -> None:
    result = state_site.play(f"playbooks/{playbook}.yml", "-e", "backup=latest")
    assert result.returncode == 2, result.stdout + result.stderr
    message = " ".join((result.stdout + result.stderr).split())
    assert "backup is a text, and has to be the block of the inventory that says how scribe is backed up" in message
    assert "This playbook takes no -e backup=...; that is for playbooks/disaster_recovery.yml." in message

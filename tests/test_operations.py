# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/operations.md: a page for each alert, and nothing in it that does not exist."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import yaml
from ansible_collections.eternia.backup.plugins.module_utils.engine import cli_parser, metrics, record
from ansible_collections.eternia.backup.plugins.module_utils.engine.cli import FILE
from development import CHECKOUT
from test_monitoring import RULES, alerts
from test_repository import COLLECTION

OPERATIONS = CHECKOUT / "docs/operations.md"
TEXT = OPERATIONS.read_text()
COMMANDS = re.findall(r"`(eternia-backup [^`]+)`", TEXT) + re.findall(r"^\$ (eternia-backup .+)$", TEXT, re.M)
ROLES = ("agent", "schedule")


def columns(section: str, number: int = 0) -> list[str]:
    """What stands in backticks in a column of the last table of a section."""
    (text,) = re.findall(rf"^##+ {re.escape(section)}\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S)
    rows = re.findall(r"^\| (.*) \|$", text.rpartition("|---|\n")[2], re.M)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[number])]


def in_engine() -> list[str]:
    """The metrics that the engine writes."""
    names = re.findall(r'(?:Metric|_one|each)\(\s*"([a-z_]+)"', Path(metrics.__file__).read_text())
    return [f"eternia_backup_{name}" for name in names]


def test_every_alert_has_its_page() -> None:
    pages = dict(re.findall(r"^### (Eternia\w+)\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S))
    assert list(pages) == list(alerts())
    assert all(page.strip() for page in pages.values())


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert: str) -> None:
    rule = alerts()[alert]
    readme = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["documentation"]
    here = readme.replace("README.md", str(OPERATIONS.relative_to(CHECKOUT)))
    assert rule["annotations"]["runbook_url"] == f"{here}#{alert.lower()}"
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_table_of_metrics_is_that_of_the_engine() -> None:
    assert in_engine()
    assert sorted(columns("Metrics")) == sorted(in_engine())


def test_the_rules_read_what_the_engine_writes() -> None:
    expressions = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    read = {name for expression in expressions for name in re.findall(r"(?<![\w:])eternia_backup_\w+", expression)}
    assert read <= set(in_engine())


def test_the_record_is_described_key_by_key() -> None:
    assert set(columns("last-run.json")) == {"format", *(field.name for field in dataclasses.fields(record.Record))}


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_a_command_can_be_typed_as_it_is_named(command: str) -> None:
    assert cli_parser.parse(shlex.split(command)[1:], FILE, "eternia-backup").command


@pytest.mark.parametrize("playbook", sorted(set(re.findall(r"\bplaybooks/\w+\.yml", TEXT))))
def test_a_playbook_that_is_named_exists(playbook: str) -> None:
    assert (CHECKOUT / playbook).is_file()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^):]+)\)", TEXT))))
def test_a_link_leads_somewhere(link: str) -> None:
    path, _, anchor = link.partition("#")
    text = (OPERATIONS.parent / path).read_text() if path else TEXT
    assert not anchor or anchor in [title.lower().replace(" ", "-") for title in re.findall(r"^##+ (.+)$", text, re.M)]


def test_the_variables_that_are_named_exist() -> None:
    defaults = [yaml.safe_load((COLLECTION / "roles" / role / "defaults/main.yml").read_text()) for role in ROLES]
    named = set(re.findall(rf"\b(?:{'|'.join(ROLES)})_[a-z_]+", TEXT))
    assert named
    assert named <= {name for variables in defaults for name in variables}

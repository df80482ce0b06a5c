# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules: promtool accepts them, and each fires and rests when it should."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.eternia.backup.plugins.module_utils.engine import config, health, metrics, run, status
from ansible_collections.eternia.backup.tests.unit.builders import NOON, SetClock, database
from development import CHECKOUT
from test_repository import COLLECTION

RULES = COLLECTION / "extensions/monitoring/eternia_backup.rules.yml"
TESTS = CHECKOUT / "tests/monitoring"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: on Debian, apt-get install --no-install-recommends prometheus",
)


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], text=True, capture_output=True, timeout=120)


def expectations(alert: str) -> list[tuple[Path, bool]]:
    """Where promtool is told what to expect of an alert, and whether it is to fire there."""
    return [
        (path, bool(one["exp_alerts"]))
        for path in sorted(TESTS.glob("*.yml"))
        for test in yaml.safe_load(path.read_text())["tests"]
        for one in test.get("alert_rule_test", ())
        if one["alertname"] == alert
    ]


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
@pytest.mark.parametrize("path", sorted(TESTS.glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_and_rest(path: Path) -> None:
    result = promtool("test", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_is_seen_firing_and_resting(alert: str) -> None:
    assert {fires for _, fires in expectations(alert)} == {True, False}


def mutants(alert: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rules, each time without one part of an alert: its `for`, or one of the conditions of its expression."""
    lines = alerts()[alert]["expr"].splitlines(keepends=True)
    conditions = [line for line in lines if line.split()[0] in ("and", "or", "unless")]
    for part in ("for", *conditions):
        rules = yaml.safe_load(RULES.read_text())
        (rule,) = (rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == alert)
        if part == "for":
            del rule["for"]
        else:
            rule["expr"] = rule["expr"].replace(part, "")
        yield part, rules


@needs_promtool
@pytest.mark.parametrize("alert", alerts())
def test_every_part_of_an_alert_is_needed(alert: str, tmp_path: Path) -> None:
    """Without it, the alert's own tests fail."""
    tests = tmp_path / "tests.yml"
    (path,) = {path for path, _ in expectations(alert)}
    wanted = yaml.safe_load(path.read_text())
    wanted["tests"] = [test for test in wanted["tests"] if alert in str(test)]
    tests.write_text(yaml.safe_dump({**wanted, "rule_files": ["rules.yml"]}))
    for part, rules in mutants(alert):
        (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
        result = promtool("test", "rules", tests)
        assert result.returncode != 0, f"nothing fails without: {part}"
        assert "exp:" in result.stdout + result.stderr, result.stderr


def page(base: Path, environment: str, host: str, frequency: str) -> str:
    """What the engine writes once a host has backed itself up, and has proven that, at noon."""
    database(base / "data/eternia.db")
    block = {"frequency": frequency, "report": {"metrics_file": "eternia_backup.prom"}}
    found = config.parse(block, environment=environment, host=host, base_dir=str(base))
    clock = SetClock().clock()
    for outcome in (run.run(found, clock=clock), run.drill_all(found, clock=clock)):
        assert outcome.error is None
        assert outcome.all_warnings == ()
    return (base / "eternia_backup.prom").read_text()


def scraped(text: str, instance: str, job: str) -> list[dict[str, str]]:
    """The page as promtool has series: noon is its time 0, and for 12 days nothing is written again."""
    mtime = f'node_textfile_mtime_seconds{{file="/x/eternia_backup.prom"}} {NOON.timestamp()}'
    lines = [line for line in (*text.splitlines(), mtime) if not line.startswith("#")]
    series = []
    for name, value in (line.rsplit(" ", 1) for line in lines):
        is_time = "_timestamp_seconds{" in name or "_mtime_seconds{" in name
        number = float(value) - NOON.timestamp() * is_time
        series.append({"series": name[:-1] + f',instance="{instance}",job="{job}"}}', "values": f"{number:.0f}x3456"})
    return series


@needs_promtool
def test_what_the_engine_writes_is_what_the_rules_read(tmp_path: Path) -> None:
    """All is well at first; when nothing is ever written again, the alerts come one after the other."""
    pages = {
        "web1": page(tmp_path / "web1", "production", "web1", "hourly"),
        "web2": page(tmp_path / "web2", "staging", "web2", "daily"),
    }
    for text in pages.values():
        result = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    def firing(hours: int, **alerts: int) -> dict[str, Any]:
        samples = [{"labels": f'{{alertname="{name}"}}', "value": hosts} for name, hosts in alerts.items()]
        expr = 'count by (alertname) (count by (alertname, host) (ALERTS{alertstate="firing"}))'
        return {"expr": expr, "eval_time": f"{hours}h", "exp_samples": samples}

    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "30m",
        "tests": [
            {
                "interval": "5m",
                # Who scrapes one host by two jobs must not break the rules.
                "input_series": [
                    series
                    for host, text in pages.items()
                    for job in ("node", "other")
                    for series in scraped(text, f"{host}:9100", job)
                ],
                "promql_expr_test": [
                    firing(1),
                    firing(3, EterniaBackupStale=1),
                    firing(5, EterniaBackupStale=1, EterniaBackupMetricsOld=2),
                    firing(38, EterniaBackupStale=2, EterniaBackupMetricsOld=2),
                    firing(254, EterniaBackupStale=2, EterniaBackupMetricsOld=2, EterniaBackupDrillOverdue=2),
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    result = promtool("test", "rules", tmp_path / "test.yml")
    assert result.returncode == 0, result.stdout + result.stderr


def seen(found: config.Config, hours: float) -> list[dict[str, str]]:
    """What Prometheus has of the host, so many hours after noon."""
    now = NOON + timedelta(hours=hours)
    told = status.read(found, now=now)
    return scraped(metrics.render(found, told, health.level(health.troubles(found, told, now))), "web1:9100", "node")


def one_after_the_other(pages: list[list[dict[str, str]]]) -> list[dict[str, str]]:
    """Series that show each page for half an hour; what a page does not have is not there."""
    known = [{one["series"]: one["values"].replace("x3456", "x5") for one in page} for page in pages]
    names = sorted({name for page in known for name in page})
    return [{"series": name, "values": " ".join(page.get(name, "stale _x4") for page in known)} for name in names]


@needs_promtool
def test_a_storage_path_that_vanishes_with_all_that_lies_in_it_is_seen(tmp_path: Path) -> None:
    """Even where the next run begins anew before anybody looked."""
    database(tmp_path / "data/eternia.db")
    found = config.parse({"frequency": "hourly"}, environment="production", host="web1", base_dir=str(tmp_path))
    before = [run.run(found, clock=SetClock(NOON + timedelta(hours=hours)).clock()) for hours in (-3, -2, -1, 0)]
    full = seen(found, 0)
    shutil.rmtree(found.storage_path)
    empty = seen(found, 0.5)
    after = run.run(found, clock=SetClock(NOON + timedelta(hours=1)).clock())
    assert [outcome.error for outcome in (*before, after)] == [None] * 5
    anew = seen(found, 1)

    def firing(minutes: int, *alerts: str) -> dict[str, Any]:
        samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts]
        expr = 'count by (alertname) (ALERTS{alertstate="firing"})'
        return {"expr": expr, "eval_time": f"{minutes}m", "exp_samples": samples}

    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "5m",
                "input_series": one_after_the_other([full, empty, anew]),
                "promql_expr_test": [
                    firing(29),
                    firing(40, "EterniaBackupGone", "EterniaBackupStoreEmptied"),
                    firing(85, "EterniaBackupStoreEmptied"),
                ],
            },
            {
                "interval": "5m",
                "input_series": one_after_the_other([full, full, anew]),
                "promql_expr_test": [firing(59), firing(70, "EterniaBackupStoreEmptied")],
            },
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    result = promtool("test", "rules", tmp_path / "test.yml")
    assert result.returncode == 0, result.stdout + result.stderr

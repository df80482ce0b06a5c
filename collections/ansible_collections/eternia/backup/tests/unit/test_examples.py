# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of the modules: what is printed there can be configured."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import config

yaml = pytest.importorskip("yaml", reason="the examples are YAML, and PyYAML is not installed here")

COLLECTION = Path(config.__file__).parents[3]
MODULES = sorted((COLLECTION / "plugins" / "modules").glob("eternia_*.py"))
[README] = re.findall(r"```yaml\n(.*?)```", (COLLECTION / "README.md").read_text(), re.DOTALL)


def examples(path):
    """The tasks in EXAMPLES, without importing what only Ansible has."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "EXAMPLES":
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"{path} has no EXAMPLES")


def tasks():
    for path in MODULES:
        for task in examples(path):
            yield pytest.param(task[f"eternia.backup.{path.stem}"], id=f"{path.stem}: {task['name']}")


def test_every_module_has_examples():
    assert MODULES
    assert all(examples(path) for path in MODULES)


@pytest.mark.parametrize("options", list(tasks()))
def test_an_example_is_a_configuration(options):
    values = {"{{ backup }}": yaml.safe_load(README)["backup"], "{{ inventory_hostname }}": "web1"}
    known = {key: values.get(value, value) if isinstance(value, str) else value for key, value in options.items()}
    found = config.parse(
        known["config"],
        environment=known["environment"],
        host=known.get("host", "web1"),
        base_dir=known.get("base_dir"),
    )
    assert found.enabled
    assert "{{" not in repr(found)

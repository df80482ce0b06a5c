# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold of the tree itself: versions, licences, inventories, pins, playbooks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.eternia.backup.plugins.module_utils.engine import config
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import VERSION
from development import CHECKOUT

COLLECTION = CHECKOUT / "collections/ansible_collections/eternia/backup"
BIN = Path(sys.executable).parent
ENVIRONMENTS = {
    # environment: frequency, days kept, where on the host, where in S3
    "development": ("hourly", 30, CHECKOUT / "backups/development", "development"),
    "staging": ("daily", 7, Path("/backups"), "staging"),
    "production": ("hourly", 30, Path("/backups"), "production"),
}


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        text=True,
        capture_output=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (CHECKOUT / name).is_file()]


def inventory(environment: str) -> dict[str, Any]:
    command = [str(BIN / "ansible"), "-i", f"inventories/{environment}", "all", "-m", "ansible.builtin.debug"]
    wanted = ("backup", "eternia_environment", "eternia_home")
    command += ["-a", "msg={{ {" + ", ".join(f"'{name}': {name}" for name in wanted) + "} }}"]
    # The one-line callback of the ad-hoc command prints JSON.
    answered = subprocess.run(
        command,
        cwd=CHECKOUT,
        text=True,
        capture_output=True,
        check=True,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
    )
    found: dict[str, Any] = json.loads(answered.stdout.partition("=> ")[2])["msg"]
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_inventory_is_a_configuration_that_the_engine_accepts(environment: str) -> None:
    found = inventory(environment)
    assert found["eternia_environment"] == environment
    parsed = config.parse(found["backup"], environment=environment, host="h", base_dir=found["eternia_home"])
    assert parsed.cloud is not None
    assert (parsed.cloud.bucket, parsed.cloud.region) == ("eternia-backups", "us-west-2")
    expected = ENVIRONMENTS[environment]
    assert (parsed.frequency, parsed.policy.retention_days, parsed.storage_path, parsed.cloud.prefix) == expected


def test_the_default_inventory_is_development() -> None:
    listed = subprocess.run(
        [str(BIN / "ansible-inventory"), "--list"], cwd=CHECKOUT, text=True, capture_output=True, check=True
    )
    assert json.loads(listed.stdout)["all"]["children"] == ["ungrouped"]
    assert "eternia-dev" in listed.stdout


def test_no_variable_differs_between_environments_outside_of_the_inventories() -> None:
    for playbook in (*COLLECTION.glob("playbooks/*.yml"), *CHECKOUT.glob("playbooks/*.yml")):
        assert not re.search(r"\b(development|staging|production)\b", playbook.read_text()), playbook


@pytest.mark.parametrize("playbook", sorted(path.name for path in COLLECTION.glob("playbooks/*.yml")))
def test_playbook_is_imported_by_one_of_the_same_name(playbook: str) -> None:
    plays = yaml.safe_load((CHECKOUT / "playbooks" / playbook).read_text())
    assert [play["ansible.builtin.import_playbook"] for play in plays] == [f"eternia.backup.{Path(playbook).stem}"]


def test_versions_agree() -> None:
    assert yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["version"] == VERSION


def test_every_module_is_in_the_action_group() -> None:
    groups = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())["action_groups"]
    assert groups["backup"] == sorted(path.stem for path in COLLECTION.glob("plugins/modules/*.py"))


@pytest.mark.parametrize("role", sorted(path.name for path in COLLECTION.glob("roles/*")))
def test_the_defaults_of_a_role_are_its_documented_options(role: str) -> None:
    folder = COLLECTION / "roles" / role
    options = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
    assert {name: option["default"] for name, option in options.items()} == defaults
    readme = (folder / "README.md").read_text()
    assert [name for name in defaults if f"`{name}`" not in readme] == []
    assert all(name.startswith(f"{role}_") for name in defaults)


def test_every_way_into_a_role_says_what_it_takes() -> None:
    for path in COLLECTION.rglob("*.yml"):
        for role, tasks in re.findall(r"name: eternia\.backup\.(\w+)\n +tasks_from: (\w+)", path.read_text()):
            specs = yaml.safe_load((COLLECTION / "roles" / role / "meta/argument_specs.yml").read_text())
            assert tasks in specs["argument_specs"], path


def test_everything_that_ships_is_named_where_it_ships() -> None:
    readme = (COLLECTION / "README.md").read_text()
    kinds = {path.parent.name for path in COLLECTION.glob("plugins/*/*.py")}
    kinds -= {"module_utils", "plugin_utils", "doc_fragments"}
    plugins = {path.stem for kind in kinds for path in COLLECTION.glob(f"plugins/{kind}/*.py")}
    expected = [
        *(f"`eternia.backup.{name}`" for name in plugins),
        *(f"| `eternia.backup.{path.stem}` |" for path in COLLECTION.glob("playbooks/*.yml")),
        *(f"[`eternia.backup.{path.name}`](roles/{path.name}/README.md)" for path in COLLECTION.glob("roles/*")),
        *(f"](extensions/{path.name})" for path in COLLECTION.glob("extensions/*")),
    ]
    assert [words for words in expected if words not in readme] == []


def test_the_variables_of_the_playbooks_are_described_where_they_ship() -> None:
    readme = (COLLECTION / "README.md").read_text()
    files = [path for path in COLLECTION.glob("playbooks/**/*") if path.is_file()]
    pattern = r"\b((?:backup_|eternia_|runbook_confirm)\w*) (?:\| default\(|if \w+ is defined)"
    names = {name for path in files for name in re.findall(pattern, path.read_text())}
    assert names > {"backup_serial", "eternia_service", "runbook_confirm"}
    assert [name for name in sorted(names) if not re.search(rf"`{name}`|^{name}: ", readme, re.MULTILINE)] == []


def test_every_file_of_the_engine_is_in_the_table_of_who_works_on_it() -> None:
    rows = re.findall(r"^\| (`.+`) \| ", (CHECKOUT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    patterns = [word for row in rows for word in re.findall(r"`([\w/*]+)`", row)]
    engine = COLLECTION / "plugins/module_utils/engine"
    names = [str(path.relative_to(engine).with_suffix("")) for path in engine.rglob("*.py") if path.stem != "__init__"]
    assert [name for name in sorted(names) if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)] == []


def test_every_file_says_its_licence() -> None:
    speaking = {".py", ".sh", ".yml", ".yaml", ".j2", ".toml", ".cfg"}
    for name in tracked():
        path = CHECKOUT / name
        if (path.suffix in speaking or path.name == "Makefile") and path.stat().st_size:
            assert "SPDX-License-Identifier: GPL-3.0-or-later" in path.read_text()[:400], name


def test_modules_are_glue() -> None:
    for path in COLLECTION.glob("plugins/modules/*.py"):
        code = path.read_text().partition('RETURN = r"""')[2].partition('"""')[2]
        lines = [line for line in code.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(lines) < 80, f"{path.name} has {len(lines)} lines of code"


def test_the_engine_knows_no_ansible() -> None:
    for path in (COLLECTION / "plugins/module_utils/engine").rglob("*.py"):
        assert "ansible" not in re.sub(r'""".*?"""', "", path.read_text(), flags=re.S).lower(), path


def test_requirements_are_names_and_versions() -> None:
    for path in CHECKOUT.glob("requirements/*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[^\s]+( ; .*)?", line), f"{path.name}: {line}"


def test_nothing_names_this_machine_or_a_package_index() -> None:
    # Written in pieces, so that this file does not find itself.
    forbidden = re.compile("|".join(["pypi" + r"\.org", "python" + "hosted", "/wo" + "rk/main", "/ro" + r"ot/\."]))
    for name in tracked():
        if not name.endswith(("LICENSE", ".png")):
            assert not forbidden.search((CHECKOUT / name).read_text()), name


def test_no_empty_folder_and_no_leftover() -> None:
    names = tracked()
    assert not [name for name in names if Path(name).name in (".gitkeep", ".keep")]
    assert not [name for name in names if re.search(r"ignore-2\.\d+\.txt$", name)]

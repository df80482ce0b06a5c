# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that the role `agent` is applied to: directories of this machine, and a copy of the collection."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import VERSION
from development import CHECKOUT
from packaging.requirements import Requirement

COLLECTION = Path("ansible_collections/eternia/backup")
PLAYS = {
    "play": """
- hosts: all
  gather_facts: false
  roles: [eternia.backup.agent]
""",
    # A module that needs boto3, told of the agent as every playbook tells it.
    "use": """
- hosts: all
  gather_facts: false
  tasks:
    - eternia.backup.eternia_backup_info:
        agent_path: "{{ agent_path }}"
        environment: staging
        base_dir: /nowhere
        config: {cloud_backup: {enabled: true, bucket: b12}}
      register: found
    - debug: {var: found}
""",
}
# As scripts/test_hosts_wheels.py has it.
PIP = "pip==26.3"
VAULT = VaultLib([("default", VaultSecret(b"opens it"))])


class Vaulted(str):
    """A text that the inventory has in a vault."""


def _in_vault(dumper: yaml.SafeDumper, text: Vaulted) -> yaml.Node:
    return dumper.represent_scalar("!vault", VAULT.encrypt(text).decode(), style="|")


yaml.SafeDumper.add_representer(Vaulted, _in_vault)


class Agents:
    """Hosts with paths of their own, and the role. It brings no library but the one that the engine always needs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hosts: dict[str, dict[str, Any]] = {}
        self.collection = directory / "collections" / COLLECTION
        shutil.copytree(
            CHECKOUT / "collections" / COLLECTION,
            self.collection,
            ignore=shutil.ignore_patterns("__pycache__", "tests", "changelogs"),
        )
        pins = self.collection / "roles/agent/files/requirements.txt"
        needed = [line for line in pins.read_text().splitlines() if line.startswith("pyyaml==")]
        pins.write_text("\n".join(needed) + "\n")
        (self.requirement,) = (pin for pin in map(Requirement, needed) if pin.marker is None or pin.marker.evaluate())
        self.wheels = directory / "wheels"
        self.vault_password = directory / "vault_password"
        self.vault_password.write_text("opens it")
        for name, play in PLAYS.items():
            (directory / f"{name}.yml").write_text(play)

    def fetch_wheels(self) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += [
            "--only-binary=:all:",
            f"--dest={self.wheels}",
            PIP,
            f"{self.requirement.name}{self.requirement.specifier}",
        ]
        subprocess.run(command, check=True, timeout=300)

    def wheelhouse(self, name: str, pip: Path | None = None) -> Path:
        """An archive of the wheels; with another pip among them where one is given."""
        archive = self.directory / f"{name}.tar"
        with tarfile.open(archive, "w") as packed:
            for wheel in self.wheels.glob("*.whl"):
                if pip is None or not wheel.name.startswith("pip-"):
                    packed.add(wheel, wheel.name)
            if pip is not None:
                packed.add(pip, pip.name)
        return archive

    def add(self, host: str, **variables: Any) -> Path:
        """A host; returns the directory that is all of it."""
        home = self.directory / host
        (home / "bin").mkdir(parents=True)
        (home / "logrotate.d").mkdir()
        self.hosts[host] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "agent_path": str(home / "opt"),
            "agent_command": str(home / "bin/eternia-backup"),
            "agent_etc": str(home / "etc"),
            "agent_log_file": str(home / "agent.log"),
            "agent_logrotate": str(home / "logrotate.d/eternia-backup"),
            "agent_python": sys.executable,
            "agent_user": getpass.getuser(),
            "agent_config": configuration(host, home),
            **variables,
        }
        return home

    def run(
        self, host: str, *options: str, play: str = "play", version: str = VERSION, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Apply the role to a host, or to several between commas, as a collection of that version has it."""
        path = self.collection / "plugins/module_utils/engine/version.py"
        path.write_text(re.sub('VERSION = ".*"', f'VERSION = "{version}"', path.read_text()))
        inventory = self.directory / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": self.hosts}}))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), f"--inventory={inventory}"]
        return subprocess.run(
            [*command, f"--limit={host}", *options, str(self.directory / f"{play}.yml")],
            cwd=CHECKOUT,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "collections"),
                "ANSIBLE_VAULT_PASSWORD_FILE": str(self.vault_password),
                "COLUMNS": "1000",
                **environment,
            },
            text=True,
            capture_output=True,
            timeout=300,
        )

    def succeed(self, host: str, *options: str, **keywords: str) -> str:
        result = self.run(host, *options, **keywords)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def fail(self, host: str, *options: str, **keywords: str) -> str:
        result = self.run(host, *options, **keywords)
        assert result.returncode == 2, result.stdout + result.stderr
        return result.stdout + result.stderr


def configuration(host: str, home: Path, **backup: Any) -> dict[str, Any]:
    return {"environment": "staging", "host": host, "base_dir": str(home / "app"), "backup": backup}


def changed(output: str) -> int:
    """How many tasks changed the one host that there was."""
    (count,) = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)
    return int(count)


def version(home: Path) -> str:
    asked = subprocess.run([home / "bin/eternia-backup", "--version"], text=True, capture_output=True, check=False)
    return asked.stdout.strip() or asked.stderr.strip()


def releases(home: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in (home / "opt/releases").iterdir())

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that have jobs: directories of this machine, with a cron and a systemd that are none."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from development import CHECKOUT

ROLE = [{"hosts": "all", "gather_facts": False, "roles": ["eternia.backup.schedule"]}]
PLAYBOOK = str(CHECKOUT / "playbooks/schedule.yml")


class Hosts:
    """Hosts that are directories of this machine. Its cron is called sh here, and its systemd is a program of ours."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hosts: dict[str, dict[str, Any]] = {}
        (directory / "role.yml").write_text(yaml.safe_dump(ROLE))
        (directory / "bin").mkdir()
        systemctl = directory / "bin/systemctl"
        systemctl.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {CHECKOUT}/tests/playbooks/systemctl.py "$@"\n'
        )
        systemctl.chmod(0o755)

    def home(self, host: str) -> Path:
        return self.directory / host

    def add(self, host: str, environment: str = "production", **variables: Any) -> dict[str, Any]:
        """A host with the block of the environment's inventory, but with its places below its home, and without S3."""
        home = self.home(host)
        for name in ("cron.d", "units", "app"):
            (home / name).mkdir(parents=True)
        block = yaml.safe_load((CHECKOUT / f"inventories/{environment}/group_vars/all.yml").read_text())["backup"]
        block.update(storage_path="backups", cloud_backup={"enabled": False})
        self.hosts[host] = {
            **on_this_machine(),
            "eternia_environment": environment,
            "eternia_home": str(home / "app"),
            "backup": block,
            "schedule_config": {
                "environment": "{{ eternia_environment }}",
                "host": "{{ inventory_hostname }}",
                "base_dir": "{{ eternia_home }}",
                "backup": "{{ backup }}",
            },
            **places(home),
            **variables,
        }
        return self.hosts[host]

    def run(self, *options: str, playbook: str = "role.yml", **environment: str) -> subprocess.CompletedProcess[str]:
        inventory = self.directory / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": self.hosts}}))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory)]
        return subprocess.run(
            [*command, str(self.directory / playbook), *options],
            cwd=CHECKOUT,
            env={**os.environ, "COLUMNS": "1000", "ANSIBLE_PIPELINING": "1", **environment},
            text=True,
            capture_output=True,
            timeout=300,
        )

    def succeed(self, *options: str, **keywords: str) -> str:
        result = self.run(*options, **keywords)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def fail(self, *options: str, **keywords: str) -> str:
        result = self.run(*options, **keywords)
        assert result.returncode == 2, result.stdout + result.stderr
        return " ".join((result.stdout + result.stderr).split())

    def crontab(self, host: str) -> str | None:
        path = self.home(host) / "cron.d/eternia-backup"
        return path.read_text() if path.exists() else None


def on_this_machine() -> dict[str, Any]:
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "schedule_python": sys.executable,
        "schedule_user": getpass.getuser(),
        "schedule_cron_programs": ["sh"],
    }


def places(home: Path) -> dict[str, str]:
    return {
        "schedule_cron_path": str(home / "cron.d/eternia-backup"),
        "schedule_unit_path": str(home / "units"),
        "schedule_command": "/bin/true",
        "schedule_log_file": str(home / "app/eternia.log"),
    }


def changes(output: str) -> dict[str, int]:
    """How many tasks changed each host."""
    return {host: int(count) for host, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)}


def files(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}

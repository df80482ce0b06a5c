# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Homes with the sample application running in them, which lose their data and get it back by the runbook."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from development import CHECKOUT, Checkout, new_checkout
from test_dev_services import ask

PLAYBOOK = [str(Path(sys.executable).with_name("ansible-playbook"))]
RUNBOOK = "playbooks/disaster_recovery.yml"
# How the sample application that keeps a state is started and stopped: SCRIPT HOME PORT start|stop
SERVICE = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(CHECKOUT / "scripts")!r})
import dev_processes
home, port, act = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pid_file = home / "eternia.pid"
if act == "stop":
    dev_processes.stop_all([pid_file], patience=10)
elif not dev_processes.running(pid_file):
    program = {str(CHECKOUT / "examples/eternia/eternia.py")!r}
    command = [sys.executable, program, "--kind", "state", "--port", str(port)]
    log = home / "eternia.log"
    pid = dev_processes.start_detached(command, environment=dict(PATH=os.defpath), directory=home, log=log)
    dev_processes.remember(pid, port=port, pid_file=pid_file)
"""


class Site:
    """A home with the sample application running in it, and one backup."""

    inventory: tuple[str, ...] = ()

    def __init__(self, services: Checkout) -> None:
        self.services = services
        self.home = services.home
        self.database = services.home / "data/eternia.db"
        self.backups = services.home / "backups/development"
        self.environment = {
            **os.environ,
            "ETERNIA_HOME": str(services.home),
            "ETERNIA_S3_PORT": str(services.s3_port),
            "ETERNIA_APP_PORT": str(services.app_port),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{services.s3_port}",
        }

    def play(self, playbook: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PLAYBOOK, *self.inventory, playbook, *options],
            cwd=CHECKOUT,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=300,
        )

    def succeed(self, *options: str) -> str:
        result = self.play(RUNBOOK, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def fail(self, *options: str) -> str:
        result = self.play(RUNBOOK, *options)
        assert result.returncode == 2, result.stdout + result.stderr
        return " ".join((result.stdout + result.stderr).split())

    def back_up(self) -> str:
        result = self.play("playbooks/backup.yml")
        assert result.returncode == 0, result.stdout + result.stderr
        return max(path.name for path in self.backups.glob("eternia_backup_*.db"))

    def lose(self) -> None:
        for path in self.database.parent.glob("eternia.db*"):
            path.unlink()

    def health(self) -> str:
        with contextlib.suppress(OSError):
            return str(ask(self.services.app_port, "GET /health")["status"])
        return ""

    def saves(self, path: Path | None = None) -> set[int]:
        with contextlib.closing(sqlite3.connect(f"file:{path or self.database}?mode=ro", uri=True)) as connection:
            return {number for (number,) in connection.execute("SELECT id FROM state")}

    def evidence(self) -> dict[str, Any]:
        path = max((self.home / "reports").glob("disaster_recovery_*.json"))
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.with_suffix(".txt").exists()
        found: dict[str, Any] = json.loads(path.read_text())
        return found


class StateSite(Site):
    """A home whose application keeps a JSON state, with no S3, and an inventory of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(new_checkout(directory / "home"))
        self.home.mkdir()
        self.state = self.home / "logs/state_snapshot.json"
        self.backups = self.home / "backups/staging"
        self.service = [sys.executable, str(directory / "service.py"), str(self.home), str(self.services.app_port)]
        (directory / "service.py").write_text(SERVICE)
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "eternia_environment": "staging",
            "eternia_home": str(self.home),
            "eternia_start_command": [*self.service, "start"],
            "eternia_stop_command": [*self.service, "stop"],
            "eternia_health_url": f"http://127.0.0.1:{self.services.app_port}/health",
            "backup_reports": str(self.home / "reports"),
            "runbook_confirm": False,
        }
        self._hosts, self._variables = directory / "hosts.yml", variables
        self.inventory = ("-i", str(self._hosts))
        self.configure()

    def configure(self, **block: Any) -> None:
        """Write the inventory, with more in the block that says how the host is backed up."""
        variables = {**self._variables, "backup": {"source": "state", **block}}
        self._hosts.write_text(json.dumps({"all": {"hosts": {"scribe": variables}}}))

    def tell(self, act: str) -> None:
        subprocess.run([*self.service, act], check=True)

    def back_up(self) -> str:
        result = self.play("playbooks/backup.yml")
        assert result.returncode == 0, result.stdout + result.stderr
        return max(
            path.name
            for path in self.backups.glob("eternia_state_*[0-9].json*")
            if not path.name.endswith("manifest.json")
        )

    def held(self, path: Path | None = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((path or self.state).read_text())
        return found

#!/usr/bin/env python3
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery script that Eternia's users know: list, download, restore, and what else `eternia-backup` can do.

On a host `eternia-backup` reads a configuration file; here an inventory of this checkout says where the backups are.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

CHECKOUT = Path(__file__).resolve().parents[1]
VENV = CHECKOUT / ".venv"

sys.path.insert(0, str(CHECKOUT / "collections"))
if TYPE_CHECKING:
    from ansible_collections.eternia.backup.plugins.module_utils.engine.config import Config

# What the inventory is asked for, by the name it is returned under.
WANTED = {
    "backup": "backup",
    "environment": "eternia_environment",
    "home": "eternia_home",
    "connection": "ansible_connection | default('ssh')",
}
RESULT = re.compile(r"^(\S+) \| (SUCCESS|FAILED!) => (?=\{)", re.MULTILINE)


def main(arguments: list[str]) -> int:
    if importlib.util.find_spec("ansible") is None:
        return run_with_the_python_of_the_checkout(arguments)
    from ansible_collections.eternia.backup.plugins.module_utils.engine import cli, config

    options = {
        "--environment": {"choices": config.ENVIRONMENTS, "help": "whose inventory says where (default: development)"},
        "--host": {"metavar": "HOST", "help": "which host of the inventory, where it has several"},
        "--config": {"metavar": "FILE", "help": "a configuration file that says where, in place of an inventory"},
    }
    return cli.main(arguments, cli.Origin(options, configuration), prog="scripts/restore_backup.py")


def run_with_the_python_of_the_checkout(arguments: list[str]) -> int:
    python = VENV / "bin/python"
    if not python.exists() or Path(sys.prefix).resolve() == VENV.resolve():
        print(f"{sys.executable} lacks Ansible, and {VENV} is no help. In {CHECKOUT}: make install", file=sys.stderr)
        return 1
    os.execv(python, [str(python), __file__, *arguments])


def configuration(args: argparse.Namespace) -> Config:
    """The configuration of a host of this machine, from the file or from the inventory. Raises ConfigError."""
    from ansible_collections.eternia.backup.plugins.module_utils.engine import config, config_file
    from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import ConfigError

    if args.config is not None:
        return config_file.read(Path(args.config))
    inventory = f"inventories/{args.environment or 'development'}"
    hosts = ask(inventory)
    name = args.host or next(iter(hosts), "")
    if name not in hosts or (args.host is None and len(hosts) > 1):
        raise ConfigError(f"{inventory} has the hosts {', '.join(sorted(hosts))}. Name one of them with --host.")
    if isinstance(hosts[name], str):
        raise ConfigError(f"{inventory} does not say where the backups of {name} are: {hosts[name]}")
    found = hosts[name]
    if found["connection"] != "local":
        what = args.what if args.command == "restore" else "latest"
        raise ConfigError(
            f"{name} is another machine ({found['connection']}), and this script works on its own. From here: "
            f".venv/bin/ansible-playbook -i {inventory} playbooks/disaster_recovery.yml --limit {name} "
            f"-e backup={what} (how all backups stand: playbooks/status.yml). On {name} itself: "
            f"eternia-backup {args.command}."
        )
    return config.parse(found["backup"], environment=found["environment"], host=name, base_dir=found["home"])


def ask(inventory: str) -> dict[str, Any]:
    """What Ansible makes of the variables of each host: a dictionary, or a text that says why it cannot."""
    message = "{{ {" + ", ".join(f"'{name}': {value}" for name, value in WANTED.items()) + "} }}"
    command = [sys.executable, "-m", "ansible", "adhoc", "-i", inventory, "all", "-m", "ansible.builtin.debug"]
    # The callback of an ad-hoc command prints JSON, a host at a time.
    settings = {
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
    }
    answered = subprocess.run(
        [*command, "-a", json.dumps({"msg": message})],
        cwd=CHECKOUT,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    decoder = json.JSONDecoder()
    hosts = {
        match[1]: decoder.raw_decode(answered.stdout, match.end())[0]["msg"]
        for match in RESULT.finditer(answered.stdout)
    }
    if not hosts:
        from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import ConfigError

        raise ConfigError(f"{inventory} cannot be read: {answered.stderr.strip() or answered.stdout.strip()}")
    return hosts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

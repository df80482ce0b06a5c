# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible costs when one playbook backs up fifty hosts, beside the least that it can do with them."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

from .options import Options
from .processes import Ratio, Usage, interleaved, python, run, spread
from .report import Figure

_HOSTS, _FORKS, _MOST = 50, 10, 2
_ROOT = Path(__file__).resolve().parent.parent
_BIN = Path(sys.executable).parent


def measure(folder: Path, options: Options) -> Figure:
    """`playbooks/backup.yml` over hosts with local connections and paths of their own."""
    folder.mkdir(parents=True)
    figure = Figure(
        f"`playbooks/backup.yml` over {_HOSTS} hosts",
        f"Local connections, {_FORKS} forks, a database of 1 MiB and paths of its own for each host, no S3. Beside it "
        "`ansible all -m ping` with the same forks. The engine's own time is what the backups say that they took, "
        f"divided by the {os.cpu_count()} cores that they shared; the prunings behind them count as Ansible's.",
    )
    inventory = _inventory(folder)
    where = ["-i", str(inventory), "--forks", str(_FORKS)]
    os.environ["ANSIBLE_CONFIG"] = str(_ROOT / "ansible.cfg")
    os.environ["ANSIBLE_HOME"] = str(folder / "ansible")
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(_ROOT / "collections")
    found = interleaved(
        options.runs,
        {
            "ours": lambda: run([str(_BIN / "ansible-playbook"), *where, str(_ROOT / "playbooks/backup.yml")]),
            "ping": lambda: run([str(_BIN / "ansible"), *where, "all", "-m", "ansible.builtin.ping"]),
        },
    )
    whole = [usage.seconds for usage in found["ours"]]
    engine = [_engine_seconds(usage) / (os.cpu_count() or 1) for usage in found["ours"]]
    ping = [usage.seconds for usage in found["ping"]]
    rest = Ratio.of([all_of_it - own for all_of_it, own in zip(whole, engine)], ping)
    figure.add("ours without the engine's own time ÷ ping", str(rest), f"≤ {_MOST}", rest.value <= _MOST)
    figure.add("ours", spread(whole, "s"))
    figure.add("— the engine's own time", spread(engine, "s"))
    figure.add("`ansible all -m ping`", spread(ping, "s"))
    figure.raw = {"ours": whole, "engine": engine, "ping": ping}
    shutil.rmtree(folder)
    return figure


def _inventory(folder: Path) -> Path:
    hosts = {}
    run(python("make_database", folder / "eternia.db", 1))
    for number in range(1, _HOSTS + 1):
        home = folder / f"host{number}"
        (home / "data").mkdir(parents=True)
        shutil.copy(folder / "eternia.db", home / "data" / "eternia.db")
        hosts[f"host{number}"] = {"eternia_home": str(home)}
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "eternia_environment": "development",
        "backup": {"storage_path": "backups"},
    }
    path = folder / "hosts.json"
    path.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
    return path


def _engine_seconds(usage: Usage) -> float:
    """What the summaries of all hosts say that the backups took."""
    took = re.findall(r"has a proven backup, taken in ([0-9.]+) s", usage.output)
    if len(took) != _HOSTS:
        raise RuntimeError(f"{len(took)} of {_HOSTS} hosts have a backup:\n{usage.output[-3000:]}")
    return sum(map(float, took))

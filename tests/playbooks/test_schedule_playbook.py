# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the real playbook on this machine: all that it takes, and hosts that would share a place."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from agent import Agents, changed, version
from development import CHECKOUT, is_open
from scheduled import PLAYBOOK, Hosts, files, on_this_machine, places


@contextlib.contextmanager
def rclone(directory: Path, keys: tuple[str, str]) -> Iterator[str]:
    """The endpoint of rclone's S3 server, which overwrites what it was asked not to; its bucket is `backups`."""
    (directory / "s3/backups").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = Path(sys.executable).with_name("rclone")
    command = [program, "serve", "s3", "--addr", address, "--auth-key", ",".join(keys), directory / "s3"]
    environment = {"HOME": str(directory), "PATH": os.environ["PATH"], "RCLONE_CONFIG": os.devnull}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and not is_open(int(address.rpartition(":")[2])):
                time.sleep(0.02)
            yield f"http://{address}"
        finally:
            process.kill()


def looking_at_nfs(home: Path) -> str:
    """A Python that finds the same network filesystem mounted on any host's home."""
    program = home.with_suffix(".python")
    facts = {"fstype": "nfs4", "source": "nas:/export", "mount": str(home), "root": "/"}
    replaced = "; ".join(f's#"{key}": "[^"]*"#"{key}": "{value}"#' for key, value in facts.items())
    program.write_text(f"#!/bin/sh\n{shlex.quote(sys.executable)} \"$@\" | sed '{replaced}'\n")
    program.chmod(0o755)
    return str(program)


def test_hosts_that_would_share_a_place_are_refused_before_anything_is_changed(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)

    def sending_to(prefix: str) -> dict[str, Any]:
        return {"cloud_backup": {"enabled": True, "bucket": "eternia-backups", "prefix": prefix}}

    for host, block in {
        "web1": sending_to("one"),
        "web2": sending_to("{{ 'o' }}ne"),
        "nested": sending_to("one/nested"),
        "off": {"enabled": False, **sending_to("one")},
        "gone": sending_to("one"),
        "broken": sending_to(""),
        "nfs1": {},
        "nfs2": {},
        "name1": {"storage_path": f"{hosts.directory}/same"},
        "name2": {"storage_path": f"{hosts.directory}/same/"},
    }.items():
        variables = hosts.add(host, agent_python=sys.executable, agent_user=getpass.getuser(), backup=block)
        del variables["schedule_config"]
    for host in ("nfs1", "nfs2"):
        hosts.hosts[host]["agent_python"] = looking_at_nfs(hosts.home(host))
    hosts.hosts["gone"]["schedule_state"] = "absent"
    storage = hosts.home("nested") / "app/backups/production"
    storage.mkdir(parents=True)
    claim = {"environment": "production", "host": "other", "storage_path": "/backups"}
    (storage / "eternia_backup.host.json").write_text(json.dumps(claim))
    before = files(hosts.directory)

    output = hosts.fail(playbook=PLAYBOOK)
    need = "and each would prune what the others need. Give each a place of its own in the inventory, for example"
    for words in (
        f"web1 and web2 would share s3://eternia-backups/one (AWS), {need} "
        'cloud_backup.prefix: "{{ eternia_environment }}/{{ inventory_hostname }}".',
        f"nfs1 and nfs2 would share /app/backups/production on nas:/export (nfs4), {need} "
        f'storage_path: "{hosts.home("nfs1")}/app/backups/production/{{{{ inventory_hostname }}}}".',
        f"name1 and name2 would share {hosts.directory}/same on this machine, {need}",
        f"nested would write to {storage}, which belongs to host other (environment production, by its",
        "broken is not compared with the other hosts: backup.cloud_backup.prefix is ''; it must be",
    ):
        assert words in output, words
    assert "TASK [Have the agent as the inventory says]" not in output
    assert files(hosts.directory).keys() - before.keys() == {str(hosts.directory / "hosts.yml")}

    # Who is left out has jobs of his own.
    output = hosts.fail("--limit", "web2", playbook=PLAYBOOK)
    assert "web1 and web2 would share s3://eternia-backups/one" in output
    assert "nfs1" not in output


def test_one_playbook_is_all_it_takes(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    agents.fetch_wheels()
    (tmp_path / "play.yml").write_text("- ansible.builtin.import_playbook: eternia.backup.schedule\n")
    secret = "NOBODYS-BUSINESS"
    home = agents.add(
        "whole", agent_wheelhouse=str(agents.wheelhouse("good")), agent_credentials=f"[default]\n#{secret}\n"
    )
    for name in ("cron.d", "units"):
        (home / name).mkdir()
    agents.hosts["whole"].update(on_this_machine(), **places(home))
    agents.hosts["whole"].update(
        schedule_command="{{ agent_command }}",
        eternia_environment="staging",
        eternia_home=str(home / "app"),
        backup={"frequency": "weekly", "report": {"ping_url": f"http://127.0.0.1:9/{secret}"}},
    )
    said = agents.succeed("whole", "--diff", "-vvv")
    assert version(home).startswith("eternia-backup ")
    crontab = (home / "cron.d/eternia-backup").read_text()
    assert re.search(
        rf"^0 0 \* \* 1 .* {re.escape(str(home))}/bin/eternia-backup run >/dev/null$", crontab, re.MULTILINE
    )

    # As cron has it done.
    (line,) = re.findall(r"^0 0 \* \* 1 \S+ (.*)$", crontab, re.MULTILINE)
    (home / "app/data").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(home / "app/data/eternia.db")) as source, source:
        source.execute("CREATE TABLE state (id INTEGER)")
    done = subprocess.run(["sh", "-c", line], env={"PATH": "/usr/bin:/bin"}, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert list((home / "app/backups/staging").glob("eternia_backup_*.db.manifest.json"))

    again = agents.succeed("whole", "--diff", "-vvv")
    assert changed(again) == 0
    talking = [task.partition("]")[0] for task in again.split("\nTASK [")[1:] if "<whole> EXEC" in task]
    assert 1 < len(talking) <= 12, talking
    assert secret not in said + again + crontab

    agents.succeed("whole", "-e", "agent_state=absent")
    assert not list((home / "cron.d").iterdir())
    assert not (home / "opt").exists()
    assert not (home / "bin/eternia-backup").exists()


def test_what_a_store_cannot_guarantee_is_said_at_set_up(tmp_path: Path) -> None:
    """By the real command, whether the store answers or not; nothing fails and nothing counts as changed."""
    agents = Agents(tmp_path)
    role = {"name": "eternia.backup.agent", "tasks_from": "check_store.yml"}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": role}]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    command, config, credentials = (tmp_path / name for name in ("command", "config.yml", "credentials"))
    engine = "ansible_collections.eternia.backup.plugins.module_utils.engine.cli"
    call = f'PYTHONPATH={CHECKOUT}/collections exec {sys.executable} -m {engine} --config {config} "$@"'
    command.write_text(f"#!/bin/sh\n{call}\n")
    command.chmod(0o755)
    credentials.write_text("[default]\naws_access_key_id = somebody\naws_secret_access_key = NOBODYS-BUSINESS\n")
    agents.add("store", agent_command=str(command), agent_user=getpass.getuser())
    with rclone(tmp_path, ("somebody", "NOBODYS-BUSINESS")) as endpoint:
        cloud = {"enabled": True, "bucket": "backups", "endpoint_url": endpoint, "credentials_file": str(credentials)}
        fields = {
            "environment": "staging",
            "host": "web1",
            "base_dir": str(tmp_path),
            "backup": {"cloud_backup": cloud},
        }
        config.write_text(yaml.safe_dump(fields))
        said = agents.succeed("store")
        assert (
            f"NOT KEPT: s3://backups/staging at {endpoint}: create-only, create-only in parts, checksums"
            in " ".join(said.split())
        )
    again = agents.succeed("store")
    assert f"no whole answer from {endpoint}" in " ".join(again.split())
    assert (changed(said), changed(again)) == (0, 0)
    assert "NOBODYS-BUSINESS" not in said + again

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies the real role to this machine, with paths of its own and a real pip: install, upgrade, fail, remove."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent import COLLECTION, Agents, Vaulted, changed, configuration, releases, version
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import VERSION
from development import CHECKOUT

CREDENTIALS = "[default]\naws_secret_access_key = NOBODYS-BUSINESS\n"
PING = Vaulted("https://ping.example/NOBODYS-BUSINESS")
RUNS = f"eternia-backup {VERSION}"
NEW = "Install Python 3.9 or newer there, or name another with agent_python."
# For every Python that an Ansible here starts: no directory can be made by the module tempfile.
NO_ROOM = """
import errno, os, sys

def watch(event, arguments):
    if event == "tempfile.mkdtemp" and os.path.basename(arguments[0]).startswith("ansible."):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Agents:
    """Two hosts that have an agent: `life` has some more before it, and `steady` is as it was after each test."""
    made = Agents(tmp_path_factory.mktemp("agents"))
    made.fetch_wheels()
    good = str(made.wheelhouse("good"))
    home = made.add("life", agent_wheelhouse=good, agent_credentials=CREDENTIALS)
    made.hosts["life"]["agent_config"] = configuration("life", home, report={"ping_url": PING})
    home = made.add("steady", agent_wheelhouse=good)
    made.hosts["steady"]["agent_config"] = configuration("steady", home, report={"log_file": "logs/eternia.log"})
    made.said = made.succeed("life,steady", "--diff", "-vvv")
    return made


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def tasks_that_talk_to(host: str, verbose: str) -> list[str]:
    """Of what ansible-playbook -vvv says."""
    blocks = re.split(r"^TASK \[", verbose, flags=re.MULTILINE)[1:]
    return [block.partition("]")[0] for block in blocks if f"<{host}> EXEC" in block]


def test_check_mode_says_what_would_be_and_does_nothing(agents: Agents) -> None:
    home = agents.add("fresh", agent_wheelhouse=str(agents.wheelhouse("fresh")))
    before = sorted(home.rglob("*"))
    output = agents.succeed("fresh", "--check", "--diff")
    assert "TASK [eternia.backup.agent : Build the release] ***" in output
    assert changed(output) == 6
    assert sorted(home.rglob("*")) == before


def test_a_life_from_install_to_removal(agents: Agents) -> None:
    home = agents.directory / "life"
    assert version(home) == RUNS
    assert list(home.glob("opt/current/lib/python3*/site-packages/eternia_backup/__pycache__/cli.*.pyc"))
    assert yaml.safe_load((home / "etc/config.yml").read_text()) == {
        **agents.hosts["life"]["agent_config"],
        "backup": {
            "report": {"ping_url": PING, "log_file": str(home / "agent.log")},
            "cloud_backup": {"credentials_file": str(home / "etc/credentials")},
        },
    }
    assert (home / "etc/credentials").read_text() == CREDENTIALS
    paths = ("etc", "etc/config.yml", "etc/credentials", "agent.log", "bin/eternia-backup", "opt/current/")
    assert [mode(home / path) for path in paths] == ["0o755", "0o600", "0o600", "0o640", "0o755", "0o755"]
    assert f'"{home}/agent.log" {{' in (home / "logrotate.d/eternia-backup").read_text()

    again = agents.succeed("life", "--diff", "-vvv")
    assert changed(again) == 0
    assert len(tasks_that_talk_to("life", again)) == 7, tasks_that_talk_to("life", again)
    assert "NOBODYS-BUSINESS" not in agents.said + again

    for old in ("0.0.8-whole", "0.0.9-cut-off"):
        (home / "opt/releases" / old / "bin").mkdir(parents=True)
    for path in ("bin/python", "release.json"):
        (home / "opt/releases/0.0.8-whole" / path).symlink_to("/bin/true")
    agents.succeed("life", version="9.0.1")
    assert (version(home), releases(home)) == ("eternia-backup 9.0.1", [VERSION, "9.0.1"])
    back = agents.succeed("life")
    assert (version(home), releases(home)) == (RUNS, [VERSION, "9.0.1"])
    assert "TASK [eternia.backup.agent : Build the release]" not in back

    crontab = home / "cron.d/eternia-backup"
    crontab.parent.mkdir()
    agents.hosts["life"]["schedule_cron_path"] = str(crontab)
    backup, rotated = home / "app/backups/staging/eternia_backup_20261122_220000.db", home / "agent.log.2.gz"
    backup.parent.mkdir(parents=True)
    for path in (backup, rotated, crontab):
        path.touch()
    agents.succeed("life", "-e", "agent_state=absent")
    assert [path for path in home.rglob("*") if path.is_file()] == [backup]
    assert sorted(path.name for path in home.iterdir()) == ["app", "bin", "cron.d", "logrotate.d"]
    assert changed(agents.succeed("life", "-e", "agent_state=absent")) == 0


def test_a_log_of_the_application_is_left_to_it(agents: Agents) -> None:
    home = agents.directory / "steady"
    assert yaml.safe_load((home / "etc/config.yml").read_text()) == agents.hosts["steady"]["agent_config"]
    assert sorted(path.name for path in home.iterdir()) == ["bin", "etc", "logrotate.d", "opt"]
    assert list((home / "logrotate.d").iterdir()) == []


def pretending(agents: Agents, name: str, lines: str) -> str:
    """A Python that is not what this one is."""
    path = agents.directory / name
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{lines}\n$2" "$3"\n')
    path.chmod(0o755)
    return str(path)


def test_what_cannot_be_is_refused_before_anything_is_changed(agents: Agents) -> None:
    old = pretending(agents, "old-python", "import sys; sys.version_info = (3, 8, 18)")
    bare = pretending(agents, "bare-python", "import sys; sys.modules['ensurepip'] = None")
    plan9 = "import builtins, io; builtins.open = lambda *_, **__: io.StringIO('ID=plan9')"
    alien = {"agent_python": pretending(agents, "plan9", plan9), "agent_libraries": "distribution", "agent_config": {}}
    aged = pretending(agents, "python2", "print 1")
    nameless = pretending(agents, "nameless-python", "import os; os.geteuid = lambda: 4711")
    twice = {"agent_credentials": "x", "agent_config": {"backup": {"cloud_backup": {"credentials_file": "/elsewhere"}}}}
    refused: dict[str, tuple[dict[str, Any], str]] = {
        "old": (
            {"agent_python": old},
            "/old-python on old is Python 3.8.18; 3.9 or newer is needed. Install one there",
        ),
        "none": ({"agent_python": "/no/python"}, f"/no/python on none cannot be used (Error executing command). {NEW}"),
        "aged": ({"agent_python": aged}, f"{aged} on aged cannot be used (SyntaxError: Missing parentheses in call to"),
        # No Python is to blame for that.
        "nameless": (
            {"agent_python": nameless},
            f"{nameless} on nameless could not look at it (KeyError: 'getpwuid(): uid not found: 4711').",
        ),
        "bare": ({"agent_python": bare}, "with pip (it has no ensurepip). Install python3-venv there, or do without"),
        "alien": (alien, "alien runs plan9, and agent_libraries: distribution knows the packages of Debian and RedHat"),
        "unmade": ({"agent_wheelhouse": "/no.tar"}, "agent_wheelhouse is '/no.tar', which is no file on this machine"),
        "nobody": ({"agent_user": "no-such-user"}, "nobody has no user no-such-user, whom agent_user names. Make it"),
        "twice": (twice, "/etc/credentials, and backup.cloud_backup.credentials_file of twice names /elsewhere. Leave"),
    }
    homes = {host: agents.add(host, **variables) for host, (variables, _) in refused.items()}
    output = agents.fail(",".join(refused))
    for host, (_, words) in refused.items():
        assert words in output, host
        assert sorted(path.name for path in homes[host].rglob("*")) == ["bin", "logrotate.d"], host
    # Ansible says it once more below, folded somewhere.
    assert sum(line.startswith("[ERROR]") and NEW in line for line in output.splitlines()) == 2


def test_a_machine_without_room_for_the_artefact_says_just_that(agents: Agents, tmp_path: Path) -> None:
    agents.add("roomless", agent_wheelhouse=str(agents.wheelhouse("roomless")))
    (tmp_path / "sitecustomize.py").write_text(NO_ROOM)
    output = agents.fail("roomless", PYTHONPATH=str(tmp_path))
    assert "No space left on device" in output
    assert "has no attribute" not in output


def test_without_a_package_index_the_old_release_still_runs(agents: Agents) -> None:
    home = agents.directory / "steady"
    unreachable = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": "/dev/null"}
    output = agents.fail("steady", "-e", "agent_libraries=index", version="9.1.0", **unreachable)
    assert "could not be built: ERROR: No matching distribution found for pyyaml" in output
    assert "Is the package index reachable from this host" in output
    assert "give the role agent_wheelhouse, or take the distribution's packages with agent_libraries: distr" in output
    assert f"steady still runs {VERSION}-" in output
    assert (version(home), releases(home)) == (RUNS, [VERSION])


def test_what_was_cut_off_is_built_again_and_runs_once_the_configuration_is_right(agents: Agents) -> None:
    home = agents.directory / "steady"
    before = (home / "etc/config.yml").read_text()
    killer = agents.directory / "pip-0-py3-none-any.whl"
    with zipfile.ZipFile(killer, "w") as packed:
        packed.writestr("pip/__main__.py", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    variables = {"agent_wheelhouse": str(agents.wheelhouse("killer", pip=killer))}
    output = agents.fail("steady", "-e", json.dumps(variables), version="9.2.0")
    assert f"The installation was killed. steady still runs {VERSION}-" in output
    assert (version(home), releases(home)) == (RUNS, [VERSION, "9.2.0"])

    variables = {"agent_config": configuration("steady", home, frequency="often")}
    output = agents.fail("steady", "-e", json.dumps(variables), version="9.2.0")
    assert (
        f"{home}/etc/config.yml of steady was left as it was, and the release too: backup.frequency is 'often'"
        in output
    )
    assert (home / "etc/config.yml").read_text() == before
    assert version(home) == RUNS
    assert list(home.glob("opt/releases/9.2.0-*/release.json"))


def test_a_configuration_waits_until_the_release_can_take_its_place(agents: Agents) -> None:
    home = agents.directory / "steady"
    before, link = (home / "etc/config.yml").read_text(), (home / "opt/current").readlink()
    variables = {
        "agent_config": configuration("steady", home, frequency="weekly", report={"log_file": "logs/eternia.log"}),
        "agent_command": "/nowhere/eternia-backup",
    }
    output = agents.fail("steady", "-e", json.dumps(variables))
    assert "Destination directory /nowhere does not exist" in output
    assert (home / "etc/config.yml").read_text() == before
    assert (home / "opt/current").readlink() == link


def test_a_configuration_with_s3_needs_a_boto3(agents: Agents, tmp_path: Path) -> None:
    release, config = agents.directory / "steady/opt/current", tmp_path / "config.yml"
    config.write_text(yaml.safe_dump(configuration("h", tmp_path, cloud_backup={"enabled": True, "bucket": "b12"})))
    done = subprocess.run(
        [release / "bin/python", "-I", release / "check_config.py", config], text=True, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"S3 needs the Python library boto3, which {release}/bin/python cannot import")
    assert "apply the role eternia.backup.agent to this host" in done.stderr


def test_a_configuration_that_encrypts_needs_what_it_takes_before_it_is_written(agents: Agents, tmp_path: Path) -> None:
    """The release here has no pyrage, as that of a distribution's libraries has none."""
    release, config = agents.directory / "steady/opt/current", tmp_path / "config.yml"
    recipients = {"recipients": ["age1" + "q" * 58]}
    config.write_text(yaml.safe_dump(configuration("h", tmp_path, encryption=recipients)))
    done = subprocess.run(
        [release / "bin/python", "-I", release / "check_config.py", config], text=True, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert "has no Python library pyrage, which encrypted backups need" in done.stderr


def test_the_playbooks_run_the_modules_under_it(agents: Agents) -> None:
    python = agents.directory / "steady/opt/current/bin/python"
    agents.add("bare-host")
    output = agents.succeed("steady,bare-host", play="use", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
    assert f"boto3, which {sys.executable} cannot import" not in output
    assert f"S3 needs the Python library boto3, which {python} cannot import" in output
    assert "apply the role eternia.backup.agent to this host" in output


def test_a_disk_that_fills_leaves_no_half_of_a_release(agents: Agents, tmp_path: Path) -> None:
    role = agents.collection / "roles/agent/files"
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
        mount -t tmpfs -o size=5m tmpfs {disk} && mkdir -p {disk}/releases/new && cd {disk}/releases/new || exit 77
        {sys.executable} {role}/artefact.py {agents.collection}/plugins/module_utils/engine a.pyz >/dev/null || exit 78
        cp {agents.wheelhouse("full")} wheels.tar || exit 79
        {Path(sys.executable).resolve()} a.pyz wheelhouse
        echo $? left: {disk}/releases/*
    """
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no disk of its own can be mounted here: {done.stderr.strip()}")
    assert done.stdout == f"1 left: {disk}/releases/*\n"
    assert done.stderr.startswith(f"{disk}/releases/new could not be built: [Errno 28] No space left on device")
    assert "Free some space or correct the rights there, then run again." in done.stderr


def test_an_archive_that_cannot_be_read_leaves_no_half_of_a_release(tmp_path: Path) -> None:
    release = tmp_path / "releases/new"
    release.mkdir(parents=True)
    # What a disk makes of the archive that fails while its end is looked for: only the program is left.
    archive = shutil.copy(CHECKOUT / "collections" / COLLECTION / "roles/agent/files/release.py", release / "a.pyz")
    done = subprocess.run([sys.executable, archive, "distribution"], text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"{release} could not be built: {archive} cannot be read (File is not a zip file). "
        "Look at the disk there, then run again.\n"
    )
    assert not release.exists()


def test_a_disk_that_gives_no_answer_has_not_said_that_a_release_is_gone(tmp_path: Path) -> None:
    is_gone = runpy.run_path(str(CHECKOUT / "collections" / COLLECTION / "roles/agent/files/release.py"))["is_gone"]
    (tmp_path / "file").touch()
    assert is_gone(tmp_path / "release")
    assert not is_gone(tmp_path)
    # Any error but one: here that a file is no directory.
    assert not is_gone(tmp_path / "file" / "release")

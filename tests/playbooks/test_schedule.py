# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies the real role to this machine, with paths of its own: cron, systemd, from one to the other, and refusals."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scheduled import Hosts, changes, files

ENVIRONMENTS = ("development", "staging", "production")


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def lines(crontab: str | None) -> list[str]:
    """The lines that are jobs, up to what is to be run, without the user."""
    assert crontab is not None
    return [
        re.sub(f" {getpass.getuser()} (.*)exec .*/bin/true (.*) >/dev/null", r" \1\2", line)
        for line in crontab.splitlines()
        if line.endswith("/dev/null")
    ]


def saying(folder: Path, script: str) -> str:
    """A command that does what the script says."""
    path = folder / "eternia-backup"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_each_environment_has_a_crontab_of_its_own(hosts: Hosts) -> None:
    for environment in ENVIRONMENTS:
        hosts.add(environment, environment)
    before = files(hosts.directory)
    assert set(changes(hosts.succeed("--check", "--diff")).values()) == {2}
    assert files(hosts.directory).keys() - before.keys() == {str(hosts.directory / "hosts.yml")}

    assert set(changes(hosts.succeed()).values()) == {2}
    rest = ["15 5 * * 2 drill", "30 * * * * status --report"]
    assert lines(hosts.crontab("development")) == ["0 * * * * run", *rest]
    assert lines(hosts.crontab("staging")) == ["0 0 * * * run", *rest]
    assert lines(hosts.crontab("production")) == ["0 * * * * run", *rest]
    assert len({hosts.crontab(environment) for environment in ENVIRONMENTS}) == 3
    path = hosts.home("production") / "cron.d/eternia-backup"
    assert oct(path.stat().st_mode & 0o7777) == "0o644"
    storage = hosts.home("production") / "app/backups"
    assert oct(storage.stat().st_mode & 0o7777) == "0o700"
    text = path.read_text()
    assert text.startswith("# Written by the role eternia.backup.schedule, for the environment production. ")
    assert '\nSHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nMAILTO="root"\n' in text
    ionice = "ionice -c 3 " if shutil.which("ionice") else ""
    assert f"\n0 * * * * {getpass.getuser()} exec nice -n 10 {ionice}/bin/true run >/dev/null\n" in text

    before = files(hosts.directory)
    assert set(changes(hosts.succeed()).values()) == {0}
    assert {path for path, time in files(hosts.directory).items() if before.get(path) != time} == {
        str(hosts.directory / "hosts.yml")
    }

    monthly = hosts.hosts["production"]
    monthly["backup"]["frequency"] = "monthly"
    monthly.update(schedule_spread=27 * 86400, schedule_drill="none", schedule_mail_to="")
    monthly.update(schedule_command="/opt/100%/run", schedule_nice=0, schedule_ionice_class="none")
    hosts.hosts["staging"]["backup"]["enabled"] = False
    hosts.hosts["staging"]["schedule_command"] = saying(hosts.home("staging"), "echo OK: switched off")
    hosts.hosts["development"].update(schedule_state="absent", backup="no block at all")
    assert set(changes(hosts.succeed()).values()) == {1}
    text = hosts.crontab("production") or ""
    assert '\nMAILTO=""\n' in text
    # Its part of 27 days.
    line = f"16 4 19 * * {getpass.getuser()} sleep 1; exec /opt/100\\%/run run >/dev/null"
    assert line in text.splitlines()
    assert "drill" not in text
    assert hosts.crontab("staging") is hosts.crontab("development") is None


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_a_host_that_is_switched_off_says_so_each_time(hosts: Hosts, public: Path) -> None:
    # Who has no right to be somebody else is himself.
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    ends = {
        "well": "echo OK: said $* as $(id -un) at $HOME",
        "stuck": "echo CRITICAL: a restore was cut off.; exit 2",
        "unread": "echo UNKNOWN: the configuration cannot be read.; exit 3",
        "gone": "echo the release is gone >&2; exit 1",
    }
    for host, script in ends.items():
        (public / host).mkdir()
        hosts.add(host, schedule_command=saying(public / host, script), schedule_user=user)
    hosts.add("bare", schedule_command="/no/eternia-backup")
    for variables in hosts.hosts.values():
        variables["backup"]["enabled"] = False
    (hosts.home("well") / "cron.d/eternia-backup").touch()

    def run() -> tuple[dict[str, int], list[str], str]:
        output = hosts.run("-v").stdout
        return changes(output), re.findall(r"^(\S+) +: .*failed=1", output, re.MULTILINE), output

    said = f"OK: said status --report as {user} at {pwd.getpwnam(user).pw_dir}"
    first, failed, output = run()
    assert (first["well"], failed) == (1, ["bare", "gone", "unread"])
    assert said in output
    for words in ("UNKNOWN: the configuration cannot be read.", "the release is gone"):
        assert words in output
    # Nothing is there to be removed any more.
    saying(public / "gone", ends["well"])
    second, failed, output = run()
    assert (set(second.values()), failed) == ({0}, ["bare", "unread"])
    assert len(re.findall(f"^ +stdout: .*{said}", output, re.MULTILINE)) == 2


@pytest.fixture
def systemd(hosts: Hosts) -> dict[str, str]:
    """What makes our systemd the one that is asked, for the host `host`."""
    return {
        "PATH": f"{hosts.directory}/bin:{os.environ['PATH']}",
        "UNITS": str(hosts.home("host") / "units"),
        "STATE": str(hosts.directory / "systemd.json"),
    }


def units(hosts: Hosts) -> list[str]:
    return sorted(path.name.removeprefix("eternia-backup-") for path in (hosts.home("host") / "units").iterdir())


def test_from_cron_to_systemd_and_back(hosts: Hosts, systemd: dict[str, str]) -> None:
    variables = hosts.add("host", schedule_spread=1000, schedule_with="systemd")
    crontab = hosts.home("host") / "cron.d/eternia-backup"
    crontab.write_text("# Of before.\n")

    def asked() -> list[str]:
        """What systemd was asked to do since the last time."""
        state = json.loads(Path(systemd["STATE"]).read_text())
        new, state["asked"] = state["asked"], []
        Path(systemd["STATE"]).write_text(json.dumps(state))
        return [word.replace("eternia-backup-", "") for word in new]

    assert changes(hosts.succeed("--check", **systemd))["host"] >= 2
    assert (hosts.crontab("host") is None, units(hosts), asked()) == (False, [], [])
    hosts.succeed(**systemd)
    names = ("drill", "run", "status")
    assert hosts.crontab("host") is None
    assert units(hosts) == [f"{name}.{kind}" for name in names for kind in ("service", "timer")]
    started = [f"{verb} {name}.timer" for name in ("run", "drill", "status") for verb in ("enable", "start")]
    assert asked() == ["daemon-reload", *started]
    assert changes(hosts.succeed(**systemd)) == {"host": 0}
    assert asked() == []
    prove_units(hosts.home("host"))

    # What was cut off before systemd had read it is made up for.
    (hosts.home("host") / "units/eternia-backup-run.timer").write_text("")
    variables.update(schedule_spread=0, schedule_drill="none")
    hosts.succeed(**systemd)
    assert "OnCalendar=*-*-* *:00:00 UTC\n" in (hosts.home("host") / "units/eternia-backup-run.timer").read_text()
    assert units(hosts) == [f"{name}.{kind}" for name in ("run", "status") for kind in ("service", "timer")]
    assert asked() == ["daemon-reload", "disable drill.timer", "stop drill.timer", "daemon-reload"]

    variables.update(schedule_with="cron")
    hosts.succeed(**systemd)
    assert units(hosts) == []
    assert lines(hosts.crontab("host")) == ["0 * * * * run", "30 * * * * status --report"]
    stopped = [f"{verb} {name}.timer" for name in ("run", "status") for verb in ("disable", "stop")]
    assert asked() == [*stopped, "daemon-reload"]


def prove_units(home: Path) -> None:
    """What systemd itself says of the units, where there is one to ask; and what is in them."""
    paths = sorted((home / "units").iterdir())
    service, timer = (home / f"units/eternia-backup-run.{kind}" for kind in ("service", "timer"))
    for line in ("OnCalendar=*-*-* *:14:01 UTC", "Persistent=true", "AccuracySec=1s"):
        assert f"\n{line}\n" in timer.read_text()
    for line in (
        "ExecStart=/bin/true run",
        "StandardError=journal",
        "SuccessExitStatus=11",
        "Nice=10",
        "IOSchedulingClass=idle",
    ):
        assert f"\n{line}\n" in service.read_text()
    assert f'\nReadWritePaths="-{home}/app/backups"\n' in service.read_text()
    assert f'\nReadWritePaths="-{home}/app/data"\n' in service.read_text()
    assert "\nSuccessExitStatus=1 2\n" in (home / "units/eternia-backup-status.service").read_text()
    # A directory in /tmp would not be there.
    assert ("PrivateTmp=true" in service.read_text()) == (not str(home).startswith(("/tmp/", "/var/tmp/")))
    if not shutil.which("systemd-analyze"):
        print("systemd-analyze is not installed, so it was not asked about the units.")
        return
    verified = subprocess.run(
        ["systemd-analyze", "verify", *map(str, paths)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert (verified.returncode, verified.stdout) == (0, "")


def test_what_cannot_be_is_refused_before_anything_is_changed(hosts: Hosts) -> None:
    refused: dict[str, tuple[dict[str, Any], str]] = {
        "cronless": (
            {"schedule_cron_programs": ["no-such-cron", "nor-this"]},
            "cronless has no cron that reads {home}/cron.d (looked for no-such-cron, nor-this). Install it there (the "
            "package cron on Debian, cronie on Red Hat). Or set schedule_with: systemd, which it has.",
        ),
        "nobody": (
            {"schedule_user": "no-such-user"},
            "nobody has no user no-such-user, whom schedule_user names. Make",
        ),
        "often": ({"backup": {"frequency": "often"}}, "backup.frequency is 'often'; it must be one of hourly, daily, "),
        "nowhere": (
            {"eternia_environment": "prod"},
            "environment is 'prod'; it must be one of development, staging, production.",
        ),
        "wide": (
            {"schedule_spread": 3601},
            "schedule_spread is 3601 seconds, and frequency hourly comes every 3600: a",
        ),
        "late": ({"schedule_with": "at"}, "value of schedule_with must be one of: cron, systemd, got: at"),
        "odd": (
            {"schedule_command": "eternia-backup --config x"},
            "schedule_command is 'eternia-backup --config x' and",
        ),
        "unmounted": (
            {"backup": {"storage_path": "/nowhere/backups", "storage_mount": "/nowhere"}},
            "/nowhere/backups of unmounted is to be on /nowhere, and nothing is mounted there: backups would fill up "
            "the disk below it. Mount it (mount /nowhere), or correct storage_path, storage_mount or /etc/fstab.",
        ),
    }
    for host, (variables, _) in refused.items():
        hosts.add(host, **variables)
    environment = {
        "PATH": f"{hosts.directory}/bin:{os.environ['PATH']}",
        "UNITS": str(hosts.home("odd") / "units"),
        "STATE": str(hosts.directory / "systemd.json"),
    }
    output = hosts.fail(**environment)
    for host, (_, words) in refused.items():
        assert words.format(home=hosts.home(host)) in output, host
        assert not [path for path in hosts.home(host).rglob("*") if path.is_file()], host
    (hosts.directory / "bin/systemctl").write_text("#!/bin/sh\necho not booted with systemd >&2\nexit 1\n")
    hosts.hosts = {"cronless": hosts.hosts["cronless"], "odd": {**hosts.hosts["odd"], "schedule_with": "systemd"}}
    output = hosts.fail(**environment)
    assert "It has no systemd either." in output
    assert "odd does not run systemd (systemctl does not answer). Or set schedule_with: cron, which it has." in output

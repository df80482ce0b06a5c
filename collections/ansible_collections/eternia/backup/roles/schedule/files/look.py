# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a host and change nothing: python -c THIS WANTED. Prints what is there; what is wanted comes as JSON too."""

import grp
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys

PROGRAMS = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def look(wanted):
    reads = os.path.isdir(os.path.dirname(wanted["cron_path"]))
    timers = units_known(wanted["units"])
    return {
        "owner": pwd.getpwuid(os.geteuid()).pw_name,
        "group": grp.getgrgid(os.getegid()).gr_name,
        "user": has_user(wanted["user"]),
        "cron": reads and any(program(name) for name in wanted["cron_programs"]),
        "systemd": timers is not None,
        "ionice": program("ionice") is not None,
        "crontab": os.path.lexists(wanted["cron_path"]),
        "crontab_check": crontab_check(),
        "units": units_there(wanted["unit_path"], wanted["units"]),
        # What systemd has forgotten, or would have to read again.
        "stopped": [name for name, facts in (timers or {}).items() if not goes_on(facts)],
        "outdated": [name for name, facts in (timers or {}).items() if facts.get("NeedDaemonReload") == "yes"],
        "missing": bool(wanted["storage"]) and not os.path.lexists(wanted["storage"]),
        "unmounted": unmounted(wanted["storage"], wanted["mount"]) if wanted["storage"] else [],
        # A database may be a link to where it really lies; SQLite writes beside the file itself.
        "directories": sorted({os.path.dirname(os.path.realpath(path)) for path in wanted["files"]}),
    }


def program(name):
    return shutil.which(name, path=PROGRAMS)


def has_user(name):
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def ask(*command):
    """What a command prints, and whether it succeeded."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError:
        return "", False
    return done.stdout, done.returncode == 0


def crontab_check():
    """The command that only reads a crontab and says what is wrong with it, "" where there is none."""
    crontab = program("crontab")
    usage = ask(crontab, "-h")[0] if crontab else ""
    # Cronie's -n is something else altogether.
    option = "-n" if "dry run" in usage else "-T" if re.search(r"^\s*-T\b", usage, re.MULTILINE) else ""
    return option and f"{crontab} {option}"


def units_there(folder, names):
    """What is in each unit that there is; nothing where it is not as it was written."""
    paths = {name: os.path.join(folder, name) for name in names if os.path.lexists(os.path.join(folder, name))}
    return {name: content(path) for name, path in paths.items()}


def content(path):
    facts = os.lstat(path)
    if (facts.st_uid, facts.st_mode) != (os.geteuid(), stat.S_IFREG | 0o644):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def units_known(names):
    """What systemd says of each unit, by its name; None where it does not run."""
    systemctl = program("systemctl")
    if not systemctl:
        return None
    told, answered = ask(systemctl, "show", "--property=Id,UnitFileState,ActiveState,NeedDaemonReload", *names)
    if not answered:
        return None
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in told.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def goes_on(facts):
    return facts.get("UnitFileState") == "enabled" and facts.get("ActiveState") == "active"


def unmounted(storage, mount):
    """The mount points that the storage path should be on, and where nothing is mounted."""
    above = {os.path.normpath(storage), os.path.realpath(storage)}
    points = listed_mounts("/etc/fstab") + ([os.path.normpath(mount)] if mount else [])
    return [
        point
        for point in points
        if any((path + "/").startswith(point + "/") for path in above) and not os.path.ismount(os.path.realpath(point))
    ]


def listed_mounts(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            entries = [line.split() for line in file if not line.lstrip().startswith("#")]
    except OSError:
        return []
    points = [
        re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), entry[1]) for entry in entries if entry[1:]
    ]
    return [os.path.normpath(point) for point in points if point.startswith("/") and point != "/"]


if __name__ == "__main__":
    print(json.dumps(look(json.loads(sys.argv[1]))))

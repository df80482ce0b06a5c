# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a host and change nothing: python -c THIS WANTED. Prints what is there; what is wanted comes as JSON too.

Runs on Python 3.6 as well, so that a host whose Python is too old for the agent can be told so.
"""

import glob
import grp
import importlib.util
import json
import os
import pwd
import re
import stat
import sys

FAMILIES = {"Debian": {"debian", "ubuntu"}, "RedHat": {"rhel", "fedora", "centos"}}

# More than any claim has, and than any environment or host is called by.
MOST_OF_CLAIM = 1 << 16
MOST_OF_NAME = 255


def look(wanted):
    current = os.path.join(wanted["path"], "current")
    release = os.path.basename(os.readlink(current)) if os.path.islink(current) else None
    releases = find_releases(os.path.join(wanted["path"], "releases"))
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        # Behind links such as python3, which an upgrade of the system points elsewhere.
        "executable": os.path.realpath(sys.executable),
        "ensurepip": importlib.util.find_spec("ensurepip") is not None,
        "os_family": os_family("/etc/os-release"),
        "owner": pwd.getpwuid(os.geteuid()).pw_name,
        "group": grp.getgrgid(os.getegid()).gr_name,
        "user": has_user(wanted["user"]),
        "release": release,
        "whole": releases.get(release, False),
        "releases": releases,
        "configured": os.path.isdir(wanted["etc"]),
        "jobs": found(wanted["jobs"]),
        "files": [
            *ours(wanted["path"], ["current", "releases"]),
            *ours(wanted["etc"], ["config.yml", "credentials"]),
            *found(wanted["files"]),
        ],
        "storage": storage(os.path.normpath(wanted["storage"])) if wanted["storage"] else None,
    }


def find_releases(folder):
    """Whether each is whole, by its id."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return {name: is_whole(os.path.join(folder, name)) for name in names}


def is_whole(release):
    marker, python = os.path.join(release, "release.json"), os.path.join(release, "bin/python")
    # Its Python is a link to the system's, which may have been removed.
    return os.path.exists(marker) and os.access(python, os.X_OK)


def os_family(path):
    """Debian or RedHat, otherwise what the system calls itself."""
    with open(path, encoding="utf-8") as file:
        fields = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
    name, like = (fields.get(key, "").strip("\"'") for key in ("ID", "ID_LIKE"))
    kin = {name, *like.split()}
    return next((family for family, members in FAMILIES.items() if kin & members), name)


def has_user(name):
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def found(patterns):
    return [path for pattern in patterns for path in sorted(glob.glob(pattern))]


def ours(folder, names):
    """What to remove of a folder: all of it, unless somebody else put something there."""
    there = os.listdir(folder) if os.path.isdir(folder) else []
    if there and set(there) <= set(names):
        return [folder]
    return [os.path.join(folder, name) for name in names if name in there]


def storage(path, mounts="/proc/self/mountinfo"):
    real = os.path.realpath(path)
    return {"path": path, "real": real, "claim": claim_in(path), **mount_of(real, mounts)}


def mount_of(real, mounts):
    """Where what holds the path is mounted, which directory of what, and its type: proc(5), mountinfo."""
    best = {"mount": "", "root": "", "source": "", "fstype": ""}
    with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), field) for field in line.split()]
            mount, rest = fields[4], fields[fields.index("-") + 1 :]
            # Of several at one place the last one counts.
            if (real + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best["mount"]):
                best = {"mount": mount, "root": fields[3], "source": rest[1], "fstype": rest[0]}
    return best


def claim_in(path):
    """Which environment and host the storage path says that it belongs to, None where it does not say.

    Whoever owns the path may have put there what he likes, and this is root: no link is followed, no FIFO waited for,
    and nothing but these two is told of what lies there.
    """
    try:
        claim = json.loads(read_plain(os.path.join(path, "eternia_backup.host.json"), MOST_OF_CLAIM).decode())
        owner = {key: claim[key] for key in ("environment", "host")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return owner if all(is_name(value) for value in owner.values()) else None


def read_plain(path, most):
    """At most so many bytes of a file; nothing of what is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(descriptor, most) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def is_name(value):
    """Whether it may stand in a message: what is printable has no line ends, and nothing that a terminal obeys."""
    return isinstance(value, str) and len(value) <= MOST_OF_NAME and value.isprintable()


if __name__ == "__main__":
    print(json.dumps(look(json.loads(sys.argv[1]))))

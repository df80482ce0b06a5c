# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the hosts of an inventory keep their backups, and which of them would be in each other's way."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..module_utils.engine.config import Config

# Filesystems that more than one machine can have mounted, as mountinfo calls them.
_SHARED = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cephfs", "cifs", "coda", "fuse.ceph", "fuse.cephfs", "fuse.glusterfs"),
        *("fuse.juicefs", "fuse.moosefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs"),
        *("lustre", "nfs", "nfs4", "ocfs2", "smb2", "smb3", "smbfs", "virtiofs"),
    )
)
_PORTS = {"http": 80, "https": 443}
# A prefix that all of a thousand hosts share must not fill the screen with their names.
_NAMED = 5


@dataclass(frozen=True)
class Home:
    """A host as the inventory has it. `machine` is the same for two names of one machine.

    `storage` is what was seen of its storage path, by the role agent's look.py; empty where nobody looked.
    """

    machine: str
    config: Config
    storage: Mapping[str, Any] = field(default_factory=dict)


def is_loopback(address: str) -> bool:
    """Whether every machine means itself by it."""
    return address in ("localhost", "::1") or address.startswith("127.")


def machine(name: str, variables: Mapping[str, Any]) -> str:
    """What tells the machine of a host from others: this one, or an address with its port."""
    address = str(variables.get("ansible_host") or name)
    port = str(variables.get("ansible_port") or 22)
    # Behind other ports of this machine are virtual ones.
    here = variables.get("ansible_connection") == "local" or (is_loopback(address) and port == "22")
    return "this machine" if here else f"{address}, port {port}"


def troubles(homes: Sequence[Home]) -> list[str]:
    """A sentence for each place that several hosts would share, with what to do about it."""
    sharing: dict[Hashable, list[Home]] = defaultdict(list)
    for home in homes:
        for place in _places(home):
            sharing[place].append(home)
    return [
        *(_told(place, hosts) for place, hosts in sharing.items() if len(hosts) > 1),
        *(sentence for home in homes for sentence in _claimed(home)),
    ]


@dataclass(frozen=True)
class _Bucket:
    """A prefix. One within another is apart: a store passes over keys that go on with a slash after its prefix."""

    endpoint: str
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix} ({self.endpoint})"


@dataclass(frozen=True)
class _Directory:
    """A directory of a machine, or of a filesystem that several have mounted."""

    where: str
    path: str

    def __str__(self) -> str:
        return f"{self.path} on {self.where}"


def _places(home: Home) -> Iterator[_Bucket | _Directory]:
    cloud, seen = home.config.cloud, home.storage
    if cloud is not None:
        yield _Bucket(_endpoint(cloud.endpoint_url, home.machine), cloud.bucket, cloud.prefix)
    yield _Directory(home.machine, posixpath.normpath(home.config.storage_path))
    if seen.get("fstype") in _SHARED:
        yield _Directory(f"{seen['source']} ({seen['fstype']})", _within(seen))


def _endpoint(url: str | None, machine: str) -> str:
    """Names of buckets are unique in all of AWS; a store on the loopback is another one on each machine."""
    parts = urlsplit(url or "")
    host = (parts.hostname or "").lower()
    if not host or host.endswith(".amazonaws.com"):
        return "AWS"
    port = parts.port or _PORTS[parts.scheme]
    return f"{host}:{port}" + (f" on {machine}" if is_loopback(host) else "")


def _within(seen: Mapping[str, Any]) -> str:
    """Where in the filesystem a path lies, wherever that is mounted."""
    return posixpath.normpath(posixpath.join(seen["root"], posixpath.relpath(seen["real"], seen["mount"])))


def _told(place: _Bucket | _Directory, homes: Sequence[Home]) -> str:
    names = [home.config.host for home in homes]
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    *most, last = [*names[:_NAMED], *more]
    if isinstance(place, _Bucket):
        fix = 'cloud_backup.prefix: "{{ eternia_environment }}/{{ inventory_hostname }}"'
    else:
        fix = f'storage_path: "{homes[0].config.storage_path}/{{{{ inventory_hostname }}}}"'
    return (
        f"{', '.join(most)} and {last} would share {place}, and each would prune what the others need. Give each a "
        f"place of its own in the inventory, for example {fix}."
    )


def _claimed(home: Home) -> Iterator[str]:
    claim, config = home.storage.get("claim"), home.config
    if not isinstance(claim, Mapping):
        return
    owner = claim.get("environment"), claim.get("host")
    if owner != (config.environment, config.host):
        yield (
            f"{config.host} would write to {config.storage_path}, which belongs to host {owner[1]} (environment "
            f"{owner[0]}, by its eternia_backup.host.json). Give each host a storage_path of its own, for example "
            f'"{config.storage_path}/{{{{ inventory_hostname }}}}". Only if {owner[1]} no longer exists, or became '
            "this one, correct what that file says."
        )

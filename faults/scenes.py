# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with real databases and real backups, and the commands that are given there."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyrage
import yaml
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    backup,
    cli,
    cli_restore,
    cli_run,
    compression,
    config_file,
    names,
    object_lock,
    target,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.config import Config
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import DamagedError
from ansible_collections.eternia.backup.tests.unit.builders import NOON, SetClock, add_rows, clock, connect, database
from ansible_collections.eternia.backup.tests.unit.situations import SITUATIONS, Situation, view

from . import promises
from .child import Ended
from .promises import Stores

BACKUPS = 4
# How many hours after NOON the command comes, and what recovers from it.
FIRST_HOUR = 10
LOCKED = "locked"
# The clock of a host stands still, and the store's does not.
LOCK_DAYS = 3650
_DAY_SECONDS = 25 * 3600
# So many rows travel to S3 in parts, and from there.
IN_PARTS = 16_000
FOREIGN = {"notes.txt": b"of an operator", "eternia_backup_20261301_000000.db": b"of nobody"}


@dataclass(frozen=True)
class Scene:
    """A command, and the host on which it is given: `situation` is what is at its target, `rows` make its size.

    One that is `encrypted` has backups that only a key opens which is not on its disk, one that is `locked` has them in
    a bucket with Object Lock. One that is `slow` takes seconds, and fewer of its calls fail.
    """

    verb: str
    name: str
    situation: str = "log"
    s3: bool = False
    compression: str = "none"
    encrypted: bool = False
    locked: bool = False
    rows: int = 50
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.verb}, {self.name}"

    @property
    def there(self) -> Situation:
        return SITUATIONS[self.situation]


SCENES = (
    Scene("backup", "WAL with a live log"),
    Scene("backup", "rollback mode, compressed", "rollback", compression="zstd"),
    Scene("backup", "JSON state", "state"),
    Scene("backup", "to S3", s3=True),
    Scene("backup", "to S3, in parts", s3=True, rows=IN_PARTS, slow=True),
    Scene("backup", "encrypted, to S3", s3=True, encrypted=True),
    Scene("backup", "to S3, locked", s3=True, locked=True),
    Scene("prune", "disk"),
    Scene("prune", "disk and S3", s3=True),
    Scene("prune", "disk and S3, locked", s3=True, locked=True),
    Scene("restore", "over a live log"),
    Scene("restore", "over a hot journal", "hot journal"),
    Scene("restore", "over what is damaged", "damaged, garbage"),
    Scene("restore", "where nothing is", "missing, orphan"),
    Scene("restore", "JSON state", "state"),
    Scene("restore", "from S3", s3=True),
    Scene("restore", "from S3, in parts", s3=True, rows=IN_PARTS, slow=True),
    Scene("restore", "encrypted and compressed, from S3", s3=True, compression="zstd", encrypted=True),
    Scene("drill", "disk"),
    Scene("drill", "disk and S3, compressed", s3=True, compression="zstd"),
    Scene("drill", "disk and S3, locked", s3=True, locked=True),
    Scene("drill", "encrypted", encrypted=True),
)


class Bucket:
    """A bucket of a real store, by plain boto3."""

    @staticmethod
    def make_locked(endpoint: str) -> None:
        """The one with Object Lock."""
        import boto3

        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)

    def __init__(self, endpoint: str, name: str) -> None:
        import boto3

        self.endpoint, self.name = endpoint, name
        self._client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self._known: dict[str, bytes] = {}

    def read(self, prefix: str) -> dict[str, bytes]:
        listed = self._client.list_objects_v2(Bucket=self.name, Prefix=f"{prefix}/").get("Contents", ())
        return {one["Key"][len(prefix) + 1 :]: self._bytes(one["Key"], one["ETag"]) for one in listed}

    def _bytes(self, key: str, etag: str) -> bytes:
        # Of small objects it is the digest: what was read once need not be read again.
        if etag not in self._known:
            self._known[etag] = self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return self._known[etag]

    def is_locked(self, key: str, version: str | None = None) -> bool:
        which = {} if version is None else {"VersionId": version}
        head = self._client.head_object(Bucket=self.name, Key=key, **which)
        until = head.get("ObjectLockRetainUntilDate")
        return until is not None and until > NOON + timedelta(days=LOCK_DAYS)

    def hidden(self, prefix: str) -> list[str]:
        """The locked ones that somebody deleted, so that they are there and do not show."""
        found = self._client.list_object_versions(Bucket=self.name, Prefix=f"{prefix}/")
        markers = {one["Key"] for one in found.get("DeleteMarkers", ()) if one["IsLatest"]}
        ours = [one for one in found.get("Versions", ()) if one["Key"] in markers]
        return sorted({one["Key"][len(prefix) + 1 :] for one in ours if self.is_locked(one["Key"], one["VersionId"])})

    def write(self, prefix: str, objects: dict[str, bytes], *, locked: bool) -> None:
        until = NOON + timedelta(days=LOCK_DAYS + 1)
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until} if locked else {}
        for name, data in objects.items():
            self._client.put_object(Bucket=self.name, Key=f"{prefix}/{name}", Body=data, **lock)

    def uploads(self, prefix: str) -> int:
        listed = self._client.list_multipart_uploads(Bucket=self.name, Prefix=f"{prefix}/")
        return len(listed.get("Uploads", ()))


class Host:
    """One host below `place`, which is built once and made anew as often as it is broken."""

    def __init__(self, scene: Scene, place: Path, bucket: Bucket | None) -> None:
        self.scene, self.place = scene, place
        self.root = place / "host"
        self.bucket = bucket if scene.s3 else None
        self.endpoint = "" if self.bucket is None else self.bucket.endpoint
        self._template = place / "template"
        self._identity = place / "identity"
        self._key = pyrage.x25519.Identity.generate()
        self._prefixes = (f"faults/{os.getpid()}/{id(self)}/{number}" for number in itertools.count())
        self.prefix = next(self._prefixes)
        self._objects: dict[str, bytes] = {}
        self._known: dict[tuple[bool, bytes], Any] = {}
        self.versions: dict[str, Any] = {}
        self.was: Any = None
        self.remains: dict[str, bytes] = {}
        # Whether S3 said that it has less than it has.
        self.is_hidden_from = False
        self._build()

    @property
    def storage(self) -> Path:
        return self.root / "backups"

    @property
    def file(self) -> Path:
        return self.root / "etc/config.yml"

    @property
    def config(self) -> Config:
        return config_file.read(self.file)

    @cached_property
    def target(self) -> target.Target:
        return target.of(self.config, self.scene.there.kind)

    def stores(self) -> Stores:
        """What lies in every store, by its name there."""
        found = {"the disk": _files(self.storage), "safety": _files(self.storage / "safety")}
        if self.bucket is not None:
            found["S3"] = self.bucket.read(self.prefix)
        return found

    def is_locked(self, name: str) -> bool:
        """Whether nobody can delete a backup in S3, nor what describes it."""
        keys = (f"{self.prefix}/{name}{suffix}" for suffix in ("", names.MANIFEST_SUFFIX))
        return self.bucket is not None and all(map(self.bucket.is_locked, keys))

    def hidden(self) -> list[str]:
        """What was deleted in S3 although it is locked."""
        return [] if self.bucket is None else self.bucket.hidden(self.prefix)

    @property
    def secret_key(self) -> str:
        """What opens the encrypted backups, and is nobody's business."""
        return str(self._key)

    def logs(self) -> dict[str, bytes]:
        """What commands write beside the backups."""
        return _files(self.root / "var")

    def seen(self) -> Any:
        """What an application finds at the target."""
        at = self.target
        return view(at, {suffix: at.beside(suffix) for suffix in at.present()})

    def seen_of(self, name: str, data: bytes) -> Any:
        """What an application would find of a backup."""
        known = (name.partition(".")[2], data)
        if known not in self._known:
            self._known[known] = self._seen_of(name, data)
        return self._known[known]

    def _seen_of(self, name: str, data: bytes) -> Any:
        scratch = self.place / "scratch"
        stored, plain = scratch / name, scratch / "plain"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            stored.write_bytes(pyrage.decrypt(data, [self._key]) if name.endswith(".age") else data)
            if name.removesuffix(".age").endswith(".zst"):
                compression.decode(stored, plain, None)
                stored = plain
        except (DamagedError, pyrage.DecryptError) as exc:
            return ("cannot be opened", str(exc))
        return view(self.target, {"": stored})

    def renew(self, endpoint: str | None = None) -> None:
        """The host as it was built; `endpoint` is another way to the same store."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._template, self.root, symlinks=True)
        if self.bucket is not None:
            self.prefix = next(self._prefixes)
            # A run has to see that what lies there has no lock, and to lock it; others find it locked.
            self.bucket.write(self.prefix, self._objects, locked=self.scene.locked and self.scene.verb != "backup")
            self.configure(endpoint)

    def configure(self, endpoint: str | None = None) -> None:
        """Write the configuration, with another way to the store where one is given."""
        block: dict[str, Any] = {
            "source": self.scene.there.kind,
            "storage_path": str(self.storage),
            "retention": {"keep_last": 2},
            "minimum_kept": 2,
            "compression": self.scene.compression,
            "report": {"log_file": str(self.root / "var/run.log"), "metrics_file": str(self.root / "var/eternia.prom")},
        }
        if self.scene.encrypted:
            block["encryption"] = {"recipients": [str(self._key.to_public())]}
        if self.bucket is not None:
            cloud = {"enabled": True, "bucket": self.bucket.name, "prefix": self.prefix}
            if self.scene.locked:
                cloud["object_lock_days"] = LOCK_DAYS
            block["cloud_backup"] = {**cloud, "endpoint_url": endpoint or self.bucket.endpoint}
        self.file.parent.mkdir(exist_ok=True)
        base = str(self.root / "eternia")
        self.file.write_text(
            yaml.safe_dump({"environment": "staging", "host": "web1", "base_dir": base, "backup": block})
        )

    @property
    def foreign(self) -> dict[str, bytes]:
        """What lies among the backups and is somebody else's."""
        return FOREIGN

    @property
    def wanted(self) -> str:
        """The backup that is restored: not the newest."""
        return sorted(self.versions)[-2]

    def left(self) -> list[str]:
        """What a command must not leave for good: whatever lies there that is nobody's."""
        at, safety = self.target, self.storage / "safety"
        ours = {self.storage, safety, *(self.root / f"var/{name}" for name in ("run.log", "eternia.prom"))}
        ours |= {at.beside(suffix) for suffix in at.suffixes}
        ours |= {self.root / path.relative_to(self._template) for path in self._template.rglob("*")}
        # The files among the backups are looked at by name, and what was kept as it lay when it is asked for.
        there = {path for path in self.root.rglob("*") if path.is_dir() or self.storage not in path.parents}
        kept = {path for path in there if path.parent == safety and path.suffix == ".raw"}
        return sorted(str(path.relative_to(self.root)) for path in there - ours - kept)

    def broken(self, ended: Ended, before: Stores, after: Stores, **how: Any) -> list[str]:
        """The promises that are broken after a command, as promises.broken()."""
        return promises.broken(self, ended, before, after, **how)

    def a_day_later(self, hour: float) -> Callable[[], int] | None:
        """Make what a restore left a day old; returns the backup that tidies it, None where nothing was left.

        Until then somebody may go on with a fetch that was cut off. Where the target has the content already, a restore
        does nothing.
        """
        if self.scene.verb != "restore" or not self.left():
            return None
        for path in self.target.staging.rglob("*"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - _DAY_SECONDS))
        return self.command(hour, "backup")

    def command(self, hour: float, verb: str | None = None) -> Callable[[], int]:
        """The scene's command, or another, as somebody types it, so many hours after NOON."""
        verb = verb or self.scene.verb
        words = {"backup": ["run"], "restore": ["restore", self.wanted, "--yes"]}.get(verb, [verb])
        if self.scene.encrypted and verb in ("restore", "drill"):
            words += ["--identity", str(self._identity)]

        def type_it() -> int:
            cli_run.Clock = cli_restore.Clock = lambda: SetClock(NOON + timedelta(hours=hour)).clock()  # type: ignore
            return cli.main(["--config", str(self.file), *words])

        return type_it

    def _build(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        for directory in ("eternia/data", "eternia/logs", "var"):
            (self.root / directory).mkdir(parents=True)
        self._identity.touch(0o600)
        self._identity.write_text(str(self._key))
        self.configure()
        config, at = self.config, self.target
        if self.scene.there.mode:
            database(at.path, rows=self.scene.rows, mode=self.scene.there.mode)
        for number in range(BACKUPS):
            if not self.scene.there.mode:
                at.path.write_text(json.dumps({"version": 1, "memories": [*range(number)]}))
            elif number:
                with closing(connect(at.path)) as application:
                    add_rows(application, number)
            taken = backup.run(config, clock=clock(number))
            self.versions[str(taken.name)] = self.seen()
        (self.storage / f"{min(self.versions)}{names.PIN_SUFFIX}").touch()
        for name, data in FOREIGN.items():
            (self.storage / name).write_bytes(data)
        self.scene.there.make(config)
        at.path.parent.chmod(0o750)
        if at.path.exists():
            at.path.chmod(0o640)
        self.was = self.seen()
        self.remains = self.source()
        if self.bucket is not None:
            self._objects = self.bucket.read(self.prefix)
            # What it says is of another prefix.
            (self.storage / object_lock.NAME).unlink(missing_ok=True)
            if self.scene.verb == "restore":
                for suffix in ("", names.MANIFEST_SUFFIX):
                    (self.storage / f"{self.wanted}{suffix}").unlink()
        self.root.rename(self._template)

    def source(self) -> dict[str, bytes]:
        """The bytes of the source; the index of a log is a reader's business, too."""
        at = self.target
        return {suffix: at.beside(suffix).read_bytes() for suffix in at.present() if suffix != "-shm"}


def _files(directory: Path) -> dict[str, bytes]:
    if not directory.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user would pick instead, and how each is driven: a first backup, a second, and a restore."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from pathlib import Path

from . import object_store
from .object_store import BUCKET
from .processes import Usage, python, run
from .scene import CP


class MissingError(Exception):
    """A tool is not here; how to get it."""


class Rival:
    """One tool in a folder of its own, with a database to back up, and a bucket where there is an `endpoint`.

    Everything is a process of its own, and what it leaves is on the disk, or in the store, when it ends.
    """

    name = ""
    # Where the second backup is the first once more, the first has to do at large sizes.
    sends_all = False
    # Whether it needs the log that the application wrote since, as it has it while it runs all the time.
    needs_log = False
    # Whether it takes part at large sizes.
    at_large = True

    def __init__(self, folder: Path, database: Path, endpoint: str | None = None) -> None:
        self.folder, self.database, self.endpoint = folder, database, endpoint
        self.kept = folder / "kept"
        self.kept.mkdir()
        self.prepare()

    def prepare(self) -> None:
        """What is done once, before the first backup. Raises MissingError."""

    def back_up(self) -> Usage:
        """The first, or the next."""
        raise NotImplementedError

    def lose(self) -> None:
        """The disk of the host is lost, if anything is in the bucket."""
        if self.endpoint is not None:
            self.database.unlink()

    def restore(self) -> tuple[Usage, Path]:
        """Bring the last backup back; where it lies now."""
        raise NotImplementedError


class Ours(Rival):
    """The engine: a backup that is proven, on the disk and in the bucket, and a restore that is."""

    name = "ours"
    compression = "none"

    @property
    def _where(self) -> list[object]:
        return [self.database, self.kept / "backups", self.endpoint or "-", self.compression]

    def back_up(self) -> Usage:
        # Backups are named after their second: one right behind another would wait for its own.
        time.sleep(1 - time.time() % 1)
        return run(python("backup", *self._where))

    def lose(self) -> None:
        self.database.unlink()
        if self.endpoint is not None:
            shutil.rmtree(self.kept / "backups")

    def restore(self) -> tuple[Usage, Path]:
        return run(python("restore", "run", "latest", *self._where)), self.database


class OursCompressed(Ours):
    name = "ours, zstd"
    compression = "zstd"


class Cp(Rival):
    name = "`cp` + fsync"

    def back_up(self) -> Usage:
        return run([*CP, str(self.database), str(self.kept / f"{len(list(self.kept.iterdir()))}.db")])

    def restore(self) -> tuple[Usage, Path]:
        return run([*CP, str(max(self.kept.iterdir())), str(self.folder / "back.db")]), self.folder / "back.db"


class Sqlite(Cp):
    name = '`sqlite3 SRC ".backup DST"`'

    def prepare(self) -> None:
        _require("sqlite3")

    def back_up(self) -> Usage:
        return run(["sqlite3", str(self.database), f".backup '{self.kept / f'{len(list(self.kept.iterdir()))}.db'}'"])


class Zstd(Rival):
    """`zstd -T0` of the level that ours has, then fsync."""

    name = "`zstd -T0 -3` + fsync"

    def prepare(self) -> None:
        _require("zstd")

    @property
    def _packed(self) -> Path:
        return self.kept / "copy.db.zst"

    def back_up(self) -> Usage:
        return _shell(f"zstd -q -f -T0 -3 {self.database} -o {self._packed} && sync {self._packed}")

    def restore(self) -> tuple[Usage, Path]:
        back = self.folder / "back.db"
        return _shell(f"zstd -q -d {self._packed} -o {back} && sync {back}"), back


class Restic(Rival):
    name = "restic"

    def prepare(self) -> None:
        _require("restic")
        place = self.kept / "repository" if self.endpoint is None else f"s3:{self.endpoint}/{BUCKET}/restic"
        os.environ.update(RESTIC_PASSWORD=secrets.token_hex(8), RESTIC_CACHE_DIR=str(self.folder / "cache"))
        self._restic = ["restic", "--quiet", "--repo", str(place)]
        run([*self._restic, "init"])

    def back_up(self) -> Usage:
        return run([*self._restic, "backup", "--host", "bench", str(self.database)])

    def restore(self) -> tuple[Usage, Path]:
        back = self.folder / "back"
        found = Path(f"{back}{self.database}")
        return _shell(f"{' '.join(self._restic)} restore latest --target {back} && sync {found}"), found


class Borg(Rival):
    """With the compression that it has when it is not told otherwise."""

    name = "borg, lz4"
    compression = "lz4"

    def prepare(self) -> None:
        _require("borg", "borgbackup")
        os.environ.update(BORG_BASE_DIR=str(self.folder / "borg"), BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes")
        self._repository, self._taken = self.kept / "repository", 0
        run(["borg", "init", "--encryption", "none", str(self._repository)])

    def back_up(self) -> Usage:
        self._taken += 1
        archive = f"{self._repository}::{self._taken}"
        return run(["borg", "create", "--compression", self.compression, archive, str(self.database)])

    def restore(self) -> tuple[Usage, Path]:
        back = self.folder / "back"
        back.mkdir()
        found = Path(f"{back}{self.database}")
        return _shell(f"cd {back} && borg extract {self._repository}::{self._taken} && sync {found}"), found


class BorgPlain(Borg):
    name = "borg, none"
    compression = "none"
    at_large = False


class Copier(Rival):
    """A tool that copies a file to a key of its own each time, and back."""

    sends_all = True
    _count = 0

    def _up(self, key: str) -> list[str]:
        raise NotImplementedError

    def _down(self, key: str, back: Path) -> list[str]:
        raise NotImplementedError

    def back_up(self) -> Usage:
        self._count += 1
        return run(self._up(f"copies/{self._count}.db"))

    def restore(self) -> tuple[Usage, Path]:
        back = self.folder / "back.db"
        command = " ".join(self._down(f"copies/{self._count}.db", back))
        return _shell(f"{command} && sync {back}"), back


class S5cmd(Copier):
    name = "s5cmd"

    def prepare(self) -> None:
        command = object_store.binary("s5cmd")
        self._s5cmd = [command, "--log", "error", "--endpoint-url", str(self.endpoint), "cp"]

    def _up(self, key: str) -> list[str]:
        return [*self._s5cmd, str(self.database), f"s3://{BUCKET}/{key}"]

    def _down(self, key: str, back: Path) -> list[str]:
        return [*self._s5cmd, f"s3://{BUCKET}/{key}", str(back)]


class Rclone(Copier):
    name = "rclone"

    def prepare(self) -> None:
        os.environ.update(
            RCLONE_CONFIG_BENCH_TYPE="s3",
            RCLONE_CONFIG_BENCH_PROVIDER="SeaweedFS",
            RCLONE_CONFIG_BENCH_ENV_AUTH="true",
            RCLONE_CONFIG_BENCH_REGION="us-east-1",
            RCLONE_CONFIG_BENCH_ENDPOINT=str(self.endpoint),
        )
        self._rclone = [object_store.binary("rclone"), "--config", os.devnull, "--quiet", "copyto"]

    def _up(self, key: str) -> list[str]:
        return [*self._rclone, str(self.database), f"bench:{BUCKET}/{key}"]

    def _down(self, key: str, back: Path) -> list[str]:
        return [*self._rclone, f"bench:{BUCKET}/{key}", str(back)]


class Boto3(Copier):
    name = "boto3 `upload_file`"

    def _up(self, key: str) -> list[str]:
        return python("upload", self.endpoint, BUCKET, key, self.database)

    def _down(self, key: str, back: Path) -> list[str]:
        return python("download", self.endpoint, BUCKET, key, back)


class Litestream(Rival):
    """`replicate -once`: the first time all of the database, then what the log holds."""

    name = "litestream"
    needs_log = True

    def prepare(self) -> None:
        self._litestream = object_store.binary("litestream")
        self._config = self.folder / "litestream.yml"
        replica: dict[str, object] = {"type": "s3", "bucket": BUCKET, "path": "litestream", "endpoint": self.endpoint}
        replica |= {"region": "us-east-1", "force-path-style": True}
        one = {"path": str(self.database), "replicas": [replica]}
        # Every JSON is a YAML.
        self._config.write_text(json.dumps({"dbs": [one], "logging": {"level": "error"}}))

    def back_up(self) -> Usage:
        return run([self._litestream, "replicate", "-config", str(self._config), "-once"])

    def lose(self) -> None:
        shutil.rmtree(self.database.parent)
        self.database.parent.mkdir()

    def restore(self) -> tuple[Usage, Path]:
        back = self.folder / "back.db"
        command = f"{self._litestream} restore -config {self._config} -o {back} {self.database}"
        return _shell(f"{command} && sync {back}"), back


LOCAL: tuple[type[Rival], ...] = (Ours, Cp, Sqlite, OursCompressed, Zstd, Restic, Borg, BorgPlain)
AWAY: tuple[type[Rival], ...] = (Ours, S5cmd, Rclone, OursCompressed, Boto3, Restic, Litestream)


def _require(command: str, package: str = "") -> None:
    if shutil.which(command) is None:
        raise MissingError(f"not installed: apt-get install {package or command}")


def _shell(command: str) -> Usage:
    # Not quoted: no path of ours holds a letter that a shell would see.
    return run(["sh", "-c", command])

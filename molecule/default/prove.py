# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove the backups of a development home with sqlite3, blake3 and boto3, and nothing of the collection."""

from __future__ import annotations

import configparser
import json
import sqlite3
import sys
from pathlib import Path

import blake3
import boto3


def main(home: Path, endpoint: str) -> None:
    backups = sorted((home / "backups/development").glob("eternia_backup_*.db"))
    if len(backups) < 2:
        sys.exit(f"Two backups are expected, found {len(backups)}: {backups}")
    saves = [prove(path, read_bucket(home, endpoint)) for path in backups]
    if saves != sorted(set(saves)):
        sys.exit(f"The application kept writing, so each backup must hold more saves than the one before: {saves}")


def prove(path: Path, bucket: boto3.session.Session.resource) -> int:
    data = path.read_bytes()
    manifest = json.loads(Path(f"{path}.manifest.json").read_bytes())
    assert manifest["content"]["digest"] == {"algorithm": "blake3", "value": blake3.blake3(data).hexdigest()}
    assert bucket.Object(f"development/{path.name}").get()["Body"].read() == data
    sent = json.loads(bucket.Object(f"development/{path.name}.manifest.json").get()["Body"].read())
    assert sent.pop("transfer")["create_only"] is True
    assert sent == manifest
    database = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    tables = {
        name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in manifest["source"]["tables"]
    }
    assert tables == manifest["source"]["tables"]
    saves = database.execute("SELECT count(*), max(id) FROM state").fetchone()
    assert saves[0] == saves[1], f"the saves have gaps: {saves}"
    print(f"{path.name}: {len(data)} bytes on disk and in S3, {saves[0]} saves without a gap, integrity_check ok")
    return saves[0]


def read_bucket(home: Path, endpoint: str) -> boto3.session.Session.resource:
    credentials = configparser.ConfigParser()
    credentials.read(home / ".dev/aws/credentials")
    session = boto3.Session(**credentials["default"], region_name="us-west-2")
    return session.resource("s3", endpoint_url=endpoint).Bucket("eternia-backups")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

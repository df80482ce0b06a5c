# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the integration targets do and look at without the collection: sqlite3, hashlib, blake3 and boto3 alone."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import blake3
import boto3


def make(database: str, rows: str) -> None:
    """Make a database, or add rows to it."""
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, last_zone TEXT)")
    connection.executemany("INSERT INTO state (last_zone) VALUES (?)", [("harbour",)] * int(rows))
    connection.commit()
    connection.close()


def lose(database: str, rows: str) -> None:
    """Lose rows of a database."""
    connection = sqlite3.connect(database)
    connection.execute(f"DELETE FROM state WHERE id <= {int(rows)}")
    connection.commit()
    connection.close()


def hold(database: str) -> None:
    """Have a database open until a file `stop` lies beside it, a minute at most."""
    connection = sqlite3.connect(database)
    connection.execute("SELECT count(*) FROM state").fetchone()
    for _unused in range(600):
        if Path(database).with_name("stop").exists():
            break
        time.sleep(0.1)
    connection.close()


def count(database: str) -> None:
    """Print how many rows a database has."""
    print(sqlite3.connect(f"file:{database}?immutable=1", uri=True).execute("SELECT count(*) FROM state").fetchone()[0])


def prove(backup: str, rows: str, url: str, bucket: str, key: str, restored: str = "") -> None:
    """Require that a backup holds so many rows, is what its manifest says, and lies in S3 byte for byte.

    And that what was restored from it, if it was, has the same bytes.
    """
    data = Path(backup).read_bytes()
    connection = sqlite3.connect(f"file:{backup}?immutable=1", uri=True)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT count(*) FROM state").fetchone() == (int(rows),)
    manifest = json.loads(Path(f"{backup}.manifest.json").read_bytes())
    assert manifest["content"]["digest"]["value"] == blake3.blake3(data).hexdigest()
    assert manifest["source"]["tables"] == {"state": int(rows)}
    assert manifest["host"] == "integration"
    objects = boto3.client("s3", endpoint_url=url)
    assert objects.get_object(Bucket=bucket, Key=key)["Body"].read() == data
    assert not restored or Path(restored).read_bytes() == data


def age(backup: str, days: str) -> None:
    """Make an older backup out of a backup: the same bytes under an older name, with a manifest to match."""
    source = Path(backup)
    moment = datetime.now(timezone.utc) - timedelta(days=int(days))
    older = source.with_name(f"eternia_backup_{moment:%Y%m%d_%H%M%S}.db")
    shutil.copyfile(source, older)
    manifest = json.loads(Path(f"{source}.manifest.json").read_bytes())
    manifest.update(name=older.name, created_at=f"{moment:%Y-%m-%dT%H:%M:%SZ}")
    Path(f"{older}.manifest.json").write_text(json.dumps(manifest))
    print(older.name)


def listed(directory: str, url: str, bucket: str, prefix: str) -> None:
    """Print the names in the directory and under the prefix, as JSON."""
    pages = boto3.client("s3", endpoint_url=url).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [entry["Key"].rpartition("/")[2] for page in pages for entry in page.get("Contents", ())]
    print(json.dumps({"local": sorted(path.name for path in Path(directory).glob("eternia_*")), "s3": sorted(keys)}))


def flip(path: str) -> None:
    """Change one bit in the middle of a file."""
    with open(path, "r+b") as stream:
        middle = Path(path).stat().st_size // 2
        stream.seek(middle)
        byte = stream.read(1)[0]
        stream.seek(middle)
        stream.write(bytes([byte ^ 1]))


if __name__ == "__main__":
    commands = (make, lose, hold, count, prove, age, listed, flip)
    {command.__name__: command for command in commands}[sys.argv[1]](*sys.argv[2:])

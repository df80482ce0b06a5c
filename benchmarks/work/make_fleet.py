# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a host COUNT backups, one an hour: FOLDER COUNT. The last is real, the others are its likes of earlier hours.

Prints the size of each in bytes.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, names
from ansible_collections.eternia.backup.plugins.module_utils.engine.clock import Clock

from ..scale import NOW
from .configured import configured

folder, count = Path(sys.argv[1]), int(sys.argv[2])
database = folder / "eternia.db"
with closing(sqlite3.connect(database)) as connection:
    connection.execute("CREATE TABLE state (id INTEGER PRIMARY KEY, data TEXT)")
    connection.execute("INSERT INTO state (data) VALUES ('x')")
    connection.commit()
config = configured(str(database), str(folder / "backups"))
taken = backup.run(config, clock=Clock(now=lambda: NOW))
name, manifest = taken.name, taken.manifest
assert name is not None
assert manifest is not None
data = Path(taken.path).read_bytes()
for hours in range(1, count):
    earlier = names.BackupName(NOW - timedelta(hours=hours), name.kind)
    words = manifest.to_json().replace(str(name).encode(), str(earlier).encode())
    words = words.replace(names.iso(NOW).encode(), names.iso(earlier.created_at).encode())
    (config.storage_path / str(earlier)).write_bytes(data)
    (config.storage_path / f"{earlier}{names.MANIFEST_SUFFIX}").write_bytes(words)
print(len(data))

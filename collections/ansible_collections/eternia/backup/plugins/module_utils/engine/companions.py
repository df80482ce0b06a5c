# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies beside a database file and belongs to it: the log or the journal of a writer that did not close it."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from . import files
from .errors import RefusedError, StoreError

# What is wrong with the file alone: https://www.sqlite.org/tempfiles.html
_LACKS = {
    "-wal": "what was written to it is no part of that file",
    "-journal": "that file holds half a transaction, which only this journal takes back",
}


def hot_bytes(beside: Path) -> int:
    """How large a log or a journal is that SQLite would still use; 0 of one that is done with. Raises OSError.

    One that is done with is removed, emptied, or begins with zero; a log of which all is in the file already is taken
    for one that is needed.
    """
    with suppress(FileNotFoundError), files.opened(files.open_plain(beside)) as descriptor:
        if os.pread(descriptor, 1, 0) not in (b"", b"\0"):
            return os.fstat(descriptor).st_size
    return 0


def require_none(database: Path) -> None:
    """Refuse a copy of a database that is not whole without what lies beside it, where that one file is taken.

    Raises RefusedError, StoreError where that cannot be known.
    """
    for suffix, lacks in _LACKS.items():
        beside = Path(f"{database}{suffix}")
        try:
            size = hot_bytes(beside)
        except OSError as exc:
            raise StoreError(
                f"{beside} cannot be read: {files.reason(exc)}. It lies beside {database}, which may not be whole "
                "without it. Look at it; correct the rights on it, or move away what is no log of that file, then run "
                "again."
            ) from exc
        if size:
            raise RefusedError(
                f"{beside} ({size} bytes) lies beside {database}, which has no manifest: {lacks}. Copy both into a "
                f"directory of their own and run there `sqlite3 {shlex.quote(database.name)} 'PRAGMA "
                "wal_checkpoint(TRUNCATE); PRAGMA integrity_check'`, which makes one file of them, then restore that "
                "one."
            )

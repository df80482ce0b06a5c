# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to the object store, and what passes on it."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .processes import python


@dataclass(frozen=True)
class Line:
    """`endpoint` is the address to give to whoever is measured: requests are signed for the host that they go to."""

    endpoint: str
    counts: Path

    def passed(self) -> tuple[int, int]:
        """The bytes that clients sent so far, and those that they received: all of TCP, HTTP's own words too."""
        sent, received = struct.unpack("=QQ", self.counts.read_bytes())
        return sent, received


@contextlib.contextmanager
def counted(endpoint: str, folder: Path) -> Iterator[Line]:
    """A line to `endpoint`, for everybody the same: through one process that passes on and counts.

    The store's own count is not used: SeaweedFS counts what it copies itself, part by part, as received.
    """
    counts = folder / "line"
    server = endpoint.rpartition(":")[2]
    process = subprocess.Popen(python("counting_proxy", server, counts), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Line(f"http://127.0.0.1:{process.stdout.readline().strip()}", counts)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

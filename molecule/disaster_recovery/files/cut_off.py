# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault for the host's own Python: kills, once, the process that is going to give the live database its name, or has.

Lies in the agent's libraries beside a cut_off.pth that imports it. Armed by the file below: "before" or "after".
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

ARMED = Path("/run/eternia-cut-off")
DATABASE = "/opt/eternia/data/eternia.db"


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    global renaming
    # Python tells of what it is going to do: the next thing after the rename comes when the rename is done.
    if renaming or (event == "os.rename" and str(arguments[1]) == DATABASE and moment == "before"):
        renaming = False
        ARMED.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    renaming = event == "os.rename" and str(arguments[1]) == DATABASE


renaming = False
with contextlib.suppress(FileNotFoundError):
    moment = ARMED.read_text().strip()
    sys.addaudithook(watch)

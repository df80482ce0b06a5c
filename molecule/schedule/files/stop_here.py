# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fault for the agent's own Python: halts, while the file below is there, a process that is going to name a backup.

Lies in the agent's libraries beside a stop_here.pth that imports it. SIGCONT lets the process go on.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

ARMED = "/run/stop-here"


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.link" and "/eternia_backup_2" in str(arguments[1]) and os.path.exists(ARMED):
        os.kill(os.getpid(), signal.SIGSTOP)


sys.addaudithook(watch)

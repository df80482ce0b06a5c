# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill_at.py TEXT COMMAND...: runs the command, and kills it with all that it started at a line with the text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def main(text: str, *command: str) -> int:
    running = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert running.stdout is not None
    for line in running.stdout:
        print(line, end="", flush=True)
        if text in line:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            return 0
    print(f"It ended with {running.wait()} and never said {text!r}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

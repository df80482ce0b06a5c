# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""newer.py DATABASE [COMMAND...]: a newer Eternia, which wants the schema of its version.

Without a command it fails on an older one, as a check before the start would; with one it serves 503 in its place.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Unhealthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"status": "degraded"}')


def main(database: str, *command: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    if version >= 2:
        return os.execv(command[0], command) if command else None
    if not command:
        sys.exit(f"{database} has schema {version}; 2 is needed.")
    HTTPServer(("127.0.0.1", 8000), Unhealthy).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

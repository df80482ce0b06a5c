#!/usr/bin/python3
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes down who calls, and with what: page ARGUMENT..., or page --listen for what comes over HTTP."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

CALLS = "/var/lib/page/calls"


class Listener(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        length = int(self.headers.get("Content-Length", 0))
        write_down([self.command, self.path], self.rfile.read(length).decode())

    do_POST = do_GET  # noqa: N815


def write_down(how: list[str], what: str) -> None:
    with open(CALLS, "a", encoding="utf-8") as calls:
        calls.write(json.dumps({"how": how, "what": what}) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--listen"]:
        HTTPServer(("127.0.0.1", 9000), Listener).serve_forever()
    else:
        write_down(sys.argv[1:], sys.stdin.read())

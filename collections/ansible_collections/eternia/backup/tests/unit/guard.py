# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWS enforces and SeaweedFS does not: a key that may only create objects, by the condition `s3:if-none-match`.

It stands before a real store, and refuses what the statement NeverOverwrite of the policy `writer` denies: a request
that creates an object (`s3:ObjectCreationOperation`) and does not say `If-None-Match`.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>NeverOverwrite</Message></Error>"
# What names a request of an object that does not create one, or a part only.
_OTHERS = ("partNumber", "retention", "legal-hold", "tagging", "acl", "uploads")


def creates_an_object(method: str, path: str) -> bool:
    """Whether a request is PutObject, CopyObject or CompleteMultipartUpload."""
    parts = urlsplit(path)
    asked = parse_qs(parts.query, keep_blank_values=True)
    if "/" not in parts.path.strip("/") or any(name in asked for name in _OTHERS):
        return False
    return method == "PUT" or (method == "POST" and "uploadId" in asked)


@contextmanager
def guarding(endpoint: str, access_key: str) -> Iterator[str]:
    """The endpoint of a guard that stands before another, for the requests of one access key."""
    behind = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # What comes in two packets would wait for the first to be acknowledged.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if (
                f"Credential={access_key}/" in (self.headers.get("Authorization") or "")
                and creates_an_object(self.command, self.path)
                and self.headers.get("If-None-Match") is None
            ):
                self._answer(403, {"Content-Type": "application/xml"}, _DENIED)
                return
            connection = http.client.HTTPConnection(behind, timeout=30)
            try:
                # With the Host that was signed.
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                kept = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_A_CONNECTION}
                length = answer.getheader("Content-Length")
                self._answer(answer.status, kept, answer.read(), length if self.command == "HEAD" else None)
            finally:
                connection.close()

        do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 (what http.server calls)

        def _answer(self, status: int, headers: dict[str, str], body: bytes, length: str | None = None) -> None:
            self.send_response_only(status)
            for name, value in {**headers, "Content-Length": length or str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


_OF_A_CONNECTION = ("content-length", "connection", "transfer-encoding", "keep-alive")

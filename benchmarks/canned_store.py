# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A canned store: it answers ListObjectsV2 and GET for objects that nobody put there, and counts the requests."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
# Sorts behind everything that a key may hold.
_LAST = "\U0010ffff"

Body = Callable[[str], bytes]


def no_body(key: str) -> bytes:
    """The body of what is only listed. Raises KeyError."""
    raise KeyError(key)


@contextmanager
def serving(
    keys: Sequence[str], body: Body = no_body, *, size: int = 2048, delay: float = 0
) -> Iterator[tuple[str, list[str]]]:
    """The endpoint of a bucket with these keys, which are sorted and may be made as they are asked for.

    `size` is what every listing says of data; `body` raises KeyError for a key that has none. Beside the endpoint comes
    the list of the requests so far: method and path. Every answer comes `delay` seconds late, as from far away.
    """
    counted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body in one packet: else each page waits for a delayed acknowledgement.
        wbufsize = -1

        def do_GET(self) -> None:
            counted.append(f"{self.command} {self.path}")
            time.sleep(delay)
            address = urlsplit(self.path)
            key = unquote(address.path).split("/", 2)[2:]
            try:
                answer = body(key[0]) if key and key[0] else _listing(keys, parse_qs(address.query), size)
                self._send(200, answer)
            except KeyError:
                self._send(404, b"<Error><Code>NoSuchKey</Code><Message>It is not there</Message></Error>")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _send(self, status: int, answer: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    # Any key will do: nobody checks it.
    os.environ.update(AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench", AWS_CONFIG_FILE=os.devnull)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", counted
    finally:
        server.shutdown()
        server.server_close()


def _listing(keys: Sequence[str], query: dict[str, list[str]], size: int) -> bytes:
    """One page: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
    prefix, delimiter = (query.get(name, [""])[0] for name in ("prefix", "delimiter"))
    at = int(query["continuation-token"][0]) if "continuation-token" in query else bisect_left(keys, prefix)
    end = bisect_left(keys, prefix + _LAST)
    parts: list[str] = []
    while at < end and len(parts) < PAGE:
        key = keys[at]
        folder, cut, _name = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if cut:
            common = prefix + folder + cut
            parts.append(f"<CommonPrefixes><Prefix>{escape(common)}</Prefix></CommonPrefixes>")
            at = bisect_left(keys, common + _LAST)
            continue
        parts.append(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-22T22:00:00.000Z</LastModified><ETag>&quot;0&quot;"
            f"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
        at += 1
    token = f"<NextContinuationToken>{at}</NextContinuationToken>" * (at < end)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bench</Name><KeyCount>{len(parts)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(at < end).lower()}</IsTruncated>{token}{''.join(parts)}</ListBucketResult>"
    ).encode()

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to list very many objects. The store is canned: it answers ListObjectsV2 from memory, and counts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from .options import Options
from .processes import python, run, spread
from .report import Figure

PAGE = 1000
_FIRST = datetime(2020, 1, 1, tzinfo=timezone.utc)


def measure(options: Options) -> Figure:
    """Count the requests of one listing."""
    objects = 100_000 if options.full else 10_000
    pages = objects // PAGE
    figure = Figure(
        f"Listing {objects:,} objects in S3",
        f"{objects // 2:,} backups, each with its manifest, listed by the S3 store as pruning does. The server is a "
        "canned one on loopback that only knows ListObjectsV2: putting that many objects into a real store takes too "
        "long here. What is counted are its requests; its speed says nothing about S3.",
    )
    usages, requests = [], []
    for _ in range(options.runs):
        with _canned(objects) as (endpoint, counted):
            usage = run(python("list_store", endpoint))
        if int(usage.output) != objects // 2:
            raise RuntimeError(f"{usage.output.strip()} backups were listed, there are {objects // 2}.")
        usages.append(usage)
        requests.append(len(counted))
    # A count is the same at every size of the database, so every run may judge it.
    figure.add("requests", str(max(requests)), f"≤ {pages}", max(requests) <= pages)
    figure.add("peak memory", spread([usage.peak / 2**20 for usage in usages], "MiB", 0))
    figure.add("time, with the canned server", spread([usage.seconds for usage in usages], "s"))
    figure.raw = {"requests": requests, "peak": [usage.peak for usage in usages]}
    return figure


def _key(index: int) -> str:
    name = f"eternia_backup_{_FIRST + timedelta(hours=index // 2):%Y%m%d_%H%M%S}.db"
    return f"production/{name}{'.manifest.json' * (index % 2)}"


def _page(start: int, objects: int) -> bytes:
    end = min(start + PAGE, objects)
    entries = "".join(
        f"<Contents><Key>{_key(index)}</Key><LastModified>2026-11-22T22:00:00.000Z</LastModified><ETag>&quot;0&quot;"
        "</ETag><Size>2048</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for index in range(start, end)
    )
    more = f"<NextContinuationToken>{end}</NextContinuationToken>" * (end < objects)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bench</Name><KeyCount>{end - start}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(end < objects).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
    ).encode()


@contextmanager
def _canned(objects: int) -> Iterator[tuple[str, list[str]]]:
    counted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body in one packet: else each page waits for a delayed acknowledgement.
        wbufsize = -1

        def do_GET(self) -> None:
            counted.append(self.path)
            body = _page(int(parse_qs(urlsplit(self.path).query).get("continuation-token", ["0"])[0]), objects)
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

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

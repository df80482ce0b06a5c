# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server on 127.0.0.1 that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: str
    headers: dict[str, str]


def answer(handler: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@dataclass
class Server:
    """Where it is, what it was asked, and how it answers."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: Answer = lambda handler: answer(handler, 200)
    # Set when the test is over, so that whoever hangs goes home.
    over: threading.Event = field(default_factory=threading.Event)

    def hang(self, _handler: BaseHTTPRequestHandler) -> None:
        self.over.wait(60)

    def trickle(self, handler: BaseHTTPRequestHandler) -> None:
        """A byte now and then: each comes in time, all of them never do."""
        while not self.over.wait(0.05):
            handler.wfile.write(b"H")
            handler.wfile.flush()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            server.asked.append(Asked(self.command, self.path, body, dict(self.headers)))
            try:
                server.answer(self)
            except OSError:
                # Whoever asked has gone.
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_args: object) -> None:
            """What was asked is in `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            listening.shutdown()
            thread.join()


@contextmanager
def connections(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a port of which each connection is given to `serve`, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # Closing alone does not wake accept().
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()

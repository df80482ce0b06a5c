# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand between clients and a server on loopback, and count what passes: SERVER_PORT COUNTS. Prints its own port.

COUNTS becomes a file of two numbers of 64 bits: the bytes that clients sent, and those that the server sent. The bytes
go from socket to socket inside the kernel, so that who is measured through it hardly notices.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import struct
import sys
import threading
from pathlib import Path

ONCE = 1 << 20

server, path = int(sys.argv[1]), Path(sys.argv[2])
path.write_bytes(bytes(16))
counting = threading.Lock()


def pass_on(source: socket.socket, target: socket.socket, place: int) -> None:
    """Until one end closes; then the other hears of it."""
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, ONCE)
    with contextlib.suppress(OSError):
        while size := os.splice(source.fileno(), into, ONCE):
            with counting:
                (before,) = struct.unpack_from("=Q", counts, place)
                struct.pack_into("=Q", counts, place, before + size)
            while size:
                size -= os.splice(out, target.fileno(), size)
    os.close(out)
    os.close(into)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def serve(client: socket.socket) -> None:
    with client, socket.create_connection(("127.0.0.1", server)) as beyond:
        for one in (client, beyond):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=pass_on, args=(beyond, client, 8), daemon=True)
        back.start()
        pass_on(client, beyond, 0)
        back.join()


with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 16) as counts, socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

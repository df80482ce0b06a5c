# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A line to the store on which one answer is a lie, or all from some time on: plain, or with TLS."""

from __future__ import annotations

import http.client
import ipaddress
import mmap
import os
import signal
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

from . import lies
from .child import real_sleep
from .lies import Lie

# Bytes that go at once, of a request or an answer.
_CHUNK = 4096
# Longer than anybody waits, in seconds: the process of the line is ended then.
_FOR_EVER = 3600.0


@dataclass(frozen=True)
class Answered:
    """A lie about the request with a number of those that it can be about; `lasting`, about later ones too."""

    lie: Lie
    number: int = 0
    lasting: bool = False
    tls: bool = False

    def __str__(self) -> str:
        which = "from request" if self.lasting else "at request"
        return f"{self.lie.name}{'' if self.lie.whole else f', {which} {self.number + 1}'}{', TLS' if self.tls else ''}"


class Certificates:
    """Certificates of 127.0.0.1: a good one, and what is wrong with others. Each lies in a file with its key."""

    def __init__(self, place: Path) -> None:
        self.good, self.unknown = place / "good.pem", place / "unknown.pem"
        self.other, self.expired = place / "other.pem", place / "expired.pem"
        self.authority = place / "authority.pem"

    def make(self) -> None:
        self.good.parent.mkdir()
        now = datetime.now(timezone.utc)
        trusted = [
            _make(self.good, "127.0.0.1", now),
            _make(self.other, "127.0.0.9", now),
            _make(self.expired, "127.0.0.1", now - timedelta(days=30)),
        ]
        _make(self.unknown, "127.0.0.1", now)
        self.authority.write_bytes(b"".join(trusted))

    def of(self, lie: Lie) -> Path:
        wrong = {
            "a certificate that nobody signed": self.unknown,
            "another host's certificate": self.other,
            "an expired certificate": self.expired,
        }
        return wrong.get(lie.name, self.good)


def _make(path: Path, address: str, now: datetime) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate = signed.public_bytes(Encoding.PEM)
    path.write_bytes(certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate


@dataclass
class Line:
    """Where it begins, how many requests of the kind came, and whether the lie was told."""

    endpoint: str
    _counted: mmap.mmap

    @property
    def requests(self) -> int:
        return int.from_bytes(self._counted[:4], "little")

    @property
    def met(self) -> bool:
        return self._counted[4] == 1


@contextmanager
def opened(to: str, answered: Answered, certificates: Certificates) -> Iterator[Line]:
    """A line to the store at `to`, in a process of its own."""
    counted = mmap.mmap(-1, 8)
    scheme = "https" if answered.tls else "http"
    if answered.lie.name == "DNS gone":
        counted[4] = 1
        yield Line(f"{scheme}://store.invalid:9000", counted)
        return
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        endpoint = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        if answered.lie.name == "refused":
            listener.close()
            counted[4] = 1
            yield Line(endpoint, counted)
            return
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _Server(listener, to, answered, certificates, counted).serve()
            os._exit(0)
        try:
            yield Line(endpoint, counted)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


class _Server:
    def __init__(
        self, listener: socket.socket, to: str, answered: Answered, certificates: Certificates, counted: mmap.mmap
    ) -> None:
        self._listener, self._answered, self._counted = listener, answered, counted
        store = urlsplit(to)
        self._store = (str(store.hostname), int(store.port or 80))
        self._lock = threading.Lock()
        self._context = None
        if answered.tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificates.of(answered.lie))

    def serve(self) -> None:
        while True:
            threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with suppress(OSError, ValueError, http.client.HTTPException):
            if self._context is not None:
                near = self._shaken(near, self._context)
            # Closed before it is reset: it keeps the connection open.
            with near.makefile("rb") as stream:
                head = _head(stream)
                if not head:
                    self._note_refused_certificate()
                while head and self._one(near, stream, head):
                    head = _head(stream)
        _reset(near)

    def _shaken(self, near: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            return context.wrap_socket(near, server_side=True)
        except ssl.SSLError:
            self._note_refused_certificate()
            raise

    def _note_refused_certificate(self) -> None:
        """It was looked at, and not taken: in the handshake, or behind it, where urllib3 compares the names."""
        if self._answered.lie.name in lies.TLS_ALONE:
            self._counted[4] = 1

    def _lie(self, request: str) -> str:
        """The name of the lie that this request is answered with, "" where it is the truth."""
        lie = self._answered.lie
        if not lie.is_about(request):
            return ""
        with self._lock:
            number = int.from_bytes(self._counted[:4], "little")
            self._counted[:4] = (number + 1).to_bytes(4, "little")
        at = self._answered.number
        is_due = lie.whole or number == at or (self._answered.lasting and number > at)
        if is_due and lie.name not in lies.BENT:
            self._counted[4] = 1
        return lie.name if is_due else ""

    def _one(self, near: socket.socket, stream: object, head: bytes) -> bool:
        """One request and its answer; whether another may come."""
        first, _sep, rest = head.partition(b"\r\n")
        method, target = first.decode().split(" ")[:2]
        lie = self._lie(f"{method} {target}")
        length = _length(rest)
        if b"\r\nexpect: 100" in head.lower():
            near.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        share = _share(lie, "of what is sent")
        if lie.startswith("reset between"):
            share = 0.0
        body = _read(stream, length if share is None else int(length * share), is_slow=lie == lies.SLOW)
        if share is not None:
            real_sleep(_FOR_EVER if lie.startswith("stall") else 0)
            return False
        refused = lies.refusal(lie, method)
        if refused is not None:
            near.sendall(refused)
            return True
        first, headers, content = self._forwarded(method, head, body)
        if lie == "stall":
            real_sleep(_FOR_EVER)
        if lie == "5 s late":
            real_sleep(lies.LATE_SECONDS)
        if lie == "done, and the answer is lost":
            return False
        if lie == "done, and answered with 500":
            near.sendall(lies.refusal("500", method) or b"")
            return True
        told = lies.bent(lie, content)
        if told != content:
            self._counted[4] = 1
        return _answer(near, lie, method, first, headers, told)

    def _forwarded(self, method: str, head: bytes, body: bytes) -> tuple[bytes, list[tuple[str, str]], bytes]:
        """What the store answers: the first line, the headers, the body."""
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"expect:", b"connection:"))]
        with socket.create_connection(self._store) as far:
            far.sendall(b"\r\n".join([*lines[:1], b"Connection: close", *lines[1:]]) + body)
            answer = http.client.HTTPResponse(far, method=method)
            answer.begin()
            content = answer.read()
            headers = [one for one in answer.getheaders() if one[0].lower() not in ("transfer-encoding", "connection")]
            return f"HTTP/1.1 {answer.status} {answer.reason}".encode(), headers, content


def _answer(
    near: socket.socket, lie: str, method: str, first: bytes, headers: list[tuple[str, str]], told: bytes
) -> bool:
    share = _share(lie, "of the answer")
    if method != "HEAD":
        headers = [one for one in headers if one[0].lower() != "content-length"] + [("Content-Length", str(len(told)))]
    head = b"\r\n".join([first, *(f"{name}: {value}".encode() for name, value in headers)]) + b"\r\n\r\n"
    if share == 0:
        return False
    near.sendall(head)
    if share is not None:
        near.sendall(told[: int(len(told) * share)])
        return False
    for at in range(0, len(told), _CHUNK):
        near.sendall(told[at : at + _CHUNK])
        if lie == lies.SLOW:
            real_sleep(_CHUNK / lies.SLOW_BYTES)
    return True


def _share(lie: str, of: str) -> float | None:
    """Where the connection is reset, or nothing comes any more, as a share; None where neither is, or not of that."""
    if not (lie.startswith(("reset at", "stall at")) and lie.endswith(of)):
        return None
    return int(lie.split(" ")[2]) / 100


def _head(stream: object) -> bytes:
    lines = []
    while line := stream.readline():  # type: ignore[attr-defined]
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _colon, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _read(stream: object, size: int, *, is_slow: bool = False) -> bytes:
    chunks: list[bytes] = []
    at_once = _CHUNK if is_slow else size
    for at in range(0, size, at_once or 1):
        chunks.append(stream.read(min(at_once, size - at)))  # type: ignore[attr-defined]
        real_sleep(len(chunks[-1]) / lies.SLOW_BYTES if is_slow else 0)
    return b"".join(chunks)


def _reset(near: socket.socket) -> None:
    with suppress(OSError):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        near.close()

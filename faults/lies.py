# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store, or the line to it, may answer that is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass

RESET_SHARES = (0, 1, 50, 99)
# How long a late answer takes, in seconds, and how fast a slow line is, in bytes a second.
LATE_SECONDS, SLOW_BYTES = 5.0, 50_000
SLOW = "50 KB/s"

_ERRORS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "429": (429, "TooManyRequests"),
    "403": (403, "AccessDenied"),
    "404": (404, "NoSuchKey"),
    "409": (409, "ConditionalRequestConflict"),
    "412": (412, "PreconditionFailed"),
    "ExpiredToken": (400, "ExpiredToken"),
    "RequestTimeTooSkewed": (403, "RequestTimeTooSkewed"),
    "NoSuchUpload": (404, "NoSuchUpload"),
    "200 with an error inside": (200, "InternalError"),
}


@dataclass(frozen=True)
class Lie:
    """One way to answer. `of` is a pattern of the requests that it can be about: their method and the query's words.

    `whole` ones are of the line itself, and so for ever.
    """

    name: str
    of: str = "."
    whole: bool = False

    def is_about(self, request: str) -> bool:
        return re.match(self.of, request) is not None


_SENDS, _ANSWERS, _LISTS = "PUT|POST", "GET", "GET .*list-type"

LIES = (
    *(Lie(name, whole=True) for name in ("refused", "DNS gone", "a certificate that nobody signed")),
    *(Lie(name, whole=True) for name in ("another host's certificate", "an expired certificate", SLOW)),
    Lie("5 s late"),
    Lie("stall"),
    Lie("stall at 50 % of what is sent", _SENDS),
    Lie("stall at 50 % of the answer", _ANSWERS),
    *(Lie(f"reset at {share} % of what is sent", _SENDS) for share in RESET_SHARES),
    *(Lie(f"reset at {share} % of the answer", _ANSWERS) for share in RESET_SHARES),
    Lie("done, and the answer is lost", _SENDS),
    *(Lie(name) for name in _ERRORS),
    Lie("done, and answered with 500", _SENDS),
    Lie("wrong bytes of the right length", _ANSWERS),
    Lie("a truncated body", _ANSWERS),
    Lie("an empty list", _LISTS),
    Lie("a stale list, without the newest", _LISTS),
    Lie("reset between the last part and Complete", "POST .*uploadId"),
)
# What becomes of an answer's body. Where it stays as it was, nothing was told.
BENT = ("wrong bytes of the right length", "a truncated body", "an empty list", "a stale list, without the newest")
# Of these nobody may say that what is in the store was read or written.
UNREACHABLE = (
    *("refused", "DNS gone", "a certificate that nobody signed", "another host's certificate"),
    "an expired certificate",
)
# After these nobody can know what is in the store: it said itself that it has less.
HIDING = ("404", "NoSuchUpload", "an empty list", "a stale list, without the newest")
TLS_ALONE = ("a certificate that nobody signed", "another host's certificate", "an expired certificate")
# What it can happen to only where a file travels in parts.
IN_PARTS = ("reset between the last part and Complete",)


def refusal(name: str, method: str) -> bytes | None:
    """The whole answer of a store that says no; None where the lie is another."""
    if name not in _ERRORS:
        return None
    status, code = _ERRORS[name]
    body = (
        b""
        if method == "HEAD"
        else f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>Because.</Message></Error>".encode()
    )
    return answer(status, body)


def answer(status: int, body: bytes) -> bytes:
    """A whole answer, after which the connection ends."""
    head = (
        f"HTTP/1.1 {status} Said\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close"
    )
    return head.encode() + b"\r\n\r\n" + body


def bent(name: str, body: bytes) -> bytes:
    """The body of an answer as the lie has it."""
    if name == "wrong bytes of the right length" and body:
        middle = len(body) // 2
        return body[:middle] + bytes([body[middle] ^ 0x01]) + body[middle + 1 :]
    if name == "a truncated body":
        return body[: len(body) // 2]
    entries = re.findall(rb"<Contents>.*?</Contents>", body, re.DOTALL)
    if name == "an empty list":
        return re.sub(rb"<Contents>.*</Contents>", b"", body, flags=re.DOTALL)
    if name == "a stale list, without the newest" and entries:
        # As before the last backup: neither its data nor what lies beside it.
        stem = max(re.findall(rb"eternia_(?:backup|state)_\d{8}_\d{6}", body), default=b"\0")
        for entry in entries:
            body = body.replace(entry, b"") if stem in entry else body
    return body

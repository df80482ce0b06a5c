# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells others: pings in the healthchecks style, a webhook, a command. Each returns why it was not taken, else None.

Addresses and arguments may hold tokens: of an address only the host is named, of a command only the program.
"""

from __future__ import annotations

from typing import Any

from . import files
from .version import VERSION

# How long a run may be held up by whoever it tells, in seconds; a command may have to dial first.
SECONDS = 10
COMMAND_SECONDS = 60
_MOST_REDIRECTS = 3
# What healthchecks keeps of a reason: https://healthchecks.io/docs/attaching_logs/
_MOST_BYTES = 100_000


def ping(url: str, event: str = "", reason: str | None = None) -> str | None:
    """GET the address of a check, with `/start` or another event behind it; POST where there is a reason."""
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    address = urlunsplit(parts._replace(path=parts.path.rstrip("/") + event))
    body = None if reason is None else reason.encode()[:_MOST_BYTES]
    return _sent("ping", "ping_url", address, body, "text/plain; charset=utf-8")


def post(url: str, payload: bytes) -> str | None:
    """POST JSON to a webhook."""
    return _sent("notice", "failure_webhook", url, payload, "application/json")


def call(command: tuple[str, ...], payload: bytes) -> str | None:
    """Run a command with JSON on its standard input. What it prints is lost, but for its standard error."""
    import os
    import signal
    import subprocess

    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, close_fds=True
        )
    except OSError as exc:
        return _not_taken("notice", command[0], f"it could not be started ({files.reason(exc)})", "failure_command")
    with process:
        try:
            process.communicate(payload, timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            # With whatever it has started.
            os.killpg(process.pid, signal.SIGKILL)
            why = f"it did not end within {COMMAND_SECONDS} s and was killed"
            return _not_taken("notice", command[0], why, "failure_command")
    if process.returncode:
        return _not_taken("notice", command[0], f"it ended with {process.returncode}", "failure_command")
    return None


def _not_taken(what: str, by: str, why: str, key: str) -> str:
    return (
        f"The {what} was not taken by {by}: {why}. No backup depends on that; look there, or correct "
        f"backup.report.{key}."
    )


def _sent(what: str, key: str, url: str, body: bytes | None, content_type: str) -> str | None:
    """One request, redirects and all. Whatever the other side does, and whatever names resolve to, the time is up."""
    import threading
    from urllib.parse import urlsplit

    answers: list[str | None] = []
    request = threading.Thread(target=lambda: answers.append(_request(url, body, content_type)), daemon=True)
    request.start()
    request.join(SECONDS)
    why = answers[0] if answers else f"no answer within {SECONDS} s"
    return None if why is None else _not_taken(what, str(urlsplit(url).hostname), why, key)


def _request(url: str, body: bytes | None, content_type: str) -> str | None:
    """Send it; returns why it was not taken. Never in the words of an exception: they may quote the address."""
    from http.client import HTTPException
    from urllib import error, request

    class Redirects(request.HTTPRedirectHandler):
        max_redirections = _MOST_REDIRECTS

        def redirect_request(self, req: request.Request, *args: Any) -> request.Request | None:
            # Elsewhere a POST would arrive as a GET, without what it has to say; and what was secret stays so.
            secure = req.type == "http" or str(args[-1]).startswith("https:")
            ours = str(args[-1]).startswith(("http:", "https:"))
            return super().redirect_request(req, *args) if req.data is None and secure and ours else None

    headers = {"User-Agent": f"eternia-backup/{VERSION}", **({} if body is None else {"Content-Type": content_type})}
    try:
        with request.build_opener(Redirects).open(request.Request(url, body, headers), timeout=SECONDS):
            return None
    except error.HTTPError as exc:
        exc.close()
        return f"it answered {exc.code}"
    except (OSError, HTTPException, ValueError) as exc:
        cause = getattr(exc, "reason", exc)
        if isinstance(cause, OSError) and cause.strerror:
            return files.reason(cause)
        return f"no whole answer ({type(cause).__name__})"

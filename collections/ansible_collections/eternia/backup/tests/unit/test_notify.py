# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pings, webhooks and commands: who does not take them costs a warning and some seconds, and no token is told."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import time
from email.message import Message
from pathlib import Path
from urllib import request
from urllib.response import addinfourl

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import notify
from ansible_collections.eternia.backup.plugins.module_utils.engine.version import VERSION
from ansible_collections.eternia.backup.tests.unit import web as web_
from ansible_collections.eternia.backup.tests.unit.web import Asked

PAYLOAD = json.dumps({"reason": "no space"}).encode()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(notify, "SECONDS", 0.5)
    monkeypatch.setattr(notify, "COMMAND_SECONDS", 0.5)


def asked(web):
    return [(one.method, one.path, one.body) for one in web.asked]


def test_a_ping_is_a_get_and_a_reason_is_posted(web):
    url = f"{web.url}/token"
    assert notify.ping(url, "/start") is None
    assert notify.ping(url) is None
    assert notify.ping(url, "/fail", "no space: /backups, 0 bytes frei für Bücher") is None
    assert asked(web) == [
        ("GET", "/token/start", ""),
        ("GET", "/token", ""),
        ("POST", "/token/fail", "no space: /backups, 0 bytes frei für Bücher"),
    ]
    assert {one.headers["User-Agent"] for one in web.asked} == {f"eternia-backup/{VERSION}"}


@pytest.mark.parametrize(
    ("behind", "path"),
    [("", "/start"), ("/", "/start"), ("/a/", "/a/start"), ("/a?rid=7", "/a/start?rid=7"), ("?k=v", "/start?k=v")],
)
def test_an_event_belongs_to_the_path(web, behind, path):
    assert notify.ping(f"{web.url}{behind}", "/start") is None
    assert asked(web) == [("GET", path, "")]


def test_a_reason_is_no_longer_than_what_is_kept(web):
    assert notify.ping(web.url, "/fail", "x" * 200_000) is None
    assert len(web.asked[0].body) == 100_000


def test_a_webhook_gets_json(web):
    assert notify.post(f"{web.url}/hook?key=token", PAYLOAD) is None
    (one,) = web.asked
    assert one == Asked("POST", "/hook?key=token", PAYLOAD.decode(), one.headers)
    assert one.headers["Content-Type"] == "application/json"


STATUSES = [400, 401, 404, 410, 429, 500, 503]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("send", [notify.ping, lambda url: notify.post(url, PAYLOAD)])
def test_an_answer_that_is_none_is_told(web, status, send):
    web.answer = lambda handler: web_.answer(handler, status)
    told = send(f"{web.url}/token")
    assert (
        f" was not taken by 127.0.0.1: it answered {status}. No backup depends on that; look there, or correct " in told
    )
    assert "token" not in told


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()[1]


def test_nobody_there_is_told_at_once():
    told = notify.ping(f"http://127.0.0.1:{closed_port()}/token")
    assert told == (
        "The ping was not taken by 127.0.0.1: connection refused. No backup depends on that; look there, or correct "
        "backup.report.ping_url."
    )


@pytest.mark.parametrize("how", ["hang", "trickle"])
def test_whoever_does_not_answer_is_not_waited_for(web, hurried, how):
    web.answer = getattr(web, how)
    started = time.monotonic()
    told = notify.ping(f"{web.url}/token")
    assert time.monotonic() - started < 5
    assert " was not taken by 127.0.0.1: " in told
    assert "token" not in told


def test_a_name_that_does_not_resolve_in_time_is_not_waited_for(hurried, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_keywords: time.sleep(5) or [])
    started = time.monotonic()
    assert "by x.invalid: no answer within 0.5 s" in notify.ping("https://x.invalid/token")
    assert time.monotonic() - started < 4


def test_what_is_no_http_is_told(web):
    web.answer = lambda handler: handler.wfile.write(b"220 mail.example.org ESMTP token\r\n")
    told = notify.ping(f"{web.url}/token")
    assert "no whole answer (BadStatusLine)" in told
    assert "token" not in told


def test_a_certificate_that_nobody_signed_is_told(object_store):
    told = notify.ping(f"{object_store.tls_endpoint}/token")
    assert " was not taken by 127.0.0.1: " in told
    assert "CERTIFICATE_VERIFY_FAILED" in told
    assert "/token" not in told


def redirects(web, status, *targets):
    """Answer with one redirect after the other, then with 200."""
    left = list(targets)
    web.answer = lambda handler: (
        web_.answer(handler, status, Location=left.pop(0)) if left else web_.answer(handler, 200)
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(web, status):
    if status == 308 and sys.version_info < (3, 11):
        pytest.skip("urllib follows 308 since Python 3.11")
    redirects(web, status, f"{web.url}/new")
    assert notify.ping(f"{web.url}/token") is None
    assert asked(web)[-1] == ("GET", "/new", "")


@pytest.mark.parametrize("number", [4, 50])
def test_redirects_are_not_followed_for_ever(web, number):
    redirects(web, 302, *(f"{web.url}/{one}" for one in range(number)))
    assert "it answered 302" in notify.ping(f"{web.url}/token")
    assert len(web.asked) <= 5


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x"])
def test_a_redirect_leads_nowhere_but_to_the_web(web, target):
    redirects(web, 302, target)
    assert "it answered 302" in notify.ping(f"{web.url}/token")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_what_has_something_to_say_is_not_redirected(web, status):
    """Urllib would turn it into a GET without a word, and call that a success."""
    redirects(web, status, f"{web.url}/new")
    assert f"it answered {status}" in notify.post(f"{web.url}/token", PAYLOAD)
    assert [one.path for one in web.asked] == ["/token"]


def test_what_is_encrypted_is_not_redirected_to_where_it_is_not(web, object_store, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(object_store.authority))
    sent = []
    monkeypatch.setattr(
        request.HTTPSHandler,
        "https_open",
        lambda _self, req: sent.append(req.full_url) or redirect_answer(req, f"{web.url}/new"),
    )
    assert "it answered 302" in notify.ping("https://x.invalid/token")
    assert (sent, web.asked) == (["https://x.invalid/token"], [])


def redirect_answer(req, target):
    headers = Message()
    headers["Location"] = target
    answer = addinfourl(io.BytesIO(), headers, req.full_url, 302)
    answer.msg = "Found"
    return answer


def test_a_proxy_of_the_environment_is_asked(web, monkeypatch):
    monkeypatch.setenv("http_proxy", web.url)
    assert notify.ping("http://x.invalid/token") is None
    assert asked(web) == [("GET", "http://x.invalid/token", "")]


SHELL = ("/bin/sh", "-c")


def test_a_command_gets_json_on_its_standard_input(tmp_path, capfd):
    assert notify.call((*SHELL, f'cat > "{tmp_path}/$1"; echo out; echo err >&2', "page", "a b"), PAYLOAD) is None
    assert (tmp_path / "a b").read_bytes() == PAYLOAD
    assert capfd.readouterr() == ("", "err\n")


def test_a_command_need_not_read():
    assert notify.call(("/bin/true",), b"x" * 10_000_000) is None


COMMANDS = [
    (("/nowhere/page", "token"), "/nowhere/page: it could not be started (no such file or directory)"),
    (("/etc/passwd", "token"), "/etc/passwd: it could not be started (permission denied)"),
    ((*SHELL, "exit 3", "token"), "/bin/sh: it ended with 3"),
    ((*SHELL, "kill -9 $$", "token"), "/bin/sh: it ended with -9"),
]


@pytest.mark.parametrize(("command", "message"), COMMANDS)
def test_a_command_that_fails_is_told(command, message):
    told = notify.call(command, PAYLOAD)
    assert f"The notice was not taken by {message}. No backup depends on that" in told
    assert told.endswith("backup.report.failure_command.")
    assert "token" not in told


def test_a_command_that_does_not_end_is_killed_with_all_that_it_started(tmp_path, monkeypatch):
    # Long enough for a shell on a busy machine to say whom it started.
    monkeypatch.setattr(notify, "COMMAND_SECONDS", 3)
    started = time.monotonic()
    script = f"(sleep 60; touch {tmp_path}/late) & echo $! > {tmp_path}/child; wait"
    assert "it did not end within 3 s and was killed" in notify.call((*SHELL, script), PAYLOAD)
    assert time.monotonic() - started < 10
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(process):
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False

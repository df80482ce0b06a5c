# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets are planted wherever they may lie, everything is run and made to fail, and all that came of it is searched.

Also how everything that is written may be read: by nobody else, whatever the umask is, at any moment.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from ansible_collections.eternia.backup.tests.unit.builders import add_rows, connect, database
from ansible_collections.eternia.backup.tests.unit.command_line import MODULE, child_environment
from ansible_collections.eternia.backup.tests.unit.conftest import BUCKET

# In the key for S3, the token of its session, and the addresses of who is told; each is searched for by itself.
SECRET, TOKEN, PING, HOOK = "canary-of-the-key", "canary-of-the-session", "canary-of-the-ping", "canary-of-the-hook"
CANARIES = (SECRET, TOKEN, PING, HOOK)
VERBS = (
    *(("run",), ("prune",), ("drill",), ("list", "--verify", "full"), ("status", "--versions", "--report")),
    *(("verify", "--full"), ("download", "latest", "--to", "DOWNLOADED"), ("restore", "latest", "--yes")),
    ("hold", "--why", "a test"),
)
# A fault of this program, or of a library, where S3 is asked: what a person then sees is Python's traceback.
BROKEN = """
import botocore.httpsession

def send(self, request):
    raise RuntimeError("a bug")

botocore.httpsession.URLLib3Session.send = send
"""


class Planted:
    """A host with secrets in its configuration, its credentials and its environment, and what was seen of it."""

    def __init__(self, folder: Path, **cloud: str) -> None:
        self.folder = folder
        self.base = folder / "eternia"
        self.live = database(self.base / "data/eternia.db", rows=2000)
        self.storage = self.base / "backups/staging"
        (folder / "downloaded").mkdir(mode=0o700)
        self.file = folder / "config.yml"
        self.said: list[str] = []
        self.environment: dict[str, str] = {}
        self.holding = {self.file}
        cloud_backup = {"enabled": True, "bucket": BUCKET, "region": "us-east-1", **cloud}
        report = {
            "log_file": str(folder / "backup.log"),
            "metrics_file": str(folder / "metrics.prom"),
            "ping_url": f"http://127.0.0.1:9/{PING}",
            "failure_webhook": f"http://127.0.0.1:9/hook?key={HOOK}",
        }
        retention = {"keep_last": 1}
        backup = {"cloud_backup": cloud_backup, "report": report, "retention": retention, "minimum_kept": 1}
        fields = {"environment": "staging", "host": "web1", "base_dir": str(self.base), "backup": backup}
        self.file.write_text(yaml.safe_dump(fields))

    def credentials(self, key: str, secret: str, token: str = "") -> Path:
        path = self.folder / "credentials"
        more = f"aws_session_token = {token}\n" if token else ""
        path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n{more}")
        self.holding.add(path)
        return path

    def type(self, *words: str, umask: int = 0o022) -> int:
        """A command in a process of its own; what it says is kept."""
        words = tuple(word.replace("DOWNLOADED", str(self.folder / "downloaded")) for word in words)
        command = [sys.executable, "-m", MODULE, "--config", str(self.file), "-v", *words]
        environment = child_environment(**self.environment)
        done = subprocess.run(
            command, env=environment, text=True, capture_output=True, check=False, timeout=120, umask=umask
        )
        self.said.append(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.returncode

    def require_no_canary(self) -> None:
        """Neither in what was said, nor in any file but those in which they were planted."""
        for said in self.said:
            assert [one for one in CANARIES if one in said] == [], said
        written = [path for path in self.folder.rglob("*") if path.is_file() and path not in self.holding]
        assert {"last-run.json", "backup.log"} <= {path.name for path in written}
        for path in written:
            raw = path.read_bytes()
            assert [one for one in CANARIES if one.encode() in raw] == [], path


@contextmanager
def overlooked(seen: set[str]) -> Iterator[None]:
    """Meanwhile the command lines of every process of this machine are read, over and over, as `ps` would."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            time.sleep(0.05)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def denied(planted: Planted, store) -> None:
    """The store knows the key and not this secret: 403, with a body that has the key in it."""
    planted.environment.update(AWS_ACCESS_KEY_ID=store.admin[0], AWS_SECRET_ACCESS_KEY=SECRET, AWS_SESSION_TOKEN=TOKEN)


def unreachable(planted: Planted, store) -> None:
    """Nobody listens there; the credentials are in a profile."""
    planted.environment.update(AWS_SHARED_CREDENTIALS_FILE=str(planted.credentials("AKIA", SECRET, TOKEN)))


def broken(planted: Planted, store) -> None:
    """Something raises what nobody expects; the credentials are the agent's own."""
    (planted.folder / "broken").mkdir()
    (planted.folder / "broken/sitecustomize.py").write_text(BROKEN)
    path = os.pathsep.join((str(planted.folder / "broken"), child_environment()["PYTHONPATH"]))
    planted.environment.update(PYTHONPATH=path)
    planted.credentials("AKIA", SECRET, TOKEN)


@pytest.mark.parametrize("plant", [denied, unreachable, broken])
def test_no_secret_is_anywhere_when_s3_fails(
    tmp_path: Path, object_store, plant: Callable[[Planted, object], None]
) -> None:
    endpoint = "http://127.0.0.1:9" if plant is unreachable else object_store.endpoint
    cloud = {"credentials_file": str(tmp_path / "credentials")} if plant is broken else {}
    planted = Planted(tmp_path, endpoint_url=endpoint, prefix=f"canaries/{plant.__name__}", **cloud)
    plant(planted, object_store)
    lines: set[str] = set()
    with overlooked(lines):
        codes = [planted.type(*words) for words in VERBS]
    failed = {words[0] for words, code in zip(VERBS, codes) if code}
    assert failed >= {"run", "verify", "drill", "status"}, "\n".join(planted.said)
    said = "\n".join(planted.said)
    assert ("Traceback" in said) == (plant is broken), said
    assert any(MODULE in line and "restore" in line for line in lines)
    assert [line for line in lines if any(one in line for one in CANARIES)] == []
    planted.require_no_canary()


def test_no_secret_is_anywhere_when_all_goes_well(tmp_path: Path, object_store) -> None:
    planted = Planted(
        tmp_path,
        endpoint_url=object_store.endpoint,
        prefix="canaries/well",
        credentials_file=str(tmp_path / "credentials"),
    )
    planted.credentials(*object_store.admin)
    lines: set[str] = set()
    with overlooked(lines):
        codes = [planted.type(*words) for words in VERBS]
    assert codes == [0] * len(VERBS), "\n".join(planted.said)
    for said in (*planted.said, *lines):
        assert object_store.admin[1] not in said
    planted.require_no_canary()
    for path in planted.folder.rglob("*"):
        if path.is_file() and path not in planted.holding:
            assert object_store.admin[1].encode() not in path.read_bytes(), path


@contextmanager
def watched(seen: dict[str, int], *places: Path) -> Iterator[None]:
    """Meanwhile the mode of everything below some places is looked at, over and over; all bits that it ever had."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for place in places:
                for folder, names, files in os.walk(place, onerror=lambda _error: None):
                    for name in (*names, *files):
                        path = os.path.join(folder, name)
                        with suppress(OSError):
                            seen[path] = seen.get(path, 0) | os.lstat(path).st_mode
            time.sleep(0.001)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


@pytest.mark.parametrize("umask", [0, 0o077])
def test_nobody_else_may_read_what_is_written_at_any_moment(tmp_path: Path, object_store, umask: int) -> None:
    planted = Planted(
        tmp_path,
        endpoint_url=object_store.endpoint,
        prefix=f"modes/{umask}",
        credentials_file=str(tmp_path / "credentials"),
    )
    planted.credentials(*object_store.admin)
    live, seen = planted.live.parent, dict[str, int]()
    with watched(seen, planted.storage.parent, live, tmp_path / "downloaded"):
        for words in VERBS:
            code = planted.type(*words, umask=umask)
            assert code == 0, planted.said[-1]
            with closing(connect(planted.live)) as application:
                add_rows(application, 10)
    # The live database is the application's own, and so is what SQLite puts beside it.
    ours = {path: mode for path, mode in seen.items() if not path.startswith(str(planted.live))}
    staging = [path for path in ours if "/.staging/" in path or f"/.{planted.live.name}.restore/" in path]
    assert any("/.staging/" in path for path in staging), sorted(ours)
    assert any(".restore/" in path for path in staging), sorted(ours)
    assert any("/safety/" in path for path in ours)
    assert any("/downloaded/" in path for path in ours)
    open_to_others = {path: oct(mode) for path, mode in ours.items() if stat.S_IMODE(mode) & 0o066}
    # The live file itself has a second name in directories of ours while it is kept, and what comes has its mode.
    assert {path: mode for path, mode in open_to_others.items() if mode != oct(planted.live.stat().st_mode)} == {}
    assert all("/safety/" in path or path in staging for path in open_to_others), open_to_others
    left = {path: path.stat().st_mode for path in planted.storage.rglob("*")}
    assert {path: oct(mode) for path, mode in left.items() if stat.S_IMODE(mode) & 0o077} == {}
    # For the exporter and for whoever reads the log, whatever the umask is.
    assert stat.S_IMODE((tmp_path / "metrics.prom").stat().st_mode) == 0o644

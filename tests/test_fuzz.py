# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The targets of `make fuzz`: they take what is right, they can fail, and what they found once stays mended."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fuzz import __main__ as fuzz
from fuzz import mutation, targets


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Path:
    targets.work_in(tmp_path)
    return tmp_path


def test_every_target_is_run() -> None:
    assert tuple(targets.TARGETS) == fuzz.NAMES


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_what_is_right_is_taken(name: str) -> None:
    target = targets.TARGETS[name]
    assert all(target.check(raw) for raw in target.seeds())


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_a_target_near_what_is_right(name: str) -> None:
    target, rng = targets.TARGETS[name], random.Random(name)
    seeds = target.seeds()
    for raw in seeds:
        target.check(raw)
    for number in range(300):
        raw = seeds[number % len(seeds)]
        bent = mutation.bend(raw, rng) if target.is_json else None
        target.check(bent or raw[: rng.randrange(len(raw))] + raw[rng.randrange(len(raw)) :])


def bent(name: str, place: str, value: Any) -> bytes:
    """The first of a target's documents, with another value in one place."""
    document = json.loads(targets.TARGETS[name].seeds()[0])
    *steps, last = place.split(".")
    inner = document
    for step in steps:
        inner = inner[step]
    inner[last] = value
    return mutation.text_of(document)


FOUND = [
    # The target, where in its first document, and what was there: read without an error, or with a wrong one.
    ("manifest", "host", "we\ud800b1"),
    ("manifest", "name", "x" * 5000),
    ("manifest", "content.bytes", 10**30),
    ("manifest", "content.digest.value", "F F"),
    ("manifest", "stored.digest.value", ""),
    ("manifest", "format", True),
    ("manifest", "source.tables", "\x01300"),
    ("manifest", "source.keys", ["n"]),
    ("manifest", "source.keys", {"n": "x"}),
    ("config-block", "backup.minimum_kept", 10**30),
    ("config-block", "backup.retention_days", 10**400),
    ("config-block", "backup.frequency", "x" * 5000),
    ("journal", "beside", {"-wal/../../x": [1, 2, 3]}),
    ("journal", "new", [float("inf"), 2, 3]),
    ("journal", "place", "\x015000"),
    ("record", "seconds", 10**400),
    ("record", "failures", {"store": float("inf")}),
    ("record", "bytes_stored", "5"),
    ("record", "error", ["x"]),
    ("hold", "who", "\x015000"),
    ("hold", "why", "two\nlines"),
    ("hold", "until", "2999-01-01T00:00:00Z"),
    ("claim", "host", "\x015000"),
    ("seen", "unchanged_at", "\x015000"),
]


@pytest.mark.parametrize(("name", "place", "value"), FOUND, ids=[f"{name}-{place}" for name, place, _value in FOUND])
def test_what_was_found_once(name: str, place: str, value: Any) -> None:
    targets.TARGETS[name].check(bent(name, place, value))


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 5000,
        b"backup: 2026-99-99",
        b"backup: " + b"[" * 900 + b"]" * 900,
        b"backup: {retention_days: 0x" + b"f" * 5000 + b"}",
    ],
)
def test_yaml_that_python_refuses(text: bytes) -> None:
    targets.TARGETS["config-yaml"].check(b"environment: staging\nbase_dir: /srv\n" + text)


def test_a_target_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.manifest.untrusted, "text", lambda value: value)
    with pytest.raises(AssertionError):
        targets.TARGETS["manifest"].check(bent("manifest", "verified.at", "two\nlines"))

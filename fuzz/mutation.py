# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bends a document that is right in one place or some: what bytes flipped at random would seldom come to."""

from __future__ import annotations

import json
import random
from typing import Any

# Becomes brackets in brackets: more than this program writes, more than it could write again, more than anybody reads.
_DEEP = {f"\x01{levels}": "[" * levels + "]" * levels for levels in (20, 300, 5000)}
# What a value is bent into.
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 999_999_999, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.5, 1e308),
    *(float("inf"), float("-inf"), float("nan"), "", " ", "0", "false", "ok", "null", "a\0b", "a\nb", "\x1b[2J"),
    *(
        "\ud800",
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "//",
        "a//b",
        "../",
        "-wal",
        "-wal/../x",
        "é",
        "\u202e",
        "\uff41",
        "\u0663",
    ),
    *("2026-11-22T12:00:00Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "sha256", "blake3", "ff", "F F", "zst"),
    *("https://u:p@h/", "http://[::1", "http://h:99999/", "x" * 5000, [], {}, [[]], [None], {"": None}, *_DEEP),
)


def bend(raw: bytes, rng: random.Random) -> bytes | None:
    """A document near `raw`, None where that is no JSON."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    for _again in range(rng.choice((1, 1, 1, 2, 4))):
        document = _bent(document, rng)
    return text_of(document)


def text_of(document: Any) -> bytes:
    """As JSON, also where a value is one that JSON has not."""
    text = json.dumps(document)
    for mark, brackets in _DEEP.items():
        text = text.replace(json.dumps(mark), brackets)
    return text.encode()


def _bent(value: Any, rng: random.Random) -> Any:
    places = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    if not places or rng.random() < 0.25:
        return _other(value, rng)
    place = rng.choice(places)
    act = rng.random()
    bent = dict(value) if isinstance(value, dict) else list(value)
    if act < 0.1:
        del bent[place]
    elif act < 0.15 and isinstance(bent, dict):
        bent[rng.choice(("format", "", "\ud800", "-wal", "x"))] = bent.pop(place)
    elif act < 0.2 and isinstance(bent, list):
        bent.append(bent[place])
    else:
        bent[place] = _bent(bent[place], rng)
    return bent


def _other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, int) and rng.random() < 0.3:
        return value + rng.choice((-1, 1, 1 << 40))
    if isinstance(value, str) and value and rng.random() < 0.3:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice(("/", "\\", "\n", "0", "Z", "", "\ud800", "é")) + value[at + 1 :]
    return rng.choice(_ODD)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is at a target: its facts and its content, and a judgement that is good for as long as nobody touches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import digest, files, snapshot, sqlite, verify
from .errors import EngineError
from .identity import Identity
from .manifest import Content
from .names import DATABASE
from .source import Source
from .target import Target
from .verify import Proof


@dataclass(frozen=True)
class Judged:
    """The facts of a database that is sound, and its proof; `rest` is how it lay before it was read."""

    facts: dict[str, Any]
    proof: Proof
    rest: Identity

    def holds(self, target: Target) -> bool:
        """Whether nobody touched it since. Raises OSError."""
        return _at_rest(target) == self.rest


def judge(target: Target, level: str) -> Judged | None:
    """Check and hash a database at rest, reading only; None for anything else, and where it is not sound."""
    try:
        rest = _at_rest(target)
        if rest is None or target.kind != DATABASE:
            return None
        proof = verify.prove_whole(target.real, target.kind, level, algorithm=digest.preferred_algorithm())
        return Judged({"journal_mode": _journal_mode(target.real), **proof.facts}, proof, rest)
    except (EngineError, OSError):
        # Said when it is kept, if it is still so.
        return None


def _at_rest(target: Target) -> Identity | None:
    """None where the target is missing, or has something beside it that may be written to instead. Raises OSError."""
    present = target.present()
    return Identity.from_stat(present[""]) if set(present) == {""} else None


def _journal_mode(path: Path) -> str:
    """As SQLite says it of a database that nobody has open."""
    with files.opened(files.open_plain(path)) as descriptor:
        return "wal" if sqlite.is_in_wal_mode(descriptor) else "delete"


def facts(target: Target) -> dict[str, Any] | None:
    """The facts of what is there, None where it is missing or cannot be read."""
    try:
        return snapshot.facts(Source(target.kind, target.real))
    except EngineError:
        return None


def of_any_copy(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those facts that can be read from any copy, whatever its journal mode is."""
    return {key: value for key, value in facts.items() if key != "journal_mode"}


def has_content(target: Target, content: Content) -> bool:
    """Whether the target has this very content already, its log included."""
    try:
        if set(target.present()) == {""} and target.real.stat().st_size != content.bytes:
            return False
        return snapshot.has_content(Source(target.kind, target.real), content)
    except (EngineError, OSError):
        return False

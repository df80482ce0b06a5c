# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore is asked for, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from . import log
from .encryption import Identity
from .holders import Holder
from .manifest import Manifest
from .selection import LATEST
from .steps import timed


def counts(facts: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Of a database its rows by table, of a state the size of each key; None where nothing is known."""
    return None if facts is None else dict(facts.get("tables") or facts.get("keys") or {})


@dataclass(frozen=True)
class Request:
    """What to restore, and what the operator allows that is not done otherwise; `identity` opens what is encrypted."""

    backup: str = LATEST
    allow_unverified: bool = False
    allow_foreign: bool = False
    identity: Identity | None = None


@dataclass
class Outcome:
    """What a restore did, or would do. Sizes are in bytes, times in seconds.

    `name` is the backup's name, or the path of a file that has none; `location` is where it came from, `bytes_fetched`
    how much of it: the rest was on the host already. After a fetch that was `cut_off`, what came of it is left for the
    next run.

    `before` and `after` are facts of the target, None where it was missing or could not be read. `safety` is the path
    of the safety backup, None where there was nothing to keep. `steps` are the steps in their order.
    """

    name: str = ""
    kind: str = ""
    target: str = ""
    store: str = ""
    location: str = ""
    created_at: str | None = None
    bytes: int = 0
    bytes_to_fetch: int = 0
    bytes_fetched: int = 0
    space_needed: int = 0
    space_free: int = 0
    unchanged: bool = False
    staged: bool = False
    cut_off: bool = False
    manifest: Manifest | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    safety: str | None = None
    holders: list[Holder] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)

    def warn(self, message: str) -> None:
        """Say what an operator should look at, although the run goes on."""
        self.warnings.append(message)
        log.warning(message, log.RECOVERY)

    def step(self, name: str) -> AbstractContextManager[None]:
        """Time one step."""
        return timed(self.steps, name)

    @property
    def changed(self) -> bool:
        """Whether the target has, or would have, another content than before."""
        return not self.unchanged

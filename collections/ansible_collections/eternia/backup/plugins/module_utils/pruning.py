# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was pruned, as the modules return it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import judgement, noncurrent, prune


def reported(outcome: prune.Outcome) -> dict[str, Any]:
    """What was removed, or would be, and what stays, as the task returns it."""
    listed = sorted(verdict.location for verdict in outcome.verdicts)
    gone = {verdict.location for verdict in outcome.removed}
    return {
        "changed": outcome.changed,
        "kept": [_told(verdict) for verdict in outcome.verdicts if verdict.decision.keep],
        "removed": [_told(verdict) for verdict in outcome.removed],
        "noncurrent": None if outcome.noncurrent is None else _versions(outcome.noncurrent),
        "diff": {
            "before": "".join(f"{location}\n" for location in listed),
            "after": "".join(f"{location}\n" for location in listed if location not in gone),
        },
    }


def _versions(found: noncurrent.Noncurrent) -> dict[str, Any]:
    return {
        "removed": found.removed,
        "removed_bytes": found.removed_bytes,
        "billed_bytes": found.billed_bytes,
    }


def _told(verdict: judgement.Verdict) -> dict[str, Any]:
    return {
        "store": verdict.store,
        "name": str(verdict.decision.copy.name),
        "location": verdict.location,
        "reasons": list(verdict.decision.reasons),
    }

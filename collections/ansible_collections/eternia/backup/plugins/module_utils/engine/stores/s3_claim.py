# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a prefix in S3 belongs to, and what is known of the store: one small object that a host's first run makes."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from ..errors import StoreError
from .base import Owner

_CHECKS = "checks_what_arrives"


@dataclass(frozen=True)
class Claim:
    """Where it lies, and the prefix that it is about, as a person would type them."""

    location: str
    prefix: str

    def made(self, owner: Owner, *, checks: bool) -> bytes:
        """What is to lie there; `checks` says whether the store was seen to refuse wrong bytes."""
        return json.dumps({**asdict(owner), _CHECKS: checks}, indent=2).encode() + b"\n"

    def require(self, raw: bytes, owner: Owner) -> bool:
        """Whether the store was seen to refuse wrong bytes, by a claim that is the owner's. Raises StoreError."""
        found = Owner.from_json(raw, self.location)
        if found != owner:
            raise self.refusal(found, owner)
        return self.checks(raw)

    def checks(self, raw: bytes) -> bool:
        """Whether the store was seen to refuse wrong bytes, whoever the claim is of."""
        with suppress(ValueError, RecursionError):
            claim = json.loads(raw)
            return isinstance(claim, dict) and claim.get(_CHECKS) is True
        return False

    def refusal(self, found: Owner, owner: Owner) -> StoreError:
        """What to do about a prefix that is somebody else's."""
        his = str(found)
        ours = str(owner)
        # Deleting the claim would not do: the newest manifest still names the other.
        hand_over = f"`echo {owner.to_shell()} | aws s3 cp - {self.location}`"
        return StoreError(
            f"{self.prefix} belongs to {his}; this is {ours}. Give each host its own prefix, for example "
            f"cloud_backup.prefix: {owner.environment}/{owner.host}. Only if the other no longer exists, or became "
            f"this one, hand it over: {hand_over}."
        )

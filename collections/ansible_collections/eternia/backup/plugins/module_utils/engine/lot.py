# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill takes from the stores: the newest backup of each, and an older one by lot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from . import catalog, selection
from .catalog import VERIFIED
from .clock import is_possible
from .config import Config
from .errors import StoreError
from .stores.base import Copy, Store


@dataclass(frozen=True)
class Choice:
    """One copy in one store: no other store's copy stands in for it."""

    store: Store
    copy: Copy


Choose = Callable[[Sequence[Choice]], Choice]


class Lot:
    """The backups that may be drilled. `unlisted` says of each store that could not be listed why.

    Where nothing `opens` what is encrypted, none of that is drawn as an older one: once encryption is switched off, it
    is there for as long as it is kept.
    """

    def __init__(self, config: Config, now: datetime, choose: Choose, *, opens: bool) -> None:
        self._config, self._now, self._choose, self._opens = config, now, choose, opens
        self.unlisted: dict[str, str] = {}
        self.stores = catalog.stores(config)
        listed = {store.name: self._list(store) for store in self.stores}
        verified = (backup for backup in catalog.merge(listed) if backup.status == VERIFIED)
        self.kind = selection.kind_of_host(config, verified)
        self._listed = {store: self._fit(copies) for store, copies in listed.items()}

    def is_still_there(self, choice: Choice) -> bool:
        """Whether it was not pruned meanwhile."""
        try:
            return any(copy.has_manifest for copy in choice.store.copies(choice.copy.name))
        except StoreError:
            # Nobody knows, so what went wrong is what counts.
            return True

    def newest_of(self, store: Store) -> Callable[[set[Choice]], Choice | None]:
        """Picks the newest of a store that is not among the removed ones; None where there is none."""

        def pick(removed: set[Choice]) -> Choice | None:
            if removed:
                self._listed[store.name] = self._fit(self._list(store))
            choices = (Choice(store, copy) for copy in self._listed[store.name])
            return next((choice for choice in choices if choice not in removed), None)

        return pick

    def older(self, removed: set[Choice]) -> Choice | None:
        """One of all that are not the newest; None where there is none."""
        choices = [Choice(store, copy) for store in self.stores for copy in self._listed[store.name][1:]]
        choices = [
            choice for choice in choices if choice not in removed and (self._opens or not choice.copy.name.is_encrypted)
        ]
        return self._choose(choices) if choices else None

    def _list(self, store: Store) -> list[Copy]:
        """What a store holds; nothing where it cannot be listed, which is told."""
        try:
            catalog.require_own(store, self._config)
            return list(store.copies())
        except StoreError as exc:
            self.unlisted[store.name] = str(exc)
            return []

    def _fit(self, copies: Sequence[Copy]) -> list[Copy]:
        """Those that say of themselves that they are verified, of the host's kind, the newest first."""
        fit = (
            copy
            for copy in copies
            if copy.has_manifest
            and copy.name.kind == self.kind
            # Of a clock that is wrong for certain nothing is from the future.
            and (copy.name.created_at <= self._now or not is_possible(self._now))
        )
        return sorted(fit, key=lambda copy: copy.name, reverse=True)

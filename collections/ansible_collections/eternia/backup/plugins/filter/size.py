# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..module_utils.engine.units import size


class FilterModule:
    """Sizes as `eternia-backup` prints them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"size": size}

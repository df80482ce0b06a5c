# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small JSON documents that lie beside the backups, as far as they are alike: each says which format it has.

One that says none is of the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import files
from .errors import quoted

# What reading one, and taking its fields apart, may raise beside OSError.
BENT = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def read(path: Path, form: int) -> dict[str, Any]:
    """The fields of one of that format. Raises OSError, and any of BENT for what is no such document."""
    fields: dict[str, Any] = json.loads(files.read_small(path), object_pairs_hook=_once)
    found = fields.get("format", 1)
    if found != form or isinstance(found, bool):
        raise ValueError(f"its format is {quoted(found)}")
    return fields


def write(path: Path, fields: Mapping[str, Any], *, staging: Path | None = None) -> None:
    """Put one in the place of another, as `files.replace` does. Raises OSError."""
    files.replace(path, json.dumps(fields, indent=2).encode() + b"\n", staging=staging)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last of two of a name would count, and a record is taken back by writing over its first."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("it has a name twice")
    return fields

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the engine, which is the version of the collection, and a day on which it did not exist yet."""

from __future__ import annotations

from datetime import datetime, timezone

VERSION = "0.1.0"
# No version is older, so a clock that says an earlier time is wrong.
RELEASED = datetime(2026, 10, 1, tzinfo=timezone.utc)

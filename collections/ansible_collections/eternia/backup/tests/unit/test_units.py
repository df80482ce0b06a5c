# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and ages as people read and write them."""

from __future__ import annotations

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import units
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import ConfigError

SIZES = [
    (None, "-"),
    (0, "0 B"),
    (999, "999 B"),
    (1000, "1.0 kB"),
    (999_949, "999.9 kB"),
    (999_950, "1.0 MB"),
    (5_300_000_000, "5.3 GB"),
    (2 * 10**15, "2000.0 TB"),
]
AGES = [
    (0, "0 s"),
    (59.9, "59 s"),
    (60, "1 min"),
    (3661, "1 h 1 min"),
    (86400 * 3 + 7200, "3 d 2 h"),
    (86400 + 59, "1 d"),
    (-90, "in 1 min 30 s"),
]


@pytest.mark.parametrize(("count", "words"), SIZES)
def test_sizes(count, words):
    assert units.size(count) == words


@pytest.mark.parametrize(("seconds", "words"), AGES)
def test_ages(seconds, words):
    assert units.age(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 copies"), (1, "1 copy"), (2, "2 copies")])
def test_so_many(count, words):
    assert units.counted(count, "copy", "copies") == words


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("90m", 5400), ("26h", 93600), ("2d", 172800)])
def test_an_age_as_somebody_types_it(text, seconds):
    assert units.seconds(text, "--max-age") == seconds


@pytest.mark.parametrize("text", ["", "h", "1 h", "-1h", "1.5h", "1w", "0", "0h", "\u0661h", "1h\n", "9" * 10])
def test_what_is_no_age(text):
    with pytest.raises(ConfigError, match=r"^--max-age is .*; it must be an age such as 90m, 26h or 2d, or"):
        units.seconds(text, "--max-age")

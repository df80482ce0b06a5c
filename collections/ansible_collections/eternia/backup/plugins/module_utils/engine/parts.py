# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the parts of a file are: those that are hashed in parallel, and those that an upload sends."""

from __future__ import annotations

SMALLEST = 16 * 1024 * 1024
MOST = 10_000


def part_bytes(size: int) -> int:
    """The size in bytes of every part, but the last, of a file of `size` bytes: 16 MiB, doubled until 10,000 suffice.

    S3 takes parts of 5 MiB to 5 GiB, the last may be smaller, and 10,000 of them at most:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    """
    part = SMALLEST
    while part * MOST < size:
        part *= 2
    return part

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a file: those that are hashed in parallel, and those that travel to and from S3."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

SMALLEST = 16 * 1024 * 1024
MOST = 10_000
# What S3 takes at least of every part but the last.
_LEAST = 5 * 1024 * 1024
PARALLEL = 4

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Bytes `start` to `start + bytes` of a file; the first part has number 1."""

    number: int
    start: int
    bytes: int


def part_bytes(size: int) -> int:
    """The size in bytes of every part, but the last, of a file of `size` bytes: 16 MiB, doubled until 10,000 suffice.

    S3 takes parts of 5 MiB to 5 GiB, the last may be smaller, and 10,000 of them at most:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    """
    part = SMALLEST
    while part * MOST < size:
        part *= 2
    return part


def split(size: int, *, least: int = SMALLEST) -> list[Part]:
    """All parts of a file of `size` bytes, none but the last below `least`; an empty one has one, empty part."""
    step = max(part_bytes(size), least)
    return [Part(n, start, min(step, size - start)) for n, start in enumerate(range(0, size or 1, step), start=1)]


def in_parallel(work: Callable[[Part], T], parts: Iterable[Part]) -> list[T]:
    """Results in the order of `parts`. The first failure is raised, once the requests under way have ended."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    pool = ThreadPoolExecutor(PARALLEL)
    try:
        futures = [pool.submit(work, part) for part in parts]
        for future in as_completed(futures):
            future.result()
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Results in the order of `items`, which are taken as they are needed: no more than PARALLEL are there at once."""
    from concurrent.futures import Future, ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(PARALLEL, os.cpu_count() or 1))
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == PARALLEL:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def runs(sizes: Iterable[int]) -> list[tuple[Part, range]]:
    """What travels of a file that consists of pieces: runs of them, and which pieces each has, counted from 0.

    None but the last is below what S3 takes. Whole pieces, so that a run of which none changed can be copied.
    """
    found: list[tuple[Part, range]] = []
    start = first = total = 0
    pieces = list(sizes)
    for place, size in enumerate(pieces, start=1):
        total += size
        if total >= _LEAST or place == len(pieces):
            found.append((Part(len(found) + 1, start, total), range(first, place)))
            start, first, total = start + total, place, 0
    return found

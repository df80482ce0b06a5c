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


def split(size: int, *, least: int = 0) -> list[Part]:
    """All parts of a file of `size` bytes, none but the last below `least`; an empty one has one, empty part."""
    step = max(part_bytes(size), least)
    return [part_at(place, size, step) for place in range(-(-size // step) or 1)]


def part_at(place: int, size: int, step: int) -> Part:
    """One of the parts, counted from 0, of a file of `size` bytes that is cut after each `step` bytes."""
    start = min(place * step, size)
    return Part(place + 1, start, min(step, size - start))


def in_a_row(sizes: Iterable[int]) -> Iterator[Part]:
    """Parts of these sizes in bytes, one behind the other."""
    start = 0
    for number, size in enumerate(sizes, start=1):
        yield Part(number, start, size)
        start += size


def joined(parts: Iterable[Part], most: int) -> list[Part]:
    """The same bytes in fewer parts: those that lie behind each other as one, none of several above `most` bytes."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else Part(0, 0, 0)
        if last.start + last.bytes == part.start and last.bytes and last.bytes + part.bytes <= most:
            found[-1] = Part(last.number, last.start, last.bytes + part.bytes)
        else:
            found.append(Part(len(found) + 1, part.start, part.bytes))
    return found


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

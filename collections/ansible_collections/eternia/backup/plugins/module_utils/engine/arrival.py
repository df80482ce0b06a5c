# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a copy from S3 part by part: what lies on the host already does not travel, and what came once stays."""

from __future__ import annotations

from collections.abc import Sequence

from . import compression, files, staging
from .copying import Progress
from .errors import NotFoundError
from .manifest import Manifest
from .nearby import Nearby, take
from .parts import Part, in_a_row, split
from .recovery import Outcome
from .stores.base import Copy
from .stores.s3 import S3Store
from .target import Target


def bring(
    store: S3Store,
    copy: Copy,
    manifest: Manifest,
    target: Target,
    *,
    nearby: Sequence[Nearby],
    outcome: Outcome,
    progress: Progress,
) -> bool:
    """Bring it into the target's staging, plain; whether all of it came from the store.

    While parts come, the outcome is `cut_off`: what is there then stays for the next run. Raises DamagedError,
    NotFoundError, StoreError, OSError.
    """
    plain_name, stored_name = target.real.name, str(copy.name) if copy.name.encoding else target.real.name
    with staging.arriving(target, {plain_name, stored_name}) as place:
        needed = manifest.stored.bytes + (manifest.content.bytes if stored_name != plain_name else 0)
        files.need_space(target.staging, needed - place.bytes)
        plain, stored = place.descriptor(plain_name), place.descriptor(stored_name)
        if stored_name != plain_name:
            nearby = [Nearby(target.staging / stored_name, manifest), *nearby]
        with outcome.step("fetch"):
            present = take(plain, manifest, nearby, progress)
            missing = [part for part in _as_stored(manifest) if part.number not in present]
            outcome.cut_off = True
            try:
                store.fetch_parts(copy, stored, missing, progress)
            except (NotFoundError, OSError):
                outcome.cut_off = False
                raise
            outcome.cut_off = False
        outcome.bytes_fetched += sum(part.bytes for part in missing)
        if stored_name != plain_name:
            with outcome.step("decode"):
                compression.decode_parts(stored, plain, manifest, present)
                place.remove(stored_name)
    return not present


def _as_stored(manifest: Manifest) -> list[Part]:
    """Where each part of the content lies in the stored file."""
    return list(in_a_row(manifest.stored.frames)) if manifest.stored.frames else split(manifest.stored.bytes)

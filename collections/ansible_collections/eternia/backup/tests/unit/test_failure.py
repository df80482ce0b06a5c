# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failure is: the kind that is counted, and the exit code, of the error itself or of the one behind it."""

from __future__ import annotations

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine import backup, exit_code, failure, prune
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    ClockError,
    ConfigError,
    DamagedError,
    HeldError,
    LockedError,
    NotFoundError,
    SourceError,
    Stopped,
    StoreError,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3_errors import S3Error

ERRORS = [
    (SourceError("w"), "source", 1),
    (StoreError("w"), "store", 1),
    (NotFoundError("w"), "store", 10),
    (S3Error("w"), "s3", 1),
    (LockedError("w"), "locked", 11),
    (HeldError("w"), "locked", 11),
    (DamagedError("w"), "damaged", 12),
    (ConfigError("w"), "config", 2),
    (ClockError("w"), "other", 1),
    (Stopped("w"), "other", 1),
]


def raised(error, cause):
    try:
        raise error from cause
    except BaseException as exc:
        return exc


@pytest.mark.parametrize(("error", "kind", "code"), ERRORS)
def test_an_error_has_a_kind_and_a_code(error, kind, code):
    assert failure.of(error) == failure.Failure(kind, "w")
    assert exit_code.of(error) == code


@pytest.mark.parametrize(("error", "kind", "code"), ERRORS[:-1])
@pytest.mark.parametrize("wrapper", [backup.RunFailedError, prune.PruneFailedError])
def test_what_tells_how_far_a_run_got_is_as_what_failed(wrapper, error, kind, code):
    wrapped = raised(wrapper("half-way", object()), error)
    assert failure.of(wrapped) == failure.Failure(kind, "half-way")
    assert exit_code.of(wrapped) == code


def test_what_lies_behind_an_error_of_its_own_kind_counts_for_nothing():
    assert failure.of(raised(StoreError("w"), DamagedError("v"))).kind == "store"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("x"), "A fault of this program: KeyError: 'x'. Report it, with the log."),
        (KeyboardInterrupt(), "It was interrupted."),
    ],
)
def test_what_nobody_raised_on_purpose_is_told_as_what_it_is(error, reason):
    assert failure.of(error) == failure.Failure("other", reason)

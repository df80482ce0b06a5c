# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds in every history, on paper and on a real disk; `make fuzz` looks at many more of them."""

from __future__ import annotations

from ansible_collections.eternia.backup.tests.unit import histories
from hypothesis import HealthCheck, given, settings

# The same ones every time: a test that fails has failed because of a change.
small = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@settings(small, max_examples=500)
@given(histories.histories())
def test_every_history(history: histories.History) -> None:
    histories.check(history)


@settings(small, max_examples=80)
@given(histories.hosts())
def test_every_history_on_a_real_disk(host: histories.Host) -> None:
    histories.check_prune(host)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at so many random histories in this process: `python -m fuzz.histories paper|disk COUNT SEED`.

Prints how many it has looked at, how many runs they had, and how many were different. Ends with an error at the first
that breaks a promise, with the history in it, as small as hypothesis can make it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from ansible_collections.eternia.backup.tests.unit import histories
from hypothesis import HealthCheck, given, seed, settings

# hypothesis remembers what it tried, to try something else: without end, that would fill the memory.
_AT_ONCE = 2000


def main() -> None:
    where, count, start = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    counted: Counter[str] = Counter()
    different: set[int] = set()
    strategy, check = {
        "paper": (histories.histories(), histories.check),
        "disk": (histories.hosts(), histories.check_prune),
    }[where]
    number = start
    while counted["histories"] < count:
        some = min(_AT_ONCE, count - counted["histories"])

        @seed(number)
        @settings(max_examples=some, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(strategy)
        def look(found: Any) -> None:
            check(found)
            history = found.history if where == "disk" else found
            counted["histories"] += 1
            counted["runs"] += len(history.runs)
            different.add(hash(found))

        look()
        number += 1
    print(json.dumps({**counted, "different": len(different)}))


if __name__ == "__main__":
    main()

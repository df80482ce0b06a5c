# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.engine import config
from ..module_utils.engine.errors import ConfigError
from ..plugin_utils.timetable import PERIODS, Due, share

# How the frequency of the inventory and the rest begin. The check looks half an hour after a run; the drill is on a day
# on which no clock is ever moved, and is over when people come to work.
_CHECK = Due("hourly", 30 * 60)
_DRILL = Due("weekly", 24 * 3600 + 5 * 3600 + 15 * 60)


class FilterModule:
    """What a host is to do by itself, and what that needs of the host."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plan": plan}


def plan(configuration: Any, *, spread: Any = 0, drill: str = "weekly") -> dict[str, Any]:
    """See plan.yml. Raises AnsibleFilterError."""
    if not isinstance(configuration, Mapping):
        raise AnsibleFilterError("The configuration must have environment, host, base_dir and backup.")
    try:
        found = config.parse(
            configuration.get("backup"),
            environment=configuration.get("environment", ""),
            host=configuration.get("host", ""),
            base_dir=configuration.get("base_dir"),
        )
    except ConfigError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    if not found.enabled:
        return {"jobs": [], "storage": "", "mount": "", "files": []}
    part, seconds = share(found.environment, found.host), _spread(spread, found.frequency)
    due = {"run": Due(found.frequency, 0), "drill": _DRILL, "status": _CHECK}
    jobs = [
        {"name": name, "every": one.every, "cron": one.cron, "wait": one.wait, "calendar": one.calendar}
        for name, one in ((name, first.spread(part, seconds)) for name, first in due.items())
        # What is encrypted cannot be opened there: it is drilled from where the identity is.
        if name != "drill" or (drill != "none" and not found.recipients)
    ]
    report = found.report
    files = [found.database_path, found.state_path, report.log_file, report.metrics_file]
    return {
        "jobs": jobs,
        "storage": str(found.storage_path),
        "mount": "" if found.storage_mount is None else str(found.storage_mount),
        "files": [str(path) for path in files if path is not None],
    }


def _spread(value: Any, frequency: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise AnsibleFilterError(f"schedule_spread is {value!r}; it must be a whole number of seconds, 0 or more.")
    if value > PERIODS[frequency]:
        raise AnsibleFilterError(
            f"schedule_spread is {value} seconds, and frequency {frequency} comes every {PERIODS[frequency]}: a backup "
            f"would fall into the period of the next. Give {PERIODS[frequency]} or less."
        )
    return int(value)

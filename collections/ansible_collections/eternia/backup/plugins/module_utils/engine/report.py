# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Being seen: who is told that a run began, and how it ended. What goes wrong with that is a warning, no failure.

What most hosts do not need is imported where it is needed: a run starts every hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from . import names
from .config import Config
from .errors import StoreError
from .failure import Failure
from .record import Record
from .version import VERSION

if TYPE_CHECKING:
    from .status import Status


class Ended(NamedTuple):
    """How a command ended: its exit code, and why it failed, None where it did not.

    `record` is the record of a run, also where none could be written beside the backups, or none may be.
    """

    command: str
    code: int = 0
    failure: Failure | None = None
    record: Record | None = None


def started(config: Config) -> Iterator[str]:
    """Say that a run begins; returns what went wrong with that."""
    if config.report.ping_url is not None:
        from . import notify

        yield from filter(None, [notify.ping(config.report.ping_url, "/start")])


def ended(config: Config, how: Ended, now: datetime, *, pings: bool = False, tells: bool = True) -> Iterator[str]:
    """Write the metrics, ping where `pings`, and tell of a failure where `tells`; returns what went wrong with that."""
    settings = config.report
    if settings.metrics_file is not None:
        from . import status

        found = status.read(config, now=now)
        if how.record is not None:
            found = replace(found, record=how.record, last_run=how.record.trouble)
        yield from measured(config, found, now)
    if pings and settings.ping_url is not None:
        from . import notify

        event, reason = ("", None) if how.failure is None else ("/fail", how.failure.reason)
        yield from filter(None, [notify.ping(settings.ping_url, event, reason)])
    if tells and how.failure is not None:
        yield from told(config, how, now)


def measured(config: Config, found: Status, now: datetime) -> Iterator[str]:
    """Write the metrics, where anybody wants them; returns what went wrong with that."""
    if config.report.metrics_file is not None:
        from . import health, metrics

        level = health.level(health.troubles(config, found, now))
        try:
            metrics.write(config.report.metrics_file, metrics.render(config, found, level))
        except StoreError as exc:
            yield str(exc)


def told(config: Config, how: Ended, now: datetime) -> Iterator[str]:
    """Tell the failure command and the webhook why; returns what went wrong with that."""
    from . import notify

    settings = config.report
    notice = {
        "command": how.command,
        "environment": config.environment,
        "host": config.host,
        "at": names.iso(now),
        "exit_code": how.code,
        "failure": None if how.failure is None else how.failure.kind,
        "reason": None if how.failure is None else how.failure.reason,
        "tool_version": VERSION,
    }
    payload = json.dumps(notice).encode()
    if settings.failure_command:
        yield from filter(None, [notify.call(settings.failure_command, payload)])
    if settings.failure_webhook is not None:
        yield from filter(None, [notify.post(settings.failure_webhook, payload)])

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`eternia-backup status`: how the host's backups stand, for people and for monitoring systems."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime

from . import health, names, report, status
from .cli_output import say, tell
from .clock import Clock
from .config import Config
from .failure import OTHER, Failure
from .health import Level, Trouble
from .promises import NOT_KEPT, UNKNOWN
from .report import Ended
from .status import Status, StoreStatus
from .units import age, counted, seconds, size


def run(config: Config, args: argparse.Namespace) -> Level:
    """Say how things stand, the worst first; with `--report` tell others, too. Raises ConfigError."""
    max_age = None if args.max_age is None else seconds(args.max_age, "--max-age")
    now = Clock().now()
    found = status.read(config, now=now, max_age=max_age, versions=args.versions)
    troubles = health.troubles(config, found, now)
    level = health.level(troubles)
    if args.json:
        say(json.dumps(_fields(config, found, level, troubles), indent=2))
    else:
        for line in (_first(config, found, level, troubles), *_lines(config, found, troubles, now)):
            say(line)
    if args.report:
        for warning in (*args.warnings, *_told(config, found, level, troubles, now)):
            tell(f"WARNING: {warning}")
    return level


def unknown(error: BaseException, args: argparse.Namespace) -> Level:
    """Say that nobody knows how things stand, and why."""
    trouble = Trouble(Level.UNKNOWN, str(error))
    told = {"level": trouble.level.name, "message": trouble.message}
    fields = {"status": trouble.level.name, "code": int(trouble.level), "troubles": [told]}
    say(json.dumps(fields, indent=2) if args.json else f"{trouble.level.name}: {trouble.message}")
    return trouble.level


def _told(config: Config, found: Status, level: Level, troubles: Sequence[Trouble], now: datetime) -> Iterator[str]:
    yield from report.measured(config, found, now)
    if level is not Level.OK:
        reason = f"{level.name}: {' '.join(trouble.message for trouble in troubles)}"
        yield from report.told(config, Ended("status", int(level), Failure(OTHER, reason)), now)


def _fields(config: Config, found: Status, level: Level, troubles: Sequence[Trouble]) -> dict[str, object]:
    fields = asdict(found)
    del fields["backups"]
    told = [{"level": trouble.level.name, "message": trouble.message} for trouble in troubles]
    where = {"environment": config.environment, "host": config.host, "frequency": config.frequency}
    return {**where, "status": level.name, "code": int(level), **fields, "stale": found.stale, "troubles": told}


def _first(config: Config, found: Status, level: Level, troubles: Sequence[Trouble]) -> str:
    """What a monitoring system shows: one line that says it all."""
    if troubles:
        more = f" (and {counted(len(troubles) - 1, 'more trouble')})" if len(troubles) > 1 else ""
        words = f"{troubles[0].message}{more}"
    elif not found.enabled:
        words = "switched off, backup.enabled is false; nobody asks how old the newest backup is."
    else:
        words = f"{found.newest_verified} is {health.how_old(config, found)}"
    return f"{level.name}: {config.host} ({config.environment}): {words}"


def _lines(config: Config, found: Status, troubles: Sequence[Trouble], now: datetime) -> Iterator[str]:
    old = f"{found.newest_verified}, {health.how_old(config, found)}" if found.newest_verified else "none is verified"
    yield f"  newest    {old}"
    yield f"  last run  {'goes on' if found.running else found.last_run or _succeeded(found)}"
    yield f"  drill     {_drill(found, now)}"
    yield f"  hold      {found.held or 'none'}"
    yield f"  restore   {' '.join(found.interrupted) or 'none was cut off'}"
    for store in found.stores:
        is_shared = store.disk_bytes is not None and store.disk_bytes < store.bytes
        on_disk = f", {size(store.disk_bytes or 0)} on the disk" if is_shared else ""
        yield f"  {store.name:<9} {counted(store.kept, 'backup')}, {size(store.bytes)}{on_disk}{_old_versions(store)}"
    if config.cloud is not None:
        yield f"  promises  {_promises(found, now)}"
    for name in found.unlisted:
        yield f"  {name:<9} could not be listed"
    for trouble in troubles:
        yield f"  {trouble.level.name:<9} {trouble.message}"


def _promises(found: Status, now: datetime) -> str:
    """What the store in S3 cannot guarantee."""
    checked = found.promises
    if checked is None:
        return "nobody has tried what s3 keeps: eternia-backup check-store"
    told = (f"{verdict}: {', '.join(names_)}" for verdict in (NOT_KEPT, UNKNOWN) if (names_ := checked.named(verdict)))
    ago = age((now - names.from_iso(checked.at)).total_seconds())
    return f"{'; '.join(told) or 's3 keeps all of them'} (check-store, {ago} ago)"


def _old_versions(store: StoreStatus) -> str:
    if store.noncurrent_bytes is not None:
        return f", and {size(store.noncurrent_bytes)} of old versions that are billed"
    return ", old versions are kept" if store.versioned else ""


def _succeeded(found: Status) -> str:
    warnings = found.record.warnings if found.record is not None else ()
    return f"succeeded{', with a warning: ' * bool(warnings)}{' '.join(warnings)}"


def _drill(found: Status, now: datetime) -> str:
    if found.drill is None:
        return "none yet"
    ago = age((now - names.from_iso(found.drill.at)).total_seconds())
    return f"{ago} ago, {'everything' if found.drill.succeeded else 'not everything'} came back"

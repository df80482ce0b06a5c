# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`eternia-backup check-store`: what the store in S3 keeps of what backups rely on, and what this host's key may do."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from . import promises
from .cli_output import say, tell
from .clock import Clock
from .config import Config
from .errors import ConfigError, StoreError
from .exit_code import ExitCode
from .promises import StoreCheck


def run(config: Config, args: argparse.Namespace) -> ExitCode:
    """Try it and say it; FAILED where something is not kept that backups rely on. Raises StoreError, ConfigError."""
    found = promises.look(config, now=Clock().now())
    if args.json:
        say(json.dumps({"environment": config.environment, "host": config.host, **asdict(found)}, indent=2))
    else:
        _show(found)
    try:
        promises.remember(config, found)
    except (StoreError, ConfigError) as exc:
        tell(f"WARNING: status will not tell of this. {exc}")
    return ExitCode.FAILED if found.broken else ExitCode.DONE


def _show(found: StoreCheck) -> None:
    if found.broken:
        say(f"NOT KEPT: {found.store}: {', '.join(one.promise for one in found.broken)}")
    else:
        say(f"KEPT: {found.store} keeps what backups rely on, as far as this key may see")
    for one in found.findings:
        say(f"  {one.verdict:<9} {one.promise:<23} {one.meaning}")
    if found.left:
        say(f"  left      {found.left}")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log: plain lines that carry the name Eternia's operators search for."""

from __future__ import annotations

import logging

MANAGER = "[backup_manager]"
RECOVERY = "[backup_recovery]"

logger = logging.getLogger("eternia_backup")
# Without this, a program that sets up no logging would have warnings printed on its standard error.
logger.addHandler(logging.NullHandler())


def info(message: str, who: str = MANAGER) -> None:
    """Say what was done."""
    logger.info("%s %s", who, message)


def warning(message: str, who: str = MANAGER) -> None:
    """Say what an operator should look at."""
    logger.warning("%s %s", who, message)


def error(message: str, who: str = MANAGER) -> None:
    """Say what failed."""
    logger.error("%s %s", who, message)

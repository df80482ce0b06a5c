# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`--identity`: the secret key that opens encrypted backups, and whether it does. It is never on the command line."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

from . import encryption, key_check
from .cli_output import say
from .config import Config
from .encryption import Identity
from .errors import ConfigError
from .exit_code import ExitCode

_TYPED = "-"


def given(args: argparse.Namespace) -> Identity | None:
    """What `--identity` names, or what is typed. Raises ConfigError, StoreError."""
    return None if args.identity is None else _named(args.identity)


def check_key(config: Config, args: argparse.Namespace) -> ExitCode:
    """Whether a key opens the newest encrypted backup of every store."""
    found = key_check.run(config, _named(args.identity))
    for one in found:
        say(f"{one.verdict.value}   {one.location}")
        if one.problem is not None:
            say(f"  {one.problem}")
    return ExitCode.DONE if all(one.problem is None for one in found) else ExitCode.FAILED


def _named(name: str) -> Identity:
    if name == _TYPED:
        typed = _asked("Secret key (it is not shown): ")
        return encryption.identity_in(typed.encode("utf-8", "surrogateescape"), "What was typed")
    return encryption.identity_of(Path(name), _asked if _can_ask() else None)


def _can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _asked(prompt: str) -> str:
    if not _can_ask():
        raise ConfigError("There is no terminal to ask at. Name the file of the secret key: --identity FILE.")
    return getpass.getpass(prompt)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be typed behind `eternia-backup`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .config import Config
from .version import VERSION

_WHAT = "latest, a time such as 2026-11-22T12:00:00Z, a name, a path, or s3://bucket/key"
_EXIT_CODES = """\
exit codes: 0 done, 1 failed, 2 usage or configuration, 3 cancelled, 10 no such backup, 11 locked (another run, a hold,
or an application that has the data open), 12 damaged; of status, as monitoring systems have them: 0 OK, 1 WARNING,
2 CRITICAL, 3 UNKNOWN
"""


@dataclass(frozen=True)
class Origin:
    """Where the configuration comes from: the options that say so, and how it is read with them."""

    options: Mapping[str, Mapping[str, Any]]
    read: Callable[[argparse.Namespace], Config]


def parse(arguments: Sequence[str] | None, origin: Origin, prog: str) -> argparse.Namespace:
    """Take apart what was typed. Raises SystemExit for --help, and for what cannot be."""
    # Not the defaults of the options: a parser sets those on what its parent has, and the parent is everybody's.
    defaults = {dest(option): None for option in origin.options}
    given = argparse.Namespace(verbose=False, log_file=None, **defaults)
    return _parser(origin, prog).parse_args(arguments, given)


def _parser(origin: Origin, prog: str) -> argparse.ArgumentParser:
    common = _common(origin)
    parser = argparse.ArgumentParser(
        prog=prog,
        parents=[common],
        description="Takes, prunes, proves, lists, fetches and restores the backups of this host's Eternia.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{prog} {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: str, words: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=words, description=words)
        command.set_defaults(run=_command(run), refuse=command.error)
        return command

    command = add("run", "cli_run.run_", "what is scheduled: back up, send to S3, prune, report")
    _add_check(command)

    command = add("prune", "cli_run.prune_", "remove what the policy no longer keeps")
    _add_check(command)

    add("drill", "cli_run.drill_", "restore into scratch, to prove that the backups come back")

    command = add("hold", "cli_run.hold_", "keep every scheduled command away for a while")
    command.add_argument("--why", metavar="TEXT", required=True, help="for whoever finds the backups held")
    command.add_argument("--hours", metavar="N", type=float, default=4.0, help="until it ends by itself (default: 4)")

    add("release", "cli_run.release", "end a hold of your own")

    command = add("list", "cli_commands.list_", "the backups of every store, and what restores kept")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--verify",
        choices=("none", "manifest", "full"),
        default="none",
        help="how deeply each is checked: against its manifest, or every byte",
    )

    command = add("download", "cli_commands.download_", "bring a backup and its manifest to a directory, proven")
    command.add_argument("what", metavar="WHAT", help="latest, a time, a name, or s3://bucket/key")
    command.add_argument("--to", metavar="DIR", default=".", help="where to (default: here)")

    command = add("restore", "cli_restore.run", "put a backup into the place of the live data, which is kept")
    command.add_argument("what", metavar="WHAT", help=_WHAT)
    command.add_argument("--yes", action="store_true", help="do not ask; for scripts")
    command.add_argument("--check", action="store_true", help="show the plan, change nothing")
    command.add_argument("--allow-unverified", action="store_true", help="even where no manifest proves it")
    command.add_argument("--allow-foreign", action="store_true", help="even if it is of another host or environment")

    command = add("verify", "cli_commands.verify_", "compare backups with their manifests")
    command.add_argument("what", metavar="WHAT", nargs="*", help=f"{_WHAT} (default: every verified copy)")
    command.add_argument(
        "--full", action="store_true", help="read every byte back from S3 too, not only the checksum that it keeps"
    )

    command = add("status", "cli_status.run", "how the backups stand: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--max-age",
        metavar="AGE",
        help="how old the newest verified backup may be: 90m, 26h, 2d, seconds (default: what the frequency allows)",
    )
    command.add_argument(
        "--report", action="store_true", help="write the metrics too, and tell the failure command what is wrong"
    )
    return parser


def _command(where: str) -> Callable[[Config, argparse.Namespace], int]:
    """A command, by its module and its name. Imported when it is asked for: a run needs few, and starts every hour."""
    module, name = where.split(".")

    def run(config: Config, args: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module(f".{module}", __package__), name)(config, args))

    return run


def _add_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("--check", action="store_true", help="show the plan, change nothing")


def _common(origin: Origin) -> argparse.ArgumentParser:
    """The options that may stand before the command and after it."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for option, keywords in origin.options.items():
        common.add_argument(option, **keywords)
    common.add_argument("-v", "--verbose", action="store_true", help="the log on the standard error")
    common.add_argument("--log-file", metavar="FILE", help="the log into a file, behind what is there")
    return common


def dest(option: str) -> str:
    """The name under which argparse keeps an option."""
    return option.lstrip("-").replace("-", "_")

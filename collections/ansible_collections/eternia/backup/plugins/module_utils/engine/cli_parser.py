# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be typed behind `eternia-backup`: the commands and their options."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .config import Config
from .version import VERSION

_WHAT = "latest, a time such as 2026-11-22T12:00:00Z, a name, a path, or s3://bucket/key"
_EXIT_CODES = """\
exit codes: 0 done, 1 failed, 2 usage or configuration, 3 cancelled, 10 no such backup, 11 locked (another run, a hold,
or an application that has the data open), 12 damaged; of status, as monitoring systems have them: 0 OK, 1 WARNING,
2 CRITICAL, 3 UNKNOWN
"""


class Origin(NamedTuple):
    """Where the configuration comes from: the options that say so, and how it is read with them."""

    options: Mapping[str, Mapping[str, Any]]
    read: Callable[[argparse.Namespace], Config]


class Command(NamedTuple):
    """One command: the module and the function that it is, what it does, and its own options."""

    where: str
    words: str
    options: Callable[[argparse.ArgumentParser], None]

    def run(self, config: Config, args: argparse.Namespace) -> int:
        """Import it now: a run needs little of the others, and starts every hour."""
        module, name = self.where.split(".")
        command = getattr(importlib.import_module(f".{module}", __package__), name)
        # All is imported now: see cli.
        gc.enable()
        return int(command(config, args))


def parse(arguments: Sequence[str] | None, origin: Origin, prog: str) -> argparse.Namespace:
    """Take apart what was typed. Raises SystemExit for --help, and for what cannot be."""
    words = sys.argv[1:] if arguments is None else arguments
    # Not the defaults of the options: a parser sets those on what its parent has, and the parent is everybody's.
    defaults = {dest(option): None for option in origin.options}
    given = argparse.Namespace(verbose=False, log_file=None, **defaults)
    return _parser(origin, prog, words).parse_args(words, given)


def _parser(origin: Origin, prog: str, words: Sequence[str]) -> argparse.ArgumentParser:
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
    # To make all of them takes longer than to load the database, so only what is typed; or all, for whoever needs help.
    typed = [name for name in COMMANDS if name in words and not {"-h", "--help"}.intersection(words)]
    for name in typed or COMMANDS:
        command = COMMANDS[name]
        its = commands.add_parser(name, parents=[common], help=command.words, description=command.words)
        its.set_defaults(run=command.run, refuse=its.error)
        command.options(its)
    return parser


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


def _none(command: argparse.ArgumentParser) -> None:
    """No options of its own."""


def _check(command: argparse.ArgumentParser) -> None:
    command.add_argument("--check", action="store_true", help="show the plan, change nothing")


def _run(command: argparse.ArgumentParser) -> None:
    _check(command)
    command.add_argument("--timings", action="store_true", help="show where the time went")


def _prune(command: argparse.ArgumentParser) -> None:
    _check(command)
    command.add_argument(
        "--credentials",
        metavar="FILE",
        help="prune S3 with the key in this file, where the host's own may not (cloud_backup.prune: false)",
    )


def _identity(command: argparse.ArgumentParser, *, required: bool = False) -> None:
    command.add_argument(
        "--identity",
        metavar="FILE",
        required=required,
        help="the secret key that opens encrypted backups: of age-keygen, or of OpenSSH; - to type it",
    )


def _check_key(command: argparse.ArgumentParser) -> None:
    _identity(command, required=True)


def _hold(command: argparse.ArgumentParser) -> None:
    command.add_argument("--why", metavar="TEXT", required=True, help="for whoever finds the backups held")
    command.add_argument("--hours", metavar="N", type=float, default=4.0, help="until it ends by itself (default: 4)")


def _list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--verify",
        choices=("none", "manifest", "full"),
        default="none",
        help="how deeply each is checked: against its manifest, or every byte",
    )


def _download(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", metavar="WHAT", help="latest, a time, a name, or s3://bucket/key")
    command.add_argument("--to", metavar="DIR", default=".", help="where to (default: here)")
    _identity(command)


def _restore(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", metavar="WHAT", help=_WHAT)
    command.add_argument("--yes", action="store_true", help="do not ask; for scripts")
    _check(command)
    command.add_argument("--allow-unverified", action="store_true", help="even where no manifest proves it")
    command.add_argument("--allow-foreign", action="store_true", help="even if it is of another host or environment")
    _identity(command)


def _verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", metavar="WHAT", nargs="*", help=f"{_WHAT} (default: every verified copy)")
    command.add_argument(
        "--full", action="store_true", help="read every byte back from S3 too, not only the checksum that it keeps"
    )


def _status(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--max-age",
        metavar="AGE",
        help="how old the newest verified backup may be: 90m, 26h, 2d, seconds (default: what the frequency allows)",
    )
    command.add_argument(
        "--versions", action="store_true", help="count what a bucket that keeps versions has of what was deleted"
    )
    command.add_argument(
        "--report", action="store_true", help="write the metrics too, and tell the failure command what is wrong"
    )


def _check_store(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs")


COMMANDS = {
    "run": Command("cli_run.run_", "what is scheduled: back up, send to S3, prune, report", _run),
    "prune": Command("cli_run.prune_", "remove what the policy no longer keeps", _prune),
    "drill": Command("cli_run.drill_", "restore into scratch, to prove that the backups come back", _identity),
    "hold": Command("cli_run.hold_", "keep every scheduled command away for a while", _hold),
    "release": Command("cli_run.release", "end a hold of your own", _none),
    "list": Command("cli_commands.list_", "the backups of every store, and what restores kept", _list),
    "download": Command("cli_commands.download_", "bring a backup and its manifest to a directory, proven", _download),
    "restore": Command("cli_restore.run", "put a backup into the place of the live data, which is kept", _restore),
    "verify": Command("cli_commands.verify_", "compare backups with their manifests", _verify),
    "check-store": Command("cli_store.run", "try what the store in S3 keeps of what backups rely on", _check_store),
    "check-key": Command("cli_identity.check_key", "whether a secret key opens the newest backups", _check_key),
    "status": Command("cli_status.run", "how the backups stand: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN", _status),
}

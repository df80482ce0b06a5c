# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, `eternia-backup`: list, download, restore, verify, status.

Nothing depends on the current directory but what somebody types: a relative path begins where he stands.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cli_commands, cli_restore, config_file, exit_code, log
from .cli_output import flagged, logged, tell
from .config import Config
from .errors import EngineError
from .exit_code import ExitCode
from .version import VERSION

_WHAT = "latest, a time such as 2026-11-22T12:00:00Z, a name, a path, or s3://bucket/key"
_EXIT_CODES = """\
exit codes: 0 done, 1 failed, 2 usage or configuration, 3 cancelled, 10 no such backup, 11 locked (another run, or an
application that has the data open), 12 damaged
"""


@dataclass(frozen=True)
class Origin:
    """Where the configuration comes from: the options that say so, and how it is read with them."""

    options: Mapping[str, Mapping[str, Any]]
    read: Callable[[argparse.Namespace], Config]


def _read_file(args: argparse.Namespace) -> Config:
    return config_file.read(Path(args.config or os.environ.get(config_file.VARIABLE) or config_file.DEFAULT))


FILE = Origin(
    {
        "--config": {
            "metavar": "FILE",
            "help": f"where the backups are (default ${config_file.VARIABLE}, or {config_file.DEFAULT})",
        }
    },
    _read_file,
)


def main(arguments: Sequence[str] | None = None, origin: Origin = FILE, *, prog: str = "eternia-backup") -> int:
    """Run one command; returns its exit code. Raises SystemExit for --help and for what argparse refuses."""
    args = _parser(origin, prog).parse_args(arguments)
    args.again = shlex.join([prog, *_given(origin, args)])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal does not have must not end a restore.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(origin, args)
        sys.stdout.flush()
        return code
    except EngineError as exc:
        tell(f"{prog}: {flagged(str(exc))}")
        return exit_code.of(exc)
    except KeyboardInterrupt:
        tell(f"\nInterrupted. `{args.again} status` says whether a restore was cut off; the next one settles that.")
        return ExitCode.CANCELLED
    except BrokenPipeError:
        # Who read the output, `head` for example, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def _run(origin: Origin, args: argparse.Namespace) -> ExitCode:
    with logged(to_stderr=args.verbose, file=args.log_file):
        try:
            code: ExitCode = args.run(origin.read(args), args)
        except EngineError as exc:
            log.error(f"{args.command} failed: {exc}", log.RECOVERY)
            raise
        log.info(f"{args.command} ended: {code.name.lower()}", log.RECOVERY)
        return code


def _given(origin: Origin, args: argparse.Namespace) -> list[str]:
    """The options of the origin that were given, to be given again."""
    values = {option: getattr(args, _dest(option)) for option in origin.options}
    return [word for option, value in values.items() if value is not None for word in (option, value)]


def _dest(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


def _parser(origin: Origin, prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        parents=[_common(origin)],
        description="Lists, fetches, restores and verifies the backups of this host's Eternia.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(verbose=False, log_file=None, **{_dest(option): None for option in origin.options})
    parser.add_argument("--version", action="version", version=f"{prog} {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[Config, argparse.Namespace], ExitCode], words: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[_common(origin)], help=words, description=words)
        command.set_defaults(run=run, refuse=command.error)
        return command

    command = add("list", cli_commands.list_, "the backups of every store, and what restores kept")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument(
        "--verify",
        choices=("none", "manifest", "full"),
        default="none",
        help="how deeply each is checked: against its manifest, or every byte",
    )

    command = add("download", cli_commands.download_, "bring a backup and its manifest to a directory, proven")
    command.add_argument("what", metavar="WHAT", help="latest, a time, a name, or s3://bucket/key")
    command.add_argument("--to", metavar="DIR", default=".", help="where to (default: here)")

    command = add("restore", cli_restore.run, "put a backup into the place of the live data, which is kept")
    command.add_argument("what", metavar="WHAT", help=_WHAT)
    command.add_argument("--yes", action="store_true", help="do not ask; for scripts")
    command.add_argument("--check", action="store_true", help="show the plan, change nothing")
    command.add_argument("--allow-unverified", action="store_true", help="even where no manifest proves it")
    command.add_argument("--allow-foreign", action="store_true", help="even if it is of another host or environment")

    command = add("verify", cli_commands.verify_, "compare backups with their manifests")
    command.add_argument("what", metavar="WHAT", nargs="*", help=f"{_WHAT} (default: every verified copy)")
    command.add_argument(
        "--full", action="store_true", help="read every byte back from S3 too, not only the checksum that it keeps"
    )

    command = add("status", cli_commands.status_, "how old the newest verified backup is, and what stands in the way")
    command.add_argument("--json", action="store_true", help="for programs")
    return parser


def _common(origin: Origin) -> argparse.ArgumentParser:
    """The options that may stand before the command and after it. Made anew for each: a parser changes its parent's."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for option, keywords in origin.options.items():
        common.add_argument(option, **keywords)
    common.add_argument("-v", "--verbose", action="store_true", help="the log on the standard error")
    common.add_argument("--log-file", metavar="FILE", help="the log into a file, behind what is there")
    return common


if __name__ == "__main__":
    raise SystemExit(main())

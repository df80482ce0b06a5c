# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, `eternia-backup`: what is scheduled on a host, and what its operators type.

Nothing depends on the current directory but what somebody types: a relative path begins where he stands.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # Until the command begins: nothing that is imported is ever garbage, and to look for it takes long.
    gc.disable()

import argparse
import io
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from . import cli_log, cli_parser, config_file, exit_code, log, refusal, stopping
from .cli_output import flagged, tell
from .cli_parser import Origin
from .config import Config
from .errors import EngineError, HeldError, Stopped
from .exit_code import ExitCode

_MANAGED = ("run", "prune", "hold", "release", "status")


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
    args = cli_parser.parse(arguments, origin, prog)
    args.again = shlex.join([prog, *_given(origin, args)])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal does not have must not end a restore.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(origin, args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who read the output, `head` for example, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except (EngineError, OSError, Stopped) as exc:
        if args.command == "status":
            from . import cli_status

            return cli_status.unknown(exc, args)
        if isinstance(exc, OSError):
            exc = refusal.of(exc)
        tell(f"{prog}: {flagged(str(exc), args.again)}")
        return exit_code.of(exc)
    except KeyboardInterrupt:
        tell(f"\nInterrupted. `{args.again} status` says whether a restore was cut off; the next one settles that.")
        return ExitCode.CANCELLED


def _run(origin: Origin, args: argparse.Namespace) -> int:
    args.warnings = []
    who = log.MANAGER if args.command in _MANAGED else log.RECOVERY
    with ExitStack() as stack:
        stack.enter_context(cli_log.logged(to_stderr=args.verbose, file=args.log_file))
        try:
            code = _run_logged(origin, args, stack)
        except (EngineError, KeyboardInterrupt) as exc:
            # Who carries an outcome said it when it happened; and a hold is what somebody wanted.
            say_it = log.info if isinstance(exc, HeldError) else log.error
            if not hasattr(exc, "outcome"):
                say_it(f"{args.command} failed: {exc or 'interrupted'}", who)
            raise
        log.info(f"{args.command} ended with {code}", who)
        return code


def _run_logged(origin: Origin, args: argparse.Namespace, stack: ExitStack) -> int:
    try:
        config = origin.read(args)
    except EngineError:
        if _is_scheduled(args):
            # Nobody knows where else it should be said, and cron's mail may go nowhere.
            stack.enter_context(cli_log.to_system())
        raise
    stack.enter_context(stopping.heeded())
    if _is_scheduled(args) and args.log_file is None:
        stack.enter_context(cli_log.scheduled(config.report.log_file, args.warnings))
    known = len(args.warnings)
    code: int = args.run(config, args)
    for warning in args.warnings[known:]:
        tell(f"WARNING: {warning}")
    return code


def _is_scheduled(args: argparse.Namespace) -> bool:
    """Whether this is what cron runs, and not somebody who looks."""
    if args.command == "status":
        return bool(args.report)
    return args.command in ("run", "prune", "drill") and not getattr(args, "check", False)


def _given(origin: Origin, args: argparse.Namespace) -> list[str]:
    """The options of the origin that were given, to be given again."""
    values = {option: getattr(args, cli_parser.dest(option)) for option in origin.options}
    return [word for option, value in values.items() if value is not None for word in (option, value)]


if __name__ == "__main__":
    code = main()
    # Nor is it worth while to look for garbage at the end.
    gc.freeze()
    raise SystemExit(code)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `eternia-backup` that are scheduled, and those that keep them away for a while."""

from __future__ import annotations

import argparse
import os
import pwd
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import backup, behind, hold, judgement, names, prune, run
from .cli_output import say, tell
from .clock import Clock
from .config import Config
from .errors import ConfigError, HeldError
from .exit_code import ExitCode
from .run import Outcome
from .units import counted, size

if TYPE_CHECKING:
    from . import drill


def run_(config: Config, args: argparse.Namespace) -> ExitCode:
    """Back up, prune, report."""
    if not config.enabled:
        return _switched_off()
    if not args.check:
        outcome = run.run(config, clock=Clock(), warnings=args.warnings)
        if args.timings:
            tell(_timings(outcome))
        return _told(outcome, f"DONE: {config.host} is backed up")
    clock = Clock()
    taken = backup.plan(config, clock=clock)
    behind.plan(config, taken, clock=clock)
    return _told(Outcome(taken=taken, pruned=taken.pruned), "PLAN (nothing was written yet)")


def prune_(config: Config, args: argparse.Namespace) -> ExitCode:
    """Remove what the policy no longer keeps."""
    if not config.enabled:
        return _switched_off()
    if args.credentials is not None:
        config = _with_key(config, Path(os.path.abspath(args.credentials)))
    if not args.check:
        return _told(run.prune_alone(config, clock=Clock(), warnings=args.warnings), f"DONE: {config.host} is pruned")
    return _told(Outcome(pruned=prune.plan(config, now=Clock().now())), "PLAN (nothing was removed yet)")


def drill_(config: Config, args: argparse.Namespace) -> ExitCode:
    """Restore into scratch, to prove that the backups come back."""
    from . import cli_identity

    if not config.enabled:
        return _switched_off()
    identity = cli_identity.given(args)
    outcome = run.drill_all(config, clock=Clock(), warnings=args.warnings, identity=identity)
    return _told(outcome, "DONE: everything came back")


def hold_(config: Config, args: argparse.Namespace) -> ExitCode:
    """Keep every scheduled run away for a while."""
    now = Clock().now()
    wanted = hold.wanted(config, who=_who(), why=args.why, hours=args.hours, now=now)
    # Who holds already may hold for longer, or for less.
    hold.due(hold.read(config.storage_path, now), wanted, now)
    hold.put(config.storage_path, wanted)
    warning = hold.under_way(config.storage_path)
    if warning is not None:
        tell(f"WARNING: {warning}")
    say(f"HELD: no scheduled run, prune or drill until {names.iso(wanted.until)}. End it: {args.again} release")
    return ExitCode.DONE


def release(config: Config, args: argparse.Namespace) -> ExitCode:
    """End a hold of one's own."""
    now = Clock().now()
    found = hold.read(config.storage_path, now)
    if found is None:
        if hold.void(config.storage_path, now) is None:
            say("NOT HELD: there was nothing to release.")
        else:
            hold.put(config.storage_path, None)
            say(f"NOT HELD: {config.storage_path / hold.NAME} was no hold, and is removed.")
        return ExitCode.DONE
    if found.who != _who():
        raise HeldError(
            f"The backups of this host are held by {found.who} until {names.iso(found.until)}: {found.why}. You are "
            f"{_who()}. Ask there; only if that is over, remove {config.storage_path / hold.NAME}."
        )
    hold.put(config.storage_path, None)
    say("RELEASED: the next scheduled run goes ahead.")
    return ExitCode.DONE


def _with_key(config: Config, credentials_file: Path) -> Config:
    """The same with another key for S3, which may prune there. Raises ConfigError."""
    if config.cloud is None:
        raise ConfigError("--credentials is for S3, and backup.cloud_backup.enabled is false.")
    return replace(config, cloud=replace(config.cloud, credentials_file=credentials_file, prune=True))


def _switched_off() -> ExitCode:
    say("SWITCHED OFF: backup.enabled is false, so nothing was done.")
    return ExitCode.DONE


def _told(outcome: Outcome, first: str) -> ExitCode:
    """Say what was done; raises what failed. What somebody should look at goes to the standard error."""
    for warning in outcome.all_warnings:
        tell(f"WARNING: {warning}")
    if outcome.error is not None:
        raise outcome.error
    for line in (first, *_taken(outcome.taken), *_drilled(outcome.drilled), *_removed(outcome.pruned)):
        say(line)
    return ExitCode.DONE


def _timings(outcome: Outcome) -> str:
    """Where the time went, also of a run that failed."""
    taken = outcome.taken or backup.Outcome()

    def listed(steps: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in steps.items())

    side_by_side = f" (proving, side by side: {listed(taken.proving)})" if taken.proving else ""
    return f"TIMINGS: {listed(taken.steps) or 'nothing was done'}{side_by_side}"


def _taken(taken: backup.Outcome | None) -> Iterator[str]:
    if taken is not None:
        yield f"  backup    {taken.path}, {size(taken.bytes)}"
        if taken.transfers:
            sent = size(sum(transfer.bytes_sent for transfer in taken.transfers.values()))
            copied = sum(transfer.bytes_copied for transfer in taken.transfers.values())
            there = f", {size(copied)} copied there" if copied else ""
            yield f"  to S3     {counted(len(taken.transfers), 'backup')}, {sent} sent{there}"


def _drilled(drilled: drill.Outcome | None) -> Iterator[str]:
    for one in () if drilled is None else drilled.drilled:
        yield f"  drilled   {one.location}, in {one.seconds:.1f} s"


def _removed(pruned: prune.Outcome | None) -> Iterator[str]:
    if pruned is not None:
        yield f"  removed   {counted(len(pruned.removed), 'copy', 'copies') if pruned.removed else 'nothing'}"
        for one in pruned.removed:
            yield f"              {one.location}: {'; '.join(one.decision.reasons)}"
        obstacles = Counter(
            one.decision.reasons[0] for one in pruned.verdicts if one.decision.reasons[0].startswith(judgement.OBSTACLE)
        )
        for why, count in obstacles.items():
            yield f"  kept      {counted(count, 'copy', 'copies')}: {why}"
        locked = [one for one in pruned.verdicts if one.decision.reasons[0].startswith(judgement.LOCKED)]
        if locked:
            # The newest first, which is locked the longest.
            longest = locked[0].decision.reasons[0]
            yield f"  kept      {counted(len(locked), 'copy', 'copies')} that no rule wants: {longest}"
        if pruned.noncurrent is not None:
            yield f"  versions  {pruned.noncurrent}"


def _who() -> str:
    """Whoever types, as a hold names him."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    return f"{name}@{os.uname().nodename}"

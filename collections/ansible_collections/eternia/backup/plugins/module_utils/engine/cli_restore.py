# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`eternia-backup restore`: show the plan, ask, restore, tell what happened and how to go back."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from . import catalog, cli_identity, fetch, holders, names, restore, swap
from . import target as target_
from .cli_output import flagged, progress_bar, require_progress_bar, say
from .clock import Clock
from .config import Config
from .errors import Stopped
from .exit_code import ExitCode
from .names import DATABASE
from .recovery import Outcome, Request, counts
from .safety import RAW_SUFFIX
from .selection import LATEST
from .units import age, size


def run(config: Config, args: argparse.Namespace) -> ExitCode:
    """Restore what was asked for, once somebody said that it may happen."""
    if not (args.yes or args.check):
        if sys.stdin is None or not sys.stdin.isatty():
            args.refuse("the standard input is no terminal, so nobody can be asked; in a script say --yes")
        require_progress_bar()
    clock, request = (
        Clock(),
        Request(wanted(args.what), args.allow_unverified, args.allow_foreign, cli_identity.given(args)),
    )
    planned = restore.plan(config, request, clock=clock)
    _say_all(_plan(planned, config, now=clock.now(), again=args.again))
    settled = planned.unchanged and not any(map(swap.pending, target_.both(config)))
    if args.check or settled:
        return ExitCode.DONE
    for target in target_.both(config):
        # Nobody is asked for what would be refused.
        if planned.holders and target.kind == planned.kind:
            holders.require_none(target)
    if not args.yes and not _confirmed():
        say("Restore cancelled.")
        return ExitCode.CANCELLED
    with progress_bar(planned.bytes_to_fetch) as progress:
        # Whom nobody asked has seen no plan: what is damaged may be passed over.
        shown = request if args.yes else _as_shown(request, planned)
        outcome = restore.run(config, shown, clock=clock, progress=progress)
    _say_all(_done(outcome, again=args.again, told=planned.warnings))
    return ExitCode.DONE


def wanted(text: str) -> str:
    """What was typed, as the engine wants it: a path that begins where the person stands is made absolute."""
    is_path = ("/" in text and "://" not in text) or (text != LATEST and os.path.exists(text))
    return os.path.abspath(text) if is_path else text


def _as_shown(request: Request, planned: Outcome) -> Request:
    """What was shown is what is restored, even where a newer one was taken while somebody thought about it."""
    is_exact = os.path.isabs(request.backup) or "://" in request.backup
    return request if is_exact else replace(request, backup=planned.name)


def _confirmed() -> bool:
    try:
        sys.stdout.write('Type "yes" to restore: ')
        sys.stdout.flush()
        answer = sys.stdin.readline()
    except Stopped:
        raise
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        say()
    return answer.rstrip("\n") == "yes"


def _plan(planned: Outcome, config: Config, *, now: datetime, again: str) -> Iterator[str]:
    if planned.unchanged:
        yield f"UNCHANGED: {planned.target} has the content of {planned.name} already"
    else:
        there = os.path.lexists(planned.target)
        yield "PLAN (nothing was written yet)"
        yield f"  backup    {planned.name}, {size(planned.bytes)}, {_taken(planned.created_at, now)}"
        yield f"  from      {planned.location} ({size(planned.bytes_to_fetch)} to fetch)"
        yield f"  into      {planned.target} ({size(planned.space_free)} free, {size(planned.space_needed)} needed)"
        yield from _counted(planned, "now", "then", there=there)
        yield f"  open in   {'; '.join(map(str, planned.holders)) or 'no process'}"
        if planned.holders:
            yield "            Stop it first: nothing is restored while the data is open."
        kept = f"what is there, as a safety backup in {catalog.safety(config).path}"
        yield f"  kept      {kept if there else 'nothing: there is nothing'}"
    yield from _warnings(planned.warnings, again)


def _done(outcome: Outcome, *, again: str, told: Iterable[str]) -> Iterator[str]:
    if outcome.unchanged:
        yield f"UNCHANGED: {outcome.target} has the content of {outcome.name} already"
    else:
        yield f"RESTORED: {outcome.target} is {outcome.name} now"
        yield f"  from      {outcome.location} ({size(outcome.bytes)}, {size(outcome.bytes_fetched)} fetched)"
        yield f"  proven    {_proof(outcome)}"
        yield from _counted(outcome, "before", "after", there=outcome.safety is not None)
        yield f"  kept      {outcome.safety or 'nothing was there'}"
        yield f"  steps     {', '.join(f'{step} {seconds:.1f} s' for step, seconds in outcome.steps.items())}"
    yield from _warnings((warning for warning in outcome.warnings if warning not in told), again)
    if outcome.safety is not None:
        allowed = " --allow-unverified" if outcome.safety.endswith(RAW_SUFFIX) else ""
        yield "Start the application. To go back to what was there before:"
        yield f"  {again} restore{allowed} {shlex.quote(outcome.safety)}"


def _proof(outcome: Outcome) -> str:
    found = outcome.manifest
    if outcome.store == fetch.RAW:
        return "nothing: it was kept byte for byte, and is back byte for byte, sound or not"
    if found is None:
        return "by its check alone: it has no manifest"
    digest = found.content.digest
    return f"{digest.algorithm} {digest.value[:16]}…, checked, facts as in the manifest"


def _counted(outcome: Outcome, first: str, last: str, *, there: bool) -> Iterator[str]:
    """The rows of each table, or the size of each key, of what is there and of what comes."""
    before, after = counts(outcome.before), counts(outcome.after)
    unread = "none that can be read" if there else "nothing there"
    word = "rows" if outcome.kind == DATABASE else "keys"
    yield f"  {word}      {_total(before, word, unread)} {first}, {_total(after, word, 'not known')} {last}"
    shown: dict[str, Any] = {**(before or {}), **(after or {})}
    for name in sorted(shown):
        yield f"              {name:<20} {_one(before, name):>9} → {_one(after, name):>9}"


def _total(counted: Mapping[str, int] | None, word: str, otherwise: str) -> str:
    if counted is None:
        return otherwise
    return str(sum(counted.values()) if word == "rows" else len(counted))


def _one(counted: Mapping[str, int] | None, name: str) -> str:
    return str((counted or {}).get(name, "-"))


def _taken(created_at: str | None, now: datetime) -> str:
    if created_at is None:
        return "taken at a time that is not known"
    passed = (now.astimezone(timezone.utc) - names.from_iso(created_at)).total_seconds()
    return f"taken {created_at} ({age(passed)} ago)"


def _warnings(warnings: Iterable[str], again: str) -> Iterator[str]:
    return (f"  WARNING   {flagged(warning, again)}" for warning in warnings)


def _say_all(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `eternia-backup` that change nothing in any store: list, download, verify."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from . import catalog, cli_identity, download, names, selection, status, verify
from .checked import BackupStatus
from .cli_output import progress_bar, require_progress_bar, say, table, tell
from .cli_restore import wanted
from .clock import Clock
from .config import Config
from .errors import DamagedError, NotFoundError, StoreError
from .exit_code import ExitCode
from .stores.base import Copy, Store
from .stores.s3 import S3Store
from .units import age, counted, size

_COLUMNS = ("name", "size", "age", "status", "copies", "pinned")


def list_(config: Config, args: argparse.Namespace) -> ExitCode:
    """Every backup of every store, and what restores kept."""
    now = Clock().now()
    found = status.read(config, now=now, verify=args.verify)
    kept, unlisted = _kept(config)
    unlisted = {**found.unlisted, **unlisted}
    if args.json:
        fields = asdict(found)
        fields.update(stale=found.stale, safety=[asdict(one) for one in kept], unlisted=unlisted)
        say(json.dumps({"environment": config.environment, "host": config.host, **fields}, indent=2))
    else:
        _show(config, found.backups, kept, now, again=args.again)
    for store, why in unlisted.items():
        tell(f"NOT LISTED: {store}. {why}")
    copies = [copy for backup in found.backups for copy in backup.copies] if args.verify != "none" else []
    if any(copy.damaged for copy in copies):
        return ExitCode.DAMAGED
    return ExitCode.FAILED if unlisted or any(copy.problem for copy in copies) else ExitCode.DONE


def _kept(config: Config) -> tuple[Sequence[BackupStatus], dict[str, str]]:
    try:
        return status.kept(config), {}
    except StoreError as exc:
        return (), {catalog.SAFETY: str(exc)}


def _show(
    config: Config, backups: Sequence[BackupStatus], kept: Sequence[BackupStatus], now: datetime, *, again: str
) -> None:
    say(f"{config.host} ({config.environment}): {counted(len(backups), 'backup')}{', newest first' * bool(backups)}")
    if backups:
        say()
        table(_COLUMNS, (_row(one, now) for one in backups))
    for copy in (copy for one in backups for copy in one.copies if copy.problem):
        say(f"{'DAMAGED' if copy.damaged else 'NOT CHECKED'}: {copy.location} ({copy.problem})")
    if kept:
        say()
        say(f"{counted(len(kept), 'safety backup')}, what restores replaced. Bring one back: {again} restore PATH")
        say()
        table(("path", "size", "age", "status"), (_kept_row(one, now) for one in kept))


def _row(one: BackupStatus, now: datetime) -> Sequence[str]:
    copies = ", ".join(f"{copy.store} (damaged)" if copy.damaged else copy.store for copy in one.copies)
    return one.name, size(one.bytes), _age(one, now), one.status, copies, "yes" if one.pinned else ""


def _kept_row(one: BackupStatus, now: datetime) -> Sequence[str]:
    return one.copies[0].location, size(one.bytes), _age(one, now), one.status


def _age(one: BackupStatus, now: datetime) -> str:
    return age((now - names.from_iso(one.created_at)).total_seconds())


def download_(config: Config, args: argparse.Namespace) -> ExitCode:
    """Bring a backup and its manifest to a directory."""
    require_progress_bar()
    directory = Path(os.path.abspath(args.to))
    done = download.run(
        config, args.what, directory=directory, clock=Clock(), watch=progress_bar, identity=cli_identity.given(args)
    )
    if done.unchanged:
        say(f"ALREADY THERE: {done.target} has the bytes of {done.location}")
    else:
        say(f"DONE: {done.target}, {size(done.bytes)} from {done.location}")
    if done.manifest is not None:
        digest = done.manifest.content.digest
        say(f"  proven    {digest.algorithm} {digest.value[:16]}…, checked, facts as in the manifest beside it")
    for warning in done.warnings:
        say(f"  WARNING   {warning}")
    return ExitCode.DONE


def verify_(config: Config, args: argparse.Namespace) -> ExitCode:
    """Compare copies with their manifests, and say of each how it stands."""
    unlisted: dict[str, str] = {}
    copies = list(_asked_for(config, args.what) if args.what else _verified(config, unlisted))
    results = [_verify(store, copy, full=args.full) for store, copy in copies]
    for store, why in unlisted.items():
        tell(f"NOT LISTED: {store}. {why}")
    damaged, unknown = results.count(ExitCode.DAMAGED), results.count(ExitCode.FAILED)
    if not copies and not unlisted:
        raise NotFoundError("There is no verified backup. Take one, then verify again.")
    say(f"{counted(results.count(ExitCode.DONE), 'copy', 'copies')} whole, {damaged} damaged, {unknown} not known")
    return ExitCode.DAMAGED if damaged else ExitCode.FAILED if unknown or unlisted else ExitCode.DONE


def _verified(config: Config, unlisted: dict[str, str]) -> Iterator[tuple[Store, Copy]]:
    """Every copy that says of itself that it is verified, the newest first; which stores cannot be listed, and why."""
    for store in catalog.stores(config):
        try:
            if isinstance(store, S3Store):
                store.claimed(config.owner)
            copies = sorted(store.copies(), key=lambda copy: copy.name, reverse=True)
        except StoreError as exc:
            unlisted[store.name] = str(exc)
            continue
        yield from ((store, copy) for copy in copies if copy.has_manifest)


def _asked_for(config: Config, asked: Sequence[str]) -> Iterator[tuple[Store, Copy]]:
    for what in asked:
        found = selection.find(config, wanted(what), now=Clock().now())
        for warning in found.warnings:
            tell(warning)
        first = found.candidates[0]
        if first.raw is not None:
            raise StoreError(
                f"{first.raw} holds, byte for byte, what was too damaged to be a backup, and has no manifest to be "
                "compared with. Look at its files with sqlite3, or verify another."
            )
        yield from first.copies


def _verify(store: Store, copy: Copy, *, full: bool) -> ExitCode:
    where = store.location(copy.name)
    try:
        if not copy.has_manifest:
            raise StoreError(
                f"{where} has no manifest that says what it should be. Verify another, or download it: it is checked "
                "then as far as that goes."
            )
        if full:
            verify.read_back(store, copy)
        else:
            store.prove(copy)
    except (DamagedError, NotFoundError) as exc:
        say(f"DAMAGED   {exc}")
        return ExitCode.DAMAGED
    except StoreError as exc:
        say(f"UNKNOWN   {exc}")
        return ExitCode.FAILED
    say(f"whole     {where} ({size(copy.bytes)})")
    return ExitCode.DONE

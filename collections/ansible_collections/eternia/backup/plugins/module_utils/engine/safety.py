# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The safety backup: what a restore replaces is kept first, as a backup where it is sound, byte for byte where not."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from . import catalog, companions, copying, digest, files, log, machine, names, sqlite, verify
from .clock import Clock
from .config import Config
from .current import Judged
from .errors import DamagedError, LockedError, SourceError, StoreError, TargetError
from .identity import Identity
from .manifest import Manifest, Verified
from .names import DATABASE, BackupName
from .pin import StirredError, pinned
from .stores.local import LocalStore
from .swap import Kept
from .target import Target

RAW_SUFFIX = ".raw"


def need_space(target: Target, config: Config) -> None:
    """Refuse before anything is fetched where what is there could not be kept. Raises StoreError."""
    present = target.present()
    _require_own(catalog.safety(config).path)
    room = files.require_usable(catalog.safety(config).path)
    if present and room.stat().st_dev != target.real.parent.stat().st_dev:
        files.need_space(room, sum(facts.st_size for facts in present.values()))


def _require_own(path: Path) -> None:
    if path.is_symlink():
        raise StoreError(
            f"{path} is a symbolic link, and nothing of ours makes one there: what is kept of the live data would lie "
            "elsewhere. Nothing was changed; remove the link, then run again."
        )


def fold(target: Target, level: str, judged: Judged | None) -> dict[str, Any] | None:
    """Check what is there, then bring a database's log into it; its facts, or None where it is not sound.

    What was `judged` and was not touched since is not checked again. What is not sound is not touched: opening it for
    writing might make it worse.
    """
    if not target.real.exists():
        return None
    try:
        if target.kind != DATABASE:
            return verify.facts(target.real, target.kind)
        if judged is not None and judged.holds(target):
            return judged.facts
        _roll_back(target, level)
        found = _checked(target.real, level)
        if any(target.beside(suffix).exists() for suffix in target.suffixes[1:]):
            # As every application does that closes its last connection.
            with _writable(target.real) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return None if _has_log(target) else found
    except (SourceError, DamagedError, sqlite3.Error, OSError) as exc:
        if _may_pass(exc):
            raise TargetError(
                f"{target.path} cannot be brought into one file, with its log: {exc}. Nothing was changed. Free some "
                "space there, or stop who has it locked, then run again."
            ) from exc
        log.warning(f"{target.path} is not sound ({exc}); it is kept byte for byte.", log.RECOVERY)
        return None


def _may_pass(exc: Exception) -> bool:
    """Whether it says nothing about the database: then it may be sound, and its log must not be parted from it."""
    return getattr(exc, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(
        words in str(exc) for words in ("database or disk is full", "database is locked", "is locked: another process")
    )


def _roll_back(target: Target, level: str) -> None:
    """Take back what a writer left half-done that died, as every application does that opens the database.

    It is tried on a copy first. Raises DamagedError, OSError, sqlite3.Error.
    """
    if not companions.hot_bytes(target.beside("-journal")):
        return
    with files.emptied(target.staging / "tried") as directory:
        for suffix in target.present():
            copying.copy_file(target.beside(suffix), directory / target.beside(suffix).name)
        _read_once(directory / target.real.name)
        verify.check(directory / target.real.name, target.kind, level)
    _read_once(target.real)


def _read_once(path: Path) -> None:
    with _writable(path) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


@contextmanager
def _writable(path: Path) -> Iterator[sqlite3.Connection]:
    """Opened as applications do. Raises DamagedError where SQLite would go on to another file, and remove it."""
    journal = Path(f"{path}-journal")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Nothing was read yet; but that is the file, and the journal beside it, where somebody put a link.
        (opened,) = (row[2] for row in connection.execute("PRAGMA database_list"))
        if opened != str(path):
            raise DamagedError(f"{path} became a symbolic link to {opened} while it was looked at.")
        with suppress(FileNotFoundError), files.opened(files.open_plain(journal)) as descriptor:
            if sqlite.names_another(descriptor):
                raise DamagedError(f"{journal} is of a transaction over several databases, and names another file.")
        yield connection


def _has_log(target: Target) -> bool:
    """Whether the database lacks something that lies beside it."""
    log_of_it = target.present().get("-wal")
    return companions.hot_bytes(target.beside("-journal")) > 0 or (log_of_it is not None and log_of_it.st_size > 0)


def _checked(path: Path, level: str) -> dict[str, Any]:
    try:
        return _checked_once(path, level, may_rest=True)
    except StirredError:
        return _checked_once(path, level, may_rest=False)


def _checked_once(path: Path, level: str, *, may_rest: bool) -> dict[str, Any]:
    with pinned(path, may_rest=may_rest) as pin:
        verify.check_open(pin.connection, path, level)
        return {"journal_mode": pin.journal_mode, **sqlite.facts(pin.connection)}


def prepare(
    target: Target,
    facts: dict[str, Any] | None,
    config: Config,
    *,
    judged: Judged | None,
    staging: Path,
    clock: Clock,
) -> Kept:
    """Make the safety backup in `staging`; `publish` gives it its name. `facts` are what `fold` found.

    On the same filesystem it is a second name of the live file, where that has no other, and costs nothing. Raises
    StoreError.
    """
    present = target.present()
    if not present:
        return Kept(None, {}, linked=False, sound=False)
    if facts is not None and _has_log(target):
        raise LockedError(
            f"{target.path} was written to while the restore went on. Nothing was changed; stop the application, then "
            "run again."
        )
    store = catalog.safety(config)
    _require_own(store.path)
    files.make_private_dirs(store.path)
    name = _free_name(store, target, clock)
    try:
        if facts is not None:
            try:
                return _prepare_sound(
                    target, facts, config, judged=judged, store=store, name=name, staging=staging, clock=clock
                )
            except (DamagedError, SourceError) as exc:
                # It can be read, but not as what it was a moment ago: the disk; or it has more than a manifest can say.
                log.warning(str(exc), log.RECOVERY)
                (staging / str(name)).unlink(missing_ok=True)
        return _prepare_raw(target, store.path / f"{name}{RAW_SUFFIX}", staging / f"{name}{RAW_SUFFIX}")
    except OSError as exc:
        raise StoreError(
            f"What is at {target.path} could not be kept in {store.path}: {files.reason(exc)}. Nothing was changed; "
            "free some space or correct storage_path, then run again."
        ) from exc


def publish(kept: Kept, staging: Path) -> None:
    """Give what was prepared its name. Raises StoreError."""
    if kept.place is None:
        return
    try:
        if kept.sound:
            for name in (kept.place.name, f"{kept.place.name}{names.MANIFEST_SUFFIX}"):
                files.commit(staging / name, kept.place.with_name(name))
        else:
            os.rename(staging / kept.place.name, kept.place)
            files.fsync_path(kept.place.parent)
    except OSError as exc:
        raise StoreError(
            f"The safety backup {kept.place} could not be stored: {files.reason(exc)}. Nothing was changed; correct "
            "the rights there, then run again."
        ) from exc


def detach(kept: Kept, staging: Path) -> None:
    """Make what was kept by a link a file of its own. Raises OSError."""
    for path in kept.files.values() if kept.linked else ():
        own = staging / f"{path.name}.own"
        copying.copy_file(path, own)
        os.replace(own, path)


def close_to_others(kept: Kept) -> None:
    """What was kept by a link had the live file's owner and mode until now. Raises OSError.

    What has another name still keeps them: there it is somebody else's.
    """
    for path in kept.files.values():
        if path.stat().st_nlink > 1:
            continue
        os.chmod(path, 0o600)
        if os.geteuid() == 0:
            his = path.parent.stat()
            os.chown(path, his.st_uid, his.st_gid, follow_symlinks=False)


def _prepare_sound(
    target: Target,
    facts: dict[str, Any],
    config: Config,
    *,
    judged: Judged | None,
    store: LocalStore,
    name: BackupName,
    staging: Path,
    clock: Clock,
) -> Kept:
    staged = staging / str(name)
    old = Identity.of(target.real)
    # A file that another name leads to may be written to by that name.
    linked = target.real.stat().st_nlink == 1 and copying.link_or_copy(target.real, staged)
    if not linked and not staged.exists():
        copying.copy_file(target.real, staged)
    if linked and judged is not None and judged.holds(target):
        proof = judged.proof
    else:
        # Somebody may have come and gone since the facts were read, until the lock was ours.
        proof = verify.prove_whole(staged, name.kind, config.verify, algorithm=digest.preferred_algorithm())
        verify.same_facts(staged, proof.facts, facts)
    manifest = Manifest(
        name=str(name),
        kind=name.kind,
        environment=config.environment,
        host=config.host,
        machine=machine.identity(),
        created_at=names.iso(name.created_at),
        source={"path": str(target.path), "bytes": proof.content.bytes, **facts},
        content=proof.content,
        stored=proof.stored,
        verified=Verified(config.verify, names.iso(clock.now())),
    )
    files.write_new(staging / f"{name}{names.MANIFEST_SUFFIX}", manifest.to_json())
    place = store.path / str(name)
    return Kept(place, {"": place}, linked=linked, sound=True, old=Identity.of(staged) if linked else old)


def _prepare_raw(target: Target, place: Path, staged: Path) -> Kept:
    files.make_private_dir(staged)
    present = target.present()
    linked = [
        _keep_raw(target.beside(suffix), staged, may_link=len(present) == 1 and facts.st_nlink == 1)
        for suffix, facts in present.items()
    ]
    files.fsync_path(staged)
    kept = {suffix: place / target.beside(suffix).name for suffix in present}
    old = Identity.from_stat(present[""]) if "" in present else None
    return Kept(place, kept, linked=all(linked), sound=False, old=old)


def _keep_raw(path: Path, directory: Path, *, may_link: bool) -> bool:
    """Keep a file as it is; True where that is by a second name.

    One that has a log, or another name, is copied while there is room: whoever goes on without the log, or writes by
    that name, would change what was kept.
    """
    kept = directory / path.name
    if not may_link:
        try:
            copying.copy_file(path, kept)
            return False
        except OSError as exc:
            kept.unlink(missing_ok=True)
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
    return copying.link_or_copy(path, kept)


def _free_name(store: LocalStore, target: Target, clock: Clock) -> BackupName:
    second = clock.second()
    while any(
        os.path.lexists(store.path / f"{BackupName(second, target.kind)}{suffix}")
        for suffix in ("", RAW_SUFFIX, *names.SIDECAR_SUFFIXES)
    ):
        second += timedelta(seconds=1)
    return BackupName(second, target.kind)

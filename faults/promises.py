# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to hold of a host whatever went wrong: the promises of the design, looked at as an application would.

Names, and what is compressed, are read by the engine; nothing else of what it says of itself is taken for true.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.eternia.backup.plugins.module_utils.engine import names, object_lock, record
from ansible_collections.eternia.backup.tests.unit.situations import view

from .child import TRACE, Ended

if TYPE_CHECKING:
    from .scenes import Host

_MANIFEST = names.MANIFEST_SUFFIX
_RECORD = record.NAME
# Behind it come only those of drills.
_LAST_METRIC = b"\neternia_backup_store_listed{"
_KEPT = 2
# A next step: something that is told to be done, after what failed.
_TO_DO = (
    "Allow|Apply|Ask|Back|Bring|Check|Choose|Complete|Copy|Correct|Create|Delete|Drill|End|Find|Finish|Free|Give|"
    "Install|List|Look|Make|Mount|Move|Name|Put|Remove|Renew|Report|Restore|Run|Set|Start|Stop|Switch|Take|Upgrade|Use|"
    "Verify|Wait"
)
_ADVICE = re.compile(rf"[.:;,] +(?:then +|or +)?`?(?:{_TO_DO})\b", re.IGNORECASE)
# Whose words they are.
_NAME = re.compile(r"^[\w-]+: ")
_PATH_OR_KEY = re.compile(r"/|s3:|eternia_|SIGTERM|session token|clock")

Stores = dict[str, dict[str, bytes]]


def broken(
    host: Host,
    ended: Ended,
    before: Stores,
    after: Stores,
    *,
    nth: int = 0,
    recovers: bool = False,
    lasts: bool = False,
) -> list[str]:
    """The promises that are broken after a command; one that `recovers` has to have succeeded, and tidied.

    `before` and `after` are what lay in the stores, `nth` says how many commands came before it, and `lasts` whether
    what went wrong went on until its end.
    """
    if ended.hung:
        return ["it hung"]
    found = [*_whole_stores(host, after), *_retained(host, before, after), *_told_to_nobody(host, ended, after)]
    if host.scene.verb == "restore":
        is_settled = recovers or (nth == 0 and ended.code is not None)
        found += _restored(host, ended, is_first=nth == 0, is_settled=is_settled, lasts=lasts)
    elif host.source() != host.remains:
        found.append("the source was changed")
    if host.scene.verb == "backup":
        found += _recorded(after)
    if ended.code is not None:
        found += told(ended)
        found += _true(host, ended, before, after)
    if recovers:
        found += _recovered(host, ended, after)
    return found


def _whole_stores(host: Host, after: Stores) -> Iterator[str]:
    """Nothing partial lies under a final name."""
    for name, page in host.logs().items():
        if name.endswith(".prom") and not (page.endswith(b"\n") and _LAST_METRIC in page):
            yield f"{name} is not whole"
    for store, there in after.items():
        for name in sorted(there):
            # The record is taken back by writing over its head, so that no other can be read of it.
            if name.endswith(".json") and name != _RECORD and not _is_json(there[name]):
                yield f"{name} in {store} is not whole"
            if name.endswith(_MANIFEST):
                trouble = _trouble(host, store, name.removesuffix(_MANIFEST), there)
                if trouble:
                    yield f"{name} in {store}: {trouble}"
            elif names.parse(name) is not None:
                # The manifest comes after the data, and goes before it.
                if f"{name}{_MANIFEST}" not in there and not _is_whole(host, store, name, there[name]):
                    yield f"{name} in {store}, which has no manifest: not what its source was"
            elif names.parse_with_sidecar(name) is None and not _is_known(host, store, name):
                yield f"{name} lies in {store}"


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def _is_known(host: Host, store: str, name: str) -> bool:
    known = {*host.foreign, "eternia_backup.host.json", _RECORD, "drills.json", "drills.begun.json", object_lock.NAME}
    return name in known or name in (".lock", ".drill.lock") or name == "eternia_backup.probe"


def _trouble(host: Host, store: str, name: str, there: dict[str, bytes]) -> str:
    """Why a backup that has a manifest is none, "" where it is one."""
    if name not in there:
        return "a manifest without its data"
    try:
        manifest = json.loads(there[f"{name}{_MANIFEST}"])
        stored = manifest["stored"]
    except (ValueError, KeyError) as exc:
        return f"a manifest that is not whole ({exc})"
    if (len(there[name]), _digest(stored["digest"]["algorithm"], there[name])) != (
        stored["bytes"],
        stored["digest"]["value"],
    ):
        return "not the bytes that its manifest describes"
    return "" if _is_whole(host, store, name, there[name]) else "not what its source was"


def _is_whole(host: Host, store: str, name: str, data: bytes) -> bool:
    """Whether an application finds in a backup what its source was."""
    allowed = [host.versions[name]] if name in host.versions and store != "safety" else [host.was]
    if store == "safety" or host.scene.verb == "restore":
        allowed += host.versions.values()
    return host.seen_of(name, data) in allowed


def _digest(algorithm: str, data: bytes) -> str:
    if algorithm == "blake3":
        from blake3 import blake3

        return str(blake3(data).hexdigest())
    return hashlib.new(algorithm, data).hexdigest()


def _verified(there: dict[str, bytes]) -> set[str]:
    return {name for name in there if f"{name}{_MANIFEST}" in there}


def _retained(host: Host, before: Stores, after: Stores) -> Iterator[str]:
    """What retention never deletes is there."""
    for store, there in before.items():
        known, have = _verified(there), _verified(after[store])
        if store != "safety":
            # The newest may go once there are enough that are newer; the oldest is pinned.
            stay = (
                {min(known)} if len([name for name in have if name > max(known)]) >= _KEPT else {min(known), max(known)}
            )
            yield from (f"{name} is gone from {store}" for name in stay - have)
            if len(have) < _KEPT:
                yield f"{store} has only {len(have)} verified backups"
    if host.scene.locked:
        yield from (f"{name} was deleted in S3 while it was locked" for name in host.hidden())
    yield from (f"{name} was touched" for name, data in host.foreign.items() if after["the disk"].get(name) != data)


def _told_to_nobody(host: Host, ended: Ended, after: Stores) -> Iterator[str]:
    """No secret is in anything that was said or written."""
    secrets = [secret.encode() for secret in (host.secret_key, os.environ.get("AWS_SECRET_ACCESS_KEY")) if secret]
    written = {"what it said": ended.said.encode(), **host.logs()}
    written |= {f"{name} in {store}": data for store, there in after.items() for name, data in there.items()}
    for name, data in written.items():
        yield from (f"a secret is in {name}" for secret in secrets if secret in data)


def _restored(host: Host, ended: Ended, *, is_first: bool, is_settled: bool, lasts: bool) -> Iterator[str]:
    """The target is wholly old or wholly new, and what is said of it is true.

    Of what no application can open, every byte has to be the old one, where it `is_settled`: between, the next run
    knows where they are.
    """
    old, new, now = host.was, host.versions[host.wanted], host.seen()
    is_open = _leaves_open(ended, lasts=lasts)
    if now not in (old, new):
        yield f"the target is neither old nor new: {str(now)[:100]}"
    elif ended.code == 0 and now != new:
        yield "it said that it was restored, and it was not"
    elif ended.code and is_first and now != old and not is_open:
        yield "it said that it failed, and the target is the new one"
    every_byte = now == old != new and is_settled and not _is_sound(old) and not is_open
    if every_byte and host.source() != host.remains:
        yield f"of the old target only {sorted(host.source())} is left as it was, of {sorted(host.remains)}"
    if now == new and now != old:
        yield from _kept(host)


def _is_sound(seen: Any) -> bool:
    return seen[0] in ("rows", "state")


def _leaves_open(ended: Ended, *, lasts: bool) -> bool:
    """Whether it does not say that all is as before: on a disk that is broken for good, nobody can."""
    return "could not be taken back" in ended.said or (lasts and "could not be used" in ended.said)


def _kept(host: Host) -> Iterator[str]:
    safety = host.storage / "safety"
    kept = [host.seen_of(path.name, path.read_bytes()) for path in safety.glob("eternia_*") if _is_data(path.name)]
    for raw in map(partial(_files_of, host), safety.glob("*.raw")):
        if _is_sound(host.was):
            kept.append(view(host.target, raw))
        elif {suffix: path.read_bytes() for suffix, path in raw.items() if suffix != "-shm"} == host.remains:
            return
    if host.was not in kept:
        yield f"what was at the target is lost; kept are {str(kept)[:100]}"


def _files_of(host: Host, raw: Path) -> dict[str, Path]:
    """What was kept as it lay, by suffix."""
    files = {suffix: raw / host.target.beside(suffix).name for suffix in host.target.suffixes}
    return {suffix: path for suffix, path in files.items() if path.exists()}


def _is_data(name: str) -> bool:
    return names.parse(name) is not None


def told(ended: Ended) -> Iterator[str]:
    """Whatever fails says what failed, where, and what to do next."""
    if ended.code == TRACE or "Traceback" in ended.said or "A fault of this program" in ended.said:
        lines = ended.said.strip().splitlines()
        trace = [line.strip() for line in lines if "engine/" in line or "roles/agent" in line]
        yield f"it ended with a traceback: {lines[-1]:.200} [{' | '.join(trace[-2:]):.200}]"
    elif ended.code:
        words = [line for line in ended.said.splitlines() if not line.startswith("WARNING: ")]
        last = _NAME.sub("", words[-1]) if words else ""
        if not (_ADVICE.search(last) and _PATH_OR_KEY.search(last)):
            yield f"it ended with {ended.code} and does not say where and what to do: {last:.300}"


def _true(host: Host, ended: Ended, before: Stores, after: Stores) -> Iterator[str]:
    """An exit code is a true statement."""
    if ended.code == 0:
        yield from (f"it said that it succeeded, and {what}" for what in _undone(host, ended, before, after))


def _recorded(after: Stores) -> Iterator[str]:
    """What a record says is there, which prune takes for its ground."""
    said = _record(after)
    if said.get("result") == "succeeded":
        lacking = [store for store in after if store != "safety" and said["backup"] not in _verified(after[store])]
        yield from (f"its record says that {said['backup']} succeeded, and {store} lacks it" for store in lacking)


def _undone(host: Host, ended: Ended, before: Stores, after: Stores) -> Iterator[str]:
    """What a command that succeeded has neither done nor warned of; of a restore, see _restored()."""
    verb, stores = host.scene.verb, [store for store in after if store != "safety"]
    for store in stores:
        have = _verified(after[store])
        hides = host.is_hidden_from and store == "S3"
        if verb == "backup" and not have - _verified(before[store]):
            yield f"{store} has no new backup"
        # Of what a store does not tell, nobody can know.
        is_locked = store == "S3" and host.scene.locked
        wanted = _verified(before[store]) if is_locked else _wanted(before[store])
        had, left = _named(before[store]), _named(after[store])
        if verb == "prune" and not hides and left != wanted and not _is_told(ended, had, wanted, left):
            yield f"{store} has {sorted(left)}, not {sorted(wanted)}"
        if verb == "backup" and is_locked and "WARNING: " not in ended.said:
            # What retention has let go of, and a lock still holds in part, need not be locked for longer.
            yield from (f"{name} in S3 is not locked" for name in _wanted(after[store]) if not host.is_locked(name))
        is_marked = f"{max(host.versions)}.drilled.json" in after[store]
        if verb == "drill" and not (is_marked or hides or "WARNING: " in ended.said):
            yield f"the newest backup in {store} is not marked as drilled"
    if verb == "backup" and (result := _record(after).get("result")) != "succeeded":
        yield f"its record says {result}"


def _is_told(ended: Ended, had: set[str], wanted: set[str], left: set[str]) -> bool:
    """Whether prune says why more stay than are wanted: of one that it could not read it warns, and where it could not
    read how the last run ended it removes nothing, and gives that as the reason.
    """
    nothing = ended.met and left == had and "nothing is removed: " in ended.said
    return nothing or (left > wanted and "WARNING: " in ended.said)


def _named(there: dict[str, bytes]) -> set[str]:
    """The backups of which anything is there."""
    return {str(found[0]) for found in map(names.parse_with_sidecar, there) if found is not None}


def _wanted(there: dict[str, bytes]) -> set[str]:
    """What retention keeps of it: the pinned one, which is the oldest, and the last ones."""
    known = sorted(_verified(there))
    return {*known[:1], *known[-_KEPT:]}


def _record(stores: Stores) -> dict[str, Any]:
    """The record of the last run, empty where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads(stores["the disk"][_RECORD])
    except (KeyError, ValueError):
        return {}
    return found


def _recovered(host: Host, ended: Ended, after: Stores) -> Iterator[str]:
    """The next run succeeds, and cleans up."""
    if ended.code != 0:
        yield f"the next run ended with {ended.code}: {ended.said.strip()[-300:]}"
        return
    yield from (f"the next run left {path}" for path in host.left())
    verb, safety = host.scene.verb, after["safety"]
    for store, there in after.items():
        if store == "safety":
            continue
        # What an earlier run locked stays.
        # Of one that was cut off the data may stay, and is whole.
        left = _verified(there) | (_named(there) & host.versions.keys())
        is_more = len(left) > _KEPT + 1 and not (store == "S3" and host.scene.locked)
        if verb == "backup" and (is_more or len(_verified(there)) <= _KEPT):
            yield f"after the next run {store} has {sorted(left)}, not {_KEPT} and the pinned one"
    if verb == "restore" and host.target.real.stat().st_nlink != 1:
        yield "the live file has another name"
    if (
        verb == "restore"
        and not any(_is_data(name) for name in safety)
        and not list((host.storage / "safety").glob("*.raw"))
        and host.was != ("missing",)
    ):
        yield "nothing was kept of what was at the target"
    if host.bucket is not None and verb == "backup" and host.bucket.uploads(host.prefix):
        yield "the next run left an upload open"

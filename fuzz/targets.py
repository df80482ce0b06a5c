# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read that others may have written: each refuses it with its own error, or takes nothing that is wrong.

A target is given bytes, and returns what it took them for: something that is true, unless they were refused. It raises
AssertionError, or whatever the engine should not have raised.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml
from ansible_collections.eternia.backup.plugins.module_utils.engine import (
    config,
    config_file,
    history,
    hold,
    journal,
    manifest,
    names,
    object_lock,
    promises,
    record,
    recovery,
    retention,
    staging,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.config import Config
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import (
    ConfigError,
    DamagedError,
    EngineError,
    StoreError,
    TargetError,
    is_line,
)
from ansible_collections.eternia.backup.plugins.module_utils.engine.identity import Identity
from ansible_collections.eternia.backup.plugins.module_utils.engine.names import DATABASE, STATE, BackupName
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.base import Copy, Owner
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.local import LocalStore
from ansible_collections.eternia.backup.plugins.module_utils.engine.target import COMPANIONS, Target
from ansible_collections.eternia.backup.tests.unit.histories import manifest_of

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
NAMES = tuple(
    BackupName(NOON, kind, encoding) for kind in (DATABASE, STATE) for encoding in ((), ("zst",), ("zst", "age"))
)
# A message is read at a terminal: what it quotes of a file must not fill it.
_MESSAGE = 4000


@dataclass(frozen=True)
class Subject:
    """What is done with some bytes, bytes that are right, and whether they are JSON."""

    check: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    is_json: bool = True


@contextmanager
def refused_by(*kinds: type[EngineError]) -> Iterator[None]:
    """Refused in so many words is right, too."""
    try:
        yield
    except kinds as exc:
        message = str(exc)
        assert len(message) < _MESSAGE, f"a message of {len(message)} characters"
        assert message.rstrip().endswith((".", "`", "?")), message


# Not there until `work_in` says where: nothing is written into whatever directory somebody stands in.
_place = Path("build/fuzz/nowhere")


def work_in(folder: Path) -> None:
    """Where the targets that read a file put it."""
    global _place
    _place = folder
    folder.mkdir(parents=True, exist_ok=True)


def _put(name: str, raw: bytes) -> Path:
    path = _place / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    return path


def of_names(raw: bytes) -> object:
    text = os.fsdecode(raw)
    name = names.parse(text)
    found = names.parse_with_sidecar(text)
    if name is not None:
        assert str(name) == text
        assert found == (name, "")
        assert not set(text) - set("abcdefghijklmnopqrstuvwxyz0123456789_.")
        assert names.from_iso(names.iso(name.created_at)) == name.created_at
    elif found is not None:
        assert text == f"{found[0]}{found[1]}"
        assert found[1] in names.SIDECAR_SUFFIXES
    with suppress(ValueError):
        assert names.iso(names.from_iso(text)) == text
    return found


def of_manifest(raw: bytes) -> object:
    found = []
    for name in NAMES:
        with refused_by(DamagedError):
            found.append(manifest.from_json(raw, name=name, where="x.manifest.json"))
            _require_sound(found[-1], name)
    return found


def _require_sound(found: manifest.Manifest, name: BackupName) -> None:
    assert (found.name, found.kind, found.backup_name) == (str(name), name.kind, name)
    sizes = (found.content.bytes, found.stored.bytes, found.content.parts.bytes, *found.stored.frames)
    assert all(type(size) is int and 0 <= size < 1 << 63 for size in sizes)
    digests = (found.content.digest.value, found.stored.digest.value, *found.content.parts.digests)
    assert all(len(value) == 64 and not set(value) - set("0123456789abcdef") for value in digests)
    for words in (found.environment, found.host, found.machine or "", found.tool_version, found.verified.at):
        assert is_line(words)
    again = manifest.from_json(found.to_json(), name=name, where="again")
    # A number that is none equals nothing, not even itself.
    assert again.to_json() == found.to_json()
    assert found.as_plain.backup_name.encoding == ()
    assert sum((recovery.counts(found.facts) or {}).values()) >= 0


def of_config_yaml(raw: bytes) -> object:
    with refused_by(ConfigError):
        return _usable(config_file.read(_put("config.yml", raw)))
    return None


def of_config_block(raw: bytes) -> object:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    block, more = (fields.get("backup"), fields) if isinstance(fields, dict) else (fields, {})
    with refused_by(ConfigError):
        environment, host = more.get("environment", "staging"), more.get("host", "web1")
        if isinstance(environment, str) and isinstance(host, str):
            return _usable(config.parse(block, environment=environment, host=host, base_dir="/srv/eternia"))
    return None


def _usable(found: Config) -> Config:
    paths = (found.database_path, found.state_path, found.storage_path, found.storage_mount, *found.legacy_paths)
    paths += (found.report.log_file, found.report.metrics_file)
    assert all(path is None or (path.is_absolute() and "\0" not in str(path)) for path in paths)
    assert found.environment in config.ENVIRONMENTS
    assert found.frequency in config.FREQUENCIES
    assert found.max_age > 0
    copies = [Copy(BackupName(NOON - timedelta(days=day), DATABASE), 1, has_manifest=True) for day in range(0, 60, 3)]
    decided = retention.apply_policy(copies, found.policy, NOON)
    assert decided[0].keep
    if found.cloud is not None:
        assert ".." not in found.cloud.prefix.split("/")
        assert not set(found.cloud.prefix) & set("\n\0 \\")
        assert found.cloud.bucket
    for secret in (found.report.ping_url, found.report.failure_webhook):
        assert not secret or secret not in repr(found)
    json.dumps(asdict(found), default=str)
    return found


def of_journal(raw: bytes) -> object:
    target = _target()
    (target.staging / "journal.json").write_bytes(raw)
    with refused_by(TargetError):
        found = journal.read(target)
        assert found is not None
        assert found.target == str(target.real)
        assert set(found.beside) <= set(COMPANIONS), found.beside
        assert set(found.kept) <= {"", *COMPANIONS}, found.kept
        assert all(type(one) is int for identity in (found.new, *found.beside.values()) for one in identity)
        return found
    return None


def _target() -> Target:
    target = Target(DATABASE, _place / "eternia.db")
    target.staging.mkdir(exist_ok=True)
    return target


def of_record(raw: bytes) -> object:
    folder, found = _put("record/last-run.json", raw).parent, None
    with refused_by(DamagedError):
        found = record.read(folder)
        assert found is not None
        _require_shown(found)
    trouble = record.trouble(folder)
    assert trouble is None or len(trouble) < _MESSAGE
    begun = record.begin(folder, NOON)
    assert begun.result == record.RUNNING
    assert record.trouble(folder) is not None
    return found


def _require_shown(found: record.Record) -> None:
    """What the metrics and the status do with it."""
    for moment in filter(None, (found.at, found.started_at, found.last_success_at)):
        names.from_iso(moment).timestamp()
    for number in (found.seconds, found.bytes_stored, found.bytes_sent, found.bytes_copied, found.removed):
        assert int(number) >= 0
        assert f"{number:g}"
    for count in found.failures.values():
        assert int(count) + 1 > 0
    assert found.create_only in (None, True, False)
    for words in (found.error, found.failure, found.backup, found.tool_version, *found.warnings):
        assert words is None or isinstance(words, str)


def of_history(raw: bytes) -> object:
    folder = _put("history/drills.json", raw).parent
    with refused_by(DamagedError):
        entries, last = history.read(folder), history.last(folder)
        for entry in entries:
            prediction = history.predict(entry, entries)
            assert int(prediction.seconds) >= 0
            assert int(entry.bytes) >= 0
            names.from_iso(entry.at).timestamp()
        assert last is None or isinstance(last.succeeded, bool)
        return entries
    return None


def of_hold(raw: bytes) -> object:
    """A hold that cannot be read is none, and neither is one that would last for ever, or is no text to be shown."""
    place = _put("hold/hold.json", raw).parent
    found, void = hold.read(place, NOON), hold.void(place, NOON)
    if found is not None:
        assert void is None
        # A week, and what a clock may have been set back by.
        assert NOON < found.until <= NOON + timedelta(days=8)
        assert is_line(found.who)
        assert is_line(found.why)
        names.iso(found.until)
    assert void is None or is_line(void, _MESSAGE)
    return found


def of_claim(raw: bytes) -> object:
    with refused_by(StoreError):
        return Owner.from_json(raw, "eternia_backup.host.json")
    return None


def of_seen(raw: bytes) -> object:
    """What cannot be read was not seen."""
    path = _put(f"seen/{NAMES[0]}{names.SEEN_SUFFIX}", raw)
    found = LocalStore(path.parent).seen(NAMES[0])
    assert found is None or names.iso(found)
    return found


def _locking() -> Config:
    block = {**_BLOCK, "storage_path": str(_place / "storage")}
    return config.parse(block, environment="staging", host="web1", base_dir="/srv/eternia")


def of_locks(raw: bytes) -> object:
    """What cannot be read is asked of S3 again."""
    _put(f"storage/{object_lock.NAME}", raw)
    found = object_lock.read(_locking())
    for name, end in found.items():
        assert names.parse(str(name)) == name
        assert names.iso(end)
    return found


def of_store_check(raw: bytes) -> object:
    _put(f"storage/{promises.NAME}", raw)
    with refused_by(DamagedError):
        found = promises.remembered(_locking())
        for finding in () if found is None else found.findings:
            assert finding.verdict in (promises.KEPT, promises.NOT_KEPT, promises.UNKNOWN)
            assert finding.meaning.isprintable()
        return found
    return None


def of_staged(raw: bytes) -> object:
    """What cannot be read was not staged."""
    target = _target()
    (target.staging / staging.RECORD).write_bytes(raw)
    found = staging.find(target, _LOCATION)
    if found is not None:
        assert found.path.parent == target.staging
        assert found.content.bytes >= 0
        assert sum((recovery.counts(found.facts) or {}).values()) >= 0
        assert all(isinstance(words, str) for words in (found.title, found.store, found.location))
    return found


def _manifests() -> list[bytes]:
    made = [manifest_of(name, b"the bytes of a backup") for name in NAMES]
    digests = made[1].content.parts.digests
    transfer = manifest.Transfer("crc64nvme", create_only=True, bytes_sent=9, bytes_copied=3)
    plain = json.loads(made[0].to_json())
    plain["source"] = {"path": "/srv/x.db", "bytes": 1, "tables": {"memories": 5}, "schema_digest": digests[0]}
    framed = json.loads(made[1].with_transfer(transfer).to_json())
    framed["stored"]["frames"] = [framed["stored"]["bytes"]]
    return [*(one.to_json() for one in made), json.dumps(plain).encode(), json.dumps(framed).encode()]


_BLOCK = {
    "enabled": True,
    "frequency": "hourly",
    "source": "auto",
    "database_path": "data/eternia.db",
    "state_path": "logs/state_snapshot.json",
    "storage_path": "/backups",
    "storage_mount": "/backups",
    "retention_days": 30,
    "retention": {f"keep_{rule}": 2 for rule in ("last", "hourly", "daily", "weekly", "monthly", "yearly")},
    "minimum_kept": 3,
    "verify": "full",
    "compression": "zstd",
    "cloud_backup": {
        "enabled": True,
        "provider": "aws",
        "bucket": "eternia-backups",
        "region": "us-west-2",
        "prefix": "staging/web1",
        "endpoint_url": "https://s3.example.org:9000",
        "remove_versions": True,
        "storage_class": "STANDARD_IA",
        "sse": "aws:kms",
        "kms_key_id": "alias/x",
        "checksum": "auto",
        "credentials_file": "/etc/eternia-backup/credentials",
        "limit_rate": "10MB",
    },
    "report": {
        "log_file": "/var/log/x.log",
        "metrics_file": "/var/lib/x.prom",
        "ping_url": "https://ping.example.org/token",
        "failure_command": ["/bin/true", "x"],
        "failure_webhook": "https://hook.example.org/token",
    },
}
_FILE = {"environment": "staging", "host": "web1", "base_dir": "/srv/eternia", "backup": _BLOCK}


def _yamls() -> list[bytes]:
    return [yaml.safe_dump(_FILE).encode(), json.dumps(_FILE).encode(), b"environment: staging\nbase_dir: /srv\n"]


def _journals() -> list[bytes]:
    target, one = _target(), Identity(1, 2, 3)
    kept = {"": "/s/a", "-wal": "/s/b"}
    full = journal.Journal(str(target.real), str(NAMES[0]), one, {"-wal": one}, one, kept, "/s/a")
    fresh = journal.Journal(str(target.real), str(NAMES[0]), one, {}, None, {}, None)
    return [json.dumps(asdict(found)).encode() for found in (full, fresh)]


def _records() -> list[bytes]:
    begun = record.Record(record.RUNNING, names.iso(NOON), started_at=names.iso(NOON), backup=str(NAMES[0]))
    failed = replace(begun, result=record.FAILED, error="e.", failure="store", failures={"store": 2}, seconds=1.5)
    staging, made = _place / "staging", []
    for found in (begun, begun.succeeded(NOON), failed):
        staging.mkdir(exist_ok=True)
        record.write(_place, found, staging=staging)
        made.append((_place / record.NAME).read_bytes())
    return made


def _histories() -> list[bytes]:
    entry = {"at": names.iso(NOON), "store": "local", "name": str(NAMES[0]), "bytes": 5, "seconds": 1.5}
    last = {"at": names.iso(NOON), "succeeded": True}
    return [
        json.dumps({"format": 1, "last": last, "drills": [entry, {**entry, "bytes": 0, "seconds": 0}]}).encode(),
        json.dumps({"format": 1, "drills": [entry]}).encode(),
    ]


def _hold() -> list[bytes]:
    return [json.dumps({"who": "runbook", "why": "disaster", "until": "2026-11-22T13:00:00Z"}).encode()]


def _locks() -> list[bytes]:
    cloud = _locking().cloud
    place = "" if cloud is None else cloud.place
    until = {str(name): names.iso(NOON) for name in NAMES}
    return [json.dumps({"format": 1, "store": place, "until": until}).encode()]


def _store_checks() -> list[bytes]:
    found = promises.Finding(promises.CREATE_ONLY, promises.KEPT, "The store refuses to overwrite.", needed=True)
    check = promises.StoreCheck(names.iso(NOON), promises.checked(_locking()), (found,), "An object stays.")
    return [json.dumps({"format": 1, **asdict(check)}).encode()]


# Where nothing lies that could have been touched since.
_LOCATION = "s3://eternia-backups/staging/web1/x"


def _staged() -> list[bytes]:
    target, made = _target(), manifest_of(NAMES[0], b"the bytes of a backup")
    path = target.staging / "fetched"
    path.write_bytes(b"the bytes of a backup")
    facts, untouched = {"tables": {"memories": 5}}, staging.untouched(path)
    found = staging.Staged(path, str(NAMES[0]), _LOCATION, "s3", made.content, facts, made, untouched)
    staging.record(target, found)
    return [(target.staging / staging.RECORD).read_bytes()]


def _claim() -> list[bytes]:
    return [json.dumps(asdict(Owner("staging", "web1", "/backups"))).encode()]


def _seen() -> list[bytes]:
    return [json.dumps({"unchanged_at": names.iso(NOON)}).encode()]


def _names() -> list[bytes]:
    return [f"{name}{suffix}".encode() for name in NAMES for suffix in ("", *names.SIDECAR_SUFFIXES)]


TARGETS: dict[str, Subject] = {
    "names": Subject(of_names, _names, is_json=False),
    "manifest": Subject(of_manifest, _manifests),
    "config-yaml": Subject(of_config_yaml, _yamls),
    "config-block": Subject(of_config_block, lambda: [json.dumps(_FILE).encode()]),
    "journal": Subject(of_journal, _journals),
    "record": Subject(of_record, _records),
    "history": Subject(of_history, _histories),
    "hold": Subject(of_hold, _hold),
    "claim": Subject(of_claim, _claim),
    "seen": Subject(of_seen, _seen),
    "locks": Subject(of_locks, _locks),
    "store-check": Subject(of_store_check, _store_checks),
    "staged": Subject(of_staged, _staged),
}

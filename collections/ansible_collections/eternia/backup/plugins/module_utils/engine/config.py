# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `backup:` block, checked: one schema from the inventory to the host to the command line.

Nothing is guessed: an unknown key, a wrong type or a value that does not exist is a ConfigError that names the key, the
value and what is allowed. The string "false" is not false, and not true either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import ConfigError, is_line, quoted
from .names import DATABASE, STATE
from .reader import Reader, listed
from .retention import Policy
from .stores.base import Owner
from .stores.s3_settings import S3Settings

ENVIRONMENTS = ("development", "staging", "production")

# How old the newest verified backup may be, in seconds: one period, and half of one for the run itself to be late.
_PERIODS = {"hourly": 3600, "daily": 86400, "weekly": 7 * 86400, "monthly": 31 * 86400}
FREQUENCIES = tuple(_PERIODS)

_KEYS = (
    *("enabled", "frequency", "source", "database_path", "state_path", "storage_path", "storage_mount"),
    *("retention_days", "retention", "minimum_kept", "verify", "compression", "encryption", "cloud_backup", "report"),
)
_CLOUD_KEYS = (
    *("enabled", "provider", "bucket", "region", "prefix", "endpoint_url", "prune", "remove_versions"),
    *("object_lock_days", "object_lock_mode"),
    *("storage_class", "sse", "kms_key_id", "checksum", "credentials_file", "limit_rate"),
)
_REPORT_KEYS = ("log_file", "metrics_file", "ping_url", "failure_command", "failure_webhook")
_KEEP_RULES = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
# What S3 allows of a bucket's name, and calls safe in a key; `.` and `..` are for paths, and `*` stands for anything in
# a policy that is made of it.
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_PREFIX = r"(?a:(?!\.{1,2}(?:/|$))[\w!.'()-]+(?:/(?!\.{1,2}(?:/|$))[\w!.'()-]+)*)"
# A slip of the keyboard is paid for as long as nobody can delete.
_MOST_LOCK_DAYS = 3650
_ENDPOINT = r"https?://[^/\s@]+/?"


@dataclass(frozen=True)
class Report:
    """Who is told how runs end. The addresses may hold tokens, and the command too: they are shown nowhere."""

    log_file: Path | None = None
    metrics_file: Path | None = None
    ping_url: str | None = field(default=None, repr=False)
    failure_command: tuple[str, ...] = field(default=(), repr=False)
    failure_webhook: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Config:
    """Everything a run needs to know, with absolute paths. `cloud` is None where backups stay on the host."""

    environment: str
    host: str
    enabled: bool
    frequency: str
    source: str
    database_path: Path
    state_path: Path
    storage_path: Path
    storage_mount: Path | None
    legacy_paths: tuple[Path, ...]
    policy: Policy
    verify: str
    compression: str
    recipients: tuple[str, ...]
    cloud: S3Settings | None
    report: Report

    @property
    def owner(self) -> Owner:
        """Who the prefix in S3 belongs to."""
        return Owner(self.environment, self.host, str(self.storage_path))

    @property
    def encoding(self) -> tuple[str, ...]:
        """What is done to the bytes of a backup before it is stored, as its name says it."""
        return ("zst",) * (self.compression == "zstd") + ("age",) * bool(self.recipients)

    @property
    def at_full_speed(self) -> Config:
        """The same with no limit for the line: for what somebody waits for."""
        return self if self.cloud is None else replace(self, cloud=replace(self.cloud, limit_rate=None))

    @property
    def max_age(self) -> int:
        """Seconds after which the newest verified backup is stale: one and a half periods of the frequency."""
        return _PERIODS[self.frequency] * 3 // 2


def parse(block: Any, *, environment: str, host: str, base_dir: str | None) -> Config:
    """Turn the `backup:` block into a Config.

    `base_dir` is the application's directory on the host, where relative paths begin; the current directory never
    matters. Raises ConfigError.
    """
    if environment not in ENVIRONMENTS:
        raise ConfigError(f"environment is {quoted(environment)}; it must be one of {listed(ENVIRONMENTS)}.")
    if not host:
        raise ConfigError("host is empty; give the name that tells this host from the others.")
    if not is_line(host):
        raise ConfigError(f"host is {quoted(host)}; it must be one line of 255 characters at most.")
    if base_dir is not None and ("\0" in base_dir or not Path(base_dir).is_absolute()):
        raise ConfigError(f"base_dir is {quoted(base_dir)}; it must be an absolute path on the host.")
    reader = Reader("backup", block, _KEYS)
    config = Config(
        environment=environment,
        host=host,
        enabled=reader.boolean("enabled", True),
        frequency=reader.choice("frequency", FREQUENCIES, "daily"),
        source=reader.choice("source", ("auto", DATABASE, STATE), "auto"),
        database_path=reader.path("database_path", "data/eternia.db", base_dir),
        state_path=reader.path("state_path", "logs/state_snapshot.json", base_dir),
        storage_path=reader.path("storage_path", f"backups/{environment}", base_dir),
        storage_mount=reader.optional_path("storage_mount", base_dir),
        legacy_paths=_legacy_paths(base_dir),
        policy=_policy(reader),
        verify=reader.choice("verify", ("quick", "full"), "quick"),
        compression=reader.choice("compression", ("none", "zstd"), "none"),
        recipients=reader.block("encryption", ("recipients",)).recipients("recipients"),
        cloud=_cloud(reader.block("cloud_backup", _CLOUD_KEYS), environment, base_dir),
        report=_report(reader.block("report", _REPORT_KEYS), base_dir),
    )
    # Also where nothing stands behind it: whoever took the recipients out has not said that all shall be plain.
    if reader.mentions("encryption") and not config.recipients:
        raise ConfigError(
            "backup.encryption is given without recipients, so nothing would be encrypted. Give the public keys that "
            "backups are encrypted to, or take the block out."
        )
    _require_lasting_locks(config)
    return config


def _require_lasting_locks(config: Config) -> None:
    """Refuse locks that end before the next run can come and lock for longer."""
    days, needed = 0 if config.cloud is None else config.cloud.object_lock_days, math.ceil(config.max_age / 86400)
    if 0 < days < needed:
        raise ConfigError(
            f"backup.cloud_backup.object_lock_days is {days}, and with the frequency {config.frequency} a lock would "
            f"end before a run that is late locks for longer. Set it to {needed} or more."
        )


def _legacy_paths(base_dir: str | None) -> tuple[Path, ...]:
    """Where Eternia's own built-in manager left its backups."""
    return () if base_dir is None else (Path(base_dir, "data/backups"), Path(base_dir, "logs/backups"))


def _policy(reader: Reader) -> Policy:
    retention = reader.block("retention", _KEEP_RULES)
    keep = {rule: retention.whole(rule, 0) for rule in _KEEP_RULES}
    # With keep rules and no word about days, the rules alone decide.
    rules_alone = any(keep.values()) and not reader.has("retention_days")
    return Policy(
        retention_days=None if rules_alone else reader.whole("retention_days", 30),
        minimum_kept=reader.whole("minimum_kept", 3, least=1),
        **keep,
    )


def _cloud(reader: Reader, environment: str, base_dir: str | None) -> S3Settings | None:
    enabled = reader.boolean("enabled", False)
    reader.choice("provider", ("aws",), "aws")
    settings = S3Settings(
        bucket=reader.text("bucket", "the name of a bucket", _BUCKET, required=enabled) or "",
        prefix=reader.text("prefix", "words of letters, digits and -_.!'() between slashes", _PREFIX) or environment,
        region=reader.text("region", "a region"),
        endpoint_url=reader.text(
            "endpoint_url", "an address such as https://host:9000, without a path and without a password", _ENDPOINT
        ),
        storage_class=reader.text("storage_class", "a storage class"),
        remove_versions=reader.boolean("remove_versions", False),
        prune=reader.boolean("prune", True),
        sse=reader.choice("sse", ("AES256", "aws:kms"), None),
        kms_key_id=reader.text("kms_key_id", "the name of a key"),
        checksum=reader.choice("checksum", ("auto", "crc64nvme", "sha256", "md5"), "auto"),
        credentials_file=reader.optional_path("credentials_file", base_dir),
        limit_rate=reader.rate("limit_rate"),
        object_lock_days=reader.whole("object_lock_days", 0, most=_MOST_LOCK_DAYS),
        object_lock_mode=reader.choice("object_lock_mode", ("GOVERNANCE", "COMPLIANCE"), "COMPLIANCE"),
    )
    if settings.kms_key_id and settings.sse != "aws:kms":
        raise ConfigError("backup.cloud_backup.kms_key_id is given, and sse is not aws:kms. Set sse to aws:kms.")
    if reader.has("object_lock_mode") and not settings.object_lock_days:
        raise ConfigError(
            "backup.cloud_backup.object_lock_mode is given, and object_lock_days is not. Set object_lock_days, too."
        )
    return settings if enabled else None


def _report(reader: Reader, base_dir: str | None) -> Report:
    metrics_file = reader.optional_path("metrics_file", base_dir)
    if metrics_file is not None and metrics_file.suffix != ".prom":
        raise ConfigError(
            f"backup.report.metrics_file is {quoted(str(metrics_file))}; its name must end with .prom, because the "
            "node exporter reads no others."
        )
    return Report(
        log_file=reader.optional_path("log_file", base_dir),
        metrics_file=metrics_file,
        ping_url=reader.url("ping_url"),
        failure_command=reader.command("failure_command"),
        failure_webhook=reader.url("failure_webhook"),
    )

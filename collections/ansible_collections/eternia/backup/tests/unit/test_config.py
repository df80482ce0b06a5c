# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration: what users have works, and what is wrong is named with its value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.eternia.backup.plugins.module_utils.engine.config import Config, Report, parse
from ansible_collections.eternia.backup.plugins.module_utils.engine.errors import ConfigError
from ansible_collections.eternia.backup.plugins.module_utils.engine.retention import Policy
from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Settings

# As Eternia's users have it today.
VERBATIM = """
backup:
  enabled: true
  frequency: hourly          # hourly | daily | weekly | monthly
  retention_days: 30         # 0: keep for ever
  storage_path: /backups     # default backups/<environment>
  cloud_backup:
    enabled: true
    provider: aws
    bucket: eternia-backups
    region: us-west-2
"""
BUCKET = {"enabled": True, "bucket": "eternia-backups"}


def parsed(block, environment="production", host="web1", base_dir="/opt/eternia"):
    return parse(block, environment=environment, host=host, base_dir=base_dir)


def cloud(**keys):
    return {"cloud_backup": {**BUCKET, **keys}}


def test_the_block_that_users_have_works_verbatim():
    yaml = pytest.importorskip("yaml", reason="the engine itself reads no YAML, and PyYAML is not installed here")
    assert parsed(yaml.safe_load(VERBATIM)["backup"]) == Config(
        environment="production",
        host="web1",
        enabled=True,
        frequency="hourly",
        source="auto",
        database_path=Path("/opt/eternia/data/eternia.db"),
        state_path=Path("/opt/eternia/logs/state_snapshot.json"),
        storage_path=Path("/backups"),
        storage_mount=None,
        legacy_paths=(Path("/opt/eternia/data/backups"), Path("/opt/eternia/logs/backups")),
        policy=Policy(retention_days=30, minimum_kept=3),
        verify="quick",
        compression="none",
        recipients=(),
        cloud=S3Settings(bucket="eternia-backups", prefix="production", region="us-west-2"),
        report=Report(),
    )


@pytest.mark.parametrize("block", [{}, None])
@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_defaults(block, environment):
    config = parsed(block, environment)
    assert config.storage_path == Path(f"/opt/eternia/backups/{environment}")
    assert (config.enabled, config.frequency, config.source, config.verify) == (True, "daily", "auto", "quick")
    assert (config.policy, config.cloud) == (Policy(30), None)


def test_a_key_without_a_value_is_a_key_that_is_not_there():
    assert parsed({"retention_days": None, "storage_path": None, "retention": None, "cloud_backup": None}) == parsed({})


def test_every_optional_key():
    config = parsed(
        {
            "source": "state",
            "database_path": "/srv/a.db",
            "state_path": "state.json",
            "retention": {f"keep_{rule}": n for n, rule in enumerate(KEEP, 1)},
            "minimum_kept": 1,
            "verify": "full",
            "storage_mount": "/backups",
            "report": {
                "log_file": "logs/eternia.log",
                "metrics_file": "/var/lib/prometheus/node-exporter/eternia_backup.prom",
                "ping_url": "https://hc-ping.com/token",
                "failure_command": ["/usr/local/bin/page", "--team", "eternia"],
                "failure_webhook": "http://example.org:8080/hook?key=token",
            },
            **cloud(
                prefix="web1/staging",
                endpoint_url="https://s3.example.org:9000",
                storage_class="STANDARD_IA",
                remove_versions=True,
                prune=False,
                sse="aws:kms",
                kms_key_id="alias/backups",
                checksum="sha256",
                credentials_file="/etc/eternia-backup/credentials",
                limit_rate="2 MiB",
                object_lock_days=30,
                object_lock_mode="GOVERNANCE",
            ),
        }
    )
    assert (config.source, config.verify) == ("state", "full")
    assert (config.database_path, config.state_path) == (Path("/srv/a.db"), Path("/opt/eternia/state.json"))
    assert config.policy == Policy(None, 1, 2, 3, 4, 5, 6, minimum_kept=1)
    assert config.cloud == S3Settings(
        bucket="eternia-backups",
        prefix="web1/staging",
        endpoint_url="https://s3.example.org:9000",
        storage_class="STANDARD_IA",
        remove_versions=True,
        prune=False,
        sse="aws:kms",
        kms_key_id="alias/backups",
        checksum="sha256",
        credentials_file=Path("/etc/eternia-backup/credentials"),
        limit_rate=2 << 20,
        object_lock_days=30,
        object_lock_mode="GOVERNANCE",
    )
    assert config.storage_mount == Path("/backups")
    assert config.report == Report(
        log_file=Path("/opt/eternia/logs/eternia.log"),
        metrics_file=Path("/var/lib/prometheus/node-exporter/eternia_backup.prom"),
        ping_url="https://hc-ping.com/token",
        failure_command=("/usr/local/bin/page", "--team", "eternia"),
        failure_webhook="http://example.org:8080/hook?key=token",
    )
    assert "token" not in repr(config)
    assert "eternia'" not in repr(config.report)


KEEP = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


@pytest.mark.parametrize(
    ("block", "days"),
    [
        ({}, 30),
        ({"retention_days": 0}, 0),
        ({"retention_days": 7, "retention": {"keep_daily": 2}}, 7),
        ({"retention": {"keep_daily": 2}}, None),
        ({"retention": {"keep_daily": 0}}, 30),
    ],
)
def test_keep_rules_alone_switch_the_default_age_off(block, days):
    assert parsed(block).policy.retention_days == days


@pytest.mark.parametrize(
    ("frequency", "hours"), [("hourly", 1.5), ("daily", 36), ("weekly", 252), ("monthly", 31 * 36)]
)
def test_a_backup_is_stale_after_one_and_a_half_periods(frequency, hours):
    assert parsed({"frequency": frequency}).max_age == hours * 3600


@pytest.mark.parametrize(
    ("rate", "bytes_a_second"), [("500kB", 500_000), ("10 MB", 10_000_000), ("64KiB", 65_536), (64_000, 64_000)]
)
def test_how_fast_bytes_may_go(rate, bytes_a_second):
    assert parsed(cloud(limit_rate=rate)).cloud.limit_rate == bytes_a_second


@pytest.mark.parametrize("rate", ["fast", "10Mbit", "10mb", "1.5MB", "63kB", 0, -1, True, "-5MB", "", ["10MB"]])
def test_a_rate_that_is_none(rate):
    message = r"cloud_backup\.limit_rate is .*; it must be whole bytes a second, at least 64kB: 500kB"
    with pytest.raises(ConfigError, match=message):
        parsed(cloud(limit_rate=rate))


def test_a_switched_off_cloud_is_checked_all_the_same():
    assert parsed({"cloud_backup": {"enabled": False, "region": "us-west-2"}}).cloud is None
    with pytest.raises(ConfigError, match=r"backup\.cloud_backup\.sse is 'none'"):
        parsed({"cloud_backup": {"sse": "none"}})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("daily", r"backup is 'daily'; it must be a block of keys and values"),
        (["enabled"], r"backup is a list; it must be a block"),
        ({"enabled": "false"}, r"backup\.enabled is 'false'; it must be true or false, without quotes"),
        ({"enabled": 1}, r"backup\.enabled is 1; it must be true or false"),
        ({"frequency": "minutely"}, r"frequency is 'minutely'; it must be one of hourly, daily, weekly, monthly\."),
        ({"frequency": ["daily"]}, r"frequency is \['daily'\]; it must be one of"),
        ({"frequency": "Hourly"}, r"frequency is 'Hourly'; it must be one of"),
        ({"retention_days": -1}, r"retention_days is -1; it must be a whole number, 0 or more"),
        ({"retention_days": "thirty"}, r"retention_days is 'thirty'; it must be a whole number"),
        ({"retention_days": "30"}, r"retention_days is '30'; it must be a whole number"),
        ({"retention_days": 1.5}, r"retention_days is 1\.5; it must be a whole number"),
        ({"retention_days": True}, r"retention_days is True; it must be a whole number"),
        ({"retention": {"keep_daily": -1}}, r"backup\.retention\.keep_daily is -1; it must be a whole number, 0 or"),
        ({"retention": {"keep_days": 7}}, r"retention\.keep_days is not a key that exists\. Did you mean 'keep_da"),
        ({"retention": 30}, r"backup\.retention is 30; it must be a block"),
        ({"minimum_kept": 0}, r"minimum_kept is 0; it must be a whole number, 1 or more"),
        ({"source": "json"}, r"source is 'json'; it must be one of auto, database, state"),
        ({"verify": "none"}, r"verify is 'none'; it must be one of quick, full"),
        ({"verify": True}, r"verify is True; it must be one of quick, full"),
        ({"storage_path": ""}, r"storage_path is ''; it must be a path"),
        ({"storage_path": 5}, r"storage_path is 5; it must be a path"),
        ({"database_path": "a\0b"}, r"database_path is 'a\\x00b'; it must be a path"),
        ({"retenton_days": 3}, r"backup\.retenton_days is not a key that exists\. Did you mean 'retention_days'\?"),
        ({"xyz": 3}, r"backup\.xyz is not a key that exists\. Allowed: enabled, frequency, source, database_path"),
        ({7: 3}, r"backup\.7 is not a key that exists"),
        ({"cloud_backup": {"enabled": "false"}}, r"backup\.cloud_backup\.enabled is 'false'; it must be true or false"),
        ({"cloud_backup": True}, r"cloud_backup is True; it must be a block"),
        ({"cloud_backup": {"enabled": True}}, r"cloud_backup\.bucket is None; it must be the name of a bucket"),
        (cloud(provider="gcp"), r"cloud_backup\.provider is 'gcp'; it must be one of aws\."),
        (cloud(bucket="Eternia"), r"cloud_backup\.bucket is 'Eternia'; it must be the name of a bucket"),
        (cloud(bucket="s3://eternia"), r"cloud_backup\.bucket is 's3://eternia'"),
        (cloud(bucket=""), r"cloud_backup\.bucket is ''"),
        (cloud(bucket="eternia\n"), r"cloud_backup\.bucket is 'eternia\\n'"),
        (cloud(prefix="/staging"), r"cloud_backup\.prefix is '/staging'; it must be words of letters, digits and"),
        (cloud(prefix="staging/"), r"cloud_backup\.prefix is 'staging/'"),
        (cloud(prefix="a//b"), r"cloud_backup\.prefix is 'a//b'"),
        (cloud(prefix="a b"), r"cloud_backup\.prefix is 'a b'"),
        (cloud(prefix="."), r"cloud_backup\.prefix is '\.'; it must be words"),
        (cloud(prefix=".."), r"cloud_backup\.prefix is '\.\.'; it must be words"),
        (cloud(prefix="a/./b"), r"cloud_backup\.prefix is 'a/\./b'; it must be words"),
        (cloud(prefix="a/.."), r"cloud_backup\.prefix is 'a/\.\.'; it must be words"),
        (cloud(prefix="staging/web*"), r"cloud_backup\.prefix is 'staging/web\*'; it must be words"),
        (cloud(prefix="web?"), r"cloud_backup\.prefix is 'web\?'; it must be words"),
        (cloud(prefix="ä"), r"cloud_backup\.prefix is 'ä'; it must be words"),
        (
            cloud(kms_key_id="alias/x"),
            r"cloud_backup\.kms_key_id is given, and sse is not aws:kms\. Set sse",
        ),
        (cloud(kms_key_id="alias/x", sse="AES256"), r"kms_key_id is given, and sse is not aws:kms"),
        (
            cloud(endpoint_url="https://s3.example.org/path"),
            r"it must be an address such as https://host:9000",
        ),
        (cloud(endpoint_url="s3.example.org"), r"cloud_backup\.endpoint_url is 's3\.example\.org'"),
        (
            cloud(remove_versions="false"),
            r"cloud_backup\.remove_versions is 'false'; it must be true or false, without",
        ),
        (
            cloud(object_lock_days=-1),
            r"object_lock_days is -1; it must be a whole number, 0 or more, and no more than 3,650",
        ),
        (
            cloud(object_lock_days=3651),
            r"object_lock_days is 3651; it must be a whole number, 0 or more, and no more than 3,650",
        ),
        (cloud(object_lock_days=True), r"object_lock_days is True; it must be a whole number"),
        (
            cloud(object_lock_days=1),
            r"object_lock_days is 1, and with the frequency daily a lock would end .* Set it to 2 or more",
        ),
        (
            {"frequency": "monthly", **cloud(object_lock_days=30)},
            r"object_lock_days is 30, and with the frequency monthly .* Set it to 47 or more",
        ),
        (
            cloud(object_lock_days=30, object_lock_mode="governance"),
            r"object_lock_mode is 'governance'; it must be one of GOVERNANCE, COMPLIANCE",
        ),
        (cloud(object_lock_mode="GOVERNANCE"), r"object_lock_mode is given, and object_lock_days is not\. Set"),
        (cloud(prune="no"), r"cloud_backup\.prune is 'no'; it must be true or false, without"),
        (cloud(region=1), r"cloud_backup\.region is 1; it must be a region"),
        (cloud(sse="AES128"), r"cloud_backup\.sse is 'AES128'; it must be one of AES256, aws:kms"),
        (cloud(checksum="crc32"), r"cloud_backup\.checksum is 'crc32'; it must be one of auto, crc64nvme, sha256, md5"),
        (cloud(credentials_file=1), r"cloud_backup\.credentials_file is 1; it must be a path"),
        ({"storage_mount": 5}, r"storage_mount is 5; it must be a path"),
        ({"report": True}, r"backup\.report is True; it must be a block"),
        ({"report": {"logfile": "x"}}, r"report\.logfile is not a key that exists\. Did you mean 'log_file'\?"),
        ({"report": {"log_file": 1}}, r"report\.log_file is 1; it must be a path"),
        (
            {"report": {"metrics_file": "/var/lib/x.txt"}},
            r"report\.metrics_file is '/var/lib/x\.txt'; its name must end with \.prom, because the node exporter",
        ),
        (cloud(buckets="x"), r"cloud_backup\.buckets is not a key that exists\. Did you mean 'bucket'\?"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_what_is_allowed(block, message):
    with pytest.raises(ConfigError, match=message):
        parsed(block)


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hunter2@s3.example.org",
        "https://me:x/hunter2@s3.example.org",
        "https://me:x@hunter2@s3.example.org",
        "//me:hunter2@s3",
        "s3://hunter2@s3/x",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(address):
    with pytest.raises(ConfigError, match=r"endpoint_url is '.*//\*\*\*@s3.*without a password") as refused:
        parsed(cloud(endpoint_url=address))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("key", ["log_file", "metrics_file"])
def test_an_address_where_a_path_is_wanted_is_not_repeated(key):
    with pytest.raises(ConfigError, match=rf"report\.{key} is wrong, and not shown here") as refused:
        parsed({"report": {key: "https://ping.example.org/hunter2"}})
    assert "hunter2" not in str(refused.value)


ADDRESSES = (
    *(
        "hc-ping.com/hunter2",
        "ftp://x.org/hunter2",
        "https:///hunter2",
        "https://x.org /hunter2",
        "https://x.org/hunter2 ",
    ),
    *("https://me:hunter2@x.org/", "https://x.org/hunter2\n", "https://x.org/hünter2", "https://[hunter2/", 7, ""),
    "https://x.org:hunter2/",
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("key", ["ping_url", "failure_webhook"])
def test_an_address_that_may_hold_a_token_is_not_repeated(key, address):
    message = (
        rf"^backup\.report\.{key} is wrong, and not shown here because it may hold a secret; it must be an address"
    )
    with pytest.raises(ConfigError, match=message) as refused:
        parsed({"report": {key: address}})
    assert "hunter2" not in str(refused.value)


COMMANDS = ("page hunter2", ["page", "hunter2"], ["/bin/page", 1], ["/bin/page", ""], ["/bin/page", "hunter2\0"], {}, 7)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_a_list_and_not_repeated(command):
    message = r"^backup\.report\.failure_command is wrong, .*; it must be a list of a program's absolute path and its"
    with pytest.raises(ConfigError, match=message) as refused:
        parsed({"report": {"failure_command": command}})
    assert "hunter2" not in str(refused.value)


def test_an_address_in_place_of_a_block_is_not_repeated():
    with pytest.raises(ConfigError, match=r"^backup\.report is an address; it must be a block of keys and values"):
        parsed({"report": "https://hc-ping.com/hunter2"})


@pytest.mark.parametrize("prefix", ["web1", ".web1", "..web1/a.b", "a/...", "web1/staging"])
def test_a_prefix_with_dots_is_one_unless_it_is_a_path(prefix):
    assert parsed(cloud(prefix=prefix)).cloud.prefix == prefix


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"environment": "prod"}, r"environment is 'prod'; it must be one of development, staging, production"),
        ({"host": ""}, r"host is empty; give the name that tells this host from the others"),
        ({"host": "web1\n"}, r"host is 'web1\\n'; it must be one line of 255 characters at most"),
        ({"base_dir": "eternia"}, r"base_dir is 'eternia'; it must be an absolute path on the host"),
        ({"base_dir": None}, r"backup\.database_path is 'data/eternia\.db', a relative path, and there is no base_dir"),
    ],
)
def test_what_comes_beside_the_block_is_checked_too(keywords, message):
    with pytest.raises(ConfigError, match=message):
        parsed({}, **keywords)


def test_absolute_paths_need_no_base_dir():
    block = {"database_path": "/a/eternia.db", "state_path": "/a/state.json", "storage_path": "/backups"}
    config = parsed(block, base_dir=None)
    assert (config.storage_path, config.legacy_paths) == (Path("/backups"), ())


def test_relative_paths_do_not_depend_on_the_current_directory(tmp_path, monkeypatch):
    block = {"storage_path": "kept", "database_path": "../eternia.db"}
    here = parsed(block)
    monkeypatch.chdir(tmp_path)
    assert parsed(block) == here
    assert here.storage_path == Path("/opt/eternia/kept")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_no_system_has_fills_no_terminal():
    for value, wanted in (("x" * 5000, "of 4,096 characters at most"), ("x" * 4000, "must end with .prom")):
        with pytest.raises(ConfigError, match=wanted) as refused:
            parse({"report": {"metrics_file": value}}, environment="staging", host="web1", base_dir="/srv/x")
        assert len(str(refused.value)) < 500

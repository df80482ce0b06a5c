# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options and attributes that every module of the collection has."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation shared by the modules."""

    DOCUMENTATION = r"""
options:
  config:
    description:
      - The C(backup) block, as it stands in C(group_vars). The engine checks every key; an unknown key, a wrong type
        or a value that does not exist is an error that names the key, the value and what is allowed.
      - C(enabled) (boolean, default V(true)); with V(false) no backup is taken, pruned or drilled.
      - C(frequency) (V(hourly), V(daily), V(weekly) or V(monthly), default V(daily)).
      - C(source) (V(auto), V(database) or V(state), default V(auto)), C(database_path) (default C(data/eternia.db)) and
        C(state_path) (default C(logs/state_snapshot.json)) say what is protected.
      - C(storage_path) (default C(backups/) and the environment) is the directory of the local store. Where
        C(storage_mount) is given, nothing is written there while that is not mounted.
      - C(retention_days) (default V(30), V(0) keeps for ever), C(retention) (a block of C(keep_last), C(keep_hourly),
        C(keep_daily), C(keep_weekly), C(keep_monthly), C(keep_yearly)) and C(minimum_kept) (default V(3)) say how long
        backups are kept. A backup stays when any of them keeps it. Where C(retention) is given and C(retention_days)
        is not, the rules of C(retention) alone decide.
      - C(verify) (V(quick) or V(full), default V(quick)) says how a snapshot is checked.
      - C(compression) (V(none) or V(zstd), default V(none)) says how backups are stored. C(encryption) is a
        block of C(recipients), a list of the public keys (of age, or of OpenSSH) that backups are encrypted to.
      - C(cloud_backup) is a block of C(enabled) (default V(false)), C(provider) (V(aws)), C(bucket), C(region),
        C(prefix) (default the environment), C(endpoint_url), C(limit_rate) (bytes a second, such as V(10MB)),
        C(storage_class), C(sse) (V(AES256) or V(aws:kms)), C(kms_key_id), C(prune) (default V(true); with V(false)
        pruning removes nothing in S3, because another key does), C(remove_versions) (default V(false); with V(true)
        pruning removes old versions for good in a bucket that keeps them), C(object_lock_days) (default V(0), no lock),
        C(object_lock_mode) (V(COMPLIANCE) or V(GOVERNANCE), default V(COMPLIANCE)), C(checksum) (V(auto),
        V(crc64nvme), V(sha256) or V(md5), default V(auto)) and C(credentials_file).
      - C(report) is a block of C(log_file), C(metrics_file), C(ping_url), C(failure_command) (a list) and
        C(failure_webhook). It is for what C(eternia-backup) does on the host by itself; a module checks it and tells
        nobody. Leave it out, because Ansible logs what a module is given, on the host too, and the addresses may hold
        tokens; the playbooks of this collection do.
    type: dict
    required: true
  environment:
    description:
      - The environment that the host belongs to. It is written into every manifest and is the default prefix in S3.
    type: str
    required: true
    choices: [development, staging, production]
  base_dir:
    description:
      - The application's directory on the host, where relative paths in O(config) begin. Backups that Eternia's own
        manager left in C(data/backups) and C(logs/backups) below it are listed too.
      - Required when O(config) leaves any path relative, or leaves one out whose default is relative.
    type: path
  host:
    description:
      - The name that tells this host from the others. It is written into every manifest and owns the prefix in S3.
      - The default is the host's own name; playbooks pass C(inventory_hostname).
    type: str
  agent_path:
    description:
      - Where the role P(eternia.backup.agent#role) installs the agent. Where it is installed whole, the module goes on
        in the agent's Python, which has the libraries.
    type: path
    default: /opt/eternia-backup
attributes:
  action_group:
    description: Use C(group/eternia.backup.backup) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - eternia.backup.backup
  platform:
    description: The modules need a POSIX system with the locks and the file calls of Linux.
    platforms: linux
    support: full
"""

#!/usr/bin/python
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: eternia_backup
short_description: Take a verified backup of the Eternia application's state
version_added: 0.1.0
description:
  - Copies the application's SQLite database, or its JSON state, at one instant and while it is being written to. Checks
    the copy, describes it in a manifest, and commits it to the local store and then to S3.
  - Never overwrites a backup. Whatever S3 lacks from earlier runs is sent too.
  - When sending fails the task fails, and the local backup stays valid; RV(path) says where it lies.
options:
  skip_unchanged:
    description:
      - Whether to leave it at the newest verified backup when the source still has its content. No new backup is
        stored or sent then; the backup gets a fresh record of when the source was last seen unchanged. What S3 lacks of
        earlier backups is sent all the same.
    type: bool
    default: false
  prune:
    description:
      - Whether to remove afterwards what the retention policy no longer keeps, as M(eternia.backup.eternia_prune) does.
        In check mode the planned backup counts as if it were there.
      - When that fails the task fails, and the backup stays valid. While somebody else has the lock nothing is pruned,
        with a warning.
    type: bool
    default: false
requirements:
  - boto3 >= 1.36 (only with S3)
  - blake3 (optional, faster digests than SHA-256)
  - zstandard (only with C(compression), V(zstd))
  - pyrage (only with C(encryption))
  - awscrt (optional, full-object checksums in S3)
extends_documentation_fragment:
  - eternia.backup.options
attributes:
  check_mode:
    support: full
    description: Prints the plan of the real run, and writes nothing.
  diff_mode:
    support: full
    description: Shows the name of the newest backup before and after; with O(prune=true) what is removed, too.
author:
  - The Eternia maintainers (@eternia)
seealso:
  - module: eternia.backup.eternia_prune
  - module: eternia.backup.eternia_backup_info
"""

EXAMPLES = r"""
- name: Back up
  eternia.backup.eternia_backup:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    host: "{{ inventory_hostname }}"

- name: Back up only what changed
  eternia.backup.eternia_backup:
    config:
      storage_path: /backups
      database_path: data/eternia.db
    environment: staging
    base_dir: /opt/eternia
    skip_unchanged: true

- name: Back up, and remove what is too old then
  eternia.backup.eternia_backup:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    prune: true
"""

RETURN = r"""
name:
  description: The backup's name; in check mode the name that a backup taken now would have.
  returned: success, and failure once a run has begun
  type: str
  sample: eternia_backup_20261122_220000.db
path:
  description: Where the backup lies on the host.
  returned: success, and failure once a run has begun
  type: str
  sample: /backups/eternia_backup_20261122_220000.db
bytes:
  description: The size of the backup in bytes; in check mode the size of the source's main file.
  returned: success, and failure once a run has begun
  type: int
  sample: 1048576
unchanged:
  description: Whether the source still had the content of the newest verified backup, with O(skip_unchanged=true).
  returned: success, and failure once a run has begun
  type: bool
  sample: false
manifest:
  description: The facts about the backup, as its manifest says them. Empty for a backup that is only planned.
  returned: success, and failure once a run has begun
  type: dict
  sample:
    format: 1
    name: eternia_backup_20261122_220000.db
    verified: {check: quick, at: "2026-11-22T22:00:01Z", result: ok}
sent:
  description: What was sent to S3 in this run, the newest first; in check mode what would be sent.
  returned: success, and failure once a run has begun
  type: list
  elements: dict
  contains:
    name:
      description: The backup's name.
      type: str
      sample: eternia_backup_20261122_220000.db
    location:
      description: Where it lies now.
      type: str
      sample: s3://eternia-backups/production/eternia_backup_20261122_220000.db
    bytes_sent:
      description: How many bytes of it were sent; 0 where an earlier run had sent them and not its manifest.
      type: int
      sample: 1048576
    bytes_copied:
      description:
        - How many bytes of it the store copied from the newest backup that it had, so that they did not travel; 0 in
          check mode.
      type: int
      sample: 0
    check:
      description: How the store proved what arrived; empty in check mode.
      type: str
      sample: crc64nvme, full object
    create_only:
      description: Whether the store keeps its word not to overwrite.
      type: bool
      sample: true
pruned:
  description: What pruning behind the backup did, or would do in check mode.
  returned: with O(prune=true), when it came to that
  type: dict
  contains:
    kept:
      description: What M(eternia.backup.eternia_prune) returns under this name.
      type: list
      elements: dict
      sample:
        - store: local
          name: eternia_backup_20261122_220000.db
          location: /backups/eternia_backup_20261122_220000.db
          reasons: [newest verified, younger than 30 days]
    removed:
      description: The same for what was removed, or would be in check mode.
      type: list
      elements: dict
      sample:
        - store: local
          name: eternia_backup_20261022_220000.db
          location: /backups/eternia_backup_20261022_220000.db
          reasons: [older than 30 days and no keep rule wants it]
    noncurrent:
      description: What M(eternia.backup.eternia_prune) returns under this name.
      type: dict
      sample: null
seconds:
  description: How long the backup took, in seconds; 0 in check mode.
  returned: success, and failure once a run has begun
  type: float
  sample: 0.8
pinned_seconds:
  description: How long the source was held by a read transaction, in seconds; 0 in check mode.
  returned: success, and failure once a run has begun
  type: float
  sample: 0.1
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import glue, pruning
from ..module_utils.engine import backup, behind
from ..module_utils.engine.clock import Clock
from ..module_utils.engine.config import Config
from ..module_utils.engine.errors import EngineError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **glue.COMMON_OPTIONS,
            "skip_unchanged": {"type": "bool", "default": False},
            "prune": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        config = glue.configuration(module)
        glue.exit_if_disabled(module, config)
        clock = Clock()
        act, prune = (backup.plan, behind.plan) if module.check_mode else (backup.run, behind.run)
        outcome = act(config, clock=clock, skip_unchanged=module.params["skip_unchanged"])
        if module.params["prune"]:
            prune(config, outcome, clock=clock)
    except EngineError as exc:
        glue.fail(module, exc, lambda outcome: reported(config, outcome))
    glue.succeed(module, outcome, reported(config, outcome))


def reported(config: Config, outcome: backup.Outcome) -> dict[str, Any]:
    """What a run did, or would do, as the task returns it."""
    name = None if outcome.name is None else str(outcome.name)
    prefix = "" if config.cloud is None else f"s3://{config.cloud.bucket}/{config.cloud.prefix}/"
    result = {
        "changed": outcome.changed,
        "name": name,
        "path": outcome.path,
        "bytes": outcome.bytes,
        "unchanged": outcome.unchanged,
        "manifest": {} if outcome.manifest is None else outcome.manifest.fields(),
        "sent": [
            {"name": str(sent), "location": f"{prefix}{sent}", **asdict(transfer)}
            for sent, transfer in outcome.transfers.items()
        ],
        "seconds": round(outcome.seconds, 3),
        "pinned_seconds": round(outcome.pinned_seconds, 3),
        "diff": {"before": f"newest backup: {outcome.previous}\n", "after": f"newest backup: {name}\n"},
    }
    if outcome.pruned is not None:
        result["pruned"] = pruned = pruning.reported(outcome.pruned)
        result["changed"] |= pruned.pop("changed")
        for side, text in pruned.pop("diff").items():
            result["diff"][side] += text
    return result


if __name__ == "__main__":
    main()

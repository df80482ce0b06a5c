#!/usr/bin/python
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: eternia_prune
short_description: Remove the backups that the retention policy no longer keeps
version_added: 0.1.0
description:
  - Judges the backups of each store by C(retention_days), C(retention) and C(minimum_kept), removes those that no rule
    keeps, and gives the reason for each backup that stays and each that goes.
  - Never removes the newest verified backup, anything while fewer than C(minimum_kept) verified ones exist, a name from
    the future, a pinned backup (one with a file C(NAME.pin) beside it), or a file whose name is not one of ours.
  - Removes nothing at all when the backup run before it failed or was cut off, or behind a gap without backups in which
    the clock may have jumped ahead, until later backups say that it is right.
  - In a bucket that keeps versions what is removed stays, and is billed. With C(cloud_backup.remove_versions) the
    versions go too, also those of earlier runs, but never one of a backup that the policy would keep.
extends_documentation_fragment:
  - eternia.backup.options
attributes:
  check_mode:
    support: full
    description: Judges as the real run does, and removes nothing.
  diff_mode:
    support: full
    description: Shows the names of the backups before and after.
requirements:
  - boto3 >= 1.36 (only with S3)
author:
  - The Eternia maintainers (@eternia)
seealso:
  - module: eternia.backup.eternia_backup
"""

EXAMPLES = r"""
- name: Prune
  eternia.backup.eternia_prune:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    host: "{{ inventory_hostname }}"

- name: Keep seven days and twelve months
  eternia.backup.eternia_prune:
    config:
      storage_path: /backups
      database_path: /opt/eternia/data/eternia.db
      state_path: /opt/eternia/logs/state_snapshot.json
      retention:
        keep_daily: 7
        keep_monthly: 12
    environment: staging
"""

RETURN = r"""
kept:
  description: The backups that stay, by store, the newest first, each with every reason that keeps it.
  returned: success, and failure once a removal has failed
  type: list
  elements: dict
  sample:
    - store: local
      name: eternia_backup_20261122_220000.db
      location: /backups/eternia_backup_20261122_220000.db
      reasons: [newest verified, younger than 30 days]
removed:
  description: The backups that were removed, or would be in check mode, in the same form.
  returned: success, and failure once a removal has failed
  type: list
  elements: dict
  sample:
    - store: s3
      name: eternia_backup_20261022_220000.db
      location: s3://eternia-backups/production/eternia_backup_20261022_220000.db
      reasons: [older than 30 days and no keep rule wants it]
noncurrent:
  description:
    - What became of old versions, where the bucket keeps versions; V(null) where it keeps none, nothing was removed,
      or pruning ended before it looked.
  returned: success, and failure once a removal has failed
  type: dict
  contains:
    removed:
      description: How many old versions were removed for good, or would be; with C(remove_versions) only.
      type: int
      sample: 0
    removed_bytes:
      description: Their size.
      type: int
      sample: 0
    billed_bytes:
      description:
        - The size of what was removed and stays billed, because C(remove_versions) is not set, or the store keeps it.
        - V(null) where the store does not tell whether it keeps versions, or which.
      type: int
      sample: 1048576
"""

from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import glue, pruning
from ..module_utils.engine import prune
from ..module_utils.engine.errors import EngineError


def main() -> None:
    module = AnsibleModule(argument_spec=glue.COMMON_OPTIONS, supports_check_mode=True)
    try:
        config = glue.configuration(module)
        glue.exit_if_disabled(module, config)
        now = datetime.now(timezone.utc)
        outcome = prune.plan(config, now=now) if module.check_mode else prune.run(config, now=now)
    except EngineError as exc:
        glue.fail(module, exc, pruning.reported)
    glue.succeed(module, outcome, pruning.reported(outcome))


if __name__ == "__main__":
    main()

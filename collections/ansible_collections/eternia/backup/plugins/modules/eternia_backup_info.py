#!/usr/bin/python
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: eternia_backup_info
short_description: List the backups of all stores, and check them
version_added: 0.1.0
description:
  - Lists the catalog of a host, the backups of the local store and of S3 merged by name, the newest first.
  - Backups that Eternia's built-in manager made are listed as V(legacy).
  - Says how old the newest verified backup is, and whether that is older than the frequency allows.
options:
  verify:
    description:
      - With V(none) nothing is read but the listings. A backup counts as verified where its manifest lies beside it;
        the manifest is committed last.
      - With V(manifest) each manifest is read and compared with what is listed.
      - With V(full) every byte of every backup is read and its digest compared with the manifest. From S3 this is a
        download of all backups.
    type: str
    choices: [none, manifest, full]
    default: none
extends_documentation_fragment:
  - eternia.backup.options
attributes:
  check_mode:
    support: full
    description: Reads only, in check mode or not.
  diff_mode:
    support: none
    description: Nothing is changed.
requirements:
  - boto3 >= 1.36 (only with S3)
  - blake3 (only with O(verify=full), for backups that were hashed with it)
author:
  - The Eternia maintainers (@eternia)
seealso:
  - module: eternia.backup.eternia_backup
  - module: eternia.backup.eternia_source_info
"""

EXAMPLES = r"""
- name: List the backups
  eternia.backup.eternia_backup_info:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    host: "{{ inventory_hostname }}"
  register: catalog

- name: Read every byte that lies in the stores
  eternia.backup.eternia_backup_info:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    host: "{{ inventory_hostname }}"
    verify: full
"""

RETURN = r"""
backups:
  description: The backups, the newest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The backup's name.
      type: str
      sample: eternia_backup_20261122_220000.db
    kind:
      description: What it is a backup of, V(database) or V(state).
      type: str
      sample: database
    created_at:
      description:
        - When the snapshot was taken, UTC. The name of a legacy backup has the local time of its host, so that this may
          be some hours off.
      type: str
      sample: "2026-11-22T22:00:00Z"
    bytes:
      description: Its size as stored.
      type: int
      sample: 1048576
    status:
      description:
        - V(verified) where a store holds it with its manifest and no check failed.
        - V(legacy) without a manifest.
        - V(damaged) where no copy is fit for use.
      type: str
      sample: verified
    pinned:
      description: Whether a pin keeps it for ever.
      type: bool
      sample: false
    copies:
      description: Its copies, one for each store that has one.
      type: list
      elements: dict
      contains:
        store:
          description: V(local), V(s3), or V(legacy:) and the directory where Eternia's built-in manager left it.
          type: str
          sample: local
        location:
          description: Where it lies.
          type: str
          sample: /backups/eternia_backup_20261122_220000.db
        bytes:
          description: Its size; V(null) where only its manifest is left.
          type: int
          sample: 1048576
        verified:
          description: Whether its manifest lies beside it and no check found it damaged.
          type: bool
          sample: true
        problem:
          description: What a check found; V(null) where it found nothing or did not look.
          type: str
          sample: null
        damaged:
          description: Whether that is damage, and not a store that did not answer.
          type: bool
          sample: false
stores:
  description: The stores that backups go to and that could be listed.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: V(local) or V(s3).
      type: str
      sample: s3
    kept:
      description: How many backups it has.
      type: int
      sample: 24
    bytes:
      description: Their size.
      type: int
      sample: 25165824
    disk_bytes:
      description: What they take on the disk, where several may share a file or blocks; null for S3.
      type: int
      sample: 26214400
    newest_verified_at:
      description: When its newest verified backup was taken, or the source last seen to have that content, UTC.
      type: str
      sample: "2026-11-22T22:00:00Z"
    missing:
      description:
        - How many verified backups the policy wants there and only the other store has.
        - V(null) where that is not known, because one of them could not be listed.
      type: int
      sample: 0
    versioned:
      description: Whether the bucket keeps versions; V(null) where that is not known, and for V(local).
      type: bool
      sample: true
    noncurrent_bytes:
      description:
        - The size of the old versions of backups that a bucket keeps, and that are billed.
        - V(null) where nobody counted them, which takes O(verify=full), and for V(local).
      type: int
      sample: null
unlisted:
  description: The stores that could not be listed, each with the reason. What else is returned is about the others.
  returned: success
  type: dict
  sample: {}
enabled:
  description: Whether the host's backups are switched on.
  returned: success
  type: bool
  sample: true
obstacle:
  description:
    - Why no run can work on the storage path, because it is not mounted or another host's.
    - V(null) where nothing is in the way.
  returned: success
  type: str
  sample: null
running:
  description: Whether a run goes on at this moment.
  returned: success
  type: bool
  sample: false
record:
  description: What is known of the last run, as it stands in C(last-run.json). V(null) where there was none.
  returned: success
  type: dict
  sample:
    result: succeeded
    at: "2026-11-22T22:00:03Z"
    started_at: "2026-11-22T22:00:00Z"
    seconds: 2.9
    backup: eternia_backup_20261122_220000.db
    bytes_stored: 1048576
    bytes_sent: 1048576
    removed: 1
    warnings: []
    create_only: true
    error: ""
    failure: null
    failures: {s3: 2}
    last_success_at: "2026-11-22T22:00:03Z"
    tool_version: 0.1.0
locks_ending:
  description:
    - The backups in S3 that the policy keeps, and whose Object Lock ends soon or has ended, each with when, UTC.
    - Empty where no C(cloud_backup.object_lock_days) is set, and where runs renew the locks.
  returned: success
  type: dict
  sample: {eternia_backup_20261122_220000.db: "2026-11-23T22:00:00Z"}
promises:
  description:
    - What the store in S3 was last seen to keep of what backups rely on, by C(eternia-backup check-store).
    - V(null) where nobody checked the store that is configured now.
  returned: success
  type: dict
  contains:
    at:
      description: When that was, UTC.
      type: str
      sample: "2026-11-22T21:00:00Z"
    store:
      description: Which store.
      type: str
      sample: s3://eternia-backups/production at AWS
    findings:
      description:
        - Each C(promise), its C(verdict) (V(kept), V(not kept) or V(unknown)), and its C(meaning).
        - Backups rely on those that are C(needed).
      type: list
      elements: dict
      sample:
        - promise: create-only
          verdict: kept
          meaning: The store refuses to overwrite where it is asked to.
          needed: true
    left:
      description: What remains there of the check; empty where nothing does.
      type: str
      sample: ""
drill:
  description: When the last drill was, and whether everything came back in it. V(null) where there was none.
  returned: success
  type: dict
  contains:
    at:
      description: When, UTC.
      type: str
      sample: "2026-11-22T03:00:00Z"
    succeeded:
      description: Whether everything came back.
      type: bool
      sample: true
drill_seconds:
  description: How long a recovery would have taken in the last drill of each store, in seconds.
  returned: success
  type: dict
  sample: {local: 1.3, s3: 4.2}
last_run:
  description: Why the last backup run is no ground for trust; V(null) where it succeeded.
  returned: success
  type: str
  sample: null
held:
  description: Who holds the host's backups, why and until when; V(null) where nobody does.
  returned: success
  type: str
  sample: null
interrupted:
  description: Restores that were cut off, and what the next run will do about each.
  returned: success
  type: list
  elements: str
  sample: []
newest_verified:
  description: The name of the newest verified backup; V(null) where there is none.
  returned: success
  type: str
  sample: eternia_backup_20261122_220000.db
age_seconds:
  description:
    - The age of the newest verified backup in seconds, counted from when the source was last seen to have its content.
    - V(null) where there is none.
  returned: success
  type: int
  sample: 1800
max_age_seconds:
  description: How old it may be, one and a half periods of the frequency.
  returned: success
  type: int
  sample: 5400
stale:
  description: Whether the newest verified backup is missing or older than that.
  returned: success
  type: bool
  sample: false
"""

from dataclasses import asdict
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import glue
from ..module_utils.engine import status
from ..module_utils.engine.errors import EngineError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **glue.COMMON_OPTIONS,
            "verify": {"type": "str", "choices": ["none", "manifest", "full"], "default": "none"},
        },
        supports_check_mode=True,
    )
    try:
        config = glue.configuration(module)
        found = status.read(config, now=datetime.now(timezone.utc), verify=module.params["verify"])
    except EngineError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, stale=found.stale, **asdict(found))


if __name__ == "__main__":
    main()

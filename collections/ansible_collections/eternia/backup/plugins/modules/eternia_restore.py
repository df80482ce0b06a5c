#!/usr/bin/python
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: eternia_restore
short_description: Bring a backup of the Eternia application's state back
version_added: 0.1.0
description:
  - Fetches a backup, proves it (digest, SQLite's check, the facts of its manifest), keeps what is there as a safety
    backup, and puts the backup into place by one rename. Whatever fails before leaves the live data as it was; a run
    that was killed is finished or taken back by the next one.
  - Refuses while any process has the live file open. Stop the application first; the playbook
    C(eternia.backup.disaster_recovery) does that, and starts it again.
  - Does nothing where the live data has the content of the backup already.
options:
  backup:
    description:
      - Which backup. V(latest) is the newest verified one, a time such as V(2026-11-22T12:00:00Z) the newest verified
        one at or before it. One of these that turns out to be damaged in every store is passed over with a warning for
        the next older; while a store that may have it whole cannot be asked, the task fails.
      - The name of a backup, an absolute path or C(s3://bucket/key) mean that backup and no other. Where the copy in
        one store is damaged or gone, the copy of the same name in another store is taken.
    type: str
    default: latest
  allow_unverified:
    description:
      - Whether a backup may be restored that has no manifest to prove it, after everything was checked that can be.
      - A database file with a log or a hot journal beside it (C(-wal), C(-journal)) is refused all the same. What is in
        them is no part of the file; the message says how one file is made of both.
    type: bool
    default: false
  allow_foreign:
    description:
      - Whether a backup of another host or environment may be restored.
    type: bool
    default: false
  stage_only:
    description:
      - Whether to fetch and prove only. The live data is left alone, and the application may go on. A later run that
        asks for RV(location) finds it staged, and has only the rename to do.
    type: bool
    default: false
  identity:
    description:
      - The secret key that opens encrypted backups, of C(age-keygen) or of OpenSSH without a passphrase. Let it come
        from the control node, such as C(lookup('ansible.builtin.file', identity_file)); it stays on no host.
    type: str
  identity_file:
    description:
      - Path of a file on the host with that key, instead of O(identity).
    type: path
requirements:
  - boto3 >= 1.36 (only with S3)
  - blake3 (for backups that were hashed with it)
  - zstandard (for backups that are compressed)
  - pyrage (for backups that are encrypted)
extends_documentation_fragment:
  - eternia.backup.options
attributes:
  check_mode:
    support: full
    description: Prints the plan of the real run, and writes nothing.
  diff_mode:
    support: full
    description: Shows the rows of each table, or the sizes of each key, before and after.
author:
  - The Eternia maintainers (@eternia)
seealso:
  - module: eternia.backup.eternia_backup
  - module: eternia.backup.eternia_backup_info
  - module: eternia.backup.eternia_hold
"""

EXAMPLES = r"""
- name: Bring back the newest verified backup
  eternia.backup.eternia_restore:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    host: "{{ inventory_hostname }}"
    backup: latest

- name: Bring back what was there at noon
  eternia.backup.eternia_restore:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    host: "{{ inventory_hostname }}"
    backup: "2026-11-22T12:00:00Z"
"""

RETURN = r"""
name:
  description: The backup's name, or the path of a file that has no backup's name.
  returned: success
  type: str
  sample: eternia_backup_20261122_220000.db
kind:
  description: What it is a backup of, V(database) or V(state).
  returned: success
  type: str
  sample: database
target:
  description: The live file.
  returned: success
  type: str
  sample: /opt/eternia/data/eternia.db
store:
  description:
    - The store that it comes from, V(local), V(s3), V(safety), or V(legacy:) and a directory. V(file) is a file
      elsewhere, V(raw) a copy of something damaged.
  returned: success
  type: str
  sample: s3
location:
  description: Where it lies there.
  returned: success
  type: str
  sample: s3://eternia-backups/production/eternia_backup_20261122_220000.db
created_at:
  description: When it was taken, UTC; V(null) where that is not known.
  returned: success
  type: str
  sample: "2026-11-22T22:00:00Z"
bytes:
  description: The size of what is put into place, in bytes.
  returned: success
  type: int
  sample: 1048576
bytes_to_fetch:
  description: In check mode, how many bytes would be fetched, at most. What of them lies on the host already is not.
  returned: success
  type: int
  sample: 1048576
bytes_fetched:
  description:
    - How many bytes were. From S3 only those parts of the backup come that lie neither in the live file, nor in a local
      backup taken shortly before or after it, nor in what a fetch left that was cut off.
  returned: success
  type: int
  sample: 1048576
space_needed:
  description: In check mode, how many bytes have to be free on the filesystem of the live file.
  returned: success
  type: int
  sample: 1048576
space_free:
  description: In check mode, how many are.
  returned: success
  type: int
  sample: 90194313216
unchanged:
  description: Whether the live data has the content of the backup already.
  returned: success
  type: bool
  sample: false
staged:
  description: Whether it was fetched and proven only.
  returned: success
  type: bool
  sample: false
manifest:
  description: The facts about the backup. Empty for one without a manifest.
  returned: success
  type: dict
  sample: {format: 1, name: eternia_backup_20261122_220000.db}
before:
  description: The facts of the live data before; V(null) where it was missing or could not be read.
  returned: success
  type: dict
  sample: null
after:
  description: The facts of the live data after.
  returned: success
  type: dict
  sample: {page_size: 4096, tables: {state: 1900}}
rows_before:
  description:
    - Of a database the rows of each table, of a state the size of each key, before; V(null) where it was missing or
      could not be read.
  returned: success
  type: dict
  sample: {state: 1850}
rows_after:
  description: The same after; V(null) where that is not known before it is fetched.
  returned: success
  type: dict
  sample: {state: 1900}
safety:
  description: Where what was there is kept; V(null) where nothing was there, in check mode, and when only staged.
  returned: success
  type: str
  sample: /backups/safety/eternia_backup_20261122_223000.db
holders:
  description: The processes that have the live file open, in check mode and when only staged.
  returned: success
  type: list
  elements: str
  sample: ["process 812 (eternia) has /opt/eternia/data/eternia.db open"]
steps:
  description: The steps in their order, and how long each took, in seconds.
  returned: success
  type: dict
  sample: {select: 0.01, look: 0.01, fetch: 0.4, prove: 0.6, safety: 0.3, swap: 0.02}
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import glue
from ..module_utils.engine import recovery, restore
from ..module_utils.engine.clock import Clock
from ..module_utils.engine.errors import EngineError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **glue.COMMON_OPTIONS,
            "backup": {"type": "str", "default": "latest"},
            "allow_unverified": {"type": "bool", "default": False},
            "allow_foreign": {"type": "bool", "default": False},
            "stage_only": {"type": "bool", "default": False},
            **glue.IDENTITY_OPTIONS,
        },
        mutually_exclusive=[("identity", "identity_file")],
        supports_check_mode=True,
    )
    params = module.params
    act = restore.plan if module.check_mode else restore.stage if params["stage_only"] else restore.run
    try:
        config = glue.configuration(module)
        request = restore.Request(
            params["backup"], params["allow_unverified"], params["allow_foreign"], glue.identity(module)
        )
        outcome = act(config, request, clock=Clock())
    except EngineError as exc:
        module.fail_json(msg=str(exc))
    glue.succeed(module, outcome, reported(outcome, stage_only=params["stage_only"]))


def reported(outcome: restore.Outcome, *, stage_only: bool) -> dict[str, Any]:
    """What a restore did, or would do, as the task returns it."""
    fields = asdict(outcome)
    del fields["warnings"], fields["cut_off"]
    before, after = recovery.counts(outcome.before), recovery.counts(outcome.after)
    return {
        **fields,
        "changed": outcome.changed and not stage_only,
        "manifest": {} if outcome.manifest is None else outcome.manifest.fields(),
        "holders": [str(holder) for holder in outcome.holders],
        "steps": {step: round(seconds, 3) for step, seconds in outcome.steps.items()},
        "rows_before": before,
        "rows_after": after,
        "diff": {"before": listed(before), "after": listed(after)},
    }


def listed(counts: dict[str, int] | None) -> str:
    """Counts as a text to be compared: names and numbers, no contents."""
    if counts is None:
        return "nothing that can be read\n"
    return "".join(f"{name}: {number}\n" for name, number in sorted(counts.items()))


if __name__ == "__main__":
    main()

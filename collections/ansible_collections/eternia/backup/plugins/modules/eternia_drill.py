#!/usr/bin/python
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: eternia_drill
short_description: Prove that backups of the Eternia application's state come back, beside the live system
version_added: 0.1.0
description:
  - Restores the newest verified backup of every store, from that store alone, and one older backup by lot, with the
    steps of M(eternia.backup.eternia_restore) into a scratch directory beside the backups. The live data is not
    touched, and backups go on meanwhile.
  - Predicts from the time that took how long a recovery from each store is going to take, and compares it with the
    drills before.
  - Marks each backup that came back (a file C(NAME.drilled.json) beside it, in the store that it came from). Retention
    prefers marked backups for the C(minimum_kept) that always stay.
  - Fails when all were tried, if any did not come back, or if a store has no verified backup or cannot be reached.
options:
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
    description: Names the backups that the real run would drill, and writes nothing.
  diff_mode:
    support: none
    description: The live data and the backups stay as they are.
author:
  - The Eternia maintainers (@eternia)
seealso:
  - module: eternia.backup.eternia_restore
  - module: eternia.backup.eternia_prune
"""

EXAMPLES = r"""
- name: Drill
  eternia.backup.eternia_drill:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    host: "{{ inventory_hostname }}"
"""

RETURN = r"""
at:
  description: When the drill began, UTC.
  returned: success, and failure once drills were tried
  type: str
  sample: "2026-11-22T22:00:00Z"
drilled:
  description: The backups that were drilled, or would be in check mode.
  returned: success, and failure once drills were tried
  type: list
  elements: dict
  contains:
    name:
      description: The backup's name.
      type: str
      sample: eternia_backup_20261122_220000.db
    store:
      description: The store that it came from.
      type: str
      sample: s3
    location:
      description: Where it lies there.
      type: str
      sample: s3://eternia-backups/production/eternia_backup_20261122_220000.db
    bytes:
      description: Its size, in bytes.
      type: int
      sample: 1048576
    newest:
      description: Whether it is the newest verified one of its store; otherwise it was drawn by lot.
      type: bool
      sample: true
    ok:
      description: Whether it came back; in check mode, whether nothing speaks against it so far.
      type: bool
      sample: true
    problem:
      description: Why it did not come back; V(null) where it did.
      type: str
      sample: null
    facts:
      description: What was read from it, and is what its manifest says.
      type: dict
      sample: {page_size: 4096, tables: {state: 1900}}
    steps:
      description: The steps in their order, and how long each took, in seconds. Empty in check mode.
      type: dict
      sample: {fetch: 0.4, prove: 0.6, place: 0.02, open: 0.01}
    seconds:
      description: How long all of it took, in seconds.
      type: float
      sample: 1.1
undrilled:
  description: The stores from which nothing could be drilled, and why.
  returned: success, and failure once drills were tried
  type: dict
  sample: {}
predicted:
  description:
    - For each store whose newest backup came back, how long a recovery from it is going to take. Empty in check mode.
  returned: success, and failure once drills were tried
  type: list
  elements: dict
  contains:
    store:
      description: The store.
      type: str
      sample: s3
    name:
      description: The backup that was drilled.
      type: str
      sample: eternia_backup_20261122_220000.db
    bytes:
      description: Its size, in bytes.
      type: int
      sample: 1048576
    seconds:
      description: How long fetching, proving and placing took, in seconds; then the application can be started.
      type: float
      sample: 1.02
    earlier:
      description: How many earlier drills of the store it was compared with.
      type: int
      sample: 7
    trend:
      description: The difference to the median of the earlier drills, in percent; V(null) where there were none.
      type: int
      sample: 12
    trend_per_mib:
      description: The same of the seconds for each MiB. What grows in RV(predicted[].trend) alone is the data.
      type: int
      sample: 2
seconds:
  description: How long all drills took, in seconds.
  returned: success, and failure once drills were tried
  type: float
  sample: 2.4
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import glue
from ..module_utils.engine import drill
from ..module_utils.engine.clock import Clock
from ..module_utils.engine.errors import EngineError


def main() -> None:
    module = AnsibleModule(
        argument_spec={**glue.COMMON_OPTIONS, **glue.IDENTITY_OPTIONS},
        mutually_exclusive=[("identity", "identity_file")],
        supports_check_mode=True,
    )
    try:
        config = glue.configuration(module)
        glue.exit_if_disabled(module, config)
        outcome = (drill.plan if module.check_mode else drill.run)(
            config, clock=Clock(), identity=glue.identity(module)
        )
    except EngineError as exc:
        glue.fail(module, exc, reported)
    glue.succeed(module, outcome, reported(outcome))


def reported(outcome: drill.Outcome) -> dict[str, Any]:
    """What was drilled, or would be, as the task returns it."""
    return {
        "changed": outcome.changed,
        "at": outcome.at,
        "drilled": [told(one) for one in outcome.drilled],
        "undrilled": outcome.undrilled,
        "predicted": [{**asdict(one), "seconds": round(one.seconds, 3)} for one in outcome.predicted],
        "seconds": round(outcome.seconds, 3),
    }


def told(one: drill.Drilled) -> dict[str, Any]:
    return {
        **asdict(one),
        "ok": one.problem is None,
        "steps": {step: round(seconds, 3) for step, seconds in one.steps.items()},
        "seconds": round(one.seconds, 3),
    }


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: eternia_hold
short_description: Hold a host's backups and their pruning for a while
version_added: 0.1.0
description:
  - While a host is held, no backup of it is taken and nothing is pruned, whoever starts the run. The disaster recovery
    runbook holds a host while its data is not to be trusted.
  - A hold says who holds, why, and until when. It ends by itself.
  - It is refused where no run can work on the storage path, because its disk is not mounted or it belongs to another
    host. A run that is under way comes to its end, which is a warning.
options:
  state:
    description:
      - With V(present) the host is held. A hold of somebody else is an error that names him.
      - With V(absent) the hold is released, with O(who) only where it is his.
    type: str
    choices: [present, absent]
    default: present
  who:
    description:
      - Who holds, in one line of 255 characters at most. Required with O(state=present).
    type: str
  why:
    description:
      - Why, in one line of 255 characters at most. Required with O(state=present).
    type: str
  minutes:
    description:
      - After how many minutes the hold ends by itself. One that is asked for again is renewed when half of them are
        over.
      - More than V(0), and V(10080) (a week) at most.
    type: int
    default: 120
extends_documentation_fragment:
  - eternia.backup.options
attributes:
  check_mode:
    support: full
    description: Holds and releases nothing.
  diff_mode:
    support: full
    description: Shows the hold before and after.
author:
  - The Eternia maintainers (@eternia)
seealso:
  - module: eternia.backup.eternia_restore
"""

EXAMPLES = r"""
- name: Hold the host while the disk is exchanged
  eternia.backup.eternia_hold:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    who: operations
    why: the disk is exchanged
    minutes: 240

- name: Release it
  eternia.backup.eternia_hold:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
    state: absent
"""

RETURN = r"""
until:
  description: When the hold ends by itself, UTC; V(null) where there is none.
  returned: success
  type: str
  sample: "2026-11-22T14:00:00Z"
obstacle:
  description: Why no run can work on the storage path; V(null) where the hold was refused for another reason.
  returned: failure
  type: str
  sample: >-
    /backups is to be on /backups (says /etc/fstab), and nothing is mounted there: backups would fill up the disk below
    it. Mount it (`mount /backups`), or correct storage_path or /etc/fstab; then run again.
"""

from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import glue
from ..module_utils.engine import hold, names
from ..module_utils.engine.errors import EngineError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **glue.COMMON_OPTIONS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "who": {"type": "str"},
            "why": {"type": "str"},
            "minutes": {"type": "int", "default": 120},
        },
        required_if=[("state", "present", ("who", "why"))],
        supports_check_mode=True,
    )
    params, now = module.params, datetime.now(timezone.utc)
    try:
        config = glue.configuration(module)
        place = config.storage_path
        before = hold.read(place, now)
        if params["state"] == "present":
            hours = params["minutes"] / 60
            wanted = hold.wanted(config, who=params["who"], why=params["why"], hours=hours, now=now)
            after = hold.due(before, wanted, now)
        else:
            after = before if before and params["who"] not in (None, before.who) else None
        # What is no hold and lies in its place is removed with one.
        changed = after != before or (after is None and hold.void(place, now) is not None)
        if changed and not module.check_mode:
            hold.put(place, after)
        warning = hold.under_way(place) if params["state"] == "present" else None
    except EngineError as exc:
        module.fail_json(msg=str(exc), obstacle=str(exc) if isinstance(exc, hold.NoPlaceError) else None)
    if warning is not None:
        module.warn(warning)
    module.exit_json(
        changed=changed,
        until=None if after is None else names.iso(after.until),
        diff={"before": described(before), "after": described(after)},
    )


def described(one: hold.Hold | None) -> str:
    """A hold in words."""
    return "not held\n" if one is None else f"held by {one.who} until {names.iso(one.until)}: {one.why}\n"


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: eternia_source_info
short_description: Say what the application holds at this moment, and who has it open
version_added: 0.1.0
description:
  - Reads the live database or state, its facts at this moment, and finds the processes that have it open. No store is
    asked, and nothing is changed.
  - What is missing or cannot be read is no failure; RV(source) says why.
extends_documentation_fragment:
  - eternia.backup.options
attributes:
  check_mode:
    support: full
    description: Reads only, in check mode or not.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - The Eternia maintainers (@eternia)
seealso:
  - module: eternia.backup.eternia_backup_info
  - module: eternia.backup.eternia_restore
"""

EXAMPLES = r"""
- name: Wait until the application has let go of its data
  eternia.backup.eternia_source_info:
    config: "{{ backup }}"
    environment: production
    base_dir: /opt/eternia
  register: live
  until: live.source.holders | length == 0
  retries: 30
  delay: 1
"""

RETURN = r"""
source:
  description: What is protected on this host, as it is now.
  returned: success
  type: dict
  contains:
    kind:
      description: V(database) or V(state).
      type: str
      returned: when something is there, or was backed up here
      sample: database
    path:
      description: The live file.
      type: str
      returned: with RV(source.kind)
      sample: /opt/eternia/data/eternia.db
    exists:
      description: Whether anything is there.
      type: bool
      sample: true
    holders:
      description: The processes that have it open, as far as this user may see.
      type: list
      elements: str
      sample: ["process 812 (eternia) has /opt/eternia/data/eternia.db open"]
    tables:
      description: Rows by table, of a database that can be read.
      type: dict
      returned: when it is a database that can be read
      sample: {state: 1900}
    keys:
      description: Sizes by key, of a state that can be read.
      type: dict
      returned: when it is a state that can be read
      sample: {memories: 12}
    written_at:
      description: When it was last written to, in seconds since 1970.
      type: float
      returned: when it can be read
      sample: 1795000000.5
    problem:
      description: Why it cannot be read.
      type: str
      returned: when it cannot
      sample: /opt/eternia/data/eternia.db does not exist. If it was lost, restore it; otherwise correct database_path.
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import glue
from ..module_utils.engine import status
from ..module_utils.engine.errors import EngineError


def main() -> None:
    module = AnsibleModule(argument_spec=glue.COMMON_OPTIONS, supports_check_mode=True)
    try:
        module.exit_json(changed=False, source=status.live(glue.configuration(module)))
    except EngineError as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()

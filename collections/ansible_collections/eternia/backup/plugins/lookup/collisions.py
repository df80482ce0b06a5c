# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: collisions
author:
  - The Eternia maintainers (@eternia)
short_description: What hosts of the inventory would keep their backups in one place
version_added: 0.1.0
description:
  - Compares where hosts keep their backups, as their inventory says. Two that share a prefix in a bucket, or a
    directory of one machine or of one network filesystem, would prune each other's backups.
  - Which filesystem a directory lies on is known of hosts that the role P(eternia.backup.agent#role) has looked at in
    this run; of others their variables alone are compared.
  - A host that is switched off, or that is to have no jobs, is passed over. So is, with a warning, one whose block the
    engine would refuse.
options:
  _terms:
    description: The names of the hosts.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse hosts that would share a place
  ansible.builtin.assert:
    that: collisions | length == 0
    fail_msg: "{{ collisions | join(' ') }}"
  vars:
    collisions: "{{ query('eternia.backup.collisions', groups['all']) }}"
  run_once: true
"""

RETURN = r"""
_raw:
  description: A sentence for each place that several would share, naming them and the fix. Empty where all is well.
  type: list
  elements: str
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ..module_utils.engine import config
from ..module_utils.engine.errors import ConfigError
from ..plugin_utils.places import Home, machine, troubles
from .from_inventory import LookupModule as FromInventory


class LookupModule(LookupBase):
    """Reads of every host what its inventory says, once."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        hostvars = (variables or {})["hostvars"]
        homes = []
        for name in self._flatten(terms):
            try:
                home = self._home(name, hostvars)
            except (AnsibleError, ConfigError) as exc:
                Display().warning(f"{name} is not compared with the other hosts: {exc}")
            else:
                homes += [] if home is None else [home]
        return troubles(homes)

    def _home(self, name: str, hostvars: Any) -> Home | None:
        """Where a host keeps its backups; None where it makes none. Raises AnsibleError, ConfigError."""
        told = hostvars[name]
        if "absent" in (told.get("schedule_state"), told.get("agent_state")):
            return None
        inventory = FromInventory(self._loader, self._templar)
        (block,) = inventory.run(["backup"], {**hostvars.raw_get(name), "hostvars": hostvars})
        found = config.parse(
            block, environment=told.get("eternia_environment"), host=name, base_dir=told.get("eternia_home")
        )
        seen = told.get("agent_seen") or {}
        return Home(machine(name, told), found, seen.get("storage") or {}) if found.enabled else None

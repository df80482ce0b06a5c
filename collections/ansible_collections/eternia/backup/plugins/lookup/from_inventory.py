# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: from_inventory
author:
  - The Eternia maintainers (@eternia)
short_description: The value that the inventory gives a variable, whatever the command line says
version_added: 0.1.0
description:
  - Returns a variable of the current host as its inventory, C(group_vars) and C(host_vars) have it. An extra variable
    of the same name does not count.
  - The runbook needs it, because C(-e backup=latest) says which backup, and C(backup) in the inventory says how
    backups are made.
options:
  _terms:
    description: The names of the variables.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show how the host is backed up, whatever -e backup=... is
  ansible.builtin.debug:
    msg: "{{ lookup('eternia.backup.from_inventory', 'backup') }}"
"""

RETURN = r"""
_raw:
  description: The values, in the order of the names. A variable that the inventory lacks is V(null).
  type: list
  elements: raw
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.vars.manager import VariableManager


class LookupModule(LookupBase):
    """Asks the inventory as Ansible does, with no extra variables."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        variables = variables or {}
        inventory = variables["hostvars"]._inventory
        # There is no public way to ask for less than everything.
        manager = VariableManager(loader=self._loader, inventory=inventory)
        manager._extra_vars = {}
        host = inventory.get_host(variables["inventory_hostname"])
        found = manager.get_vars(host=host, include_hostvars=False)
        wanted = {term: found.get(term) for term in terms}
        templar = self._templar.copy_with_new_env(available_variables={**variables, **wanted})
        return [templar.template(value) for value in wanted.values()]

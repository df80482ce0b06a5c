# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules share: the options that all of them have, the engine's configuration, and its log."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .engine import config, log
from .engine.errors import EngineError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from .engine.encryption import Identity

COMMON_OPTIONS = {
    "config": {"type": "dict", "required": True},
    "environment": {"type": "str", "required": True, "choices": list(config.ENVIRONMENTS)},
    "base_dir": {"type": "path"},
    "host": {"type": "str"},
    "agent_path": {"type": "path", "default": "/opt/eternia-backup"},
}


# Of the modules that make backups plain.
IDENTITY_OPTIONS = {"identity": {"type": "str", "no_log": True}, "identity_file": {"type": "path"}}


def configuration(module: AnsibleModule) -> config.Config:
    """The engine's configuration from a module's options, and its log lines sent on. Raises ConfigError.

    Where the agent is installed whole, this goes on in its Python, which has the libraries.
    """
    _use_agent(module.params["agent_path"])
    _forward_log(module)
    params = module.params
    return config.parse(
        params["config"],
        environment=params["environment"],
        host=params["host"] or socket.gethostname(),
        base_dir=params["base_dir"],
    )


def identity(module: AnsibleModule) -> Identity | None:
    """What opens encrypted backups, if it was given; after `configuration`. Raises ConfigError, StoreError."""
    from .engine import encryption

    if module.params["identity_file"] is not None:
        return encryption.identity_of(Path(module.params["identity_file"]))
    if module.params["identity"] is None:
        return None
    return encryption.identity_in(module.params["identity"].encode("utf-8", "surrogateescape"), "The option identity")


def exit_if_disabled(module: AnsibleModule, settings: config.Config) -> None:
    """End here where the host's backups are switched off."""
    if not settings.enabled:
        module.exit_json(changed=False, skipped=True, msg="backup.enabled is false: nothing was done.")


def fail(module: AnsibleModule, exc: EngineError, reported: Callable[[Any], dict[str, Any]]) -> NoReturn:
    """Fail with the engine's words; a run that failed half-way says what holds all the same."""
    outcome = getattr(exc, "outcome", None)
    if outcome is None:
        module.fail_json(msg=str(exc))
    _warn(module, outcome)
    module.fail_json(msg=str(exc), **reported(outcome))


def succeed(module: AnsibleModule, outcome: Any, result: dict[str, Any]) -> NoReturn:
    """End with the result, and with what an operator should look at."""
    _warn(module, outcome)
    module.exit_json(**result)


def _warn(module: AnsibleModule, outcome: Any) -> None:
    for warning in outcome.warnings:
        module.warn(warning)


def _use_agent(path: str) -> None:
    release = os.path.realpath(os.path.join(path, "current"))
    if not os.path.exists(os.path.join(release, "release.json")) or os.path.realpath(sys.prefix) == release:
        return
    # Here, because the engine's tests run where there is no Ansible.
    from ansible.module_utils.common.respawn import has_respawned, respawn_module

    if not has_respawned():
        respawn_module(os.path.join(path, "current", "bin", "python"))


def _forward_log(module: AnsibleModule) -> None:
    """Send the engine's log lines to where Ansible's modules log: journald, or syslog."""
    log.logger.addHandler(_ModuleHandler(module))
    log.logger.setLevel(logging.INFO)


class _ModuleHandler(logging.Handler):
    def __init__(self, module: AnsibleModule) -> None:
        super().__init__()
        self._module = module

    def emit(self, record: logging.LogRecord) -> None:
        self._module.log(record.getMessage())

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file of a host: which environment and host it is, where the application lives, and the block."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from . import config, files
from .config import Config
from .errors import ConfigError, EngineError
from .reader import Reader

DEFAULT = Path("/etc/eternia-backup/config.yml")
# The environment variable that names another.
VARIABLE = "ETERNIA_BACKUP_CONFIG"

_KEYS = ("environment", "host", "base_dir", "backup")


def read(path: Path) -> Config:
    """Read a configuration file. Without `host` the host is called what it calls itself.

    Raises ConfigError naming the file, and EngineError where the library that reads YAML is missing.
    """
    document = _document(path)
    try:
        reader = Reader("config", document, _KEYS)
        return config.parse(
            document.get("backup"),
            environment=document.get("environment"),
            host=reader.text("host", "the host's name") or os.uname().nodename,
            base_dir=reader.text("base_dir", "an absolute path"),
        )
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from exc


def _document(path: Path) -> Any:
    try:
        import yaml
    except ImportError as exc:
        raise EngineError(
            f"Reading {path} needs the Python library PyYAML, which {sys.executable} cannot import ({exc}). Install "
            "PyYAML there."
        ) from exc
    try:
        # The loader in C, where PyYAML was built with it, is ten times as fast.
        return yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except FileNotFoundError as exc:
        raise ConfigError(
            f"There is no configuration file {path}. Name the one that says where the backups are with --config, or "
            f"with the environment variable {VARIABLE}."
        ) from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {files.reason(exc)}. Correct the rights on it.") from exc
    except yaml.YAMLError as exc:
        # Not what it says in full: that quotes the line, and a secret may stand there.
        mark, problem = getattr(exc, "problem_mark", None), getattr(exc, "problem", None)
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1}: {problem})"
        raise ConfigError(f"{path} is not YAML{where}. Correct it there.") from exc
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as exc:
        # A day that no month has, digits without end, brackets in brackets: what PyYAML leaves to Python to refuse.
        raise ConfigError(f"{path} holds what nobody can read ({type(exc).__name__}). Correct it there.") from exc

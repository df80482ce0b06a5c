# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads all that a command may load, once: a child that is forked has it then, and its calls are the command's own."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from ansible_collections.eternia.backup.plugins.module_utils.engine import parts

from .calls import ENGINE
from .child import never_wait

_LIBRARIES = (
    *(
        "awscrt.checksums",
        "blake3",
        "boto3",
        "botocore.httpsession",
        "cryptography.x509",
        "ctypes",
        "pyrage",
        "yaml",
        "zstandard",
    ),
    *("concurrent.futures.thread", "logging.handlers"),
)


def load_everything() -> None:
    """From here on nobody waits, and S3 takes the smallest parts that it can."""
    never_wait()
    package = parts.__name__.rpartition(".")[0]
    for module in pkgutil.walk_packages([ENGINE], f"{package}."):
        import_module(module.name)
    for name in _LIBRARIES:
        import_module(name)
    parts.SMALLEST = 5 * 1024 * 1024
    _remember_models()


def _remember_models() -> None:
    """What botocore reads of its own files it reads once."""
    from botocore.loaders import JSONFileLoader

    real, first = JSONFileLoader.load_file, JSONFileLoader()
    read_once = cache(lambda path: real(first, path))
    JSONFileLoader.load_file = lambda _loader, path: read_once(path)
    import boto3

    boto3.client("s3", region_name="us-east-1")

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a measured host: what its application and its inventory would say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.eternia.backup.plugins.module_utils.engine import config

from ..object_store import BUCKET


def configured(database: str, storage: str, endpoint: str | None = None, compression: str = "none") -> config.Config:
    """With a local store, and with one in S3 where there is an `endpoint`; on a command line, "-" is none."""
    block: dict[str, Any] = {"source": "database", "database_path": database, "storage_path": storage}
    block["compression"] = compression
    if endpoint not in (None, "-"):
        block["cloud_backup"] = {
            "enabled": True,
            "bucket": BUCKET,
            "region": "us-east-1",
            "endpoint_url": endpoint,
        }
    base_dir = str(Path(storage).parent)
    return config.parse(block, environment="development", host="benchmark", base_dir=base_dir)

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List an S3 store as pruning does: ENDPOINT. Prints how many backups it holds."""

from __future__ import annotations

import sys

from ansible_collections.eternia.backup.plugins.module_utils.engine.stores.s3 import S3Settings, S3Store

store = S3Store(S3Settings("bench", "production", region="us-east-1", endpoint_url=sys.argv[1]))
print(len(list(store.copies())))

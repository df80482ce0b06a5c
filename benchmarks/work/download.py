# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""boto3's own download, then fsync: ENDPOINT BUCKET KEY TARGET."""

from __future__ import annotations

import os
import sys

import boto3

endpoint, bucket, key, target = sys.argv[1:]
boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").download_file(bucket, key, target)
with open(target, "rb") as stream:
    os.fsync(stream.fileno())

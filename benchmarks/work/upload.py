# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""boto3's own upload: ENDPOINT BUCKET KEY SOURCE."""

from __future__ import annotations

import sys

import boto3

endpoint, bucket, key, source = sys.argv[1:]
boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").upload_file(source, bucket, key)

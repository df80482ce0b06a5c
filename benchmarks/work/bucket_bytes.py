# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many bytes the objects of a bucket have: ENDPOINT BUCKET."""

from __future__ import annotations

import sys

import boto3

endpoint, bucket = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
print(sum(entry["Size"] for page in pages for entry in page.get("Contents", ())))

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a bucket where it is missing, and see that it keeps an object: ENDPOINT BUCKET."""

from __future__ import annotations

import sys

import boto3
from botocore.config import Config

endpoint, bucket = sys.argv[1:]
client = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name="us-east-1",
    config=Config(connect_timeout=2, read_timeout=5, proxies={}, retries={"total_max_attempts": 1}),
)
if bucket not in [one["Name"] for one in client.list_buckets()["Buckets"]]:
    client.create_bucket(Bucket=bucket)
client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
assert client.get_object(Bucket=bucket, Key="ready")["Body"].read() == b"ready"

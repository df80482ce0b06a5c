# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""damage_object.py ENDPOINT BUCKET KEY: flips one bit of an object in S3, with plain boto3."""

from __future__ import annotations

import sys

import boto3


def main(endpoint: str, bucket: str, key: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-west-2")
    content = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 1
    client.delete_object(Bucket=bucket, Key=key)
    client.put_object(Bucket=bucket, Key=key, Body=bytes(content))


if __name__ == "__main__":
    main(*sys.argv[1:])

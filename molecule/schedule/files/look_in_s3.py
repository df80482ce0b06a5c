# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""look_in_s3.py ENDPOINT BUCKET PREFIX: the digests of the backups that lie there, with plain boto3. Prints JSON."""

from __future__ import annotations

import hashlib
import json
import sys

import boto3


def main(endpoint: str, bucket: str, prefix: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-west-2")
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/eternia_backup_").get("Contents", [])
    keys = [one["Key"] for one in listed if one["Key"].endswith(".db")]
    bodies = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    print(json.dumps({key.rpartition("/")[2]: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a configuration as the release that this lies in will: python -I check_config.py FILE.

Says why it cannot be used, and fails; S3 without a boto3 that can do it counts too, and a mistyped key to encrypt to.
"""

from __future__ import annotations

import sys
from pathlib import Path

from eternia_backup import config_file, encoding
from eternia_backup.errors import EngineError
from eternia_backup.stores import s3_client


def main(path: Path) -> None:
    try:
        config = config_file.read(path)
        if config.cloud is not None:
            s3_client.require_boto3()
        encoding.require_possible(config)
    except EngineError as exc:
        # The file has a passing name while it is checked.
        sys.exit(str(exc).removeprefix(f"{path}: ").replace(str(path), "it"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

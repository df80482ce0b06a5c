# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Name what a host installs, or put it into one file that builds itself there: artefact.py ENGINE [ARTEFACT].

Prints the version and a digest of the content as JSON. The same content has the same digest, whoever packs it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
# What builds the release is what Python runs when it is given the archive.
BESIDE = {"__main__.py": "release.py", "check_config.py": "check_config.py", "requirements.txt": "requirements.txt"}
# The oldest time that the format knows: when a file was checked out is no part of it.
WHEN = (1980, 1, 1, 0, 0, 0)


def main(engine: Path, artefact: Path | None) -> None:
    content = read(engine)
    version = re.search(r'^VERSION = "(.+)"$', content["eternia_backup/version.py"], re.MULTILINE)
    if version is None:
        sys.exit(f"{engine / 'version.py'} says no VERSION.")
    if artefact is not None:
        pack(content, artefact)
    # Of the content, not of the archive: another zlib packs the same into other bytes.
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    print(json.dumps({"version": version[1], "digest": digest}))


def read(engine: Path) -> dict[str, str]:
    """The files of the archive and what is in them."""
    paths = {f"eternia_backup/{path.relative_to(engine)}": path for path in sorted(engine.rglob("*.py"))}
    paths |= {name: HERE / file for name, file in BESIDE.items()}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}


def pack(content: dict[str, str], artefact: Path) -> None:
    with zipfile.ZipFile(artefact, "w") as archive:
        for name, text in content.items():
            archive.writestr(zipfile.ZipInfo(name, WHEN), text, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None)

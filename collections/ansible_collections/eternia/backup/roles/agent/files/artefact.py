# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the engine into one file that Python runs as it is: ENGINE ARTEFACT. The same engine gives the same bytes."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

# The oldest time that the format knows: when a file was checked out is no part of it.
WHEN = (1980, 1, 1, 0, 0, 0)
MAIN = "import sys\n\nfrom eternia_backup.cli import main\n\nsys.exit(main())\n"


def main(engine: Path, artefact: Path) -> None:
    with zipfile.ZipFile(artefact, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(engine.rglob("*.py")):
            add(archive, f"eternia_backup/{path.relative_to(engine)}", path.read_text(encoding="utf-8"))
        add(archive, "__main__.py", MAIN)


def add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, WHEN), text, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A systemctl that knows units by their files, and keeps of each whether it is enabled and active. Run as SELF WORDS.

UNITS names the directory of the units, STATE a file: what was asked, and what came of it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    units, kept = Path(os.environ["UNITS"]), Path(os.environ["STATE"])
    state = json.loads(kept.read_text()) if kept.exists() else {"asked": [], "enabled": [], "active": [], "read": {}}
    verb, *rest = (word for word in words if not word.startswith("-"))
    found = {path.name: path.read_text() for path in units.iterdir()}
    code = 0
    if verb == "show":
        print("\n\n".join(show(unit, state, found) for unit in rest))
    elif verb == "is-enabled":
        code = int(rest[0] not in state["enabled"])
        print("disabled" if code else "enabled")
    else:
        state["asked"].append(" ".join([verb, *rest]))
        kinds = {"enable": "enabled", "disable": "enabled", "start": "active", "stop": "active"}
        if verb == "daemon-reload":
            state["read"] = found
        elif rest[0] not in state["read"]:
            code = 5
        elif verb in ("enable", "start"):
            state[kinds[verb]].append(rest[0])
        else:
            state[kinds[verb]].remove(rest[0])
    kept.write_text(json.dumps(state))
    return code


def show(unit: str, state: dict, found: dict) -> str:
    read = state["read"].get(unit)
    facts = {
        "Id": unit,
        "LoadState": "loaded" if read is not None else "not-found",
        "UnitFileState": "enabled" if unit in state["enabled"] else "disabled",
        "ActiveState": "active" if unit in state["active"] else "inactive",
        "NeedDaemonReload": "yes" if read is not None and read != found.get(unit) else "no",
    }
    return "\n".join(f"{name}={value}" for name, value in facts.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a restore on a file that another tool brought: PATH MANIFEST."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible_collections.eternia.backup.plugins.module_utils.engine import manifest, names, verify

path, sidecar = map(Path, sys.argv[1:])
name = names.parse(sidecar.name.removesuffix(names.MANIFEST_SUFFIX))
assert name is not None
expected = manifest.from_json(sidecar.read_bytes(), name=name, where=str(sidecar))
proof = verify.prove(path, name.kind, "quick", algorithm=expected.content.digest.algorithm)
assert proof.content.digest == expected.content.digest
verify.same_facts(path, proof.facts, expected.source)

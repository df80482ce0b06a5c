# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz one target in this process, which ends at the first finding: `python -m fuzz.worker TARGET SECONDS FOLDER SEED`.

By coverage, with atheris, where it is installed; else what is right is bent at random. The bytes of a finding lie in
the folder; `python -m fuzz.worker TARGET FILE` shows it again.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from .mutation import bend

# Longer than any document here; what is deeper or longer is made by `bend`.
_LONGEST = 16384


def main() -> None:
    name, *rest = sys.argv[1:]
    if len(rest) == 1:
        from . import targets

        with tempfile.TemporaryDirectory() as scratch:
            targets.work_in(Path(scratch))
            targets.TARGETS[name].check(Path(rest[0]).read_bytes())
        return
    seconds, folder, seed = int(rest[0]), Path(rest[1]), int(rest[2])
    folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris"):
        _by_coverage(name, seconds, folder, seed)
    else:
        _at_random(name, seconds, folder, seed)


def _by_coverage(name: str, seconds: int, folder: Path, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["ansible_collections.eternia.backup", "yaml", "json"]):
        from . import targets
    target = targets.TARGETS[name]
    targets.work_in(folder / "files")
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, right in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(right)

    def mutate(data: bytes, most: int, drawn: int) -> bytes:
        rng = random.Random(drawn)
        bent = bend(data, rng) if target.is_json and rng.random() < 0.5 else None
        return atheris.Mutate(data, most) if bent is None else bent[:most]

    options = (
        *(f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", f"-max_len={_LONGEST}"),
        *("-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0", f"-seed={seed}"),
    )
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check, custom_mutator=mutate)
    atheris.Fuzz()


def _at_random(name: str, seconds: int, folder: Path, seed: int) -> None:
    from . import targets

    target, rng, executions = targets.TARGETS[name], random.Random(seed), 0
    targets.work_in(folder / "files")
    seeds, end = target.seeds(), time.monotonic() + seconds
    while time.monotonic() < end:
        raw = rng.choice(seeds)
        bent = bend(raw, rng) if target.is_json and rng.random() < 0.7 else None
        raw = _flipped(raw, rng) if bent is None else bent
        executions += 1
        try:
            target.check(raw)
        except BaseException:
            traceback.print_exc()
            (folder / "crash-at-random").write_bytes(raw)
            print(f"stat::number_of_executed_units: {executions}", file=sys.stderr)
            sys.exit(77)
    print(f"stat::number_of_executed_units: {executions}", file=sys.stderr)


def _flipped(raw: bytes, rng: random.Random) -> bytes:
    found = bytearray(raw)
    for _again in range(rng.randint(1, 8)):
        with suppress(IndexError):
            found[rng.randrange(len(found) or 1)] = rng.randrange(256)
    return bytes(found)


if __name__ == "__main__":
    main()

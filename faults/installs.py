# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which an agent runs, and the building of its next release, as the role does it: real wheels, a real pip."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from .calls import ENGINE, ROLE
from .child import Ended
from .promises import Stores, told
from .scenes import Scene

SCENES = (Scene("install", "beside the release that runs", slow=True),)
_LIBRARIES = ("pip", "pyyaml")
_OLD, _NEW = "releases/old", "releases/new"
_ARCHIVE, _WHEELS = "eternia-backup.pyz", "wheels.tar"


def fetch_wheels(place: Path) -> None:
    """What a release is built of, from the package index: the same for all hosts below `place`."""
    wheels = place / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--only-binary=:all:", f"--dest={wheels}", *_LIBRARIES], check=True, timeout=300)
    with tarfile.open(place / _WHEELS, "w") as packed:
        for wheel in wheels.glob("*.whl"):
            packed.add(wheel, wheel.name)


@cache
def _of_the_role(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(ROLE, f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Installed:
    """A host below `place` with a release that runs, which is built once; `wheels` is where fetch_wheels() put them."""

    def __init__(self, scene: Scene, place: Path, wheels: Path) -> None:
        self.scene, self.place = scene, place
        self.root = place / "host"
        self._release = self.root / _NEW
        self._wheels = wheels / _WHEELS
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self._archive = place / _ARCHIVE
        artefact = _of_the_role("artefact")
        artefact.pack({**artefact.read(Path(ENGINE)), "requirements.txt": "pyyaml\n"}, self._archive)
        self._old = self.root / _OLD
        self._bring(self._old)
        _of_the_role("release").main(self._old / _ARCHIVE, "wheelhouse")
        (self.root / "current").symlink_to(_OLD)

    def stores(self) -> Stores:
        """What nothing may touch: the release that runs, and the link that says which it is."""
        files = (path for path in self._old.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        running = {str(path.relative_to(self._old)): path.read_bytes() for path in files}
        link = self.root / "current"
        return {"the release that runs": running, "current": {os.readlink(link) if link.is_symlink() else "gone": b""}}

    def renew(self) -> None:
        """As it was before the role came."""
        shutil.rmtree(self._release, ignore_errors=True)

    def command(self, _hour: float) -> Callable[[], int]:
        """What the role does: it removes what was left, brings the release, and builds it."""

        def build() -> int:
            self.renew()
            self._bring(self._release)
            _of_the_role("release").main(self._release / _ARCHIVE, "wheelhouse")
            return 0

        return build

    def a_day_later(self, _hour: float) -> None:
        """Whoever comes next removes all that was left."""

    def broken(
        self, ended: Ended, before: Stores, after: Stores, *, nth: int = 0, recovers: bool = False, lasts: bool = False
    ) -> Iterator[str]:
        """The promises that are broken after a command."""
        del nth, lasts
        if ended.hung:
            yield "it hung"
            return
        if after != before:
            yield "the release that runs was touched"
        is_marked = (self._release / "release.json").exists()
        if is_marked:
            yield from self._lacking()
        if ended.code is not None:
            yield from told(ended)
            # On a disk that takes no more changes it stays, and is whole.
            if is_marked != (ended.code == 0) and "could not be removed" not in ended.said:
                yield f"it ended with {ended.code}, and the release {'is' if is_marked else 'is not'} marked as whole"
        if recovers and ended.code != 0:
            yield f"the next run ended with {ended.code}: {ended.said.strip()[-300:]}"
        if ended.code == 0:
            left = [name for name in (_ARCHIVE, _WHEELS, "wheels", "release.new") if (self._release / name).exists()]
            yield from (f"it left {name}" for name in left)

    def _lacking(self) -> Iterator[str]:
        """What a release lacks that says of itself that it is whole."""
        python = self._release / "bin/python"
        proof = [str(python), "-I", "-c", _of_the_role("release").PROOF]
        done = subprocess.run(["env", *proof], text=True, capture_output=True, check=False)
        if done.returncode:
            yield f"what is marked as whole does not run: {done.stderr.strip()[-200:]}"
        packages = self._release / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        with zipfile.ZipFile(self._archive) as packed:
            for name in packed.namelist():
                if name.startswith("eternia_backup/"):
                    there = packages / name
                    if not there.exists() or there.read_bytes() != packed.read(name):
                        yield f"what is marked as whole does not have {name} as it was brought"

    def _bring(self, release: Path) -> None:
        release.mkdir(parents=True)
        shutil.copyfile(self._archive, release / _ARCHIVE)
        shutil.copyfile(self._wheels, release / _WHEELS)

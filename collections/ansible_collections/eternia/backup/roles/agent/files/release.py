# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build a release of the agent in the directory that this archive lies in: python ARCHIVE LIBRARIES.

A release is a virtual environment with the libraries and, compiled among them, the engine. LIBRARIES is index,
wheelhouse or distribution. What says that a release is whole is written last. One that cannot be built is removed, so
that it takes no space from the one that runs.
"""

from __future__ import annotations

import json
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

# What says that a release is whole.
MARK = "release.json"
# Two tries, not pip's six: an index that cannot be reached is known to be within a minute.
PIP_OPTIONS = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries=1", "--timeout=15")
PROOF = "import yaml\nfrom eternia_backup.cli import main\nmain(['--version'])"
INDEX_ADVICE = (
    "Is the package index reachable from this host (pip's settings name it: PIP_INDEX_URL, /etc/pip.conf)? If there is "
    "none, give the role agent_wheelhouse, or take the distribution's packages with agent_libraries: distribution."
)
WHEELS_ADVICE = (
    f"Make the wheelhouse anew for Python {platform.python_version()} on {platform.machine()}: pip download pip -r "
    "requirements.txt, then tar."
)


class ReleaseError(Exception):
    """The release cannot be built. Says why, and what to do."""


def main(archive: Path, libraries: str) -> None:
    os.umask(0o022)
    release = archive.parent
    try:
        build(release, archive, libraries)
    except ReleaseError as exc:
        give_up(release, f"{exc}")
    except OSError as exc:
        give_up(release, f"{exc}. Free some space or correct the rights there, then run again.")


def give_up(release: Path, reason: str) -> NoReturn:
    # Of what can be removed in part only, the first that goes is what says that it is whole.
    with suppress(OSError):
        (release / MARK).unlink()
    shutil.rmtree(release, ignore_errors=True)
    left = "" if is_gone(release) else " What there is of it could not be removed."
    sys.exit(f"{release} could not be built: {reason}{left}")


def is_gone(path: Path) -> bool:
    """Whether nothing is there: a disk that gives no answer has not said so."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def build(release: Path, archive: Path, libraries: str) -> None:
    make_environment(release, libraries)
    unpack(archive, release)
    install(libraries, release)
    version = prove(release / "bin/python")
    archive.unlink()
    mark(release, {"version": version, "python": platform.python_version(), "libraries": libraries})


def make_environment(release: Path, libraries: str) -> None:
    from_system = libraries == "distribution"
    try:
        venv.create(release, symlinks=True, system_site_packages=from_system, with_pip=libraries == "index")
    except subprocess.CalledProcessError as exc:
        raise ReleaseError(f"{sys.executable} cannot put pip into an environment: {last_words(exc.output)}.") from exc


def unpack(archive: Path, release: Path) -> None:
    packages = release / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(packages, [name for name in packed.namelist() if name.startswith("eternia_backup/")])
            packed.extract("check_config.py", release)
            packed.extract("requirements.txt", release)
    except zipfile.BadZipFile as exc:
        # Also what it makes of a disk that fails while it looks for the end of the archive.
        raise ReleaseError(f"{archive} cannot be read ({exc}). Look at the disk there, then run again.") from exc
    for module in sorted((packages / "eternia_backup").rglob("*.py")):
        # Not compileall, which prints what a full disk says and goes on.
        py_compile.compile(str(module), doraise=True)


def install(libraries: str, release: Path) -> None:
    python, requirements = release / "bin/python", release / "requirements.txt"
    if libraries == "index":
        pip([python, "-I", "-m", "pip"], ["--requirement", requirements], INDEX_ADVICE)
    elif libraries == "wheelhouse":
        wheel = unpack_wheels(release / "wheels.tar")
        offline = ["--no-index", "--find-links", wheel.parent]
        # The host needs no pip of its own: a wheel runs as it is.
        pip([python, "-I", wheel / "pip"], [*offline, "--requirement", requirements], WHEELS_ADVICE)
        shutil.rmtree(wheel.parent)


def unpack_wheels(archive: Path) -> Path:
    """Returns the wheel of pip, which lies among the others."""
    folder, pips = archive.with_suffix(""), []
    folder.mkdir()
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                if member.isfile() and member.name.endswith(".whl"):
                    member.name = os.path.basename(member.name)
                    packed.extract(member, folder, set_attrs=False)
                    pips += [folder / member.name] if member.name.startswith("pip-") else []
    except tarfile.TarError as exc:
        raise ReleaseError(f"the wheelhouse is no tar archive ({exc}). {WHEELS_ADVICE}") from exc
    archive.unlink()
    if len(pips) != 1:
        raise ReleaseError(f"the wheelhouse holds {len(pips)} wheels of pip; one is needed. {WHEELS_ADVICE}")
    return pips[0]


def pip(command: list[str | Path], options: list[str | Path], advice: str) -> None:
    done = run([*command, "install", *PIP_OPTIONS, *options])
    if done.returncode:
        if "No space left" in done.stderr:
            advice = "Free some space there, then run again."
        raise ReleaseError(f"{last_words(done.stderr)}. {advice}")


def prove(python: Path) -> str:
    """That the engine runs: what it says when it is asked for its version."""
    done = run([python, "-I", "-c", PROOF])
    if done.returncode:
        raise ReleaseError(f"what was installed does not run: {last_words(done.stderr)}.")
    return done.stdout.strip()


def mark(release: Path, fields: dict[str, str]) -> None:
    # All that it vouches for is on the disk before it is, should the power fail.
    os.sync()
    staged = release / "release.new"
    place = os.open(release, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.write(json.dumps(fields, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        staged.replace(release / MARK)
        # And its name, before the link is made to point here.
        os.fsync(place)
    finally:
        os.close(place)


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)


def last_words(output: str | bytes | None) -> str:
    """The line that says why: pip's last error, or the last one of all."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or "no message"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ([line for line in lines if line.startswith("ERROR:")] or lines)[-1].rstrip(".")


if __name__ == "__main__":
    main(Path(sys.argv[0]).absolute(), sys.argv[1])

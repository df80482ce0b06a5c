# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run all of `ansible-test sanity` on a copy of the collection, with no ignore files.

Everything lies in build/sanity: the copy, the HOME where ansible-test keeps its environments, and its PATH. That is one
folder of links to the programs on the caller's PATH, but to real interpreters: version managers' shims confuse it.
"""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import yaml
from ansible_test._internal.python_requirements import get_venv_packages
from ansible_test._util.target.common.constants import CONTROLLER_PYTHON_VERSIONS, REMOTE_ONLY_PYTHON_VERSIONS
from interpreters import find_interpreter
from packaging.specifiers import SpecifierSet

CHECKOUT = Path(__file__).resolve().parents[1]
COLLECTION = "collections/ansible_collections/eternia/backup"
BUILD = CHECKOUT / "build/sanity"
COPY = BUILD / "ansible_collections/eternia/backup"
HOME = BUILD / "home"
PATH = BUILD / "bin"

# What ansible-test would download otherwise: it is run with the requirements of pip itself as arguments.
GET_PIP = """\
import subprocess
import sys

# In a process of its own: ensurepip switches off pip's settings for the process that it runs in.
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *arguments]))
"""


def main() -> int:
    ignored = list((CHECKOUT / COLLECTION / "tests/sanity").glob("ignore*"))
    if ignored:
        sys.exit(f"Mend what {ignored[0]} ignores: this collection has no ignore files.")
    copy_collection()
    skipped = link_programs()
    seed_home()
    for line in skipped:
        print(f"Skipped: {line}", flush=True)
    return subprocess.call(
        [Path(sys.executable).parent / "ansible-test", "sanity", "--local", "--requirements", "--color", "no"],
        cwd=COPY,
        env={**os.environ, "HOME": str(HOME), "PATH": str(PATH)},
        stdin=subprocess.DEVNULL,
    )


def copy_collection() -> None:
    """Copy what git knows or would add, into a repository of its own: ansible-test asks git for its files."""
    shutil.rmtree(COPY, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT / COLLECTION, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0"):
        source = CHECKOUT / COLLECTION / name
        if source.is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, COPY / name)
    subprocess.run(["git", "init", "--quiet", COPY], check=True)


def link_programs() -> list[str]:
    """Fill the folder that is ansible-test's PATH; what had to be left out, and why."""
    shutil.rmtree(PATH, ignore_errors=True)
    PATH.mkdir(parents=True)
    skipped = []
    config = yaml.safe_load((COPY / "tests/config.yml").read_text(encoding="utf-8"))
    needs = SpecifierSet(config["modules"]["python_requires"])
    for version in (*REMOTE_ONLY_PYTHON_VERSIONS, *CONTROLLER_PYTHON_VERSIONS):
        interpreter = find_interpreter(version) if version in needs else None
        if interpreter:
            (PATH / f"python{version}").symlink_to(interpreter)
        elif version in needs:
            skipped.append(f"Python {version}: no interpreter with ensurepip and venv on PATH or in pyenv")
        else:
            skipped.append(f"Python {version}: the collection's modules need {needs}")
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            if not program.name.startswith("python") and not (PATH / program.name).is_symlink():
                (PATH / program.name).symlink_to(program)
    for program, test in {"shellcheck": "shellcheck", "pwsh": "pslint"}.items():
        if not shutil.which(program, path=PATH):
            skipped.append(f"the {test} test: {program} is not installed (the collection has nothing for it to check)")
    return skipped


def seed_home() -> None:
    """Put there what ansible-test would download, and pip's settings, which it hides from the pip that it calls."""
    cache = HOME / ".ansible/test/cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in (*REMOTE_ONLY_PYTHON_VERSIONS, *CONTROLLER_PYTHON_VERSIONS):
        pip_version = get_venv_packages(SimpleNamespace(version=version))["pip"]
        (cache / f"get_pip_{pip_version.replace('.', '_')}.py").write_text(GET_PIP, encoding="utf-8")

    settings = configparser.RawConfigParser()
    pip = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(pip, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, option = name.replace(":env:", "global").rpartition(".")
        settings.read_dict({section: {option: ast.literal_eval(value)}})
    settings.read_dict({"global": {"quiet": "1"}})
    file = HOME / ".pip/pip.conf"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        settings.write(stream)


if __name__ == "__main__":
    sys.exit(main())

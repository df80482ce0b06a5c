# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from development import Checkout, new_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = new_checkout(tmp_path)
    yield made
    made.run("down")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = new_checkout(tmp_path_factory.mktemp("services"))
    try:
        made.succeed("up")
        yield made
    finally:
        made.run("down")


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So a shell begins what it starts in the background; what the tests start would never hear of Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _nobody_elses_environment() -> Iterator[None]:
    """What the person who runs the tests has set for S3 or for the services of this checkout is not for the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith(("AWS_", "ETERNIA_"))]:
            patch.delenv(variable)
        yield

# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person at the command line sees: lines, tables, the bar."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from . import copying
from .copying import Progress
from .errors import EngineError

_STYLES = {"verified": "green", "legacy": "yellow", "raw": "yellow", "damaged": "bold red"}
# What a terminal obeys and nobody sees, but for tab and newline: the names in a manifest are other people's.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# A table is never squeezed: a terminal that is too narrow wraps lines, and names and paths stay whole.
_WIDE = 10_000


def say(line: str = "") -> None:
    """A line of the answer, to the standard output."""
    sys.stdout.write(f"{_visible(line)}\n")


def tell(line: str) -> None:
    """A line about what went wrong, to the standard error."""
    sys.stderr.write(f"{_visible(line)}\n")


def flagged(message: str, again: str) -> str:
    """A message of the engine with the options and the command that do here what it advises; `again` begins it."""
    # Only here: a run that goes well selects nothing, and has no time to waste.
    from .selection import LIST

    message = message.replace(LIST, f"List the backups: {again} list")
    return re.sub(r"\ballow it: allow_(\w+)", r"allow it: --allow-\1", message)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table. Raises EngineError where rich is missing."""
    _require_rich("A table", "ask for --json")
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for row in rows:
        shown.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(file=sys.stdout, width=_WIDE).print(shown)


def require_progress_bar() -> None:
    """Find out before anything is begun that a bar can be shown, where one would be. Raises EngineError."""
    if sys.stderr.isatty():
        _require_rich("A progress bar", "send the standard error elsewhere (2>restore.log)")


@contextmanager
def progress_bar(total: int) -> Iterator[Progress]:
    """On a terminal a bar with the rate and the time left, for `total` bytes; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield copying.silent
        return
    require_progress_bar()
    from rich import progress
    from rich.console import Console

    columns = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    shown = progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    shown.start()
    try:
        task = shown.add_task("", total=total)
        yield lambda count: shown.advance(task, count)
    finally:
        # On a terminal that is lost; what is said is how the command ended, not this.
        with suppress(OSError):
            shown.stop()


def _visible(line: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", line)


def _require_rich(what: str, instead: str) -> None:
    try:
        # Only whether it is there: what is needed of it is imported where it is used.
        import rich as _rich  # noqa: F401 (only whether it is there)
    except ImportError as exc:
        raise EngineError(
            f"{what} needs the Python library rich, which {sys.executable} cannot import ({exc}). Install rich there, "
            f"or {instead}."
        ) from exc

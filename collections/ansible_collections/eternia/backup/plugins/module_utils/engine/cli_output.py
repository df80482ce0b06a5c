# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person at the command line sees: lines, sizes and ages, tables, the bar, the log."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from . import files, log
from .errors import ConfigError, EngineError
from .files import Progress

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


def flagged(message: str) -> str:
    """A message of the engine that names what has to be allowed, with the option that does so here."""
    return re.sub(r"\ballow it: allow_(\w+)", r"allow it: --allow-\1", message)


def size(count: int | None) -> str:
    """Bytes for a person, in powers of ten as disks are sold: `1.2 MB`. "-" where there are none."""
    if count is None:
        return "-"
    if count < 1000:
        return f"{count} B"
    amount, units = count / 1000, ["TB", "GB", "MB", "kB"]
    while amount >= 999.95 and len(units) > 1:
        amount, _smaller = amount / 1000, units.pop()
    return f"{amount:.1f} {units[-1]}"


def age(seconds: float) -> str:
    """A time for a person, in its two largest units: `2 d 3 h`, `45 s`."""
    whole = timedelta(seconds=int(abs(seconds)))
    hours, rest = divmod(whole.seconds, 3600)
    units = ((whole.days, "d"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    first = next((place for place, (amount, _unit) in enumerate(units) if amount), len(units) - 1)
    words = " ".join(f"{amount} {unit}" for amount, unit in units[first : first + 2] if amount) or "0 s"
    return words if seconds >= 0 else f"in {words}"


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
        yield files.silent
        return
    require_progress_bar()
    from rich import progress
    from rich.console import Console

    columns = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn())
    shown = progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    with shown:
        task = shown.add_task("", total=total)
        yield lambda count: shown.advance(task, count)


@contextmanager
def logged(*, to_stderr: bool, file: str | None) -> Iterator[None]:
    """Send the engine's log lines there, with the time in UTC. Raises ConfigError where the file cannot be written."""
    with ExitStack() as stack:
        for handler in _handlers(to_stderr, file):
            formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
            formatter.converter = time.gmtime
            handler.setFormatter(formatter)
            log.logger.addHandler(handler)
            stack.callback(handler.close)
            stack.callback(log.logger.removeHandler, handler)
            log.logger.setLevel(logging.INFO)
        yield


def _handlers(to_stderr: bool, file: str | None) -> Iterator[logging.Handler]:
    if to_stderr:
        yield logging.StreamHandler(sys.stderr)
    if file is not None:
        try:
            yield logging.FileHandler(file, encoding="utf-8")
        except OSError as exc:
            raise ConfigError(f"The log {file} cannot be written: {files.reason(exc)}. Correct --log-file.") from exc


def counts(facts: Mapping[str, object] | None) -> dict[str, int] | None:
    """Rows by table, or of a state the size of each key; None where nothing is known."""
    if facts is None:
        return None
    found = facts.get("tables") or facts.get("keys")
    return dict(found) if isinstance(found, Mapping) else {}


def _visible(line: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", line)


def _require_rich(what: str, instead: str) -> None:
    try:
        # Only whether it is there: what is needed of it is imported where it is used.
        import rich as _rich  # noqa: F401
    except ImportError as exc:
        raise EngineError(
            f"{what} needs the Python library rich, which {sys.executable} cannot import ({exc}). Install rich there, "
            f"or {instead}."
        ) from exc

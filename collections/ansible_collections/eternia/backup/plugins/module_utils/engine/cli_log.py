# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the log of a command goes: to whoever asked for it, and of a scheduled one to where the host keeps its logs."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from . import files, log
from .errors import ConfigError, StoreError

_SOCKET = "/dev/log"


@contextmanager
def logged(*, to_stderr: bool, file: str | None) -> Iterator[None]:
    """Send the engine's log lines there, with the time in UTC. Raises ConfigError where the file cannot be written."""
    with ExitStack() as stack:
        if to_stderr:
            stack.enter_context(_attached(logging.StreamHandler(sys.stderr)))
        if file is not None:
            try:
                stack.enter_context(_attached(logging.FileHandler(file, encoding="utf-8")))
            except OSError as exc:
                raise ConfigError(
                    f"The log {file} cannot be written: {files.reason(exc)}. Correct --log-file."
                ) from exc
        yield


@contextmanager
def scheduled(file: Path | None, problems: list[str]) -> Iterator[None]:
    """Send them to the application's log, or without one to the system's, where that is.

    A log that cannot be written comes to `problems`; it is no reason to do without a backup.
    """
    with ExitStack() as stack:
        if file is None:
            stack.enter_context(to_system())
        else:
            try:
                stack.enter_context(_attached(_File(file, problems)))
            except StoreError as exc:
                problems.append(f"The log is not written, and no backup depends on that. {exc}")
            except OSError as exc:
                problems.append(_unwritable(file, exc))
        yield


@contextmanager
def to_system() -> Iterator[None]:
    """Send them to journald or syslog; nowhere, and without a word, where neither listens."""
    if not os.path.exists(_SOCKET):
        yield
        return
    from logging.handlers import SysLogHandler

    class System(SysLogHandler):
        def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name that logging calls)
            """Nobody listens any more."""

    with ExitStack() as stack:
        try:
            handler = System(_SOCKET, SysLogHandler.LOG_DAEMON)
        except OSError:
            pass
        else:
            handler.ident = "eternia-backup: "
            # The system adds the time and the level itself.
            handler.setFormatter(logging.Formatter("%(message)s"))
            stack.enter_context(_attached(handler))
        yield


class _File(logging.FileHandler):
    """A log file that may become full, or be on a disk that goes away: said once."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__(path, encoding="utf-8")
        self._path, self._problems = path, problems
        self._failed = False

    def _open(self) -> TextIOWrapper:
        # Whoever owns the directory could have a link there to any file of the host.
        files.require_followable(Path(self.baseFilename), of="backup.report.log_file")
        descriptor = files.make(Path(self.baseFilename), access=os.O_WRONLY | os.O_APPEND, mode=0o644, is_new=False)
        return open(descriptor, "a", encoding=self.encoding)

    def close(self) -> None:
        # What could not be written cannot be flushed either.
        with suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name that logging calls)
        error = sys.exc_info()[1]
        if not self._failed and isinstance(error, OSError):
            self._failed = True
            self._problems.append(_unwritable(self._path, error))


def _unwritable(path: Path, exc: OSError) -> str:
    return (
        f"The log {path} cannot be written: {files.reason(exc)}. No backup depends on that; make its directory, give "
        "this user the right to write there, or correct backup.report.log_file."
    )


@contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    if handler.formatter is None:
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    log.logger.addHandler(handler)
    log.logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.logger.removeHandler(handler)
        handler.close()

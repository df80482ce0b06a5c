# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let nobody open certain files for a moment: the kernel asks us about each open, and the answer is no.

Without it an application that opens the old file an instant before the rename, and the new one an instant after, would
have both, and one log for the two. It is fanotify(7), which only root may use. Should this process be killed, the
kernel goes on without asking.
"""

from __future__ import annotations

import os
import select
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

from .files import let_go

# From <linux/fanotify.h> and <fcntl.h>; the same on every architecture.
_CLASS_CONTENT, _CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE = 0x4, 0x1, 0x2, 0x10
_MARK_ADD, _MARK_FLUSH = 0x1, 0x80
_OPEN_PERM = 0x10000
_AT_FDCWD = -100
_ALLOW, _DENY = 1, 2
# Length, version, reserved, length of this part, mask, descriptor, process.
_EVENT = struct.Struct("=IBBHQii")
_ANSWER = struct.Struct("=iI")


@contextmanager
def shut(*paths: Path) -> Iterator[bool]:
    """While it lasts, nobody but this process can open these files, by whatever name; says whether that is so.

    It is not so for anybody but root, or where the kernel or the filesystem has no such thing. Who has a file open
    already keeps it.
    """
    with ExitStack() as stack:
        try:
            queue = _open()
            stack.callback(let_go, queue)
            for path in paths:
                _mark(queue, _MARK_ADD, _OPEN_PERM, bytes(path))
            wake, woken = os.pipe()
            stack.callback(let_go, wake)
            # Unlike a descriptor it can be closed twice.
            waker = stack.enter_context(FileIO(woken, "w"))
            answering = threading.Thread(target=_answer, args=(queue, wake), daemon=True)

            def end() -> None:
                waker.close()
                if answering.is_alive():
                    answering.join()

            # The answering ends, then what it reads from is closed. Twice: SIGTERM may end the first before it did
            # anything, and who waits for the answering would then wait for ever, with the gate shut.
            stack.callback(end)
            stack.callback(end)
            answering.start()
        except (OSError, AttributeError, ImportError, RuntimeError):
            stack.close()
            yield False
            return
        yield True


def _open() -> int:
    flags = _CLASS_CONTENT | _CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE
    return _call("fanotify_init", flags, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_LARGEFILE", 0))


def _mark(queue: int, action: int, mask: int, path: bytes | None) -> None:
    import ctypes

    _call("fanotify_mark", queue, action, ctypes.c_uint64(mask), _AT_FDCWD, path)


def _call(name: str, *arguments: object) -> int:
    # Some Pythons are built without it.
    import ctypes

    result: int = getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _answer(queue: int, wake: int) -> None:
    """Answer until `wake` is closed at its other end; then refuse who still waits."""
    waiting = select.poll()
    waiting.register(queue, select.POLLIN)
    waiting.register(wake, select.POLLIN)
    with FileIO(queue, "r+", closefd=False) as stream:
        # Some of those who wait in each round: there may be no end of them while the gate is shut.
        while wake not in (descriptor for descriptor, _event in waiting.poll()):
            _answer_some(stream)
        # Whoever waits now came while it was: he may have found the old file. Nobody new is asked about.
        with suppress(OSError):
            _mark(queue, _MARK_FLUSH, 0, None)
        while _answer_some(stream):
            pass


def _answer_some(stream: FileIO) -> bool:
    """Answer those who wait, as many as the kernel tells of at once; False where nobody does."""
    try:
        events = stream.read(4096)
    except OSError:
        # Who could not be told of, for want of a descriptor, was refused by the kernel.
        return True
    if not events:
        return False
    while events:
        length, _version, _reserved, _own, _kind, descriptor, pid = _EVENT.unpack_from(events)
        events = events[length:]
        if descriptor >= 0:
            try:
                stream.write(_ANSWER.pack(descriptor, _ALLOW if pid == os.getpid() else _DENY))
            except OSError:
                # He is gone.
                pass
            finally:
                # Nobody else lets in who waits.
                let_go(descriptor)
    return True

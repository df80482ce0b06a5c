# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""age: a backup that is encrypted to public keys, which the host that took it cannot read any more.

The format is https://age-encryption.org/v1, so that `age -d -i KEY` opens it with no tool of ours. Each file has a key
of its own; what is encrypted twice has nothing in common, so none of it is copied in S3 or taken from a neighbour.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import digest, files, log
from .errors import ConfigError, DamagedError, StoreError
from .manifest import Digest, Stored

SUFFIX = "age"

_X25519 = re.compile(r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}")
_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
# What `age -p` makes of a key, and `age -p -a`.
_LOCKED = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")
# No key is longer, and what is read by mistake may be a database.
_MOST_IDENTITY_BYTES = 64 << 10

# Asks a person for a passphrase or a key, which is not shown; what is asked for is the argument.
Ask = Callable[[str], str]


@functools.cache
def _library() -> Any:
    try:
        return importlib.import_module("pyrage")
    except ImportError:
        return None


def require() -> Any:
    """The library. Raises StoreError where the host lacks it."""
    if _library() is None:
        raise StoreError(
            f"{sys.executable} has no Python library pyrage, which encrypted backups need. Install pyrage there, or "
            "apply the role eternia.backup.agent to this host; by hand, `age -d -i KEY` opens an encrypted backup."
        )
    return _library()


def require_recipients(recipients: Sequence[str]) -> list[Any]:
    """The public keys. Raises ConfigError where one is none, StoreError where the library is missing."""
    library = require()
    found = []
    for text in recipients:
        kind = library.ssh if text.startswith("ssh-") else library.x25519
        try:
            found.append(kind.Recipient.from_str(text))
        except library.RecipientError as exc:
            raise ConfigError(
                f"backup.encryption.recipients has {text!r}, which is no public key ({exc}). Copy it again: "
                "`age-keygen -y KEY` prints that of a key."
            ) from exc
    return found


def encrypt(
    plain: Path,
    encrypted: Path,
    recipients: Sequence[str],
    expected: Digest,
    *,
    for_s3: bool,
    encoding: tuple[str, ...],
) -> Stored:
    """Encrypt a file into the new file `encrypted`, put that on the disk, and describe it as stored, with `encoding`.

    To know that it can be opened it is encrypted to one key more, which is made here, opens it once, and is forgotten:
    what comes out has to have the `expected` digest, which is that of `plain`.

    Raises ConfigError, StoreError, OSError; DamagedError where it did not come back.
    """
    library = require()
    once = library.x25519.Identity.generate()
    to = [*require_recipients(recipients), once.to_public()]
    sums = digest.Sums(expected.algorithm, for_s3=for_s3)
    with files.opened(files.make(encrypted)) as descriptor, files.stream(plain) as source:
        target = _Target(descriptor, sums=sums)
        try:
            _run(lambda reader, writer: library.encrypt_io(reader, writer, to), source, target)
        except library.EncryptError as exc:
            raise StoreError(f"{plain} could not be encrypted: {exc}. Nothing was stored; run again.") from exc
        os.fsync(descriptor)
    opened = digest.Sums(expected.algorithm, for_s3=False)
    with files.stream(encrypted) as stream:
        try:
            _run(lambda reader, writer: library.decrypt_io(reader, writer, [once]), stream, Sink(opened.update))
        except library.DecryptError as exc:
            raise _not_back(plain) from exc
        except OSError as exc:
            if exc.errno is None:
                raise _not_back(plain) from exc
            raise
    if opened.digest != expected:
        raise _not_back(plain)
    return Stored(target.done, sums.digest, sums.checksum, encoding)


class OtherKeyError(StoreError):
    """An encrypted file that this identity does not open."""


class _OpenedError(Exception):
    """The first bytes came out: more was not wanted."""


def _stop(_data: bytes) -> None:
    raise _OpenedError


class Identity:
    """Secret keys, at least one, that open what was encrypted to their public halves. Shown nowhere."""

    def __init__(self, keys: Sequence[Any]) -> None:
        self._keys = list(keys)

    def __repr__(self) -> str:
        return f"<{len(self._keys)} secret keys>"

    def decrypt(self, encrypted: Path, plain: Path, most: int | None) -> None:
        """Open a file into the new file `plain`, of at most so many bytes.

        Raises OtherKeyError, DamagedError where it is no whole age file; OSError.
        """
        with files.opened(files.make(plain)) as descriptor, files.stream(encrypted) as source:
            self.decrypt_into(_Target(descriptor, most=most), source)

    def try_on(self, source: Any) -> None:
        """Find out whether it opens what can be read, from its beginning alone. Raises as `decrypt`."""
        try:
            self.decrypt_into(Sink(_stop), source)
        except _OpenedError:
            return

    def decrypt_into(self, target: Sink, source: Any) -> None:
        """The same from what can be read, into a sink. Raises as `decrypt`, and what reading or the sink raises."""
        library = require()
        try:
            _run(lambda reader, writer: library.decrypt_io(reader, writer, self._keys), source, target)
        except library.DecryptError as exc:
            if "No matching keys" in str(exc):
                raise OtherKeyError(
                    "it was encrypted to other recipients than this identity is of. Give that of one of the recipients "
                    "that the host had when it was taken."
                ) from exc
            raise DamagedError(f"it is no whole age file: {exc}.") from exc
        except OSError as exc:
            if exc.errno is None:
                # pyrage's word for a chunk that is not authentic, or is missing.
                raise DamagedError(f"it is no whole age file: {exc}.") from exc
            raise


def identity_of(path: Path, ask: Ask | None = None) -> Identity:
    """The keys in a file: of age-keygen, of OpenSSH without a passphrase, or either encrypted with `age -p`.

    `ask` is whom to ask for the passphrase. Raises ConfigError, StoreError where the library is missing.
    """
    require()
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            raw = stream.read(_MOST_IDENTITY_BYTES)
    except OSError as exc:
        raise ConfigError(
            f"The identity {path} cannot be read: {files.reason(exc)}. Name the file of the key."
        ) from exc
    if mode & 0o077:
        log.warning(f"The identity {path} can be read by others than its owner: chmod 600 it.", log.RECOVERY)
    return identity_in(raw, str(path), ask)


def identity_in(raw: bytes, where: str, ask: Ask | None = None) -> Identity:
    """The keys in what was read or typed. Raises as `identity_of`."""
    library = require()
    try:
        if raw.startswith(_LOCKED):
            if ask is None:
                raise ConfigError(
                    f"{where} is protected by a passphrase, and nobody is there to be asked. Run it at a terminal, or "
                    "open the key first (`age -d`) into a file that only you can read."
                )
            raw = library.passphrase.decrypt(raw, ask(f"Passphrase of {where}: "))
        if _OPENSSH in raw:
            return Identity([library.ssh.Identity.from_buffer(raw)])
        keys = _X25519.findall(raw.decode("ascii", "replace"))
        if keys:
            return Identity([library.x25519.Identity.from_str(key) for key in keys])
    except (library.IdentityError, library.DecryptError) as exc:
        # Never what it holds: only the library's word for what is wrong.
        raise ConfigError(f"{where} could not be opened as an identity ({type(exc).__name__}). {_WANTED}") from exc
    raise ConfigError(f"{where} holds no identity. {_WANTED}")


_WANTED = (
    "It has to be a secret key of age-keygen (AGE-SECRET-KEY-1…), or one of OpenSSH without a passphrase, alone in its "
    "file."
)


class _Source:
    """A file to read from, as pyrage wants one. It makes words of what goes wrong there, so `failure` keeps that."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: BaseException | None = None

    def read(self, size: int) -> bytes:
        try:
            found: bytes = self._stream.read(size)
        except BaseException as exc:
            self.failure = exc
            raise
        return found


class Sink:
    """A file to write to, which hands on what is written; its `failure` is kept as a source's is."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self.failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        if self.failure is not None:
            # Asked again, on the way out.
            raise self.failure
        try:
            self._take(data)
        except BaseException as exc:
            self.failure = exc
            raise
        return len(data)

    def flush(self) -> None:
        """There is nothing to flush."""


class _Target(Sink):
    """What is written goes to an open file, at most so many bytes, and is hashed on its way."""

    def __init__(self, descriptor: int, *, most: int | None = None, sums: digest.Sums | None = None) -> None:
        super().__init__(self._put)
        self._descriptor, self._most, self._sums, self.done = descriptor, most, sums, 0

    def _put(self, data: bytes) -> None:
        if self._most is not None and self.done + len(data) > self._most:
            raise DamagedError(f"it holds more than the {self._most} bytes that its manifest says.")
        files.write_at(self._descriptor, data, self.done)
        self.done += len(data)
        if self._sums is not None:
            self._sums.update(data)


def _run(work: Callable[[_Source, Sink], None], stream: Any, sink: Sink) -> None:
    """Raises what went wrong with the stream or the sink as it was, and what pyrage says of the rest."""
    source = _Source(stream)
    try:
        work(source, sink)
    except Exception as exc:
        for failure in (source.failure, sink.failure):
            if failure is not None:
                raise failure from exc
        raise
    if sink.failure is not None:
        # pyrage 1.4.0 says nothing of the last bytes that could not be written.
        raise sink.failure


def _not_back(plain: Path) -> DamagedError:
    return DamagedError(f"{plain} did not come back from age as it was. Look at the memory of this host.")

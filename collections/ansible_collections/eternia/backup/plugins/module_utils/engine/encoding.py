# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done to the bytes of a backup, as its name says it, and how it is undone: the last step first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import compression, digest, encryption, verify
from .config import Config
from .encryption import Identity, OtherKeyError
from .errors import DamagedError, StoreError
from .manifest import Digest, Manifest
from .names import BackupName
from .steps import timed
from .stores.base import Copy, Store

_BY_HAND = {encryption.SUFFIX: "age -d -i KEY", compression.SUFFIX: "zstd -d"}


def require_possible(config: Config) -> None:
    """Raises StoreError where a library for it is missing, ConfigError where a recipient is none."""
    if compression.SUFFIX in config.encoding:
        compression.require()
    if config.recipients:
        encryption.require_recipients(config.recipients)


def prove_and_encode(config: Config, name: BackupName, plain: Path, *, algorithm: str, for_s3: bool) -> verify.Proof:
    """Prove a plain copy, and do to its bytes what `name` says, in a file of that name beside it, put on the disk.

    What is encrypted leaves nothing behind that is not. Raises DamagedError, StoreError, ConfigError, OSError.
    """
    encoded = plain
    if compression.SUFFIX in name.encoding:
        encoded = plain.with_name(str(replace(name, encoding=(compression.SUFFIX,))))
        proof = verify.prove_and_compress(
            plain, name.kind, config.verify, encoded=encoded, algorithm=algorithm, for_s3=for_s3
        )
    else:
        proof = verify.prove(plain, name.kind, config.verify, algorithm=algorithm, for_s3=for_s3)
    if not config.recipients:
        return proof
    with timed(proof.seconds, "encrypt"):
        target, expected = plain.with_name(str(name)), proof.stored.digest
        stored = encryption.encrypt(encoded, target, config.recipients, expected, for_s3=for_s3, encoding=name.encoding)
    encoded.unlink()
    plain.unlink(missing_ok=True)
    return replace(proof, stored=stored)


def require(name: BackupName, where: str, identity: Identity | None) -> None:
    """Raises StoreError where it cannot be made plain here: for want of a library, or of an identity."""
    if compression.SUFFIX in name.encoding:
        compression.require()
    if not name.is_encrypted:
        return
    if identity is None:
        raise _no_identity(name, where)
    encryption.require()


def require_opens(store: Store, copy: Copy, identity: Identity | None) -> None:
    """Raises StoreError where this identity does not open an encrypted copy, DamagedError where none would.

    Only its beginning is read for that.
    """
    if identity is None or not copy.name.is_encrypted:
        return
    with store.open(copy.name) as stream, located(store.location(copy.name)):
        identity.try_on(stream)


@contextmanager
def located(where: str) -> Iterator[None]:
    """Say where the copy lies that cannot be opened or decoded. Raises DamagedError, StoreError."""
    try:
        yield
    except DamagedError as exc:
        raise DamagedError(f"{where} is damaged: {exc} Choose another backup.") from exc
    except OtherKeyError as exc:
        raise StoreError(f"{where} cannot be opened: {exc}") from exc


def decode(stored: Path, plain: Path, name: BackupName, manifest: Manifest | None, identity: Identity | None) -> None:
    """Make what was fetched plain, in the new file `plain`; no larger than its manifest says, if it has one.

    Raises DamagedError, StoreError, OSError.
    """
    if name.is_encrypted:
        if identity is None:
            raise _no_identity(name, str(stored))
        is_plain = name.encoding == (encryption.SUFFIX,)
        opened = plain if is_plain else stored.with_suffix("")
        try:
            identity.decrypt(stored, opened, manifest.content.bytes if manifest is not None and is_plain else None)
        except OtherKeyError:
            # A bit that flipped in its head looks like that, too.
            _require_as_stored(stored, manifest)
            raise
        stored.unlink()
        stored = opened
    if compression.SUFFIX in name.encoding:
        compression.decode(stored, plain, manifest)
        stored.unlink()


def _require_as_stored(path: Path, manifest: Manifest | None) -> None:
    if (
        manifest is not None
        and digest.of_whole(path, manifest.stored.digest.algorithm).digest != manifest.stored.digest
    ):
        raise DamagedError("it is not what its manifest says.")


def content_of(stream: Any, name: BackupName, identity: Identity, algorithm: str, most: int) -> tuple[Digest, int]:
    """The digest of the plain bytes of an encrypted backup that can be read, and how many: on no disk.

    Raises DamagedError, also where there are more than `most`; StoreError.
    """
    hasher, size = digest.new(algorithm), 0

    def count(data: bytes) -> None:
        nonlocal size
        hasher.update(data)
        size += len(data)
        if size > most:
            raise DamagedError(f"it holds more than the {most} bytes that its manifest says.")

    take: Callable[[bytes], object] = count
    if compression.SUFFIX in name.encoding:
        take = compression.Unpacker(count).take
    identity.decrypt_into(encryption.Sink(take), stream)
    return Digest(algorithm, hasher.hexdigest()), size


def _no_identity(name: BackupName, where: str) -> StoreError:
    by_hand = " | ".join(_BY_HAND[step] for step in reversed(name.encoding))
    return StoreError(
        f"{where} is encrypted, and no identity was given that opens it. Give the secret key of one of its recipients: "
        f"--identity FILE, or -e identity_file=FILE of the playbooks; by hand, {by_hand}."
    )

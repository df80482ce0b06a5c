# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending one file to S3 so that the store itself refuses bytes other than those the manifest describes.

How the store can prove them is a ladder: a CRC64NVME of the whole object, a SHA-256 of each part, an MD5 of each part.
An endpoint that does not know a rung refuses it, and the next one is tried. On the first, S3 compares the whole object
with the manifest's own value. On the others it sees only parts, so the file is compared with the manifest's digest in
the same pass that makes their sums.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import digest, files, log
from ..errors import StoreError
from ..manifest import Manifest
from ..parts import Part, in_parallel
from . import s3_open
from .s3_client import S3Client, S3Error
from .s3_delta import Base, travelling
from .s3_pace import Pace

_CHUNK = 1024 * 1024

# What an endpoint may answer to a kind of checksum that it does not know.
_NOT_KNOWN = ("InvalidArgument", "InvalidRequest", "NotImplemented", "XNotImplemented", "501")


@dataclass(frozen=True)
class Rung:
    """One way to prove an upload: its name in the settings, what the manifest says of it, and S3's words for it."""

    name: str
    check: str
    parameter: str
    algorithm: dict[str, str]


CRC64NVME = Rung("crc64nvme", "crc64nvme, full object", "ChecksumCRC64NVME", {"ChecksumAlgorithm": "CRC64NVME"})
SHA256 = Rung("sha256", "sha256, per part", "ChecksumSHA256", {"ChecksumAlgorithm": "SHA256"})
MD5 = Rung("md5", "md5, per part", "ContentMD5", {})


# What tells nothing about bytes that we did not send just now: somebody was there before us, or nobody answered.
_NOT_ABOUT_BYTES = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload", "")


@dataclass
class Tally:
    """How many bytes travelled, S3 copied from an object that it has, and a run that was killed had sent before.

    Of every attempt.
    """

    sent: int = 0
    copied: int = 0
    resumed: int = 0


@dataclass(frozen=True)
class Upload:
    """One file on its way to one key. `options` (encryption, storage class) and the `lock` go with the object.

    `before_commit` is called right before the request that makes the object appear. `base` is what S3 may copy from;
    with `resume`, parts that a killed run sent are taken as they are.
    """

    client: S3Client
    path: Path
    key: str
    manifest: Manifest
    options: dict[str, str]
    before_commit: Callable[[], None]
    base: Base | None = None
    resume: bool = True
    lock: dict[str, Any] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


def ladder(checksum: str, manifest: Manifest) -> tuple[Rung, ...]:
    """The rungs to try, strongest first: all that can be, or the one that `checksum` names.

    Raises StoreError where crc64nvme is asked for and there is none.
    """
    possible = (CRC64NVME, SHA256, MD5) if manifest.stored.crc64nvme and digest.crc64nvme() else (SHA256, MD5)
    rungs = tuple(rung for rung in possible if checksum in ("auto", rung.name))
    if not rungs:
        raise StoreError(
            f"cloud_backup.checksum is {checksum}, and {manifest.name} has no such checksum: the Python library awscrt "
            "is missing, or was when it was hashed. Install a current awscrt, apply the role eternia.backup.agent "
            "to this host, or set cloud_backup.checksum to auto."
        )
    return rungs


def send(upload: Upload, rungs: tuple[Rung, ...]) -> Rung:
    """Create the object; returns the rung that the endpoint took.

    Raises StoreError; then no object of ours has appeared and no multipart upload is left open.
    """
    try:
        return _send_by(upload, rungs)
    except S3Error as exc:
        if not (upload.tally.copied or upload.tally.resumed) or exc.code in _NOT_ABOUT_BYTES:
            raise
        # The base may not be what its manifest says, or what was sent before not what we think.
        log.warning(f"{exc} All of {upload.path} is sent.")
        upload.tally.copied = upload.tally.resumed = 0
        return _send_by(replace(upload, base=None, resume=False), rungs)


def _send_by(upload: Upload, rungs: tuple[Rung, ...]) -> Rung:
    try:
        with upload.path.open("rb") as file:
            for rung in rungs[:-1]:
                try:
                    return _send(upload, file.fileno(), rung)
                except S3Error as exc:
                    if exc.code not in _NOT_KNOWN:
                        raise
                    # What was copied or resumed so far was given up with the upload that it was for.
                    upload.tally.copied = upload.tally.resumed = 0
            return _send(upload, file.fileno(), rungs[-1])
    except OSError as exc:
        raise StoreError(f"{upload.path} cannot be read: {files.reason(exc)}. Put that right, then run again.") from exc


def _send(upload: Upload, fd: int, rung: Rung) -> Rung:
    size = os.fstat(fd).st_size
    if size != upload.manifest.stored.bytes:
        raise _changed(upload, f"it has {size} bytes, the manifest says {upload.manifest.stored.bytes}")
    parts = [part for part, _run in travelling(upload.manifest)]
    if len(parts) == 1:
        _send_whole(upload, fd, rung, parts[0])
    else:
        _send_parts(upload, fd, rung, parts)
    return rung


def _send_whole(upload: Upload, fd: int, rung: Rung, part: Part) -> None:
    checksum = upload.manifest.stored.crc64nvme if rung is CRC64NVME else _sums(upload, fd, rung, [part])(part)
    upload.before_commit()
    # Before the answer, which may be lost.
    upload.tally.sent += part.bytes
    upload.client.call(
        "put_object",
        upload.key,
        Body=_Range(fd, part, upload.client.pace),
        IfNoneMatch="*",
        **{rung.parameter: checksum},
        **upload.options,
        **upload.lock,
    )


def _send_parts(upload: Upload, fd: int, rung: Rung, parts: list[Part]) -> None:
    checksum_of = _sums(upload, fd, rung, parts)
    whole = {"ChecksumType": "FULL_OBJECT"} if rung is CRC64NVME else {}
    begun, there = _begin(upload, rung, parts, whole)
    open_upload = {"UploadId": begun}
    counting = threading.Lock()
    # Only where the whole object is proven can it be known what was copied.
    base = upload.base if rung is CRC64NVME else None

    def send_part(part: Part) -> dict[str, Any]:
        if part.number in there:
            with counting:
                upload.tally.resumed += part.bytes
            return {"PartNumber": part.number, "ETag": there[part.number]}
        etag = base.copy(part, upload.key, open_upload) if base is not None else None
        if etag is not None:
            with counting:
                upload.tally.copied += part.bytes
            return {"PartNumber": part.number, "ETag": etag}
        checksum = {rung.parameter: checksum_of(part)}
        sent = upload.client.call(
            "upload_part",
            upload.key,
            PartNumber=part.number,
            Body=_Range(fd, part, upload.client.pace),
            **checksum,
            **open_upload,
        )
        with counting:
            upload.tally.sent += part.bytes
        return {"PartNumber": part.number, "ETag": sent["ETag"], **({} if rung is MD5 else checksum)}

    if rung is CRC64NVME:
        whole["ChecksumCRC64NVME"] = str(upload.manifest.stored.crc64nvme)
    try:
        sent = in_parallel(send_part, parts)
        upload.before_commit()
        upload.client.call(
            "complete_multipart_upload",
            upload.key,
            MultipartUpload={"Parts": sent},
            IfNoneMatch="*",
            **whole,
            **open_upload,
        )
    except BaseException:
        # Parts of an open upload are paid for until it is given up. What went wrong is what is raised, not this.
        with suppress(S3Error):
            upload.client.call("abort_multipart_upload", upload.key, **open_upload)
        raise


def _begin(upload: Upload, rung: Rung, parts: list[Part], whole: dict[str, str]) -> tuple[str, dict[int, str]]:
    """The id of an open upload, and the ETags of the parts that it has, by their number.

    An upload that a killed run left is gone on with where the whole object is going to be proven, and where nothing
    that was chosen when it was begun (encryption, storage class) may be another now. (A lock may: it is only ever made
    longer, and who sends sees to that.)
    """
    left = [one for one in s3_open.find(upload.client, upload.key) if one.key == upload.key]
    if left and rung is CRC64NVME and upload.resume and not upload.options:
        with suppress(S3Error):
            there = left[0].parts(upload.client, parts)
            for one in left[1:]:
                one.give_up(upload.client)
            return left[0].upload_id, there
    for one in left:
        one.give_up(upload.client)
    begun = upload.client.call(
        "create_multipart_upload", upload.key, **rung.algorithm, **whole, **upload.options, **upload.lock
    )
    return begun["UploadId"], {}


def _sums(upload: Upload, fd: int, rung: Rung, parts: list[Part]) -> Callable[[Part], str]:
    if rung is CRC64NVME:
        return lambda part: _crc64nvme(fd, part)
    stored = upload.manifest.stored.digest
    whole = digest.new(stored.algorithm)
    sums = {}
    for part in parts:
        hasher = hashlib.sha256() if rung is SHA256 else hashlib.md5(usedforsecurity=False)
        body = _Range(fd, part)
        while chunk := body.read(_CHUNK):
            hasher.update(chunk)
            whole.update(chunk)
        sums[part] = b64encode(hasher.digest()).decode()
    if whole.hexdigest() != stored.value:
        raise _changed(upload, f"its {stored.algorithm} is {whole.hexdigest()}, the manifest says {stored.value}")
    return sums.__getitem__


def _crc64nvme(fd: int, part: Part) -> str:
    value, body, crc64nvme = 0, _Range(fd, part), digest.crc64nvme()
    while chunk := body.read(_CHUNK):
        value = crc64nvme(chunk, value)
    return b64encode(value.to_bytes(8, "big")).decode()


def _changed(upload: Upload, difference: str) -> StoreError:
    return StoreError(
        f"{upload.path} changed after it was hashed: {difference}. Nothing was sent. It is damaged: choose another "
        "backup, or take a new one."
    )


class _Range(io.RawIOBase):
    """One part of the file, as a file. Threads share the descriptor, since each read names its place.

    While it is `paced`, it is read no faster than it may be sent. `failure` is what the disk said of the last read: a
    request that it ends looks as if the line had failed.
    """

    def __init__(self, fd: int, part: Part, pace: Pace | None = None) -> None:
        self._fd, self._part, self._at, self._pace = fd, part, 0, pace
        self._waiting: BaseException | None = None
        self.failure: OSError | None = None
        self.paced = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._part.bytes}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto1(self, buffer: Any) -> int:
        """How awscrt reads, and nobody else, to sign what will be sent.

        It would print whatever is raised here, a signal's exception too, and go on with an error of its own. So that
        waits for whoever reads next, to send.
        """
        try:
            return self.readinto(buffer)
        except BaseException as exc:
            self._waiting = exc
            return 0

    def readinto(self, buffer: Any) -> int:
        waiting, self._waiting = self._waiting, None
        try:
            if waiting is not None:
                raise waiting
            count = self._read(buffer)
        except OSError as exc:
            self.failure = exc
            raise
        self.failure = None
        return count

    def _read(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._part.bytes - self._at)
        data = os.pread(self._fd, wanted, self._part.start + self._at)
        if wanted and not data:
            # Fewer bytes than announced would leave the server waiting for the rest.
            raise OSError("the file became shorter while it was being sent")
        buffer[: len(data)] = data
        self._at += len(data)
        if self.paced and self._pace is not None:
            self._pace.keep(len(data))
        return len(data)

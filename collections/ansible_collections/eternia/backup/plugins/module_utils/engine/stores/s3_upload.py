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
from .s3_client import S3Client
from .s3_delta import Base, travelling
from .s3_errors import S3Error
from .s3_range import Range

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


# What tells nothing about bytes that we did not send just now: somebody was there before us, or S3 said nothing at all.
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
    with `resume`, parts that a killed run sent are not sent again where that is safe.
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
        with files.opened(files.open_plain(upload.path)) as descriptor:
            for rung in rungs[:-1]:
                try:
                    return _send(upload, descriptor, rung)
                except S3Error as exc:
                    if exc.code not in _NOT_KNOWN:
                        raise
                    # What was copied or resumed so far was given up with the upload that it was for.
                    upload.tally.copied = upload.tally.resumed = 0
            return _send(upload, descriptor, rungs[-1])
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
        Body=Range(fd, part, upload.client.pace),
        IfNoneMatch="*",
        **{rung.parameter: checksum},
        **upload.options,
        **upload.lock,
    )


def _send_parts(upload: Upload, fd: int, rung: Rung, parts: list[Part]) -> None:
    checksum_of = _sums(upload, fd, rung, parts)
    whole = {"ChecksumType": "FULL_OBJECT"} if rung is CRC64NVME else {}
    begun, there = _begin(upload, fd, rung, parts, whole)
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
            Body=Range(fd, part, upload.client.pace),
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


def _begin(upload: Upload, fd: int, rung: Rung, parts: list[Part], whole: dict[str, str]) -> tuple[str, dict[int, str]]:
    """The id of an open upload, and the ETags of the parts that it has, by their number.

    An upload that a killed run left is gone on with where the whole object is going to be proven, and where nothing
    that is chosen when one is begun (encryption, storage class, lock) has to be ours.

    Whoever has a key may have begun it. Its lock would be the backup's, and nothing tells it before; so with a lock it
    is begun anew. A CRC is easily forged: only parts with the MD5 of ours are taken. Where the ETag is none the upload
    encrypts, maybe by a key that is not ours, and it is begun anew, too.
    """
    left = [one for one in s3_open.find(upload.client, upload.key) if one.key == upload.key]
    there: dict[int, str] = {}
    may_go_on = rung is CRC64NVME and upload.resume and not upload.options and not upload.lock
    if may_go_on and left and left[0].storage_class == s3_open.STANDARD:
        with suppress(S3Error):
            there = _ours(fd, parts, left[0].parts(upload.client, parts))
    for one in left[1 if there else 0 :]:
        one.give_up(upload.client)
    if there:
        return left[0].upload_id, there
    begun = upload.client.call(
        "create_multipart_upload", upload.key, **rung.algorithm, **whole, **upload.options, **upload.lock
    )
    return begun["UploadId"], {}


def _ours(fd: int, parts: list[Part], etags: dict[int, str]) -> dict[int, str]:
    """Those of the ETags that are the MD5 of our part."""
    listed = [part for part in parts if part.number in etags]
    sums = in_parallel(lambda part: _md5(fd, part), listed)
    return {part.number: etags[part.number] for part, md5 in zip(listed, sums) if etags[part.number].strip('"') == md5}


def _md5(fd: int, part: Part) -> str:
    hasher, body = hashlib.md5(usedforsecurity=False), Range(fd, part)
    while chunk := body.read(_CHUNK):
        hasher.update(chunk)
    return hasher.hexdigest()


def _sums(upload: Upload, fd: int, rung: Rung, parts: list[Part]) -> Callable[[Part], str]:
    if rung is CRC64NVME:
        return lambda part: _crc64nvme(fd, part)
    stored = upload.manifest.stored.digest
    whole = digest.new(stored.algorithm)
    sums = {}
    for part in parts:
        hasher = hashlib.sha256() if rung is SHA256 else hashlib.md5(usedforsecurity=False)
        body = Range(fd, part)
        while chunk := body.read(_CHUNK):
            hasher.update(chunk)
            whole.update(chunk)
        sums[part] = b64encode(hasher.digest()).decode()
    if whole.hexdigest() != stored.value:
        raise _changed(upload, f"its {stored.algorithm} is {whole.hexdigest()}, the manifest says {stored.value}")
    return sums.__getitem__


def _crc64nvme(fd: int, part: Part) -> str:
    value, body, crc64nvme = 0, Range(fd, part), digest.crc64nvme()
    while chunk := body.read(_CHUNK):
        value = crc64nvme(chunk, value)
    return b64encode(value.to_bytes(8, "big")).decode()


def _changed(upload: Upload, difference: str) -> StoreError:
    return StoreError(
        f"{upload.path} changed after it was hashed: {difference}. Nothing was sent. It is damaged: choose another "
        "backup, or take a new one."
    )

"""One object's bytes on their way here: gone on with where they broke off, and compared with what the store says of them."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.storage.faults import PassingError, s3_errors

CHUNK = 1 << 18

Accept = Callable[[int, str | None], None]


class Transfer:
    """Reads one object whole. `go_on` is called until it returns; each call asks only for what is not here yet.

    accept: called with the object's size and etag before its bytes are asked for; what it raises ends the transfer.
    """

    def __init__(self, get: Callable[..., Mapping[str, Any]], uri: str, accept: Accept | None) -> None:
        self.get = get
        self.uri = uri
        self.accept = accept
        self.disputed: str | None = None
        self._start_again()

    def _start_again(self) -> None:
        self.buffer = io.BytesIO()
        self.size = 0
        self.etag: str | None = None
        self.answer: Mapping[str, Any] = {}

    def go_on(self) -> bytes:
        """All bytes. Raises PassingError where another call may bring the rest, OSError where none will."""
        done = self.buffer.tell()
        if 0 < done < self.size:
            self._ask_for_rest(done)
        else:
            self._start_again()
            self._begin(self.get(ChecksumMode="ENABLED"))
        data = self.buffer.getvalue()
        if len(data) != self.size:
            raise PassingError(f"{self.uri}: {len(data):,} of {self.size:,} bytes came")
        self._compare(data)
        return data

    def _begin(self, answer: Mapping[str, Any]) -> None:
        body = answer["Body"]
        try:
            self.size = int(answer["ContentLength"])
            self.etag = answer.get("ETag")
            self.answer = {name: value for name, value in answer.items() if name != "Body"}
            if self.size == 0:
                # Nothing at all is what a broken answer looks like too.
                self._compare(b"")
            if self.accept is not None:
                self.accept(self.size, None if self.etag is None else self.etag.strip('"'))
            self._take(body)
        finally:
            body.close()

    def _ask_for_rest(self, done: int) -> None:
        condition = {} if self.etag is None else {"IfMatch": self.etag}
        try:
            answer = self.get(Range=f"bytes={done}-", **condition)
        except FileExistsError as error:
            self._start_again()
            raise PassingError(f"{self.uri} was replaced while it was read") from error
        try:
            if answer.get("ContentRange") != f"bytes {done}-{self.size - 1}/{self.size}":
                self._start_again()
                raise PassingError(
                    f"{self.uri}: the store does not answer for the range of bytes that it was asked for"
                )
            self._take(answer["Body"])
        finally:
            answer["Body"].close()

    def _take(self, body: Any) -> None:
        with s3_errors(self.uri):
            while chunk := body.read(CHUNK):
                self.buffer.write(chunk)

    def _compare(self, data: bytes) -> None:
        """Against a checksum that the store kept; else against the ETag, where it is the MD5 of the whole object."""
        for name, digest in _DIGESTS.items():
            expected = self.answer.get(name)
            if expected is None or "-" in expected:
                continue
            if digest(data) != expected:
                self._start_again()
                raise PassingError(f"{self.uri}: the bytes that came do not have the checksum that the store keeps")
            return
        expected = self._md5_of_etag()
        if expected is None or (found := _md5(data).hex()) in (expected, self.disputed):
            return
        # Some services invent ETags that look like an MD5. Two transfers that agree with one another settle it.
        self.disputed = found
        self._start_again()
        raise PassingError(f"{self.uri}: the bytes that came do not have the MD5 that its ETag names")

    def _md5_of_etag(self) -> str | None:
        etag = (self.etag or "").strip('"')
        if self.answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in self.answer:
            return None
        return etag if len(etag) == 32 and set(etag) <= set("0123456789abcdef") else None


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def crc32(data: bytes) -> str:
    """As S3 writes it: big-endian, base64."""
    return _base64(zlib.crc32(data).to_bytes(4, "big"))


def content_md5(data: bytes) -> str:
    """As the header Content-MD5 wants it (RFC 1864)."""
    return _base64(_md5(data))


_DIGESTS: dict[str, Callable[[bytes], str]] = {
    "ChecksumCRC32": crc32,
    "ChecksumSHA256": lambda data: _base64(hashlib.sha256(data).digest()),
    "ChecksumSHA1": lambda data: _base64(hashlib.sha1(data, usedforsecurity=False).digest()),
}

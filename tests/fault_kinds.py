"""The faults that `tests.faults` knows: their names, when they happen, and what they do to requests and answers."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from aiohttp import web

# refused before it is carried out
BEFORE = ("500", "503", "slowdown", "reset", "timeout")
# carried out, but the client is not told so
AFTER = ("lost", "late")
KINDS: dict[str, tuple[str, ...]] = {
    "get": (*BEFORE, *AFTER, "cut", "short", "trim", "corrupt"),
    "head": (*BEFORE, *AFTER),
    "put": (*BEFORE, *AFTER, "corrupt", "conflict"),
    "delete": (*BEFORE, *AFTER),
    "delete-many": (*BEFORE, *AFTER, "partial"),
    "list": (*BEFORE, *AFTER, "page", "blank", "gap"),
}
ERRORS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "late": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "ServiceUnavailable", "Service is unable to handle request."),
    "slowdown": (503, "SlowDown", "Please reduce your request rate."),
    "conflict": (409, "ConditionalRequestConflict", "The conditional request cannot succeed."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
    "unknown-key": (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    "bad-signature": (403, "SignatureDoesNotMatch", "The request signature we calculated does not match."),
    "denied": (403, "AccessDenied", "Access Denied"),
    "no-bucket": (404, "NoSuchBucket", "The specified bucket does not exist"),
    "full": (507, "InsufficientStorage", "There is no room left."),
    "refused-condition": (
        501,
        "NotImplemented",
        "A header you provided implies functionality that is not implemented.",
    ),
    "bad-digest": (400, "BadDigest", "The Content-MD5 or checksum you specified did not match what we received."),
}
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "expect", "content-length"}
_XMLNS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass
class Switches:
    """What holds for every request until it is set back.

    credentials: "expired", "unknown-key", "bad-signature" or None. denied: keys ("bucket/key") and, for listings, buckets
    that may not be touched. full: nothing more is taken. no_bucket: buckets that are gone. conditions: "honour", "ignore"
    or "refuse" (501) If-None-Match. lag: in how many listings a new key is missing. delay: seconds before each answer.
    """

    credentials: str | None = None
    denied: list[str] = field(default_factory=list)
    full: bool = False
    no_bucket: list[str] = field(default_factory=list)
    conditions: str = "honour"
    lag: int = 0
    delay: float = 0.0
    rate: float = 0.0


@dataclass
class Rule:
    """`kind` for the next `times` requests for `key` ("bucket/key"; a bucket's name for listings), after `skip` of them.

    op: only this operation of KINDS. after: bytes of the body that still go through, for cut, short and trim.
    """

    key: str
    kind: str
    times: int = 1
    op: str | None = None
    after: int | None = None
    skip: int = 0


def operation(request: web.Request, key: str) -> str:
    if request.method == "POST" and "delete" in request.query:
        return "delete-many"
    if key:
        return request.method.lower()
    return "list" if request.method == "GET" and "list-type" in request.query else "bucket"


def passed(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP}


def error(request: web.Request, kind: str) -> web.Response:
    status, code, text = ERRORS[kind]
    if request.method == "HEAD":
        return web.Response(status=status)
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{text}</Message></Error>'
    return web.Response(status=status, body=body.encode(), content_type="application/xml")


def hang_up(request: web.Request, *, gently: bool = False) -> web.Response:
    """End the connection: with RST, or `gently` with FIN as if all had been sent."""
    transport = request.transport
    if transport is not None:
        if gently:
            transport.close()
        else:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
    return web.Response()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if data else b"?"


def halved(body: bytes) -> tuple[bytes, list[str]]:
    """A request to delete many, without its second half; and the keys that are left out."""
    tree = ElementTree.fromstring(body)  # noqa: S314
    named = [element for element in tree if element.tag.endswith("Object")]
    left_out = named[len(named) // 2 :]
    for element in left_out:
        tree.remove(element)
    return ElementTree.tostring(tree), [
        next(e.text or "" for e in element if e.tag.endswith("Key")) for element in left_out
    ]


def has_its_digests(request: web.Request, body: bytes) -> bool | None:
    """Whether a body has the digests that came with it; None where none came in a header."""
    md5, crc = request.headers.get("Content-MD5"), request.headers.get("x-amz-checksum-crc32")
    if md5 is None and crc is None:
        return None
    found_md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    found_crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    return md5 in (None, found_md5) and crc in (None, found_crc)


def without_keys(listing: bytes, keys: Sequence[str]) -> bytes:
    """A page of a listing as if these keys had not been written yet."""
    tree = ElementTree.fromstring(listing)  # noqa: S314
    hidden = [c for c in tree.findall(f"{_XMLNS}Contents") if unquote(c.findtext(f"{_XMLNS}Key", "")) in keys]
    for element in hidden:
        tree.remove(element)
    count = tree.find(f"{_XMLNS}KeyCount")
    if count is not None:
        count.text = str(int(count.text or 0) - len(hidden))
    return ElementTree.tostring(tree, "utf-8")

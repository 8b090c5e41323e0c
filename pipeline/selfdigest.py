"""Files that hold the SHA-256 of themselves, so that a reader with nothing else in hand can tell one flipped bit.

The digest is of the whole file with sixty-four zeros in the digest's place. Parts of provenance and of the manifest need none:
a seal or an index holds theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.errors import AlbumenError

DIGEST = "self_sha256"
_LENGTH = 64
_BLANK = b"0" * _LENGTH
# What stands right before the digest: the last key of a JSON object; in a Parquet footer the key, and Thrift's compact
# protocol for a binary field (delta 1, type 8) of 64 bytes.
JSON_MARK = b'"self_sha256": "'
PARQUET_KEY = "albumen.sha256"
PARQUET_MARK = PARQUET_KEY.encode() + b"\x18\x40"
BLANK = _BLANK.decode()


class NoPlaceError(AlbumenError):
    """A writer left no place for the digest: a fault of this program."""


def json_with_digest(facts: Mapping[str, Any], indent: int, *, ascii_only: bool = True) -> bytes:
    """A JSON object in UTF-8 whose last member is `self_sha256`, of the text itself."""
    text = json.dumps({**facts, DIGEST: BLANK}, indent=indent, ensure_ascii=ascii_only)
    return with_digest(text.encode(), JSON_MARK)


def with_digest(data: bytes, mark: bytes) -> bytes:
    """data: a file with 64 zeros behind the last `mark`. Raises NoPlaceError."""
    place = _place(data, mark)
    if place is None or data[place : place + _LENGTH] != _BLANK:
        raise NoPlaceError(f"there is no place for a digest behind {mark!r}")
    return data[:place] + hashlib.sha256(data).hexdigest().encode() + data[place + _LENGTH :]


def is_right(data: bytes, mark: bytes) -> bool | None:
    """Whether a file is as its own digest says; None where it has none."""
    place = _place(data, mark)
    if place is None:
        return None
    blank = data[:place] + _BLANK + data[place + _LENGTH :]
    return hashlib.sha256(blank).hexdigest().encode() == data[place : place + _LENGTH]


def _place(data: bytes, mark: bytes) -> int | None:
    at = data.rfind(mark)
    return None if at < 0 or at + len(mark) + _LENGTH > len(data) else at + len(mark)

"""How places are named, and what a listing says of them. Touches no store."""

from __future__ import annotations

import posixpath
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pipeline.errors import StoreError


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a store is waited for. All but `connections` in seconds.

    connect: for a connection. answer: for the next bytes on it. pause: the longest first pause between two tries; each
    further one may be twice as long, up to longest_pause, and its length is drawn at random below that (full jitter:
    Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015). total: no try starts later than this after the
    first. connections: kept open to one service.
    """

    connect: float = 10.0
    answer: float = 60.0
    pause: float = 0.2
    longest_pause: float = 20.0
    total: float = 300.0
    connections: int = 16


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is reached. endpoint: an S3 service other than the one the usual AWS variables name.

    Credentials are never part of it: they come from the environment of the process that connects.
    """

    endpoint: str | None = None
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing. key: path below the listed root. fault: why it could not be looked at.

    size in bytes. etag: the store's name for these bytes, without quotation marks; None on folders. modified: UTC.
    """

    key: str
    uri: str
    size: int | None
    etag: str | None
    fault: str | None = None
    modified: datetime | None = None


def is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def join(root: str, *parts: str) -> str:
    return posixpath.join(root.rstrip("/") or "/", *parts)


def canonical(uri: str) -> str:
    """An absolute name with links resolved, so that two spellings of one place compare equal."""
    if is_local(uri):
        try:
            return str(local_path(uri).expanduser().resolve())
        except (RuntimeError, ValueError) as error:
            raise StoreError(f"{uri}: {error}") from error
    return ("s3://" + uri.removeprefix("s3a://") if uri.startswith("s3a://") else uri).rstrip("/")


def contains(outer: str, inner: str) -> bool:
    """True where `inner` is `outer` or lies below it."""
    a, b = canonical(outer).rstrip("/") + "/", canonical(inner).rstrip("/") + "/"
    return b.startswith(a)


def temporary_name(name: str) -> str:
    """A name beside `name` for bytes that are not whole yet; `is_temporary` knows it again."""
    return f".{name}.{secrets.token_hex(4)}.part"


def is_temporary(key: str) -> bool:
    """Whether a key of a listing is a temporary that a process made and has not removed, perhaps because it was killed."""
    name = key.rsplit("/", 1)[-1]
    return name.startswith(".") and name.endswith(".part")

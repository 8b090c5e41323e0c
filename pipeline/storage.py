"""Bytes in and out of folders and buckets: read with a limit, put atomically, list, and never write under a source."""

from __future__ import annotations

import os
import posixpath
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import ItemError, Reason, StoreError


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is reached. endpoint: an S3 service other than the one the usual AWS variables name.

    Credentials are never part of it: they come from the environment of the process that connects.
    """

    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing. key: path below the listed root. fault: why it could not be looked at."""

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


def is_temporary(name: str) -> bool:
    """True for what `create` and `put` leave behind where they are killed."""
    last = name.rsplit("/", 1)[-1]
    return last.startswith(".") and last.endswith(".part")


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


@contextmanager
def os_errors() -> Iterator[None]:
    """Client libraries raise errors of their own for a refused or broken connection; here they are all OSError."""
    try:
        yield
    except _client_errors() as error:
        raise OSError(str(error)) from error


def _client_errors() -> tuple[type[Exception], ...]:
    # Evaluated only once something was raised: neither library is worth importing before that.
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return (BotoCoreError, ClientError)


class Store:
    """All access to files and objects. Cheap to make; keeps no listing."""

    def __init__(self, options: StoreOptions | None = None) -> None:
        self.options = options or StoreOptions()

    def filesystem(self, uri: str) -> tuple[Any, str]:
        """The fsspec filesystem for a URI, and the URI's path in it. Raises StoreError for an unknown scheme."""
        if is_local(uri):
            # Not by fsspec's own reading of a name, to which `::` means a chain of stores.
            return LocalFileSystem(), str(local_path(uri))
        scheme = urlsplit(uri).scheme
        settings: dict[str, Any] = {}
        if scheme in ("s3", "s3a"):
            settings = {"use_listings_cache": False}
            if self.options.endpoint is not None:
                settings["endpoint_url"] = self.options.endpoint
        try:
            filesystem, path = fsspec.core.url_to_fs(uri, **settings)
        except (ValueError, ImportError) as error:
            raise StoreError(f"{uri}: {error}") from error
        return filesystem, path

    def open(self, uri: str) -> BinaryIO:
        """A seekable reader. Raises OSError as the store does."""
        filesystem, path = self.filesystem(uri)
        reader: BinaryIO = filesystem.open(path, "rb")
        return reader

    def exists(self, uri: str) -> bool:
        filesystem, path = self.filesystem(uri)
        with os_errors():
            return bool(filesystem.exists(path))

    def read(self, uri: str) -> bytes:
        """All bytes. Raises OSError as the store does."""
        if is_local(uri):
            return local_path(uri).read_bytes()
        filesystem, path = self.filesystem(uri)
        with os_errors():
            data: bytes = filesystem.cat_file(path)
        return data

    def read_source(self, uri: str, limit: int, etag: str | None = None) -> bytes:
        """The bytes of a photograph's file, or an ItemError that says why they cannot be had.

        etag: what the store called these bytes when they were listed, where it has names for them.

        Never opens what is no plain file: a pipe or a device would hang the worker.
        """
        try:
            if is_local(uri):
                return self._read_plain_file(local_path(uri), uri, limit)
            filesystem, path = self.filesystem(uri)
            with os_errors():
                info = filesystem.info(path)
                _check_size(info["size"], limit, uri)
                if etag is not None and "ETag" in info and str(info["ETag"]).strip('"') != etag:
                    raise ItemError(Reason.SOURCE_CHANGED, f"{uri} was replaced after the run was planned")
                data: bytes = filesystem.cat_file(path)
            return data
        except StoreError as error:
            raise ItemError(Reason.SOURCE_UNREADABLE, str(error)) from error
        except FileNotFoundError as error:
            raise ItemError(Reason.SOURCE_MISSING, f"{uri} is not there") from error
        except OSError as error:
            raise ItemError(Reason.SOURCE_UNREADABLE, f"{uri}: {error.strerror or error}") from error

    def _read_plain_file(self, path: Path, uri: str, limit: int) -> bytes:
        if not path.is_file():
            if not path.exists():
                raise FileNotFoundError(uri)
            kind = "a folder" if path.is_dir() else "no plain file"
            raise ItemError(Reason.SOURCE_UNREADABLE, f"{uri} is {kind}")
        _check_size(path.stat().st_size, limit, uri)
        return path.read_bytes()

    def put(self, uri: str, data: bytes) -> None:
        """All of `data` under that name, or nothing: one PUT, or temporary file, fsync, rename. Raises OSError."""
        if not is_local(uri):
            filesystem, path = self.filesystem(uri)
            with os_errors():
                filesystem.pipe_file(path, data)
            return
        final = local_path(uri)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, final)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(final.parent)

    def create(self, uri: str, data: bytes) -> bool:
        """All of `data` under a name that nothing has yet; False where something is there already. Raises OSError."""
        if not is_local(uri):
            filesystem, path = self.filesystem(uri)
            try:
                with os_errors():
                    filesystem.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            return True
        final = local_path(uri)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, final)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(final.parent)
        return True

    def delete(self, uri: str) -> None:
        """Nothing there is no error. Raises OSError."""
        if is_local(uri):
            local_path(uri).unlink(missing_ok=True)
            return
        filesystem, path = self.filesystem(uri)
        with os_errors():
            filesystem.rm_file(path)

    def delete_many(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self.delete(uri)

    def list(self, root: str, after: str | None = None) -> Iterator[Entry]:
        """Every object below a folder or prefix, in a stable order. A folder that cannot be read is an Entry too."""
        if is_local(root):
            yield from (e for e in _walk(local_path(root), "") if after is None or e.key > after)
            return
        filesystem, path = self.filesystem(root)
        base = path.rstrip("/") + "/"
        with os_errors():
            found = filesystem.find(path, detail=True)
        for name, info in sorted(found.items()):
            if after is not None and name.removeprefix(base) <= after:
                continue
            scheme = root.split("://", 1)[0]
            etag = str(info["ETag"]).strip('"') if "ETag" in info else None
            yield Entry(
                name.removeprefix(base), f"{scheme}://{name}", info.get("size"), etag, modified=info.get("LastModified")
            )

    def list_if_there(self, root: str, after: str | None = None) -> Iterator[Entry]:
        """As `list`; nothing where the folder does not exist."""
        if not is_local(root) or local_path(root).is_dir():
            yield from self.list(root, after)

    def check_folder(self, root: str) -> str | None:
        """A sentence that says why `root` cannot be listed, or None."""
        try:
            if is_local(root):
                path = local_path(root)
                if not path.exists():
                    return f"{root} is not there"
                return None if path.is_dir() else f"{root} is no folder"
            filesystem, key = self.filesystem(root)
            bucket = key.split("/", 1)[0]
            with os_errors():
                _ask_for_one_name(filesystem, bucket)
        except FileNotFoundError:
            return f"{root}: there is no bucket {bucket!r}"
        except PermissionError as error:
            return f"{root}: these credentials may not list {bucket!r}: {error}"
        except StoreError as error:
            return str(error)
        except OSError as error:
            return f"{root}: {error}"
        return None


def _ask_for_one_name(filesystem: Any, bucket: str) -> None:
    """The cheapest question that fails for the right reason. s3fs's `exists` says no also when nobody answers."""
    if "s3" in filesystem.protocol:
        filesystem.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
    elif not filesystem.exists(bucket):
        raise FileNotFoundError(bucket)


def _check_size(size: int, limit: int, uri: str) -> None:
    if size == 0:
        raise ItemError(Reason.SOURCE_EMPTY, f"{uri} has no bytes")
    if size > limit:
        raise ItemError(Reason.TOO_LARGE, f"{uri} has {size:,} bytes; the limit is {limit:,}")


def _walk(folder: Path, prefix: str) -> Iterator[Entry]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Entry(prefix.rstrip("/") or ".", str(folder), None, None, f"the folder cannot be read: {error.strerror}")
        return
    for entry in entries:
        key = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, key + "/")
            continue
        try:
            facts = entry.stat()
        except OSError:
            yield Entry(key, entry.path, None, None)
            continue
        yield Entry(key, entry.path, facts.st_size, None, modified=datetime.fromtimestamp(facts.st_mtime, UTC))


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""One door to folders and buckets. docs/stores.md says what is promised of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import ItemError, Reason, StoreError
from pipeline.storage.connection import for_fsspec
from pipeline.storage.faults import GONE, CredentialsError, GaveUpError, NoBucketError
from pipeline.storage.local import Folders
from pipeline.storage.names import Entry, StoreOptions, is_local, local_path
from pipeline.storage.objects import Objects, split
from pipeline.storage.other import Other
from pipeline.storage.transfer import Accept

_S3 = ("s3", "s3a")
_TOGETHER = 1000


class _Kind(Protocol):
    """What every kind of store can do. All raise OSError."""

    def read(self, uri: str, accept: Accept | None = None) -> bytes: ...
    def open(self, uri: str) -> BinaryIO: ...
    def exists(self, uri: str) -> bool: ...
    def has(self, uri: str) -> bool: ...
    def put(self, uri: str, data: bytes) -> None: ...
    def create(self, uri: str, data: bytes) -> bool: ...
    def conditional(self, root: str) -> bool: ...
    def delete(self, uri: str) -> None: ...
    def delete_many(self, uris: Iterable[str]) -> None: ...
    def list(self, root: str, after: str | None = None) -> Iterator[Entry]: ...


class Store:
    """All access to files and objects. Cheap to make; keeps no listing.

    Every method raises OSError (the tree in `storage.faults`) once trying again has not helped or could not help, and
    StoreError for a scheme that nothing here knows.
    """

    def __init__(self, options: StoreOptions | None = None) -> None:
        self.options = options or StoreOptions()

    def filesystem(self, uri: str) -> tuple[Any, str]:
        """An fsspec filesystem for libraries that want one, and the URI's path in it.

        It tries again by its own rules and compares no checksums; `read` and `open` are the better doors.
        """
        if is_local(uri):
            # Not by fsspec's own reading of a name, to which `::` means a chain of stores.
            return LocalFileSystem(), str(local_path(uri))
        try:
            filesystem, path = fsspec.core.url_to_fs(uri, **(for_fsspec(self.options) if _is_s3(uri) else {}))
        except (ValueError, ImportError) as error:
            raise StoreError(f"{uri}: {error}") from error
        return filesystem, path

    def open(self, uri: str) -> BinaryIO:
        """A seekable reader. Parts that are asked for come whole or raise OSError."""
        return self._kind(uri).open(uri)

    def exists(self, uri: str) -> bool:
        """Whether anything has that name: a file or an object, a folder, a prefix that something lies below, a bucket."""
        return self._kind(uri).exists(uri)

    def has(self, uri: str) -> bool:
        """Whether a file or an object has exactly that name: one request, where `exists` needs a listing to say no."""
        return self._kind(uri).has(uri)

    def read(self, uri: str) -> bytes:
        """All bytes: as many as the store says there are, with the checksum that it keeps of them."""
        return self._kind(uri).read(uri)

    def read_source(self, uri: str, limit: int, etag: str | None = None) -> bytes:
        """The bytes of a photograph's file, or an ItemError that says why they cannot be had.

        etag: what the store called these bytes when they were listed, where it has names for them.

        Raises StoreError where no photograph could be had, whichever is asked for: credentials that open nothing, a
        store that is away, a bucket that may not even be listed.

        Never opens what is no plain file: a pipe or a device would hang the worker.
        """
        try:
            kind = self._kind(uri)
        except StoreError as error:
            raise ItemError(Reason.SOURCE_UNREADABLE, str(error)) from error

        def accept(size: int, found: str | None) -> None:
            _check_size(size, limit, uri)
            if etag is not None and found is not None and found != etag:
                raise ItemError(Reason.SOURCE_CHANGED, f"{uri} was replaced after the run was planned")

        try:
            if is_local(uri):
                _check_plain_file(uri)
            return kind.read(uri, accept)
        except NoBucketError as error:
            raise ItemError(Reason.SOURCE_MISSING, str(error)) from error
        except FileNotFoundError as error:
            raise ItemError(Reason.SOURCE_MISSING, f"{uri} is not there") from error
        except OSError as error:
            self._raise_if_all_is_lost(kind, uri, error)
            raise ItemError(Reason.SOURCE_UNREADABLE, _named(uri, error)) from error

    def _raise_if_all_is_lost(self, kind: _Kind, uri: str, error: OSError) -> None:
        """Tell one photograph's trouble from that of all: the store is asked for something else."""
        if isinstance(error, CredentialsError) or error.errno in GONE:
            raise StoreError(str(error)) from error
        if isinstance(kind, Objects) and isinstance(error, (GaveUpError, PermissionError)):
            try:
                kind.ask_for_one_name(uri)
            except OSError as second:
                hint = None
                if isinstance(error, PermissionError):
                    hint = "The credentials need s3:GetObject on the originals and s3:ListBucket on their bucket."
                raise StoreError([str(error), f"the bucket cannot be listed either: {second}"], hint=hint) from error

    def put(self, uri: str, data: bytes) -> None:
        """All of `data` under that name, in place of what was there, or nothing. Durable on return."""
        self._kind(uri).put(uri, data)

    def create(self, uri: str, data: bytes) -> bool:
        """All of `data` under a name that nothing has yet. False, and nothing changed, where something has it.

        Of any number of callers at most one is told True, and whoever is told True has written: after an answer that was
        lost, the object itself says whose it is. Where `conditional` is False this is weaker: a look, then a put.
        """
        return self._kind(uri).create(uri, data)

    def conditional(self, root: str) -> bool:
        """Whether the store below `root` refuses a name that is taken, by itself and at once. Tried once a process.

        The try leaves a temporary behind only where it is killed or nothing may be deleted.
        """
        return self._kind(root).conditional(root)

    def delete(self, uri: str) -> None:
        """Take a name away. Nothing there is no error."""
        self._kind(uri).delete(uri)

    def delete_many(self, uris: Iterable[str]) -> None:
        """As `delete`, in batches where the store has them. Raises OSError with the names that could not be deleted."""
        waiting = iter(uris)
        while batch := tuple(islice(waiting, _TOGETHER)):
            for scheme in dict.fromkeys(map(_scheme, batch)):
                members = [uri for uri in batch if _scheme(uri) == scheme]
                self._kind(members[0]).delete_many(members)

    def list(self, root: str, after: str | None = None) -> Iterator[Entry]:
        """Every object below a folder or prefix, in the byte order of whole keys, on every kind of store.

        after: only keys behind this one; it need not exist. Temporaries are listed too. Links to folders are not
        followed. A folder that cannot be read is an Entry with a fault; its key is "." for the root, else ends with "/".
        Memory does not grow with the number of names.
        """
        yield from self._kind(root).list(root, after)

    def list_if_there(self, root: str, after: str | None = None) -> Iterator[Entry]:
        """As `list`; nothing where the folder does not exist."""
        if not is_local(root) or local_path(root).is_dir():
            yield from self.list(root, after)

    def check_folder(self, root: str) -> str | None:
        """A sentence that says why `root` cannot be listed, or None."""
        if is_local(root):
            path = local_path(root)
            if not path.exists():
                return f"{root} is not there"
            return None if path.is_dir() else f"{root} is no folder"
        try:
            kind = self._kind(root)
            if isinstance(kind, Objects):
                kind.ask_for_one_name(root)
        except FileNotFoundError:
            return f"{root}: there is no bucket {split(root)[0]!r}"
        except CredentialsError as error:
            return str(error)
        except PermissionError as error:
            return f"these credentials may not list the bucket {split(root)[0]!r}: {_named(root, error)}"
        except StoreError as error:
            return str(error)
        except OSError as error:
            return _named(root, error)
        return None

    def _kind(self, uri: str) -> _Kind:
        if is_local(uri):
            return Folders(self.options.patience)
        return Objects(self.options) if _is_s3(uri) else Other(uri)


def _scheme(uri: str) -> str:
    return "" if is_local(uri) else urlsplit(uri).scheme


def _is_s3(uri: str) -> bool:
    return _scheme(uri) in _S3


def _named(uri: str, error: OSError) -> str:
    """The error's sentence, with the place in front where it does not start with it."""
    text = error.strerror or str(error)
    return text if text.startswith(uri) else f"{uri}: {text}"


def _check_plain_file(uri: str) -> None:
    path = local_path(uri)
    if not path.is_file():
        if not path.exists():
            raise FileNotFoundError(uri)
        kind = "a folder" if path.is_dir() else "no plain file"
        raise ItemError(Reason.SOURCE_UNREADABLE, f"{uri} is {kind}")


def _check_size(size: int, limit: int, uri: str) -> None:
    if size == 0:
        raise ItemError(Reason.SOURCE_EMPTY, f"{uri} has no bytes")
    if size > limit:
        raise ItemError(Reason.TOO_LARGE, f"{uri} has {size:,} bytes; the limit is {limit:,}")

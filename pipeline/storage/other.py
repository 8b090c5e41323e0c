"""Stores that only fsspec knows, such as the one in memory, or models on a web server: no promises beyond the store's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import fsspec

from pipeline.errors import StoreError
from pipeline.storage.faults import os_errors
from pipeline.storage.names import Entry
from pipeline.storage.transfer import Accept


class Other:
    """Every method raises OSError as the store does."""

    def __init__(self, uri: str) -> None:
        try:
            self.filesystem: Any = fsspec.core.url_to_fs(uri)[0]
        except (ValueError, ImportError) as error:
            raise StoreError(f"{uri}: {error}") from error

    def path(self, uri: str) -> str:
        stripped: str = self.filesystem._strip_protocol(uri)
        return stripped

    def read(self, uri: str, accept: Accept | None = None) -> bytes:
        with os_errors():
            if accept is not None:
                accept(self.filesystem.info(self.path(uri))["size"], None)
            data: bytes = self.filesystem.cat_file(self.path(uri))
        return data

    def open(self, uri: str) -> BinaryIO:
        reader: BinaryIO = self.filesystem.open(self.path(uri), "rb")
        return reader

    def exists(self, uri: str) -> bool:
        with os_errors():
            return bool(self.filesystem.exists(self.path(uri)))

    def has(self, uri: str) -> bool:
        with os_errors():
            try:
                return bool(self.filesystem.info(self.path(uri))["type"] == "file")
            except FileNotFoundError:
                return False

    def put(self, uri: str, data: bytes) -> None:
        with os_errors():
            self.filesystem.pipe_file(self.path(uri), data)

    def create(self, uri: str, data: bytes) -> bool:
        if self.exists(uri):
            return False
        self.put(uri, data)
        return True

    def conditional(self, root: str) -> bool:
        return False

    def delete(self, uri: str) -> None:
        with os_errors():
            try:
                self.filesystem.rm_file(self.path(uri))
            except FileNotFoundError:
                return

    def delete_many(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self.delete(uri)

    def list(self, root: str, after: str | None = None) -> Iterator[Entry]:
        base = self.path(root).rstrip("/") + "/"
        scheme = root.split("://", 1)[0]
        with os_errors():
            found = self.filesystem.find(self.path(root), detail=True)
        for name, info in sorted(found.items()):
            key = name.removeprefix(base)
            if key > (after or ""):
                yield Entry(key, f"{scheme}://{name}", info.get("size"), None)

"""Stores as DuckDB sees them: a filesystem of the few files that a question is about, named by numbers.

DuckDB reads folders itself, and buckets only with an extension that it would have to download. Here it reads them through
`Store`, range by range: the footers, row groups and columns that a question needs.
"""

from __future__ import annotations

import io
import threading
from datetime import UTC, datetime
from typing import Any, BinaryIO

import fsspec

from pipeline.storage import Store

SCHEME = "albumen"
# Names are never used again for other bytes: there is nothing that could be out of date.
_WRITTEN = datetime(2000, 1, 1, tzinfo=UTC)


class _Handle:
    """An open file. Nothing is asked for before it is read: DuckDB opens every file several times, and reads few of them.

    DuckDB's threads share a handle. Each seeks and then reads, in two calls between which another may come; so every thread
    has a place of its own, and no two read from one file at once.
    """

    def __init__(self, files: PartFiles, path: str) -> None:
        self._files = files
        self._path = path
        self._of_thread = threading.local()
        self._free: list[BinaryIO] = []

    @property
    def _place(self) -> int:
        return getattr(self._of_thread, "place", 0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence)
        self._of_thread.place = offset + (self._files.size(self._path) if start is None else start)
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, count: int) -> bytes:
        try:
            file = self._free.pop()
        except IndexError:
            file = self._files.opened(self._path)
        # The raw reader asks for exactly these bytes; the one that buffers would ask for four megabytes.
        raw: Any = getattr(file, "raw", file)
        raw.seek(self._place)
        pieces: list[bytes] = []
        while count > 0 and (piece := raw.read(count)):
            pieces.append(piece)
            count -= len(piece)
        self._free.append(file)
        data = b"".join(pieces)
        self._of_thread.place = self._place + len(data)
        return data

    def close(self) -> None:
        while self._free:
            self._free.pop().close()


class PartFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Immutable files by `albumen://<number>/<name>`, each in a store of its own."""

    protocol = SCHEME
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[Store, str]] = []
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, store: Store, uri: str) -> str:
        """How DuckDB has to name the file."""
        self._places.append((store, uri))
        return f"{SCHEME}://{len(self._places) - 1}/{uri.rsplit('/', 1)[-1]}"

    def opened(self, path: str) -> BinaryIO:
        store, uri = self._place(path)
        return store.open(uri)

    def _place(self, path: str) -> tuple[Store, str]:
        return self._places[int(path.removeprefix(f"{SCHEME}://").split("/", 1)[0])]

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Handle:
        if set(mode) - set("rb"):
            raise PermissionError(f"{path} is only read")
        return _Handle(self, path)

    def size(self, path: str) -> int:
        with self._lock:
            known = self._sizes.get(path)
        if known is None:
            with self.opened(path) as file:
                known = file.seek(0, io.SEEK_END)
            with self._lock:
                self._sizes[path] = known
        return known

    def modified(self, path: str) -> datetime:
        return _WRITTEN

    def exists(self, path: str, **_: Any) -> bool:
        return True

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

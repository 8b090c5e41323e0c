"""Images, masks, maps and originals: are they there, are they the same, and is there nothing else?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.verify.report import Fault, Faults
from pipeline.storage import Store, is_temporary, join


class Folder:
    """The images, the masks or the maps of one kind of a run: its listing in 17 bytes a file, and which of them a row
    explains."""

    def __init__(self, store: Store, run: str, name: str, what: str) -> None:
        self._store = store
        self._root = join(run, name)
        self._what = what
        entries = [(_hash(entry.key), entry.size or 0) for entry in self._entries()]
        listed = np.array(entries, np.int64).reshape(-1, 2)
        listed = listed[np.argsort(listed[:, 0], kind="stable")]
        self._hashes: NDArray[np.int64] = listed[:, 0].copy()
        self._sizes: NDArray[np.int64] = listed[:, 1].copy()
        self._met = np.zeros(len(listed), np.bool_)

    def _entries(self) -> Iterator[Any]:
        return (entry for entry in self._store.list_if_there(self._root) if not is_temporary(entry.key))

    def explain(self, row: dict[str, Any], uri: str) -> tuple[str, int | None]:
        """Where a row's file is, and the size that was listed, None where it was not."""
        # Below this folder, wherever the run was moved to since.
        key = f"{row['item_id'][:2]}/{uri.rsplit('/', 1)[1]}"
        at = int(np.searchsorted(self._hashes, _hash(key)))
        found = at < len(self._hashes) and self._hashes[at] == _hash(key)
        if found:
            self._met[at] = True
        return join(self._root, key), int(self._sizes[at]) if found else None

    def look(self, row: dict[str, Any], uri: str, size: int | None, length: int | None) -> Iterator[Fault]:
        """Without opening the file. length: bytes that it should have, None where nothing says so."""
        if size is None:
            yield self._lost(row, uri)
        elif length is not None and size != length:
            yield Fault("altered", uri, f"it has {size:,} bytes; it was delivered with {length:,}")

    def hash(self, row: dict[str, Any], uri: str, digest: str) -> Iterator[Fault]:
        try:
            found = hashlib.sha256(self._store.read(uri)).hexdigest()
        except FileNotFoundError:
            yield self._lost(row, uri)
            return
        except OSError as error:
            yield Fault("unreadable", uri, str(error))
            return
        if found != digest:
            yield Fault("altered", uri, f"sha256 is {found}; the {self._what} was delivered as {digest}")

    def _lost(self, row: dict[str, Any], uri: str) -> Fault:
        return Fault("lost", uri, f"the {self._what} of {row['source_uri']} is not there")

    def unexplained(self, faults: Faults) -> None:
        """Files that no row names; the folder is listed once more where there are any."""
        if self._met.all():
            return
        strangers = set(self._hashes[~self._met].tolist())
        for entry in self._entries():
            if _hash(entry.key) in strangers:
                faults.add("unexplained", entry.uri, "no provenance row explains this file")


def _hash(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def check_source(store: Store, row: dict[str, Any]) -> Iterator[Fault]:
    """The original is what it was when it was read."""
    try:
        found = hashlib.sha256(store.read(row["source_uri"])).hexdigest()
    except OSError as error:
        yield Fault("source", row["source_uri"], f"the original cannot be read: {error}")
        return
    if found != row["source_sha256"]:
        yield Fault("source", row["source_uri"], f"the original has changed since: sha256 is {found}")

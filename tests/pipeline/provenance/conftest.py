"""Records, runs without a lease, and stores that stop or look at every operation. Nothing here starts Ray."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
import pytest

from pipeline.errors import Status
from pipeline.provenance import Stamp, commit, live
from pipeline.provenance.schema import lease_uri
from pipeline.record import Event, Record
from pipeline.storage import Entry, Store


def stamped(term: int) -> Stamp:
    return Stamp("run1", "c" * 64, "albumen 0", term)


def _record(number: int, note: str = "") -> Record:
    event = Event("repair", "1", "applied", None, "{}", (), "a", "b", 0.5, 1.0, "cpu", None, "{}")
    return Record(number, f"item{number}", f"/scans/{number}", status=Status.RESTORED, detail=note, events=(event,))


@pytest.fixture
def stamp() -> Callable[[int], Stamp]:
    """The stamp of a term."""
    return stamped


@pytest.fixture
def restored() -> Callable[..., Record]:
    """The record of a restored photograph, by its number; `note` becomes its detail."""
    return _record


@pytest.fixture
def take(tmp_path: Path) -> Callable[[int], None]:
    """Takes the lease of a term, as far as commits and seals look at it: its file is there."""

    def make(term: int) -> None:
        Store().create(lease_uri(str(tmp_path), term), b"{}")

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Commits photographs by number in a term, all in one object or each in its own."""

    def make(term: int, *numbers: int, together: bool = False, note: str | None = None) -> None:
        text = f"term {term}" if note is None else note
        records = [_record(number, text) for number in numbers]
        for group in [records] if together else [[record] for record in records]:
            commit(Store(), str(tmp_path), stamped(term), group)

    return make


class Killed(BaseException):
    """The process ends here."""


class Hooked(Store):
    """A store that calls `hook(number, operation)` before and `after(number, operation)` after each of its operations."""

    def __init__(
        self, hook: Callable[[int, str], None] | None = None, after: Callable[[int, str], None] | None = None
    ) -> None:
        super().__init__()
        self.count = 0
        self._hook = hook
        self._after = after
        self._lock = threading.RLock()

    def _around(self, operation: str, work: Callable[[], Any]) -> Any:
        # One at a time, although parts and commits are read by many threads.
        with self._lock:
            number = self.count
            self.count += 1
            if self._hook is not None:
                self._hook(number, operation)
            found = work()
            if self._after is not None:
                self._after(number, operation)
            return found

    def create(self, uri: str, data: bytes) -> bool:
        return bool(self._around("create", lambda: super(Hooked, self).create(uri, data)))

    def delete(self, uri: str) -> None:
        self._around("delete", lambda: super(Hooked, self).delete(uri))

    def delete_many(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self.delete(uri)

    def read(self, uri: str) -> bytes:
        data: bytes = self._around("read", lambda: super(Hooked, self).read(uri))
        return data

    def open(self, uri: str) -> BinaryIO:
        file: BinaryIO = self._around("open", lambda: super(Hooked, self).open(uri))
        return file

    def has(self, uri: str) -> bool:
        return bool(self._around("has", lambda: super(Hooked, self).has(uri)))

    def list(self, root: str, after: str | None = None) -> Iterator[Entry]:
        entries: Iterator[Entry] = self._around("list", lambda: iter([*super(Hooked, self).list(root, after)]))
        return entries


@pytest.fixture
def hooked() -> type[Hooked]:
    return Hooked


@pytest.fixture
def killed() -> type[Killed]:
    return Killed


@pytest.fixture
def terms(tmp_path: Path) -> Callable[..., dict[int, int]]:
    """What counts in the run: the term of every photograph's live row, by its number."""

    def look(run: Path = tmp_path) -> dict[int, int]:
        rows = live(Store(), str(run), ["item_no", "term", "detail"]).to_pylist()
        assert all(row["detail"] == f"term {row['term']}" for row in rows)
        assert [row["item_no"] for row in rows] == sorted({row["item_no"] for row in rows})
        return {row["item_no"]: row["term"] for row in rows}

    return look


@pytest.fixture
def check_sealed(tmp_path: Path) -> Callable[..., None]:
    """A compacted run is what the document says: parts as their seal says, each photograph once, no loose commit left."""

    def check(run: Path = tmp_path) -> None:
        [*_, last] = sorted((run / "provenance/seals").glob("*.json"))
        seal = json.loads(last.read_text())
        assert seal["number"] == int(last.stem)
        numbers: list[int] = []
        for part in seal["parts"]:
            data = (run / "provenance/parts" / part["name"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == part["sha256"]
            assert part["name"][8:] == f"-{part['sha256'][:12]}.parquet"
            assert 1 <= int(part["name"][:8]) <= seal["number"]
            found = pq.read_table(io.BytesIO(data))
            assert found.num_rows == part["rows"]
            assert found["item_no"].to_pylist() == sorted(found["item_no"].to_pylist())
            numbers += found["item_no"].to_pylist()
        assert len(numbers) == len(set(numbers)) == seal["rows"]
        loose = [
            path for path in (run / "provenance/terms").rglob("*.parquet") if int(path.parent.name) >= seal["term"]
        ]
        assert loose == []

    return check


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here pulls a plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)

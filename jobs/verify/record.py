"""The record itself: run.json, the manifest, seals, parts and loose commits, each against its digest; never all in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs import manifest
from jobs.verify.report import Faults
from pipeline.errors import JobError, StoreError
from pipeline.parquet import read_parquet
from pipeline.provenance.schema import seals_folder
from pipeline.provenance.view import Loose, Overlay, Seal, decoded, looking, newest_seal, part_uri
from pipeline.record import MANIFEST
from pipeline.selfdigest import JSON_MARK, PARQUET_MARK, is_right
from pipeline.storage import Store, join

_PLAN = ["item_no", "item_id", "source_uri", "supersedes"]


def check_digests(store: Store, run: str, faults: Faults) -> None:
    """run.json, each index and each seal against the digest that it holds of itself.

    Those of a run that was planned before there were such digests have none, and that is no fault.
    """
    uri = join(run, "run.json")
    plan = [uri, *_json_files(store, join(run, "manifest"))]
    states = {place: _state(store, place, faults) for place in [*plan, *_json_files(store, seals_folder(run))]}
    # run.json and its index are written together: where one has a digest, all that came with or after them do.
    expected = any(states[place] is not None for place in plan)
    for place, state in states.items():
        if state is False:
            faults.add(_kind(place), place, "it is not as it was written: its digest of itself is another")
        elif state is None and expected:
            faults.add(_kind(place), place, "it is not as it was written: it has lost its digest of itself")


def _json_files(store: Store, folder: str) -> list[str]:
    return [entry.uri for entry in store.list_if_there(folder) if entry.key.endswith(".json")]


def _state(store: Store, uri: str, faults: Faults) -> bool | None:
    try:
        return is_right(store.read(uri), JSON_MARK)
    except OSError as error:
        faults.add(_kind(uri), uri, f"it cannot be read: {error}")
        return True


def _kind(uri: str) -> str:
    if uri.endswith("/run.json"):
        return "run"
    return "manifest" if "/manifest/" in uri else "provenance"


@dataclass(slots=True)
class Planned:
    """The manifest in 17 bytes a photograph. numbers: item_no, ascending. marks: hashes of item_id and source_uri.

    superseded: item ids of which the manifest has a later version. whole: False where some of it could not be read.
    """

    photographs: int = 0
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    marks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    superseded: frozenset[str] = frozenset()
    whole: bool = True


def mark_of(item_id: str, source_uri: str) -> int:
    digest = hashlib.blake2b(f"{item_id}\0{source_uri}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def read_manifest(store: Store, run: str, faults: Faults) -> Planned:
    try:
        index = manifest.sound_index(store, run)
    except StoreError as error:
        faults.add("manifest", join(run, "manifest"), error.faults[0])
        return Planned(whole=False)
    numbers: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    marks: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    superseded: set[str] = set()
    whole = True
    for part in index.parts:
        table = _manifest_part(store, join(run, "manifest", part["name"]), part["sha256"], faults)
        if table is None:
            whole = False
            continue
        numbers.append(table["item_no"].to_numpy())
        pairs = zip(table["item_id"].to_pylist(), table["source_uri"].to_pylist(), strict=True)
        marks.append(np.fromiter((mark_of(*pair) for pair in pairs), np.int64, table.num_rows))
        superseded.update(table["supersedes"].drop_null().to_pylist())
    all_numbers, all_marks = np.concatenate(numbers), np.concatenate(marks)
    if whole and len(all_numbers) != index.photographs:
        faults.add("manifest", join(run, "manifest"), f"{len(all_numbers)} rows; its index says {index.photographs}")
    order = np.argsort(all_numbers, kind="stable")
    return Planned(index.photographs, all_numbers[order], all_marks[order], frozenset(superseded), whole)


def _manifest_part(store: Store, uri: str, digest: str, faults: Faults) -> pa.Table | None:
    data = _read(store, uri, "manifest", "the index names it and it is not there", faults)
    if data is None or not _has_digest(data, uri, "manifest", "the index", digest, faults):
        return None
    try:
        return read_parquet(pa.BufferReader(data)).cast(MANIFEST).select(_PLAN)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        faults.add("manifest", uri, f"it is no part of a manifest: {error}")
        return None


def planned_ids(store: Store, run: str, numbers: NDArray[np.int64]) -> Iterator[str]:
    """item_id of rows of the manifest, which is read again for them."""
    for part in manifest.sound_index(store, run).parts:
        try:
            table = read_parquet(pa.BufferReader(store.read(join(run, "manifest", part["name"]))), _PLAN)
        except (OSError, pa.ArrowInvalid):
            continue
        yield from table.filter(pa.array(np.isin(table["item_no"].to_numpy(), numbers)))["item_id"].to_pylist()


class Rows:
    """The rows that count, part by part. whole: False once some could not be read."""

    def __init__(self, store: Store, run: str, faults: Faults, *, full: bool) -> None:
        self._store = store
        self._run = run
        self._faults = faults
        self._full = full
        self.whole = True

    def tables(self) -> Iterator[pa.Table]:
        """Raises JobError where a driver compacts the run meanwhile."""
        try:
            seal, overlay = looking(self._store, self._run, self._loose)
        except StoreError as error:
            self._lose(join(self._run, "provenance"), error.faults[0])
            return
        for part in seal.parts:
            uri = part_uri(self._run, part)
            data = _read(self._store, uri, "provenance", "the seal names it and it is not there", self._faults)
            if data is None and newest_seal(self._store, self._run).number != seal.number:
                raise JobError(f"{self._run} is being worked on", hint="Verify it again when no driver is at work.")
            right = data is not None and _has_digest(data, uri, "provenance", "the seal", part.sha256, self._faults)
            table = None if data is None else self._decoded(data, uri, silent=not right)
            self.whole = self.whole and right
            if table is not None:
                yield overlay.counting(table)
        yield overlay.rest()

    def _loose(self, seal: Seal, commits: list[Loose]) -> tuple[Seal, Overlay]:
        tables = [decoded(None, None)]
        for commit in commits:
            data = self._store.read(commit.uri)
            wrong = self._full and not is_right(data, PARQUET_MARK)
            if wrong:
                self._lose(commit.uri, "it is not as it was written: its digest of itself is another, or lost")
            table = self._decoded(data, commit.uri, silent=wrong)
            if table is not None:
                tables.append(table)
        return seal, Overlay(pa.concat_tables(tables))

    def _decoded(self, data: bytes, uri: str, *, silent: bool) -> pa.Table | None:
        """silent: its fault is known already; what can still be read of it is looked at."""
        try:
            return decoded(pa.BufferReader(data), None)
        except (pa.ArrowException, OSError, ValueError) as error:
            if not silent:
                self._lose(uri, f"it cannot be read: {error}")
            return None

    def _lose(self, uri: str, message: str) -> None:
        self.whole = False
        self._faults.add("provenance", uri, message)


def _read(store: Store, uri: str, kind: str, gone: str, faults: Faults) -> bytes | None:
    try:
        return store.read(uri)
    except FileNotFoundError:
        faults.add(kind, uri, gone)
    except OSError as error:
        faults.add(kind, uri, f"it cannot be read: {error}")
    return None


def _has_digest(data: bytes, uri: str, kind: str, who: str, digest: Any, faults: Faults) -> bool:
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        faults.add(kind, uri, f"sha256 is {found}; {who} says {digest}")
    return bool(found == digest)

"""The reader's view: the newest seal's parts and the loose commits from its term on, the highest term of each photograph."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import RETRYABLE, StoreError
from pipeline.parquet import read_parquet
from pipeline.provenance.schema import PROVENANCE, numbered, parts_folder, seals_folder, terms_folder
from pipeline.storage import Store, join

_READERS = 16
# A compaction takes loose commits away behind its seal; whoever read the seal before looks again.
_LOOKS = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """A compacted object. name: the seal that it was written for and the digest of its bytes, as a file name."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Seal:
    """Which parts count, and from which term on loose commits do. Number 0 stands for a run without a seal."""

    number: int = 0
    term: int = 0
    parts: tuple[Part, ...] = ()

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True, slots=True)
class Loose:
    """A commit that no part holds yet."""

    uri: str
    term: int


def newest_seal(store: Store, run: str) -> Seal:
    """Raises StoreError where it is damaged, OSError as the store does."""
    names = [entry for entry in store.list_if_there(seals_folder(run)) if entry.key.endswith(".json")]
    if not names:
        return Seal()
    return _parse(store.read(names[-1].uri), names[-1].uri)


def _parse(data: bytes, uri: str) -> Seal:
    try:
        facts = json.loads(data)
        parts = tuple(Part(part["name"], part["rows"], part["sha256"]) for part in facts["parts"])
        return Seal(facts["number"], facts["term"], parts)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{uri} is damaged: {error}") from error


def loose(store: Store, run: str, floor: int) -> Iterator[Loose]:
    """Commits of the term `floor` and of higher ones, in the order of their names."""
    for entry in store.list_if_there(terms_folder(run), numbered(floor)):
        term = entry.key.split("/", 1)[0]
        if entry.key.endswith(".parquet") and term.isdecimal():
            yield Loose(entry.uri, int(term))


def part_uri(run: str, part: Part) -> str:
    return join(parts_folder(run), part.name)


def decoded(source: Any, columns: Sequence[str] | None) -> pa.Table:
    """Rows of an open Parquet file as this version knows them: a column that an older one did not know is null.

    source: None for no row. Raises OSError, pa.ArrowInvalid for a damaged file.
    """
    schema = PROVENANCE if columns is None else pa.schema([PROVENANCE.field(name) for name in columns])
    if source is None:
        return schema.empty_table()
    found = read_parquet(source, columns)
    arrays = [
        found[field.name].cast(field.type) if field.name in found.column_names else pa.nulls(found.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def read(store: Store, uris: Sequence[str], columns: Sequence[str] | None) -> pa.Table:
    """Rows of objects, in their order. Raises StoreError for a damaged one, FileNotFoundError for one that is gone."""

    def one(uri: str) -> pa.Table:
        try:
            # One request for a small object; a part is large, and often only a column of it is wanted.
            whole = columns is None or "/terms/" in uri
            reader = pa.BufferReader(store.read(uri)) if whole else store.open(uri)
            with reader as file:
                return decoded(file, columns)
        except FileNotFoundError:
            raise
        except (pa.ArrowInvalid, OSError) as error:
            # A page whose checksum is wrong is an OSError to Arrow.
            raise StoreError(f"the provenance is damaged: {uri}: {error}") from error

    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(one, uris))
    return pa.concat_tables(tables) if tables else decoded(None, columns)


def looking(store: Store, run: str, work: Callable[[Seal, list[Loose]], T]) -> T:
    """What `work` makes of the newest seal and the loose commits beside it; both are looked up again where an object was
    taken away meanwhile. Raises StoreError where one that the seal names stays away."""
    for _ in range(_LOOKS):
        # Commits before the seal: what a compaction takes away in between is in the parts of the seal that is then found.
        commits = list(loose(store, run, newest_seal(store, run).term))
        seal = newest_seal(store, run)
        try:
            return work(seal, [commit for commit in commits if commit.term >= seal.term])
        except FileNotFoundError as error:
            missing = error
    raise StoreError(f"{run}: the provenance is damaged: what its seal names is not there: {missing}") from missing


class Overlay:
    """Loose rows laid over the parts of a seal: which of a part's rows count beside them, and which of theirs in the end.

    rows: of loose commits, at least item_no and term. Bounded by what a compaction leaves loose.
    """

    def __init__(self, rows: pa.Table) -> None:
        kept = newest_rows(rows["item_no"].to_numpy(), rows["term"].to_numpy())
        self.rows = rows.take(pa.array(kept))
        self._numbers = self.rows["item_no"].to_numpy()
        self._terms = self.rows["term"].to_numpy()
        self._beaten = np.zeros(len(self._numbers), np.bool_)

    def counting(self, part: pa.Table) -> pa.Table:
        """The rows of a part that no loose row replaces. One of equal term is the same row, and the part's counts."""
        return part.filter(pa.array(~self._newer(part)))

    def replaced(self, part: pa.Table) -> pa.Table:
        """The other rows of a part."""
        return part.filter(pa.array(self._newer(part)))

    def _newer(self, part: pa.Table) -> NDArray[np.bool_]:
        if not len(self._numbers):
            return np.zeros(part.num_rows, np.bool_)
        at = np.searchsorted(self._numbers, part["item_no"].to_numpy())
        at[at == len(self._numbers)] = 0
        met = self._numbers[at] == part["item_no"].to_numpy()
        newer: NDArray[np.bool_] = met & (self._terms[at] > part["term"].to_numpy())
        self._beaten[at[met & ~newer]] = True
        return newer

    def rest(self) -> pa.Table:
        """The loose rows that count, once every part was looked at."""
        return self.rows.filter(pa.array(~self._beaten))


def live(store: Store, run: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The live row of every photograph, by item_no."""
    wanted = None if columns is None else list(dict.fromkeys([*columns, "item_no", "term"]))

    def work(seal: Seal, commits: list[Loose]) -> pa.Table:
        uris = [*(part_uri(run, part) for part in seal.parts), *(commit.uri for commit in commits)]
        return read(store, uris, wanted)

    table = looking(store, run, work)
    table = table.take(pa.array(newest_rows(table["item_no"].to_numpy(), table["term"].to_numpy())))
    return table if columns is None else table.select(list(columns))


def newest_rows(numbers: NDArray[np.int64], terms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of one row for every number, the one with the highest term, by number."""
    order = np.lexsort((-terms, numbers))
    _, first = np.unique(numbers[order], return_index=True)
    rows: NDArray[np.int64] = order[first]
    return rows


def committed_numbers(store: Store, run: str, retry_below: int | None = None) -> NDArray[np.int64]:
    """item_no of every committed photograph, ascending, each once.

    retry_below: leaves out those that ended in an earlier term than this for one of the reasons in `errors.RETRYABLE`.
    """
    if retry_below is None:
        table = live(store, run, ["item_no"])
    else:
        table = live(store, run, ["item_no", "reason", "term"])
        may_pass = pc.is_in(table["reason"], pa.array([str(reason) for reason in RETRYABLE]))
        table = table.filter(pc.invert(pc.and_(may_pass, pc.less(table["term"], retry_below))))
    numbers: NDArray[np.int64] = table["item_no"].to_numpy()
    return numbers


def counts(store: Store, run: str) -> dict[str, int]:
    """How many photographs have which status."""
    found = live(store, run, ["status"])["status"].value_counts()
    return {str(row["values"]): int(row["counts"]) for row in found.to_pylist()}

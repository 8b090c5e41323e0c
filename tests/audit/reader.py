"""The reader's view of docs/run-directory.md, written from that page and from nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.audit.places import Place

LOOSE = re.compile(r"provenance/terms/(\d{8})/[0-9a-f]{16,64}\.parquet")
PART = re.compile(r"provenance/parts/\d{8}-([0-9a-f]{8,64})\.parquet")
SEAL = re.compile(r"provenance/seals/(\d{8})\.json")
LEASE = re.compile(r"lease/(\d{8})\.json")
INDEX = re.compile(r"manifest/index-(\d{8})\.json")

# What the audit needs of a row; the rest is read only to compare rows that should be the same.
_COLUMNS = {
    "item_no": pa.int64(),
    "item_id": pa.string(),
    "source_uri": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "source_sha256": pa.string(),
    "output_uri": pa.string(),
    "output_sha256": pa.string(),
    "output_bytes": pa.int64(),
    "mask_uri": pa.string(),
    "mask_sha256": pa.string(),
    "run_id": pa.string(),
    "recipe_id": pa.string(),
    "term": pa.int64(),
}
# Rows that an older version wrote lack them.
_LATER = {
    "edits_uri": pa.string(),
    "edits_sha256": pa.string(),
    "invented_uri": pa.string(),
    "invented_sha256": pa.string(),
}
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Fault:
    """kind: a word to filter on. place: item id, path or URI. message: one sentence."""

    kind: str
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What is wrong, and what is only left over."""

    faults: list[Fault] = field(default_factory=list)
    orphans: list[Fault] = field(default_factory=list)

    def fault(self, kind: str, place: str, message: str) -> None:
        self.faults.append(Fault(kind, place, message))

    def orphan(self, kind: str, place: str, message: str) -> None:
        self.orphans.append(Fault(kind, place, message))


@dataclass(frozen=True, slots=True)
class Seal:
    number: int
    term: int
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """live: the row of every photograph that counts, by item_id. seal: the last one. counted: keys that were read."""

    live: dict[str, dict[str, Any]]
    seal: Seal | None
    counted: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Found:
    row: dict[str, Any]
    key: str
    index: int


class _MovedError(Exception):
    """The run was compacted while it was read."""


def read_view(run: Place, notes: Notes) -> View:
    """Also of a run that is being written to: as long as seals appear while it looks, it looks again."""
    for _ in range(_TRIES):
        found = Notes()
        newest = _newest(run)
        try:
            view = _read(run, newest, found)
        except _MovedError:
            continue
        if _newest(run) == newest:
            notes.faults.extend(found.faults)
            return view
    raise TimeoutError(f"{run.root} was compacted {_TRIES} times while it was read")


def _newest(run: Place) -> str | None:
    return max((key for key in run.list("provenance/seals/") if SEAL.fullmatch(key)), default=None)


def _read(run: Place, newest: str | None, notes: Notes) -> View:
    # Listed after the seal's name was read, and the seal is looked at again afterwards: a commit is in one or the other.
    loose = [key for key in run.list("provenance/terms/") if LOOSE.fullmatch(key)]
    seal = None if newest is None else _read_seal(run, newest, notes)
    first_term = 0 if seal is None else seal.term
    counting = [key for key in loose if _term(key) >= first_term]
    found = [] if seal is None else list(_sealed_rows(run, seal, notes))
    for key in counting:
        found += _loose_rows(run, key, newest, notes)
    parts = () if seal is None else seal.parts
    return View(dict(_live(run, found, notes)), seal, frozenset([*parts, *counting]))


def _term(key: str) -> int:
    match = LOOSE.fullmatch(key)
    assert match is not None
    return int(match[1])


def read_json(run: Place, key: str, wanted: Iterable[str], notes: Notes, kind: str) -> dict[str, Any] | None:
    """A JSON object that has the wanted members, or None and a fault."""
    data = run.read(key)
    own_digest(data, b'"self_sha256": "', key, notes, kind)
    try:
        value = json.loads(data)
    except ValueError as error:
        notes.fault(kind, key, f"is no JSON: {error}")
        return None
    missing = [name for name in wanted if not isinstance(value, dict) or name not in value]
    if missing:
        notes.fault(kind, key, f"lacks {', '.join(missing)}")
        return None
    return dict(value)


def own_digest(data: bytes, before: bytes, key: str, notes: Notes, kind: str) -> None:
    """A file that holds its own SHA-256, taken with zeros in its place, is as it says."""
    at = data.rfind(before)
    if at < 0:
        return
    at += len(before)
    found = hashlib.sha256(data[:at] + b"0" * 64 + data[at + 64 :]).hexdigest()
    if found.encode() != data[at : at + 64]:
        notes.fault(kind, key, "is not as its own digest says")


def _read_seal(run: Place, key: str, notes: Notes) -> Seal | None:
    try:
        value = read_json(run, key, ("number", "term", "rows", "parts"), notes, "seal")
    except FileNotFoundError as error:
        raise _MovedError from error
    if value is None:
        return None
    match = SEAL.fullmatch(key)
    assert match is not None
    if value["number"] != int(match[1]):
        notes.fault("seal", key, f"says that its number is {value['number']}")
    parts: list[str] = []
    rows = 0
    for part in value["parts"]:
        name = f"provenance/parts/{part_file(part['name'])}"
        if name in parts:
            notes.fault("seal", key, f"names {name} twice")
        parts.append(name)
        rows += part["rows"]
        _check_part(run, name, part, key, notes)
    if rows != value["rows"]:
        notes.fault("seal", key, f"says {value['rows']} rows; its parts add up to {rows}")
    return Seal(int(match[1]), value["term"], tuple(parts))


def part_file(name: str) -> str:
    return name if name.endswith(".parquet") else f"{name}.parquet"


def _check_part(run: Place, name: str, part: dict[str, Any], seal: str, notes: Notes) -> None:
    try:
        data = run.read(name)
    except FileNotFoundError as error:
        if _newest(run) != seal:
            raise _MovedError from error
        notes.fault("seal", seal, f"names {name}, which is not there")
        return
    digest = hashlib.sha256(data).hexdigest()
    if digest != part["sha256"]:
        notes.fault("part", name, f"sha256 is {digest}; the seal says {part['sha256']}")
    match = PART.fullmatch(name)
    if match is None or not part["sha256"].startswith(match[1]):
        notes.fault("part", name, "is not named by its digest")
    table = parquet(data, name, notes, "part", _COLUMNS)
    if table is not None and table.num_rows != part["rows"]:
        notes.fault("part", name, f"has {table.num_rows} rows; the seal says {part['rows']}")


def parquet(data: bytes, name: str, notes: Notes, kind: str, shape: Mapping[str, pa.DataType]) -> pa.Table | None:
    """The table in an object, if it can be read and has at least these columns; a fault of this kind where it cannot."""
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        names = table.schema.names
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        notes.fault(kind, name, f"is no whole Parquet file: {error}")
        return None
    found = {column: table.schema.field(column).type for column in names if names.count(column) == 1}
    wrong = [f"{column} is {found.get(column, 'missing')}" for column in shape if found.get(column) != shape[column]]
    if wrong:
        notes.fault(kind, name, f"columns are not as they should be: {', '.join(wrong)}")
        return None
    return table


def _sealed_rows(run: Place, seal: Seal, notes: Notes) -> Iterator[_Found]:
    seen: dict[str, str] = {}
    for name in seal.parts:
        try:
            data = run.read(name)
        except FileNotFoundError:
            continue
        for found in _rows(data, name, notes):
            item, term = found.row["item_id"], found.row["term"]
            if item in seen:
                notes.fault("duplicate", item, f"the last seal has it in {seen[item]} and in {name}")
            seen[item] = name
            if term > seal.term:
                notes.fault("seal", name, f"holds a row of term {term}; the seal's term is {seal.term}")
            yield found


def _loose_rows(run: Place, key: str, newest: str | None, notes: Notes) -> Iterator[_Found]:
    try:
        data = run.read(key)
    except FileNotFoundError as error:
        raise _MovedError from error
    own_digest(data, b"albumen.sha256\x18\x40", key, notes, "torn")
    found = list(_rows(data, key, notes))
    if data and not found and not any(fault.place == key for fault in notes.faults):
        notes.fault("torn", key, "a commit without a row")
    for one in found:
        if one.row["term"] != _term(key):
            notes.fault("row", key, f"a row of term {one.row['term']} in another term's folder")
    yield from found


def _rows(data: bytes, key: str, notes: Notes) -> Iterator[_Found]:
    table = parquet(data, key, notes, "torn", _COLUMNS)
    if table is None:
        return
    later = [name for name in _LATER if name in table.column_names]
    if any(table.schema.field(name).type != _LATER[name] for name in later):
        notes.fault("torn", key, f"columns are not as they should be: one of {', '.join(later)}")
        return
    bare = dict.fromkeys(_LATER)
    for index, found in enumerate(table.select([*_COLUMNS, *later]).to_pylist()):
        row = bare | found
        if row["item_id"] is None or row["term"] is None:
            notes.fault("row", key, f"row {index} has no item_id or no term")
            continue
        yield _Found(row, key, index)


def _live(run: Place, found: list[_Found], notes: Notes) -> Iterator[tuple[str, dict[str, Any]]]:
    by_item: dict[str, list[_Found]] = {}
    for one in found:
        by_item.setdefault(one.row["item_id"], []).append(one)
    for item, rows in by_item.items():
        last = max(one.row["term"] for one in rows)
        equals = [one for one in rows if one.row["term"] == last]
        if len(equals) > 1 and len({_whole(run, one) for one in equals}) > 1:
            places = ", ".join(sorted({one.key for one in equals}))
            notes.fault("duplicate", item, f"has rows of term {last} that differ, in {places}")
        yield item, equals[0].row


def _whole(run: Place, found: _Found) -> str:
    """A row with all its columns as text, since NaN equals nothing, not even itself."""
    try:
        table = pq.read_table(io.BytesIO(run.read(found.key)))
    except FileNotFoundError as error:
        raise _MovedError from error
    return repr(table.slice(found.index, 1).to_pylist())

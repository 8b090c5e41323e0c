"""The manifest: which photographs a run is about, frozen once, in Parquet parts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.spec import SCHEMES, JobSpec
from pipeline.codecs import READABLE
from pipeline.errors import Reason, SpecError, StoreError
from pipeline.record import MANIFEST
from pipeline.storage import Entry, Store, is_local, join

PART_ROWS = 100_000
_SOURCE = "source_uri"


@dataclass(slots=True)
class Listing:
    """What a look at the source found: rows of MANIFEST, and what was left out."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    @property
    def known_bytes(self) -> int:
        return sum(row["source_bytes"] or 0 for row in self.rows)


def item_id(collection: str, key: str, occurrence: int = 0) -> str:
    """32 hex digits from the collection's name and the source's key: no pixel is read to name a photograph.

    occurrence: 0 for the first entry of a key; a repeated entry has to have an id of its own to be refused under.
    """
    text = f"{collection}\0{key}" + (f"\0{occurrence}" if occurrence else "")
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def freeze(spec: JobSpec) -> Listing:
    """List the source. Raises SpecError for a manifest that cannot be used, StoreError for a source that cannot be read."""
    store = Store(spec.source_options)
    listing = Listing()
    seen: Counter[str] = Counter()
    try:
        entries = (
            _manifest_entries(store, spec) if spec.collection.is_manifest else _folder_entries(store, spec, listing)
        )
        for entry, description in entries:
            listing.rows.append(_row(spec.collection.name, len(listing.rows), entry, description, seen))
    except OSError as error:
        raise StoreError(f"collection.source: {spec.collection.source}: {error}") from error
    if not listing.rows:
        left_out = f"; left out: {_counted(listing.ignored)}" if listing.ignored else ""
        raise SpecError(f"collection.source: {spec.collection.source} holds no photograph{left_out}")
    return listing


def _row(collection: str, number: int, entry: Entry, description: str | None, seen: Counter[str]) -> dict[str, Any]:
    place = posixpath.normpath(entry.uri) if is_local(entry.uri) else entry.uri
    occurrence = seen[place]
    seen[place] += 1
    reason, detail = None, None
    if entry.fault is not None:
        reason, detail = str(Reason.SOURCE_UNREADABLE), entry.fault
    elif not is_local(entry.uri) and entry.uri.split("://")[0] not in SCHEMES:
        reason, detail = str(Reason.UNSUPPORTED), f"{entry.uri}: only paths and s3:// are read"
    elif not _is_text(entry.uri):
        reason, detail = str(Reason.SOURCE_UNREADABLE), "the file's name is not UTF-8; rename it"
    elif occurrence:
        reason, detail = (
            str(Reason.DUPLICATE),
            f"the source is named {occurrence + 1} times; its first entry is restored",
        )
    return {
        "item_no": number,
        "item_id": item_id(collection, entry.key, occurrence),
        "source_uri": entry.uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "source_bytes": entry.size,
        "source_etag": entry.etag,
        "description": description,
        "reason": reason,
        "detail": detail,
    }


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _folder_entries(store: Store, spec: JobSpec, listing: Listing) -> Iterator[tuple[Entry, str | None]]:
    for entry in store.list(spec.collection.source):
        if entry.fault is not None and entry.key == ".":
            raise StoreError(f"collection.source: {entry.uri}: {entry.fault}")
        name = PurePosixPath(entry.key)
        if entry.fault is None and (name.suffix.lower() not in READABLE or name.name.startswith(".")):
            listing.ignored[name.suffix.lower() or name.name] += 1
            continue
        yield entry, None


def _manifest_entries(store: Store, spec: JobSpec) -> Iterator[tuple[Entry, str | None]]:
    source = spec.collection.source
    folder = source.rsplit("/", 1)[0]
    rows = _READERS[PurePosixPath(source).suffix.lower()](store.read(source), source)
    for number, row in enumerate(rows, start=1):
        key = str(row.get(_SOURCE) or "").strip()
        if not key:
            raise SpecError(f"{source}: row {number} has no {_SOURCE}")
        uri = key if "://" in key or key.startswith("/") else join(folder, key)
        if is_local(uri):
            uri = uri.removeprefix("file://")
        rest = {
            name: value for name, value in row.items() if name != _SOURCE and value not in (None, "") and value == value
        }
        description = json.dumps(rest, sort_keys=True, ensure_ascii=False, default=str) if rest else None
        yield Entry(key, uri, None, None), description


def _read_csv(data: bytes, source: str) -> Iterable[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(_text(data, source)))
    _check_column(reader.fieldnames or [], source)
    return _csv_rows(reader, source)


def _csv_rows(reader: csv.DictReader[str], source: str) -> Iterator[Mapping[str, Any]]:
    try:
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise SpecError(f"{source}: row {number} has more cells than the header")
            yield row
    except csv.Error as error:
        raise SpecError(f"{source}: line {reader.line_num}: {error}") from error


def _read_jsonl(data: bytes, source: str) -> Iterable[Mapping[str, Any]]:
    for number, line in enumerate(_text(data, source).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SpecError(f"{source}: line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise SpecError(f"{source}: line {number} is no JSON object")
        if not _is_text(json.dumps(row, ensure_ascii=False)):
            raise SpecError(f"{source}: line {number} holds half of a surrogate pair")
        yield row


def _read_parquet(data: bytes, source: str) -> Iterable[Mapping[str, Any]]:
    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid as error:
        raise SpecError(f"{source}: {error}") from error
    _check_column(table.column_names, source)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}


def _text(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{source} is not UTF-8 text") from error


def _check_column(names: Iterable[str], source: str) -> None:
    found = list(names)
    if _SOURCE not in found:
        raise SpecError(f"{source} has no column {_SOURCE!r}; its columns are {', '.join(found) or 'none'}")


def _counted(ignored: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in ignored.most_common())


def write(store: Store, run: str, listing: Listing) -> None:
    """Freeze a listing into the run's folder."""
    written = set()
    for number, start in enumerate(range(0, len(listing.rows), PART_ROWS)):
        name = f"part-{number:06d}.parquet"
        _put(
            store, join(run, "manifest", name), pa.Table.from_pylist(listing.rows[start : start + PART_ROWS], MANIFEST)
        )
        written.add(name)
    # A plan that was killed may have had more parts; a store has no way to remove them, so that they are emptied.
    for entry in list(store.list_if_there(join(run, "manifest"))):
        if entry.key.endswith(".parquet") and entry.key not in written:
            _put(store, entry.uri, MANIFEST.empty_table())


def _put(store: Store, uri: str, table: pa.Table) -> None:
    target = io.BytesIO()
    pq.write_table(table, target, compression="zstd")
    store.put(uri, target.getvalue())


def parts(store: Store, run: str) -> Iterator[pa.Table]:
    """The frozen manifest, part by part, in the order of item_no."""
    for entry in store.list_if_there(join(run, "manifest")):
        if entry.key.endswith(".parquet"):
            try:
                yield pq.read_table(io.BytesIO(store.read(entry.uri)), schema=MANIFEST)
            except pa.ArrowInvalid as error:
                raise StoreError(f"{entry.uri} is damaged: {error}") from error


def pending(store: Store, run: str, committed: NDArray[np.int64]) -> pa.Table:
    """The rows of the manifest that no provenance row answers."""
    tables = [part.filter(pa.array(~np.isin(part["item_no"].to_numpy(), committed))) for part in parts(store, run)]
    return pa.concat_tables(tables) if tables else MANIFEST.empty_table()

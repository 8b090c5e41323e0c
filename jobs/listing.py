"""What a source holds: files below a folder or prefix, or rows of a manifest, one by one and never all in memory."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.spec import JobSpec
from pipeline.codecs import READABLE
from pipeline.errors import SpecError, StoreError
from pipeline.storage import Entry, Store, join

_SOURCE = "source_uri"
_BATCH = 16_384

# An entry, and its row where a manifest names it.
Named = tuple[Entry, Mapping[str, Any] | None]
_DESCRIPTIONS = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str)


def entries(spec: JobSpec, ignored: Counter[str]) -> Iterator[Named]:
    """Every photograph of the source. Gives the same answer each time it is asked.

    ignored: counts what is left out, by suffix. Raises SpecError for a manifest that cannot be used, StoreError for a
    source that cannot be read.
    """
    store = Store(spec.source_options)
    try:
        if spec.collection.is_manifest:
            yield from _manifest_entries(store, spec.collection.source)
        else:
            yield from _folder_entries(store, spec.collection.source, ignored)
    except OSError as error:
        raise StoreError(f"collection.source: {spec.collection.source}: {error}") from error


def _folder_entries(store: Store, source: str, ignored: Counter[str]) -> Iterator[Named]:
    for entry in store.list(source):
        if entry.fault is not None and entry.key == ".":
            raise StoreError(f"collection.source: {entry.uri}: {entry.fault}")
        name = PurePosixPath(entry.key)
        if entry.fault is None and (name.suffix.lower() not in READABLE or name.name.startswith(".")):
            ignored[name.suffix.lower() or name.name] += 1
            continue
        yield entry, None


def _manifest_entries(store: Store, source: str) -> Iterator[Named]:
    folder = join(source.rsplit("/", 1)[0], "")
    with store.open(source) as file:
        for number, row in enumerate(_READERS[PurePosixPath(source).suffix.lower()](file, source), start=1):
            key = str(row.get(_SOURCE) or "").strip()
            if not key:
                raise SpecError(f"{source}: row {number} has no {_SOURCE}")
            uri = key.removeprefix("file://") if "://" in key or key.startswith("/") else folder + key
            yield Entry(key, uri, None, None), row


def described(row: Mapping[str, Any] | None) -> str | None:
    """What a manifest says of a photograph beside its place: JSON, without empty cells."""
    if row is None:
        return None
    rest = {key: value for key, value in row.items() if value is not None and value != "" and value == value}
    rest.pop(_SOURCE, None)
    return _DESCRIPTIONS.encode(rest) if rest else None


def _read_csv(file: BinaryIO, source: str) -> Iterator[Mapping[str, Any]]:
    reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
    try:
        _check_column(reader.fieldnames or [], source)
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise SpecError(f"{source}: row {number} has more cells than the header")
            yield row
    except csv.Error as error:
        raise SpecError(f"{source}: line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{source} is not UTF-8 text") from error


def _read_jsonl(file: BinaryIO, source: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        try:
            # Given bytes, it would guess an encoding.
            row = json.loads(text.decode())
            # An escape can name half of a surrogate pair, which no name of a file may hold.
            if b"\\u" in text:
                json.dumps(row, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            raise SpecError(f"{source}: line {number} is not JSON: {error}") from error
        except UnicodeDecodeError as error:
            raise SpecError(f"{source} is not UTF-8 text") from error
        except UnicodeEncodeError as error:
            raise SpecError(f"{source}: line {number} holds half of a surrogate pair") from error
        if not isinstance(row, dict):
            raise SpecError(f"{source}: line {number} is no JSON object")
        yield row


def _read_parquet(file: BinaryIO, source: str) -> Iterator[Mapping[str, Any]]:
    try:
        table = pq.ParquetFile(file)
        _check_column(table.schema_arrow.names, source)
        for batch in table.iter_batches(_BATCH, use_threads=False):
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise SpecError(f"{source}: {error}") from error


_READERS: Mapping[str, Callable[[BinaryIO, str], Iterator[Mapping[str, Any]]]] = MappingProxyType(
    {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
)


def _check_column(names: Iterable[str], source: str) -> None:
    found = list(names)
    if _SOURCE not in found:
        raise SpecError(f"{source} has no column {_SOURCE!r}; its columns are {', '.join(found) or 'none'}")

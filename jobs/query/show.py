"""An answer as a table on the terminal, as CSV, JSON or Parquet, as bars, or as pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.choices import Form
from jobs.query.records import Records
from jobs.query.views import literal
from jobs.sheet import Pair, sheet_of
from pipeline.errors import SpecError
from pipeline.parquet import parquet_bytes
from pipeline.storage import Store, StoreOptions, join

_BARS = 20
_WIDTH = 50
_PICTURES = 24
_FORMS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


def encoded(answer: pa.Table, form: Form) -> bytes:
    """UTF-8 text or a Parquet file. Values that are lists or structs are JSON in CSV.

    Raises SpecError where two columns have one name, which neither JSON nor Parquet can hold, and for TABLE.
    """
    names = answer.column_names
    if form is Form.CSV:
        return "".join(_csv(answer)).encode()
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError(f"query: two columns of the answer are called {twice!r}; give one another name with AS")
    if form is Form.JSON:
        return (json.dumps(answer.to_pylist(), indent=2, ensure_ascii=False, default=str) + "\n").encode()
    if form is Form.PARQUET:
        return parquet_bytes(answer)
    raise SpecError("query: a table is for the terminal; choose --as csv, json or parquet for a file")


def _csv(answer: pa.Table) -> Iterator[str]:
    yield _line(answer.column_names)
    for batch in answer.to_batches(max_chunksize=4096):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield _line([_cell(value) for value in row])


def _line(values: list[Any]) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerow(values)
    return target.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value


def histogram(answer: pa.Table, column: str) -> list[str]:
    """Lines of text: a numeric column of the answer in 20 bins of equal width. Raises SpecError where it is none."""
    if column not in answer.column_names:
        raise SpecError(
            f"query: the answer has no column {column!r}; it has {', '.join(answer.column_names) or 'none'}"
        )
    values = answer[column]
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)):
        raise SpecError(f"query: {column} is {values.type}, and a histogram needs numbers")
    numbers = pc.cast(values.drop_null(), pa.float64()).to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return [f"{column}: no value"]
    counts, edges = np.histogram(numbers, _BARS)
    longest = int(counts.max())
    lines = [f"{column}: {len(numbers):,} values, mean {numbers.mean():.6g}, median {np.median(numbers):.6g}"]
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "#" * -(-int(count) * _WIDTH // longest)
        lines.append(f"{low:>12.5g} .. {high:<12.5g} {count:>9,} {bar}".rstrip())
    return lines


def sheet(records: Records, answer: pa.Table, path: str, endpoint: str | None) -> bytes:
    """The first photographs of an answer before and after, as `path`'s suffix says. Raises SpecError where it names none.

    An answer names photographs by `item_id`, together with `run` where several were asked, or by `output_uri`.
    """
    form = _FORMS.get(PurePosixPath(path).suffix.lower())
    if form is None:
        raise SpecError(f"query: a sheet is a .jpg or a .png, and {path} is neither")
    pairs = _pairs(records, answer)
    found = sheet_of(pairs, Store(StoreOptions(endpoint)), Store(StoreOptions(endpoint)), form)
    if found is None:
        raise SpecError(
            "query: none of the answer's photographs can be shown: they were not restored, or cannot be read"
        )
    return found


def _pairs(records: Records, answer: pa.Table) -> list[Pair]:
    key = next((name for name in ("item_id", "output_uri") if name in answer.column_names), None)
    if key is None:
        raise SpecError("query: a sheet needs photographs: the answer has neither item_id nor output_uri")
    columns = [name for name in ("run", key) if name in answer.column_names]
    wanted = list(dict.fromkeys(tuple(row[name] for name in columns) for row in answer.select(columns).to_pylist()))
    wanted = [row for row in wanted if all(isinstance(value, str) for value in row)][:_PICTURES]
    if not wanted:
        return []
    rows = ", ".join("(" + ", ".join(map(literal, row)) + ")" for row in wanted)
    found = records.ask(
        f"SELECT run, {key}, source_uri, output_uri FROM photographs "
        f"WHERE ({', '.join(columns)}) IN ({rows}) AND output_uri IS NOT NULL"
    ).to_pylist()
    order = {row: number for number, row in enumerate(wanted)}
    found.sort(key=lambda row: order[tuple(row[name] for name in columns)])
    return [Pair(row["source_uri"], _moved(row["run"], row["output_uri"])) for row in found]


def _moved(run: str, uri: str) -> str:
    """Where an image is now: below its run, wherever that was moved to."""
    return join(run, "images", *uri.rsplit("/", 2)[1:])

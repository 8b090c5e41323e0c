"""The one place where provenance is written and read.

A run's provenance is a folder of Parquet objects, one row a photograph. An object's presence is the commit of the
photographs in it, and its name is the hash of their ids: a block that is tried again writes the same name. Where two
objects hold the same photograph all the same, the row of the object whose name sorts first is the live one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import RETRYABLE, Status, StoreError
from pipeline.record import KEPT, SCHEMA_VERSION, Record, kept_row
from pipeline.storage import Store, join

_STAMP = [
    pa.field("run_id", pa.string(), nullable=False),
    pa.field("recipe_id", pa.string(), nullable=False),
    pa.field("software", pa.string(), nullable=False),
    pa.field("schema_version", pa.int32(), nullable=False),
    pa.field("committed_at", pa.timestamp("us", tz="UTC"), nullable=False),
]
PROVENANCE = pa.schema([*KEPT, *_STAMP])


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every row of a run has in common."""

    run_id: str
    recipe_id: str
    software: str


def folder(run: str) -> str:
    return join(run, "provenance")


def commit(store: Store, run: str, stamp: Stamp, records: Sequence[Record]) -> None:
    """Write the rows of photographs that have come to their end. Raises OSError as the store does."""
    assert records
    assert all(record.status is not Status.PENDING for record in records)
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        kept_row(record)
        | {
            "run_id": stamp.run_id,
            "recipe_id": stamp.recipe_id,
            "software": stamp.software,
            "schema_version": SCHEMA_VERSION,
            "committed_at": now,
        }
        for record in records
    ]
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, PROVENANCE), target, compression="zstd")
    store.put(join(folder(run), _object_name(records)), target.getvalue())


def _object_name(records: Sequence[Record]) -> str:
    ids = "\n".join(sorted(record.item_id for record in records))
    return hashlib.sha256(ids.encode()).hexdigest()[:32] + ".parquet"


def dataset(store: Store, run: str) -> ds.Dataset | None:
    """All provenance objects of a run, in the order of their names, or None where there are none yet."""
    uris = [entry.uri for entry in store.list_if_there(folder(run)) if entry.key.endswith(".parquet")]
    if not uris:
        return None
    filesystem, _ = store.filesystem(uris[0])
    paths = [store.filesystem(uri)[1] for uri in sorted(uris)]
    return ds.dataset(paths, PROVENANCE, format="parquet", filesystem=filesystem)


def committed_numbers(store: Store, run: str, retry_before: datetime | None = None) -> NDArray[np.int64]:
    """item_no of every committed photograph, ascending, each once.

    retry_before: leaves out those that ended before that moment for one of the reasons in `errors.RETRYABLE`.
    """
    found = dataset(store, run)
    if found is None:
        return np.empty(0, np.int64)
    table = _read(found, ["item_no", "reason", "committed_at"])
    if retry_before is not None:
        may_pass = pc.is_in(table["reason"], pa.array([str(reason) for reason in RETRYABLE]))
        old = pc.less(table["committed_at"], pa.scalar(retry_before, table["committed_at"].type))
        table = table.filter(pc.invert(pc.and_(may_pass, old)))
    numbers: NDArray[np.int64] = table["item_no"].to_numpy()
    return np.unique(numbers)


def _read(found: ds.Dataset, columns: Sequence[str] | None) -> pa.Table:
    try:
        return found.to_table(columns=columns)
    except pa.ArrowInvalid as error:
        raise StoreError(f"the provenance is damaged: {error}") from error


def live(store: Store, run: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The live row of every photograph, by item_no."""
    found = dataset(store, run)
    if found is None:
        return PROVENANCE.empty_table() if columns is None else PROVENANCE.empty_table().select(list(columns))
    wanted = None if columns is None else list(dict.fromkeys([*columns, "item_no"]))
    table = _read(found, wanted)
    numbers = table["item_no"].to_numpy()
    _, first = np.unique(numbers, return_index=True)
    table = table.take(pa.array(first))
    return table if columns is None else table.select(list(columns))


def counts(store: Store, run: str) -> dict[str, int]:
    """How many photographs ended in each status."""
    grouped = pc.value_counts(live(store, run, ["status"])["status"])
    return {row["values"]: row["counts"] for row in grouped.to_pylist()}

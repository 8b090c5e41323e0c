"""Commits: one Parquet object for photographs that ended together, created once, in the folder of the driver's term."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipeline.errors import JobError, Status
from pipeline.parquet import parquet_with_digest
from pipeline.provenance.schema import PROVENANCE, Stamp, lease_uri, numbered, terms_folder
from pipeline.record import SCHEMA_VERSION, Record, kept_row
from pipeline.storage import Store, join


class OvertakenError(JobError):
    """Another driver holds the run's lease now; what this one still does must not count."""


def commit(store: Store, run: str, stamp: Stamp, records: Sequence[Record]) -> None:
    """Write the rows of photographs that have come to their end.

    Raises OSError as the store does, OvertakenError where a higher term exists. A commit of the same photographs in the
    same term is already there after a lost answer; it stays as it is.
    """
    assert records
    assert all(record.status is not Status.PENDING for record in records)
    check_term(store, run, stamp.term)
    table = pa.Table.from_pylist(_rows(stamp, records), PROVENANCE)
    data = parquet_with_digest(table)
    store.create(commit_uri(run, stamp.term, [record.item_id for record in records]), data)


def check_term(store: Store, run: str, term: int) -> None:
    """Raises OvertakenError where somebody has taken a higher term, OSError as the store does.

    One look by name: a listing may be behind. Terms have no gaps, for a lease is created only behind one that is there
    and none is ever taken away; so there is no higher term without the next.
    """
    if store.has(lease_uri(run, term + 1)):
        raise OvertakenError(f"{run}: another driver has taken over; this one holds term {term} no longer")


def _rows(stamp: Stamp, records: Sequence[Record]) -> list[dict[str, Any]]:
    common = {
        "run_id": stamp.run_id,
        "recipe_id": stamp.recipe_id,
        "software": stamp.software,
        "schema_version": SCHEMA_VERSION,
        "term": stamp.term,
        "committed_at": datetime.now(UTC),
    }
    return [kept_row(record) | common for record in records]


def commit_uri(run: str, term: int, item_ids: Sequence[str]) -> str:
    """Decided by the term and the photographs alone: an object that is written again is written under the same name."""
    name = hashlib.sha256("\n".join(sorted(item_ids)).encode()).hexdigest()[:32]
    return join(terms_folder(run), numbered(term), name + ".parquet")

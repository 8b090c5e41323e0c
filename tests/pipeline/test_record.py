from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from pipeline.errors import ItemError, Reason, Status
from pipeline.faces.row import FACE, face_row
from pipeline.record import KEPT, MANIFEST, Record, from_manifest, kept_row
from tests.pipeline.strategies import ANALYSIS, EVENT, a_record, records


@settings(max_examples=60, deadline=None, derandomize=True)
@given(record=records())
def test_every_record_has_a_row(record: Record) -> None:
    """Of Parquet's types, and with all that the record holds but its photograph."""
    [row] = pa.Table.from_pylist([kept_row(record)], KEPT).to_pylist()
    assert row["item_no"] == record.item_no
    assert row["status"] == str(record.status)
    for name in ("item_id", "source_uri", "source_bytes", "description", "reason", "detail"):
        assert row[name] == getattr(record, name)
    assert [event["findings"] for event in row["events"]] == [event.findings for event in record.events]
    assert [[dict(model) for model in event["models"]] for event in row["events"]] == [
        [dict(model) for model in event.models] for event in record.events
    ]
    assert row["faces"] == pa.array([face_row(face) for face in record.faces], FACE).to_pylist()
    assert (row["analysis"] is None) == (record.analysis is None)


def test_an_ended_record_has_no_photograph() -> None:
    record = a_record(np.zeros((2, 2, 1), np.uint8)).ended(ItemError(Reason.OUT_OF_MEMORY, "no room"))
    assert record.photograph is None
    assert (record.status, record.reason, record.detail) == (Status.FAILED, "out-of-memory", "no room")


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_ends_a_record(reason: Reason) -> None:
    record = a_record(np.zeros((2, 2, 1), np.uint8)).ended(ItemError(reason, "why"))
    assert record.status in (Status.REFUSED, Status.FAILED)


def test_kept_columns_hold_no_pixels() -> None:
    record = replace(a_record(np.zeros((2, 2, 1), np.uint8)), events=(EVENT,), analysis=ANALYSIS)
    table = pa.Table.from_pylist([kept_row(record)], KEPT)
    assert "pixels" not in table.column_names
    assert table.to_pylist()[0]["events"][0]["models"] == [dict(EVENT.models[0])]
    assert table.to_pylist()[0]["analysis"]["tone"] == "toned"


def test_a_manifest_gives_records_on_their_way_or_refused() -> None:
    good = dict.fromkeys(MANIFEST.names) | {"item_no": 0, "item_id": "a", "source_uri": "/a", "source_bytes": 5}
    bad = good | {"item_no": 1, "item_id": "b", "reason": "source-unreadable", "detail": "locked"}
    found = from_manifest(pa.Table.from_pylist([good, bad], MANIFEST))
    assert [(r.item_no, r.status, r.source_bytes) for r in found] == [(0, Status.PENDING, 5), (1, Status.REFUSED, 5)]
    assert (found[1].reason, found[1].detail) == ("source-unreadable", "locked")

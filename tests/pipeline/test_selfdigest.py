"""A file's digest of itself: every flipped bit is found, whichever it is."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from pipeline.parquet import parquet_with_digest, read_parquet
from pipeline.selfdigest import JSON_MARK, PARQUET_MARK, NoPlaceError, is_right, json_with_digest, with_digest

FACTS = {"version": 3, "name": "Köln", "parts": [{"name": "a", "sha256": "f" * 64}]}
TABLE = pa.table({"item_no": [1, 2], "item_id": ["a", "b"]})


def flips(data: bytes) -> list[int]:
    """Where a change is not found. A flip that takes the mark itself away leaves a file without a digest."""
    missed = []
    for place in range(len(data) * 8):
        other = bytearray(data)
        other[place // 8] ^= 1 << (place % 8)
        mark = JSON_MARK if data[:1] == b"{" else PARQUET_MARK
        if is_right(bytes(other), mark):
            missed.append(place)
    return missed


@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_holds_its_own_digest(ascii_only: bool) -> None:
    data = json_with_digest(FACTS, 1, ascii_only=ascii_only)
    assert is_right(data, JSON_MARK)
    facts = json.loads(data)
    assert len(facts.pop("self_sha256")) == 64
    assert facts == FACTS
    assert flips(data) == []


def test_parquet_holds_its_own_digest() -> None:
    data = parquet_with_digest(TABLE)
    assert is_right(data, PARQUET_MARK)
    assert read_parquet(pa.BufferReader(data)).equals(TABLE)
    assert flips(data) == []


def test_a_file_without_a_digest_is_neither_right_nor_wrong() -> None:
    assert is_right(b"{}", JSON_MARK) is None
    assert is_right(json.dumps(FACTS).encode(), JSON_MARK) is None


def test_a_digest_needs_a_place() -> None:
    with pytest.raises(NoPlaceError):
        with_digest(b"{}", JSON_MARK)
    with pytest.raises(NoPlaceError):
        with_digest(json.dumps(FACTS).encode(), JSON_MARK)

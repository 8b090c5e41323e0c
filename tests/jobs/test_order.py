"""The order in which photographs are handed out: large ones first, a few ordinary ones before them, and every one once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.drive import largest_first
from pipeline.record import MANIFEST

quick = settings(max_examples=30, deadline=None, database=None)


def rows(sizes: list[int | None]) -> pa.Table:
    columns = {
        "item_no": list(range(len(sizes))),
        "item_id": [f"{n:032x}" for n in range(len(sizes))],
        "source_uri": [f"/scans/{n}.tif" for n in range(len(sizes))],
        "source_bytes": sizes,
    }
    return pa.table(
        [pa.array(columns.get(field.name, [None] * len(sizes)), field.type) for field in MANIFEST], schema=MANIFEST
    )


def order(sizes: list[int | None], size: int = 1) -> list[int]:
    found: list[int] = largest_first(rows(sizes), size)["item_no"].to_pylist()
    return found


@quick
@given(st.lists(st.one_of(st.none(), st.integers(0, 10**9)), min_size=1, max_size=150), st.integers(1, 70))
def test_every_row_is_there_once_and_unchanged(sizes: list[int | None], size: int) -> None:
    table = rows(sizes)
    found = largest_first(table, size)
    assert found.schema == MANIFEST
    assert found.sort_by("item_no").equals(table.combine_chunks())


@quick
@given(st.lists(st.integers(0, 10**9), min_size=40, max_size=80))
def test_after_four_of_ordinary_size_bytes_never_rise(sizes: list[int]) -> None:
    found = [sizes[n] for n in order(list(sizes))]
    assert found[4:] == sorted(found[4:], reverse=True)
    middle = np.sort(sizes)[len(sizes) // 4 : 3 * len(sizes) // 4 + 1]
    assert all(middle[0] <= value <= middle[-1] for value in found[:4])


def test_photographs_of_one_size_stay_in_the_order_of_the_manifest() -> None:
    assert order([7] * 6) == [0, 1, 2, 3, 4, 5]


def test_one_of_which_no_size_is_known_stands_in_the_middle() -> None:
    assert order([1, 2, None, 4, 5]) == [4, 3, 2, 1, 0]
    assert order([None, None]) == [0, 1]


def test_blocks_of_several_take_about_equally_long() -> None:
    sizes: list[int | None] = [int(value) for value in np.random.default_rng(0).lognormal(15, 1, 64 * 20)]
    found = order(sizes, 64)
    blocks = [sum(sizes[n] or 0 for n in found[start : start + 64]) for start in range(0, len(found), 64)]
    plain = [sum(value or 0 for value in sizes[start : start + 64]) for start in range(0, len(sizes), 64)]
    assert max(blocks) / np.mean(blocks) < max(plain) / np.mean(plain)
    assert max(blocks) / min(blocks) < 2


def test_the_same_rows_give_the_same_order() -> None:
    sizes: list[int | None] = [int(value) for value in np.random.default_rng(1).integers(0, 50, 200)]
    assert order(sizes, 8) == order(sizes, 8)

"""Tables on a terminal: never wider than it is, a line for each row, numbers whole."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from jobs.table import lines_of, shortened


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 5, "short"),
        ("4f2a9c0d1e5b7788", 12, "4f2a9c…b7788"),
        ("/archive/boxes/12/print-0001.tif", 24, "/archiv…2/print-0001.tif"),
        ("s3://archive/boxes/12/print 0001.tif", 25, "s3://arc…2/print 0001.tif"),
        ("the file ends before its picture does", 20, "the file ends befor…"),
        ("the file ends before its picture does", 15, "the file ends…"),
        ("写真写真写真写真", 9, "写真写…真"),
    ],
)
def test_a_long_cell_keeps_what_tells_it_from_others(text: str, width: int, expected: str) -> None:
    found = shortened(text, width)
    assert found == expected
    assert cell_len(found) <= width


def test_the_widest_columns_give_way_first() -> None:
    table = pa.table({"item_id": ["ab" * 16], "source_uri": ["/a" * 40], "risk": [0.25], "by": ["repair"]})
    lines, left_out = lines_of(table, 60)
    assert left_out == []
    assert lines[0].split() == ["item_id", "source_uri", "risk", "by"]
    assert max(map(cell_len, lines)) == 60
    assert lines[1].endswith("  0.25  repair")
    assert [len(word) for word in lines[1].split()[:2]] == [22, 22]


def test_columns_without_room_are_named_and_numbers_stay_whole() -> None:
    numbers = {f"n{i}": [123456789.25 * (i + 1)] for i in range(12)}
    lines, left_out = lines_of(pa.table({"item_id": ["ab" * 16]} | numbers), 60)
    assert left_out == [f"n{i}" for i in range(3, 12)]
    assert lines[1].split() == ["ababababab…ababababab", "123456789.2", "246913578.5", "370370367.8"]


def test_headings_choose_and_name_columns() -> None:
    table = pa.table({"a": [1], "b": ["x"], "c": [2.0]})
    assert lines_of(table, 80, {"a": "first", "c": "c"}) == (["first  c", "    1  2"], [])


def test_a_cell_is_one_line_and_commands_nothing() -> None:
    cells = {"detail": ["a\nb\x1b[31mred\t."], "none": pa.array([None], pa.string()), "list": [[1, 2]]}
    lines, _ = lines_of(pa.table(cells), 80)
    assert lines == ["detail         none  list", "a b [31mred .        [1, 2]"]


def test_two_columns_may_have_one_name() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array(["one"])], ["x", "x"])
    assert lines_of(table, 80) == (["x  x", "1  one"], [])


def test_an_answer_of_no_rows_is_its_headings() -> None:
    assert lines_of(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}), 80) == (["a  b"], [])


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=90)


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=7),
    st.lists(st.floats(allow_nan=True), max_size=3),
    st.integers(40, 120),
)
def test_whatever_is_in_it_a_table_fits(texts: list[list[str]], numbers: list[float], width: int) -> None:
    table = pa.table(
        {f"text{i}": column for i, column in enumerate(texts)} | {f"n{i}": [n, n] for i, n in enumerate(numbers)}
    )
    lines, left_out = lines_of(table, width)
    assert len(lines) == 3
    assert all(len(line.splitlines()) <= 1 and cell_len(line) <= width for line in lines)
    shown = len(table.column_names) - len(left_out)
    assert lines[0].split() == table.column_names[:shown]
    assert left_out == table.column_names[shown:]

"""An answer as lines for a terminal: one for each row, whatever its cells hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    import pyarrow as pa

_GAP = "  "
# What a column of long cells keeps at least, and what of an id is always left in front: `albumen replay` takes as much of it.
_LEAST = 9
_FRONT = 6
_MORE = "\N{HORIZONTAL ELLIPSIS}"
# Beyond this a number is a count, and behind this a digit of a measure says nothing to a person.
_COUNT = 1e6
_DIGITS = 6


def lines_of(table: pa.Table, width: int, headings: Mapping[str, str] | None = None) -> tuple[list[str], list[str]]:
    """A line for the headings and one for each row, of at most `width` cells; and the columns that have no room in them.

    headings: what stands above the columns that are shown, by their names; None for all of them as they are called.
    Numbers are never shortened; long words lose their middle, sentences their end.
    """
    headings = {name: name for name in table.column_names} if headings is None else headings
    shown = [(name, cells) for name, cells in zip(table.column_names, table.columns, strict=True) if name in headings]
    columns = [[headings[name], *map(_text, cells.to_pylist())] for name, cells in shown]
    numeric = [_is_numeric(cells.type) for _, cells in shown]
    widths = _widths(columns, numeric, width)
    rows = zip(*columns[: len(widths)], strict=True)
    lines = [
        _GAP.join(_fitted(cell, wide, right=right) for cell, wide, right in zip(row, widths, numeric, strict=False))
        for row in rows
    ]
    return [line.rstrip() for line in lines], [name for name, _ in shown[len(widths) :]]


def shortened(text: str, width: int) -> str:
    """At most `width` cells of a text: places keep their end, where the file's name is, and ids both ends."""
    if cell_len(text) <= width:
        return text
    left = width - 1
    place = text.startswith("/") or "://" in text
    if " " in text and not place:
        return set_cell_size(text, left).rstrip() + _MORE
    tail = left - left // 3 if place else min(left // 2, max(0, left - _FRONT))
    return set_cell_size(text, left - tail) + _MORE + set_cell_size(text[::-1], tail)[::-1]


def _widths(columns: Sequence[Sequence[str]], numeric: Sequence[bool], width: int) -> list[int]:
    """Of as many columns as have room, from the first on. The widest are narrowed first."""
    whole = [max(map(cell_len, column)) for column in columns]
    least = [
        size if number else min(size, max(_LEAST, cell_len(column[0])))
        for column, size, number in zip(columns, whole, numeric, strict=True)
    ]
    while len(least) > 1 and _total(least) > width:
        least.pop()
    for most in range(width, 0, -1):
        found = [max(low, min(size, most)) for low, size in zip(least, whole, strict=False)]
        if _total(found) <= width:
            break
    # What is left over of the width is too little for all that could take it.
    for number, size in enumerate(whole[: len(found)]):
        found[number] += max(0, min(size - found[number], width - _total(found)))
    return found


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _fitted(text: str, width: int, *, right: bool) -> str:
    text = shortened(text, width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _text(value: Any) -> str:
    """On one line, and nothing in it that a terminal obeys."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}" if abs(value) < _COUNT else f"{value:.1f}"
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else str(value)
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _is_numeric(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))

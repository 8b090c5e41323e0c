"""Directories of tags as TIFF 6.0 (section 2), BigTIFF and EXIF lay them out, read and written without interpretation.

Values stay bytes in the file's own byte order: opaque ones (maker notes, comments) mean something in that order only.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
# Which directory holds the pointer to which: the only ones that describe a photograph.
POINTERS: Mapping[int, Mapping[int, object]] = {EXIF: {INTEROP: {}}, GPS: {}}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
# More pages than any scan has, and more tags than any page; a longer chain is a loop or an attack.
_MOST_PAGES, _MOST_TAGS = 2_000, 4_096


@dataclass(frozen=True, slots=True)
class Layout:
    """order: `<` or `>`. big: BigTIFF, with 8-byte offsets."""

    order: str
    big: bool = False

    def entry(self) -> struct.Struct:
        return struct.Struct(f"{self.order}HHQ8s" if self.big else f"{self.order}HHI4s")

    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))


@dataclass(frozen=True, slots=True)
class Field:
    """One tag's value. kind: TIFF's type number. data: `count` values in the file's byte order. at: where they start."""

    kind: int
    count: int
    data: bytes
    at: int = -1

    def integers(self, layout: Layout) -> tuple[int, ...]:
        code = _INTEGERS.get(self.kind)
        return () if code is None else struct.unpack(f"{layout.order}{self.count}{code}", self.data)

    def first(self, layout: Layout, default: int = 0) -> int:
        return next(iter(self.integers(layout)), default)

    def ratios(self, layout: Layout) -> tuple[float, ...]:
        if self.kind != RATIONAL:
            return tuple(map(float, self.integers(layout)))
        parts = struct.unpack(f"{layout.order}{2 * self.count}I", self.data)
        return tuple(top / bottom if bottom else 0.0 for top, bottom in zip(parts[::2], parts[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory and those that it points to, by the pointer's tag."""

    fields: Mapping[int, Field]
    below: Mapping[int, Tree] = field(default_factory=dict)


def header(data: bytes) -> tuple[Layout, int]:
    """Layout and offset of the first directory. Raises ValueError where this is no TIFF structure."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise ValueError("no TIFF header")
    [magic] = struct.unpack_from(order + "H", data, 2)
    if magic == 42:
        return Layout(order), struct.unpack_from(order + "I", data, 4)[0]
    if magic == 43 and len(data) >= 16 and struct.unpack_from(order + "HH", data, 4) == (8, 0):
        return Layout(order, big=True), struct.unpack_from(order + "Q", data, 8)[0]
    raise ValueError("no TIFF header")


def read(
    data: bytes, start: int, layout: Layout, wanted: Collection[int] | None = None
) -> tuple[dict[int, Field], int]:
    """The fields of a directory, or those wanted, and the offset of the next one (0 for none).

    Fields of unknown type and those that lie outside `data` are left out. Raises ValueError where the directory does.
    """
    entry, offset, count = layout.entry(), layout.offset(), layout.count()
    if not 0 < start <= len(data) - count.size:
        raise ValueError("a directory lies outside the data")
    [number] = count.unpack_from(data, start)
    at = start + count.size
    if number > min((len(data) - at) // entry.size, _MOST_TAGS):
        raise ValueError("a directory ends outside the data, or has more tags than there are")
    fields: dict[int, Field] = {}
    for place in range(at, at + number * entry.size, entry.size):
        code, kind, values, inline = entry.unpack_from(data, place)
        size = SIZES.get(kind, 0) * values
        if not size or (wanted is not None and code not in wanted):
            continue
        where = place + entry.size - offset.size if size <= offset.size else offset.unpack(inline)[0]
        if where + size <= len(data):
            fields.setdefault(code, Field(kind, values, bytes(data[where : where + size]), where))
    end = at + number * entry.size
    following = offset.unpack_from(data, end)[0] if end + offset.size <= len(data) else 0
    return fields, following


def next_at(data: bytes, start: int, layout: Layout) -> int:
    """Where a directory keeps the offset of the next one."""
    [number] = layout.count().unpack_from(data, start)
    return int(start + layout.count().size + number * layout.entry().size)


def read_tree(data: bytes, start: int, layout: Layout, pointers: Mapping[int, Mapping[int, object]] = POINTERS) -> Tree:
    """A directory with the EXIF, GPS and interoperability directories below it. Broken ones below are left out."""
    fields, _ = read(data, start, layout)
    below: dict[int, Tree] = {}
    for code, deeper in pointers.items():
        pointer = fields.pop(code, None)
        if pointer is None:
            continue
        try:
            below[code] = read_tree(data, pointer.first(layout), layout, deeper)  # type: ignore[arg-type]
        except ValueError:
            continue
    return Tree(fields, below)


def chain(data: bytes, wanted: Collection[int]) -> Iterator[dict[int, Field]]:
    """The wanted fields of every directory of the main chain, each once. Raises ValueError where the chain breaks."""
    layout, start = header(data)
    seen: set[int] = set()
    while start and start not in seen and len(seen) < _MOST_PAGES:
        seen.add(start)
        fields, start = read(data, start, layout, wanted)
        yield fields


def serialise(tree: Tree, start: int, layout: Layout) -> bytes:
    """The directory as it stands at the even offset `start`, its values and those below behind it."""
    fields = dict(tree.fields)
    fields |= dict.fromkeys(tree.below, Field(LONG, 1, b"\0" * 4))
    if layout.big:
        fields |= dict.fromkeys(tree.below, Field(18, 1, b"\0" * 8))
    at, bodies = start + _extent(fields, layout), []
    for code in sorted(tree.below):
        fields[code] = Field(fields[code].kind, 1, layout.offset().pack(at))
        bodies.append(serialise(tree.below[code], at, layout))
        at += len(bodies[-1])
    return _directory(fields, start, layout) + b"".join(bodies)


def _extent(fields: Mapping[int, Field], layout: Layout) -> int:
    return len(_directory(fields, 0, layout))


def _directory(fields: Mapping[int, Field], start: int, layout: Layout) -> bytes:
    entry, offset = layout.entry(), layout.offset()
    at = start + layout.count().size + len(fields) * entry.size + offset.size
    at += at % 2
    entries, values = [], []
    for code, tag in sorted(fields.items()):
        inline = tag.data.ljust(offset.size, b"\0")
        if len(tag.data) > offset.size:
            inline = offset.pack(at)
            values.append(tag.data + b"\0" * (len(tag.data) % 2))
            at += len(values[-1])
        entries.append(entry.pack(code, tag.kind, tag.count, inline))
    head = layout.count().pack(len(fields)) + b"".join(entries) + offset.pack(0)
    return head + b"\0" * (len(head) % 2) + b"".join(values)

"""The boxes of HEIF and AVIF (ISO/IEC 23008-12, ISO/IEC 14496-12) that say what an image is and what describes it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pipeline.codecs.jp2 import boxes

_MOST_ITEMS = 65_535


@dataclass(frozen=True, slots=True)
class Item:
    """kind: four letters. extents: offset and length in the file (method 0) or in `idat` (method 1)."""

    number: int
    kind: bytes
    mime: bytes = b""
    method: int = 0
    extents: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Meta:
    """What a file's `meta` box says of its primary item. Places are of contents in the file."""

    primary: int
    items: dict[int, Item]
    properties: list[tuple[bytes, bytes]]
    describing: tuple[int, ...]
    references: dict[tuple[bytes, int], tuple[int, ...]] = field(default_factory=dict)
    idat: bytes = b""

    def first(self, kind: bytes) -> bytes | None:
        return next((body for name, body in self.properties if name == kind), None)

    def profile(self) -> bytes | None:
        bodies = (body for name, body in self.properties if name == b"colr" and body[:4] in (b"prof", b"rICC"))
        return next((body[4:] for body in bodies), None)

    def code_points(self) -> tuple[int, int] | None:
        """Colour primaries and transfer characteristics (ITU-T H.273)."""
        bodies = (body for name, body in self.properties if name == b"colr" and body[:4] == b"nclx" and len(body) > 8)
        return next((struct.unpack_from(">HH", body, 4) for body in bodies), None)

    def size(self) -> tuple[int, int]:
        body = self.first(b"ispe")
        return struct.unpack_from(">II", body, 4) if body is not None and len(body) >= 12 else (0, 0)

    def payload(self, data: bytes, kind: bytes, mime: bytes = b"") -> bytes | None:
        """The bytes of the first item of this kind that describes the primary one."""
        for number in self.describing:
            item = self.items.get(number)
            if item is not None and item.kind == kind and item.mime == mime:
                return self.payload_of(data, item)
        return None

    def payload_of(self, data: bytes, item: Item) -> bytes:
        source = self.idat if item.method == 1 else data
        return b"".join(source[start : start + size] for start, size in item.extents)

    def exif(self, data: bytes) -> bytes | None:
        """The TIFF structure; in front of it stand its distance, and what lies between (23008-12, A.2.1)."""
        raw = self.payload(data, b"Exif")
        if raw is None or len(raw) < 4:
            return None
        return raw[4 + int.from_bytes(raw[:4]) :]

    def xmp(self, data: bytes) -> bytes | None:
        return self.payload(data, b"mime", b"application/rdf+xml")

    def orientation(self) -> int:
        """EXIF's number for what `irot` and `imir` ask, in their order (23008-12, 6.5.10 and 6.5.12)."""
        turn = 1
        for name, body in self.properties:
            if name == b"irot" and body:
                for _ in range(body[0] & 3):
                    turn = _ANTICLOCKWISE[turn]
            elif name == b"imir" and body:
                turn = (_LEFT_RIGHT if body[0] & 1 else _TOP_BOTTOM)[turn]
        return turn


# What an orientation becomes when its image is turned by 90 degrees or mirrored afterwards.
_ANTICLOCKWISE = {1: 8, 8: 3, 3: 6, 6: 1, 2: 5, 5: 4, 4: 7, 7: 2}
_LEFT_RIGHT = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 8, 8: 7}
_TOP_BOTTOM = {1: 4, 4: 1, 2: 3, 3: 2, 5: 8, 8: 5, 6: 7, 7: 6}


def read(data: bytes) -> Meta:
    """Raises ValueError or struct.error where the structure is broken."""
    place = next(((start, end) for kind, start, end in boxes(data) if kind == b"meta"), None)
    if place is None:
        raise ValueError("no meta box")
    inner = {kind: data[a:b] for kind, a, b in boxes(data, place[0] + 4, place[1])}
    primary = inner.get(b"pitm", b"")
    if len(primary) < 6:
        raise ValueError("no primary item")
    number = int.from_bytes(primary[4:6] if primary[0] == 0 else primary[4:8])
    items = _items(inner.get(b"iinf", b""), inner.get(b"iloc", b""))
    references = _references(inner.get(b"iref", b""))
    return Meta(
        primary=number,
        items=items,
        properties=_properties(inner.get(b"iprp", b""), number),
        describing=tuple(item for (kind, item), targets in references.items() if kind == b"cdsc" and number in targets),
        references=references,
        idat=inner.get(b"idat", b""),
    )


def pixels_only(data: bytes) -> bytes:
    """The file without references from metadata and previews to the image, for decoders that would stumble over them.

    libavif refuses a photograph for damaged EXIF, and pi-heif ends the process over a type of content that is no text.
    """
    for kind, start, end in boxes(data):
        if kind == b"meta":
            for inner, first, last in boxes(data, start + 4, end):
                if inner == b"iref":
                    blind = data[first:last].replace(b"cdsc", b"skip").replace(b"thmb", b"skip")
                    return data[:first] + blind + data[last:]
    return data


def _items(iinf: bytes, iloc: bytes) -> dict[int, Item]:
    locations = _locations(iloc)
    start = 6 if iinf[:1] == b"\0" else 8
    found: dict[int, Item] = {}
    for kind, a, b in boxes(iinf, start):
        body = iinf[a:b]
        if kind != b"infe" or len(body) < 12 or body[0] < 2:
            continue
        wide = body[0] == 3
        number = int.from_bytes(body[4:8] if wide else body[4:6])
        rest = body[10:] if wide else body[8:]
        words = rest[4:].split(b"\0")
        method, extents = locations.get(number, (0, ()))
        mime = words[1] if rest[:4] == b"mime" and len(words) > 1 else b""
        found[number] = Item(number, rest[:4], mime, method, extents)
    return found


def _locations(iloc: bytes) -> dict[int, tuple[int, tuple[tuple[int, int], ...]]]:
    """Method and extents by item (14496-12, 8.11.3)."""
    if len(iloc) < 8:
        return {}
    version = iloc[0]
    sizes = (iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0)
    at = 6

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(iloc):
            raise ValueError("item locations end too soon")
        at += size
        return int.from_bytes(iloc[at - size : at])

    found: dict[int, tuple[int, tuple[tuple[int, int], ...]]] = {}
    for _ in range(min(number(4 if version == 2 else 2), _MOST_ITEMS)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(sizes[2])
        extents = []
        count, size = number(2), sizes[3] + sizes[0] + sizes[1]
        # Extents without a size of their own would cost nothing in the file, and 65,535 turns of this loop each.
        if count > 1 and (size == 0 or at + count * size > len(iloc)):
            raise ValueError("item locations have no room for their extents")
        for _ in range(count):
            number(sizes[3])
            extents.append((base + number(sizes[0]), number(sizes[1])))
        found[item] = (method, tuple(extents))
    return found


def _references(iref: bytes) -> dict[tuple[bytes, int], tuple[int, ...]]:
    found: dict[tuple[bytes, int], tuple[int, ...]] = {}
    wide = 4 if iref[:1] == b"\1" else 2
    for kind, a, b in boxes(iref, 4):
        body = iref[a:b]
        [count] = struct.unpack_from(">H", body, wide)
        ends = [body[wide + 2 + wide * i : wide + 2 + wide * (i + 1)] for i in range(count)]
        found[kind, int.from_bytes(body[:wide])] = tuple(map(int.from_bytes, ends))
    return found


def _properties(iprp: bytes, item: int) -> list[tuple[bytes, bytes]]:
    """Type and content of the item's properties, in the order of their association."""
    inner = {kind: iprp[a:b] for kind, a, b in boxes(iprp)}
    store = inner.get(b"ipco", b"")
    known = [(kind, store[a:b]) for kind, a, b in boxes(store)]
    ipma = inner.get(b"ipma", b"")
    if len(ipma) < 8:
        return []
    wide_items, wide = ipma[0] >= 1, ipma[3] & 1
    at, found = 8, []
    for _ in range(min(int.from_bytes(ipma[4:8]), _MOST_ITEMS)):
        step = 4 if wide_items else 2
        number, count = int.from_bytes(ipma[at : at + step]), int.from_bytes(ipma[at + step : at + step + 1])
        at += step + 1
        for _ in range(count):
            index = int.from_bytes(ipma[at : at + 1 + wide]) & (0x7FFF if wide else 0x7F)
            at += 1 + wide
            if number == item and 0 < index <= len(known):
                found.append(known[index - 1])
    return found

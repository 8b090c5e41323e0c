"""EXIF (CIPA DC-008): a TIFF structure in a block of its own, kept byte for byte where nothing in it became untrue."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from pipeline.codecs import ifd
from pipeline.codecs.ifd import Field, Layout, Tree

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_WIDTH, _HEIGHT = 0xA002, 0xA003
_LEAST_DPI, _MOST_DPI = 0.02, 1e6
_PER_INCH = {2: 1.0, 3: 2.54}
_PREFIX = b"Exif\x00\x00"
# Tags of a first directory that describe the photograph, not the file's structure, and hold no offsets:
# TIFF 6.0, EXIF 2.32, TIFF/EP, the XP tags of Windows, ratings.
DESCRIPTIVE = frozenset(
    {
        *(0x010D, 0x010E, 0x010F, 0x0110, 0x011D, 0x0129, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298),
        *(0x9003, 0x9286, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, 0xA430, 0xA431, 0xA433, 0xA434, 0xA435, 0xC4A5),
    }
)


class Cleaned(NamedTuple):
    """block: without prefix and preview, orientation 1. orientation: the one it had, else 0. dpi: what its tags say."""

    block: bytes | None
    orientation: int
    dpi: tuple[float, float] | None


def clean(raw: bytes | None) -> Cleaned:
    """EXIF as a photograph carries it, once its pixels are upright.

    The preview goes: it would show the photograph as it was, and be turned twice. What cannot be read is no EXIF, for
    damaged metadata are no reason to refuse a sound photograph; nor is what says nothing but orientation and resolution.
    """
    if raw is None:
        return Cleaned(None, 0, None)
    block = bytearray(raw.removeprefix(_PREFIX))
    try:
        layout, start = ifd.header(bytes(block))
        fields, preview = ifd.read(bytes(block), start, layout)
    except ValueError:
        return Cleaned(None, 0, None)
    tag = fields.get(ORIENTATION)
    orientation = tag.first(layout) if tag is not None else 0
    dpi = resolution_of(fields, layout)
    if set(fields) <= {ORIENTATION, X_RESOLUTION, Y_RESOLUTION, UNIT}:
        return Cleaned(None, orientation, dpi)
    if tag is not None and tag.kind == ifd.SHORT:
        struct.pack_into(layout.order + "H", block, tag.at, 1)
    if preview:
        layout.offset().pack_into(block, ifd.next_at(bytes(block), start, layout), 0)
        block = block[: _end_before(block, preview, layout, start)]
    return Cleaned(bytes(block), orientation, dpi)


def _end_before(block: bytearray, preview: int, layout: Layout, start: int) -> int:
    """Where the block can end when the preview goes: only if it is the last thing in it."""
    tree = ifd.read_tree(bytes(block), start, layout)
    last = max((tag.at + len(tag.data) for tag in _all(tree)), default=len(block))
    return preview if last <= preview and start < preview else len(block)


def _all(tree: Tree) -> list[Field]:
    return [*tree.fields.values(), *(tag for below in tree.below.values() for tag in _all(below))]


def parse(block: bytes | None) -> tuple[Layout, Tree] | None:
    """Layout and directories of a block, or None where it cannot be read."""
    if block is None:
        return None
    try:
        layout, start = ifd.header(block)
        return layout, ifd.read_tree(block, start, layout)
    except ValueError:
        return None


def resolution_of(fields: Mapping[int, Field], layout: Layout) -> tuple[float, float] | None:
    unit = fields[UNIT].first(layout) if UNIT in fields else 2
    factor = _PER_INCH.get(unit)
    if factor is None or X_RESOLUTION not in fields or Y_RESOLUTION not in fields:
        return None
    pair = [next(iter(fields[code].ratios(layout)), 0.0) * factor for code in (X_RESOLUTION, Y_RESOLUTION)]
    return (pair[0], pair[1]) if min(pair) > 0 else None


def from_tiff(data: bytes, start: int, layout: Layout) -> bytes | None:
    """The descriptive tags of a TIFF's directory and the EXIF and GPS directories below it, as a block of their own."""
    tree = ifd.read_tree(data, start, layout)
    small = Tree({code: tag for code, tag in tree.fields.items() if code in DESCRIPTIVE and tag.kind <= 13}, tree.below)
    small = _without_big_offsets(small)
    if not small.fields and not small.below:
        return None
    plain = Layout(layout.order)
    head = (b"II*\x00" if layout.order == "<" else b"MM\x00*") + plain.offset().pack(8)
    return head + ifd.serialise(small, 8, plain)


def _without_big_offsets(tree: Tree) -> Tree:
    """Types 16 to 18 are BigTIFF's own and have no place in EXIF."""
    fields = {code: tag for code, tag in tree.fields.items() if tag.kind <= 13}
    return Tree(fields, {code: _without_big_offsets(below) for code, below in tree.below.items()})


def truthful(
    block: bytes | None, width: int, height: int, dpi: tuple[float, float] | None, *, carries_dpi: bool = True
) -> bytes | None:
    """The block with its resolution and pixel dimensions, where it states them, made those of the file it goes into.

    What cannot be read is left out: some readers refuse a whole file for it.
    carries_dpi: the file has a place of its own for the resolution. Where not (WebP, AVIF), the block gets it, too.
    """
    if block is None:
        return None if carries_dpi or dpi is None else _resolution_block(dpi)
    parsed = parse(block)
    if parsed is None:
        return None
    layout, tree = parsed
    dpi = dpi if dpi is not None and all(_LEAST_DPI <= value <= _MOST_DPI for value in dpi) else None
    stated = resolution_of(tree.fields, layout)
    changed = bytearray(block)
    if dpi is not None and stated != dpi and X_RESOLUTION in tree.fields and Y_RESOLUTION in tree.fields:
        _patch_resolution(changed, tree, layout, dpi)
    if ifd.EXIF in tree.below:
        for code, value in ((_WIDTH, width), (_HEIGHT, height)):
            _patch_integer(changed, tree.below[ifd.EXIF].fields.get(code), layout, value)
    missing = X_RESOLUTION not in tree.fields or Y_RESOLUTION not in tree.fields
    if missing and not carries_dpi and dpi is not None:
        return _with_fields(bytes(changed), _resolution_fields(dpi, layout))
    return bytes(changed)


def _patch_resolution(block: bytearray, tree: Tree, layout: Layout, dpi: tuple[float, float]) -> None:
    tags = [tree.fields[code] for code in (X_RESOLUTION, Y_RESOLUTION)]
    unit = tree.fields.get(UNIT)
    if any(tag.kind != ifd.RATIONAL or tag.count != 1 for tag in tags) or (unit and unit.kind != ifd.SHORT):
        return
    for tag, value in zip(tags, dpi, strict=True):
        block[tag.at : tag.at + 8] = rational(value, layout)
    if unit:
        struct.pack_into(layout.order + "H", block, unit.at, 2)


def _patch_integer(block: bytearray, tag: Field | None, layout: Layout, value: int) -> None:
    if tag is None or tag.count != 1 or tag.first(layout) == value:
        return
    if tag.kind == ifd.LONG:
        struct.pack_into(layout.order + "I", block, tag.at, value)
    elif tag.kind == ifd.SHORT and value <= 65_535:
        struct.pack_into(layout.order + "H", block, tag.at, value)


def rational(value: float, layout: Layout) -> bytes:
    """The nearest ratio of 32-bit numbers: exact for what came from such a ratio."""
    ratio = Fraction(value).limit_denominator(max(1, int((2**32 - 1) // max(1.0, value))))
    return struct.pack(layout.order + "II", ratio.numerator, ratio.denominator)


def _resolution_fields(dpi: tuple[float, float], layout: Layout) -> dict[int, Field]:
    unit = Field(ifd.SHORT, 1, struct.pack(layout.order + "H", 2))
    pair = [Field(ifd.RATIONAL, 1, rational(value, layout)) for value in dpi]
    return {X_RESOLUTION: pair[0], Y_RESOLUTION: pair[1], UNIT: unit}


def _resolution_block(dpi: tuple[float, float]) -> bytes:
    layout = Layout("<")
    return b"II*\x00" + layout.offset().pack(8) + ifd.serialise(Tree(_resolution_fields(dpi, layout)), 8, layout)


def _with_fields(block: bytes, more: Mapping[int, Field]) -> bytes:
    """A new first directory behind the block; all other offsets, those inside maker notes included, stay true."""
    layout, start = ifd.header(block)
    fields, _ = ifd.read(block, start, layout)
    block += b"\0" * (len(block) % 2)
    place = 8 if layout.big else 4
    directory = ifd.serialise(
        Tree({**fields, **{code: replace(tag) for code, tag in more.items()}}), len(block), layout
    )
    return block[:place] + layout.offset().pack(len(block)) + block[place + layout.offset().size :] + directory

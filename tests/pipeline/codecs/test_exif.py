"""Directories, EXIF blocks, IPTC records and XMP by themselves: any bytes are read or left alone, what is true stays."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.codecs import bmff, encode, exif, ifd, iptc, jpeg_xmp
from pipeline.codecs.metadata import clean_xmp
from pipeline.photograph import Container, Photograph

SETTINGS = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def trees(draw: st.DrawFn) -> tuple[ifd.Layout, ifd.Tree]:
    layout = ifd.Layout(draw(st.sampled_from("<>")), draw(st.booleans()))

    def fields() -> dict[int, ifd.Field]:
        found = {}
        for code in draw(st.sets(st.integers(1, 30000), max_size=6)):
            kind = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 12]))
            count = draw(st.integers(1, 9))
            size = ifd.SIZES[kind] * count
            found[code] = ifd.Field(kind, count, draw(st.binary(min_size=size, max_size=size)))
        return found

    interop = {ifd.INTEROP: ifd.Tree(fields())} if draw(st.booleans()) else {}
    below = {ifd.EXIF: ifd.Tree(fields(), interop), ifd.GPS: ifd.Tree(fields())} if draw(st.booleans()) else {}
    return layout, ifd.Tree(fields(), below)


def plain(tree: ifd.Tree) -> object:
    values = {code: (tag.kind, tag.count, tag.data) for code, tag in tree.fields.items()}
    return values, {code: plain(below) for code, below in tree.below.items()}


@SETTINGS
@given(made=trees(), start=st.integers(8, 500).map(lambda n: n * 2))
def test_what_is_written_is_read(made: tuple[ifd.Layout, ifd.Tree], start: int) -> None:
    layout, tree = made
    data = bytes(start) + ifd.serialise(tree, start, layout)
    assert plain(ifd.read_tree(data, start, layout)) == plain(tree)


@SETTINGS
@given(
    head=st.sampled_from([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"Exif\0\0MM\0*", b""]), rest=st.binary(max_size=200)
)
def test_any_bytes_are_exif_or_none(head: bytes, rest: bytes) -> None:
    cleaned = exif.clean(head + rest)
    assert cleaned.block is None or exif.parse(cleaned.block) is not None
    exif.truthful(head + rest, 10, 10, (300.0, 300.0), carries_dpi=False)


@SETTINGS
@given(at=st.integers(0, 400), value=st.binary(min_size=1, max_size=4))
def test_damaged_exif_goes_into_every_kind_of_file(kit: SimpleNamespace, at: int, value: bytes) -> None:
    damaged = bytearray(kit.EXIF)
    damaged[at % len(damaged) : at % len(damaged) + len(value)] = value
    photograph = Photograph("i", np.zeros((2, 3, 3), np.uint8), Container("PNG", exif=bytes(damaged), dpi=(1e9, 1e-9)))
    for output in ("tiff", "png", "jpeg", "webp"):
        assert encode(photograph, output)


def test_only_what_became_untrue_changes(kit: SimpleNamespace) -> None:
    assert exif.clean(b"Exif\0\0" + kit.EXIF) == (kit.EXIF, 0, None)
    assert exif.truthful(kit.EXIF, 10, 20, (300.0, 300.0)) == kit.EXIF
    added = exif.truthful(kit.EXIF, 10, 20, (300.0, 72.5), carries_dpi=False)
    assert exif.clean(added).dpi == (300.0, 72.5)
    assert kit.tags_of(added) == kit.tags_of(kit.EXIF)


def test_stated_dimensions_become_those_of_the_file() -> None:
    layout = ifd.Layout("<")
    short = ifd.Field(ifd.SHORT, 1, struct.pack("<H", 4000))
    long = ifd.Field(ifd.LONG, 1, struct.pack("<I", 3000))
    make = ifd.Field(ifd.ASCII, 4, b"Abc\0")
    tree = ifd.Tree({0x010F: make}, {ifd.EXIF: ifd.Tree({0xA002: short, 0xA003: long})})
    block = b"II*\0\x08\0\0\0" + ifd.serialise(tree, 8, layout)
    parsed = exif.parse(exif.truthful(block, 640, 480, None))
    assert parsed is not None
    fields = parsed[1].below[ifd.EXIF].fields
    assert (fields[0xA002].first(layout), fields[0xA003].first(layout)) == (640, 480)


@SETTINGS
@given(value=st.floats(0.02, 1e6))
def test_a_resolution_survives_its_ratio(value: float) -> None:
    top, bottom = struct.unpack("<II", exif.rational(value, ifd.Layout("<")))
    assert top / bottom == pytest.approx(value, rel=1e-7)


@SETTINGS
@given(data=st.binary(max_size=120))
def test_any_bytes_are_records_or_none(data: bytes) -> None:
    found = iptc.records(data)
    assert found is None or data.startswith(found)
    iptc.from_resources(b"8BIM" + data)


def test_records_in_resources(kit: SimpleNamespace) -> None:
    assert iptc.from_resources(iptc.to_resources(kit.IPTC)) == kit.IPTC
    assert iptc.records(kit.IPTC + bytes(3)) == kit.IPTC
    long = b"\x1c\x02\x78\x80\x04" + (40_000).to_bytes(4) + bytes(40_000)
    assert iptc.records(long + b"rest") == long


@pytest.mark.parametrize(
    "spelled",
    [b'tiff:Orientation="6"', b"tiff:Orientation = '6'", b"<tiff:Orientation>6</tiff:Orientation>"],
)
def test_orientation_in_any_spelling(spelled: bytes) -> None:
    packet, turn = clean_xmp(b"<a " + spelled + b"/>")
    assert turn == 6
    assert packet == b"<a " + spelled.replace(b"6", b"1") + b"/>"
    assert clean_xmp(b'<a tiff:Orientation="61"/>') == (b'<a tiff:Orientation="61"/>', 0)


@SETTINGS
@given(packet=st.binary(max_size=80), pieces=st.lists(st.binary(max_size=80), max_size=3))
def test_extended_xmp_of_any_bytes_is_left_out(packet: bytes, pieces: list[bytes]) -> None:
    assert jpeg_xmp.join([packet], pieces) == packet


def test_entities_of_xmp_are_not_opened(kit: SimpleNamespace) -> None:
    """Neither files nor expansions: a packet that declares them stays as it is."""
    bad = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + kit.XMP.split(b"?>", 1)[1].replace(
        b"Wetzlar", b"&e;"
    )
    joined = jpeg_xmp.join([bad], [b"0" * 32 + bytes(20)])
    assert joined is not None
    assert b"root:" not in joined


@SETTINGS
@given(data=st.binary(max_size=160))
def test_any_boxes_are_read_or_refused(data: bytes) -> None:
    body = struct.pack(">I4sI", len(data) + 12, b"meta", 0) + data
    try:
        bmff.read(body)
    except (ValueError, struct.error, LookupError):
        return

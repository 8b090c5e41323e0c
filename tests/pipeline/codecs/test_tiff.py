"""TIFF's tags, pages and damage; what other readers find in the files that are written."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, IptcImagePlugin

from pipeline.codecs import decode, encode, tiff_write
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph

LIMIT = 10**6


@pytest.fixture
def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)


def described(picture: NDArray[np.uint8], kit: SimpleNamespace) -> Photograph:
    held = Container("JPEG", icc=kit.ICC, exif=kit.EXIF, xmp=kit.XMP, iptc=kit.IPTC, dpi=(300.0, 150.0))
    return Photograph("item", picture, held)


def refusal(data: bytes, match: str) -> Reason:
    with pytest.raises(ItemError, match=match) as caught:
        decode(data, "item", LIMIT)
    return caught.value.reason


def test_pillow_finds_all_that_is_written(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    image = Image.open(io.BytesIO(encode(described(picture, kit), "tiff")))
    assert np.array_equal(np.asarray(image), picture)
    assert image.info["icc_profile"] == kit.ICC
    assert tuple(map(float, image.info["dpi"])) == (300.0, 150.0)
    exif = image.getexif()
    assert exif[0x010F] == "Leitz"
    camera, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    assert camera[0x9003] == "1954:04:01 12:00:00"
    assert camera[0x927C] == bytes(range(30))
    assert float(camera[0x829A]) == pytest.approx(1 / 60)
    assert exif.get_ifd(0xA005)[1] == "R98"
    assert place[3] == "E"
    assert IptcImagePlugin.getiptcinfo(image)[2, 80] == b"Lotte Jacobi"  # type: ignore[index]
    assert image.tag_v2[700] == kit.XMP  # type: ignore[attr-defined]


@pytest.mark.parametrize("big", [False, True])
def test_tifffile_finds_all_that_is_written(
    picture: NDArray[np.uint8], kit: SimpleNamespace, big: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if big:
        monkeypatch.setattr(tiff_write, "_CLASSIC", 100)
    data = encode(described(picture, kit), "tiff")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        assert (file.is_bigtiff, file.byteorder, len(file.pages)) == (big, ">", 1)
        assert np.array_equal(page.asarray(), picture)
        assert page.tags[34665].value["DateTimeOriginal"] == "1954:04:01 12:00:00"
        assert page.tags[34665].value["LensModel"] == "Elmar 50/3.5"
        assert page.tags[34853].value["GPSLongitudeRef"] == "E"
        assert bytes(page.tags[34675].value) == kit.ICC
        assert page.tags[282].value == (300, 1)
        assert (page.compression.name, page.predictor.name) == ("ADOBE_DEFLATE", "HORIZONTAL")
        assert not page.is_tiled
    again = decode(data, "item", LIMIT).container
    assert kit.tags_of(again.exif) == kit.tags_of(kit.EXIF)
    assert (again.icc, again.xmp, again.iptc, again.dpi) == (kit.ICC, kit.XMP, kit.IPTC, (300.0, 150.0))


def test_what_is_read_from_a_tiff_is_written_the_same(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    once = encode(described(picture, kit), "tiff")
    again = decode(once, "item", LIMIT)
    assert encode(again, "tiff") == once
    assert decode(encode(again, "png"), "item", LIMIT).container.exif == again.container.exif


def test_opaque_values_keep_their_byte_order(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    """A comment in Unicode is in the order of the file, and no reader could know that it came from another."""
    data = encode(described(picture, kit), "tiff")
    assert data[:2] == kit.EXIF[:2] == b"MM"
    comment = Image.open(io.BytesIO(data)).getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + "Tür!".encode("utf-16-be")


def test_iptc_said_to_be_long_numbers_is_read(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    padded = kit.IPTC + bytes(-len(kit.IPTC) % 4)
    tag = (33723, "I", len(padded) // 4, np.frombuffer(padded, "<u4"), True)
    found = decode(kit.by_tifffile(picture, photometric="rgb", byteorder="<", extratags=[tag]), "item", LIMIT)
    assert found.container.iptc == kit.IPTC


def test_pages_are_counted_and_may_be_refused(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    data = kit.by_tifffile(np.stack([picture] * 3), photometric="rgb")
    assert decode(data, "item", LIMIT).container.pages == 3
    with pytest.raises(ItemError, match="3 pages") as caught:
        decode(data, "item", LIMIT, pages="refuse")
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("marked", [True, False])
def test_a_pyramid_is_one_page(picture: NDArray[np.uint8], marked: bool) -> None:
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as writer:
        for level in range(4):
            copy = picture[:: 2**level, :: 2**level].copy()
            writer.write(copy, photometric="rgb", subfiletype=1 if level and marked else 0, metadata=None)
    found = decode(target.getvalue(), "item", LIMIT, pages="refuse")
    assert found.container.pages == 1
    assert np.array_equal(found.pixels, picture)


def test_a_chain_of_pages_that_bites_its_tail_ends(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    data = bytearray(kit.by_tifffile(picture, photometric="rgb", byteorder="<"))
    [first] = struct.unpack_from("<I", data, 4)
    [entries] = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    assert decode(bytes(data), "item", LIMIT).container.pages == 1


def test_a_chain_made_to_take_long_ends_soon(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    """Thousands of directories that overlap, each of tens of thousands of tags."""
    data = bytearray(kit.by_tifffile(picture, photometric="rgb", byteorder="<"))
    [first] = struct.unpack_from("<I", data, 4)
    [entries] = struct.unpack_from("<H", data, first)
    data += bytes(len(data) % 2)
    struct.pack_into("<I", data, first + 2 + 12 * entries, len(data))
    data += struct.pack("<H", 65_535) * 1_000_000
    assert decode(bytes(data), "item", LIMIT).container.pages == 1


def test_raw_files_are_named_and_refused(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    dng = kit.by_tifffile(picture, photometric="rgb", extratags=[(50706, "B", 4, (1, 4, 0, 0), True)])
    assert refusal(dng, "DNG") is Reason.UNSUPPORTED
    mosaic = kit.by_tifffile(picture[..., 0].astype(np.uint16), photometric="cfa")
    assert refusal(mosaic, "camera raw") is Reason.UNSUPPORTED
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as writer:
        writer.write(picture[::4, ::4].copy(), photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(picture[..., 0].astype(np.uint16), photometric="cfa", metadata=None)
    assert refusal(target.getvalue(), "camera raw") is Reason.UNSUPPORTED
    plain = kit.by_tifffile(picture, photometric="rgb", byteorder="<")
    assert refusal(b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + plain[16:], "CR2") is Reason.UNSUPPORTED


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_refused_with_a_reason(dtype: str, kit: SimpleNamespace) -> None:
    samples = np.full((9, 9), np.nan, dtype)
    assert refusal(kit.by_tifffile(samples, photometric="minisblack"), "floating-point") is Reason.UNSUPPORTED


def test_other_inks_than_cmyk_are_refused(kit: SimpleNamespace, press: bytes) -> None:
    inks = np.zeros((9, 9, 4), np.uint8)
    data = kit.by_tifffile(inks, photometric="separated", iccprofile=press, extratags=[(332, "H", 1, 2, True)])
    assert refusal(data, "inks") is Reason.UNSUPPORTED


@pytest.mark.parametrize("tag", [273, 279])
def test_a_missing_strip_is_no_black_one(picture: NDArray[np.uint8], kit: SimpleNamespace, tag: int) -> None:
    data = bytearray(kit.by_tifffile(picture, photometric="rgb", rowsperstrip=16, byteorder="<", compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        place = file.pages.first.tags[tag]
        at = place.valueoffset + struct.calcsize((place.dtype.name == "LONG" and "I") or "H")
    struct.pack_into("<I" if place.dtype.name == "LONG" else "<H", data, at, 0)
    assert refusal(bytes(data), "missing|broken|contradict") is Reason.TRUNCATED


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd"])
def test_a_strip_that_ends_too_soon_is_no_whole_one(
    picture: NDArray[np.uint8], kit: SimpleNamespace, compression: str
) -> None:
    data = bytearray(kit.by_tifffile(picture, photometric="rgb", rowsperstrip=64, compression=compression))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tag = file.pages.first.tags[279]
        place, size = tag.valueoffset, tag.value[0]
    struct.pack_into("<I" if size > 65535 else "<H", data, place, size // 2)
    assert refusal(bytes(data), "broken|contradict") is Reason.TRUNCATED

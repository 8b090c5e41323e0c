"""HEIF and AVIF: turning once, grids, code points, and what other readers find in the AVIF that is written.

The HEIC files in `data` were written with pillow-heif (x265), whose encoder the project does not install.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.codecs import bmff, decode, encode
from pipeline.codecs.icc import from_code_points
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph

DATA = Path(__file__).parent / "data"
LIMIT = 10**6


@pytest.fixture
def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (40, 52, 3), dtype=np.uint8)


def heic(name: str) -> bytes:
    return (DATA / f"{name}.heic").read_bytes()


def test_heif_carries_profile_exif_and_xmp(kit: SimpleNamespace) -> None:
    found = decode(heic("rgb8"), "item", LIMIT).container
    assert found.format == "HEIF"
    assert found.icc is not None
    assert kit.tags_of(found.exif)[0, 0x010F][2] == b"Leitz\0"
    assert kit.tags_of(found.exif)[0x8769, 0x9003][2] == b"1954:04:01 12:00:00\0"
    assert found.xmp is not None
    assert b"dc:format" in found.xmp


def test_heif_is_turned_once_and_says_so(kit: SimpleNamespace) -> None:
    found = decode(heic("turned"), "item", LIMIT)
    assert (found.height, found.width) == (64, 48)
    assert found.container.orientation in (6, 8)
    block = decode(encode(found, "png"), "item", LIMIT)
    assert (block.height, block.width) == (64, 48)
    assert Image.open(io.BytesIO(encode(found, "jpeg"))).getexif().get(0x0112, 1) == 1


def test_code_points_of_heif_become_a_profile() -> None:
    assert decode(heic("p3"), "item", LIMIT).container.icc == from_code_points(12, 13)
    assert decode(heic("alpha"), "item", LIMIT).container.icc is None


def test_high_dynamic_range_is_refused() -> None:
    with pytest.raises(ItemError, match="dynamic range") as caught:
        decode(heic("pq"), "item", LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_heif_of_several_images() -> None:
    assert decode(heic("two"), "item", LIMIT).container.pages == 2
    with pytest.raises(ItemError, match="2 pages"):
        decode(heic("two"), "item", LIMIT, pages="refuse")


def test_size_is_asked_before_pixels() -> None:
    with pytest.raises(ItemError) as caught:
        decode(heic("rgb8"), "item", 48 * 64 - 1)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("name", ["rgb8", "alpha"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_heif_is_refused(name: str, share: float) -> None:
    data = heic(name)
    with pytest.raises(ItemError) as caught:
        decode(data[: int(len(data) * share)], "item", LIMIT)
    assert caught.value.reason is Reason.TRUNCATED


def grid_of_two(data: bytes) -> bytes:
    """A HEIC of two tiles side by side, as telephones write them, from the one coded image of another."""
    meta = bmff.read(data)
    stream = meta.payload_of(data, meta.items[meta.primary])
    box = lambda kind, body: struct.pack(">I4s", len(body) + 8, kind) + body  # noqa: E731
    full = lambda kind, body, version=0: box(kind, bytes((version, 0, 0, 0)) + body)  # noqa: E731
    grid = bytes((0, 0, 0, 1)) + struct.pack(">HH", 128, 64)
    ftyp = box(b"ftyp", b"heic\0\0\0\0mif1heic")

    def whole(start: int) -> bytes:
        places = [(1, start, len(stream)), (2, start, len(stream)), (3, start + len(stream), len(grid))]
        iloc = bytes((0x44, 0)) + struct.pack(">H", 3)
        iloc += b"".join(struct.pack(">HHHII", number, 0, 1, at, size) for number, at, size in places)
        kinds = ((1, b"hvc1"), (2, b"hvc1"), (3, b"grid"))
        iinf = struct.pack(">H", 3) + b"".join(
            full(b"infe", struct.pack(">HH", number, 0) + kind + b"\0", 2) for number, kind in kinds
        )
        tile = box(b"ispe", bytes(4) + struct.pack(">II", 64, 64))
        wide = box(b"ispe", bytes(4) + struct.pack(">II", 128, 64))
        config = next(body for kind, body in meta.properties if kind == b"hvcC")
        nclx = next(body for kind, body in meta.properties if kind == b"colr" and body[:4] == b"nclx")
        ipco = box(b"ipco", box(b"hvcC", config) + tile + wide + box(b"colr", nclx))
        ipma = struct.pack(">I", 3) + b"\0\1\3\x81\2\4" + b"\0\2\3\x81\2\4" + b"\0\3\2\3\4"
        dimg = box(b"dimg", struct.pack(">HHHH", 3, 2, 1, 2))
        hdlr = full(b"hdlr", bytes(4) + b"pict" + bytes(13))
        return full(
            b"meta",
            hdlr
            + full(b"pitm", struct.pack(">H", 3))
            + full(b"iloc", iloc)
            + full(b"iinf", iinf)
            + full(b"iref", dimg)
            + box(b"iprp", ipco + full(b"ipma", ipma)),
        )

    head = ftyp + whole(0)
    return ftyp + whole(len(head) + 8) + box(b"mdat", stream + grid)


def test_a_grid_is_one_image() -> None:
    one = decode(heic("p3"), "item", LIMIT).pixels
    found = decode(grid_of_two(heic("p3")), "item", LIMIT).pixels
    assert found.shape == (64, 128, 3)
    assert np.array_equal(found[:48, :64], one)
    assert np.array_equal(found[:, :64], found[:, 64:])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_once(picture: NDArray[np.uint8], kit: SimpleNamespace, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Leitz"
    data = kit.by_pillow(picture, "AVIF", exif=exif, quality=90, subsampling="4:4:4")
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = decode(data, "item", LIMIT)
    assert (found.pixels.shape, found.container.orientation) == (expected.shape, orientation)
    assert np.abs(found.pixels.astype(int) - expected).max() <= 2
    assert kit.tags_of(found.container.exif)[0, 0x010F][2] == b"Leitz\0"
    again = decode(encode(found, "avif"), "item", LIMIT)
    assert np.array_equal(again.pixels, found.pixels)


def test_pillow_finds_what_is_written(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    alpha = picture[..., 0].copy()
    held = Container("TIFF", icc=kit.ICC, exif=kit.EXIF, xmp=kit.XMP, dpi=(300.0, 150.0))
    image = Image.open(io.BytesIO(encode(Photograph("item", picture, held, alpha), "avif")))
    assert np.array_equal(np.asarray(image), np.dstack([picture, alpha]))
    assert (image.info["icc_profile"], image.info["xmp"]) == (kit.ICC, kit.XMP)
    exif = image.getexif()
    assert exif.get_ifd(0x8769)[0x9003] == "1954:04:01 12:00:00"
    assert (float(exif[0x011A]), float(exif[0x011B])) == (300.0, 150.0)


def test_webp_as_pillow_finds_it(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    held = Container("TIFF", icc=kit.ICC, exif=kit.EXIF, xmp=kit.XMP, dpi=(300.0, 150.0))
    image = Image.open(io.BytesIO(encode(Photograph("item", picture, held), "webp")))
    assert np.array_equal(np.asarray(image), picture)
    assert (image.info["icc_profile"], image.info["xmp"]) == (kit.ICC, kit.XMP)
    assert float(image.getexif()[0x011A]) == 300.0


def test_avif_of_ten_bits_without_pixi_is_read(rng: np.random.Generator) -> None:
    stored = rng.integers(0, 1024, (20, 21), dtype=np.uint16)
    data = bytes(imagecodecs.avif_encode(stored, level=100, bitspersample=10))
    found = decode(data.replace(b"pixi", b"free"), "item", LIMIT)
    assert np.array_equal(np.rint(found.pixels[..., 0] / 65535 * 1023), stored)
    assert found.container.conversion == "10-bit samples spread over 16 bits"


def test_damaged_descriptions_refuse_no_photograph(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    """Bytes that are no text once ended pi-heif's process; damaged EXIF makes libavif refuse the file."""
    mime = heic("rgb8").replace(b"application/rdf+xml", b"application/\xc6\xfd\xff+xml")
    found = decode(mime, "item", LIMIT)
    assert np.array_equal(found.pixels, decode(heic("rgb8"), "item", LIMIT).pixels)
    assert found.container.xmp is None
    data = encode(Photograph("item", picture, Container("TIFF", exif=kit.EXIF)), "avif")
    again = decode(data.replace(kit.EXIF, bytes(len(kit.EXIF))), "item", LIMIT)
    assert np.array_equal(again.pixels, picture)
    assert again.container.exif is None

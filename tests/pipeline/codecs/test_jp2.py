"""JPEG 2000's boxes: what other readers find, colour that OpenJPEG must not touch, and what is refused."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.codecs import decode, encode
from pipeline.codecs.jp2 import boxes
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph

LIMIT = 10**6


@pytest.fixture
def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (40, 51, 3), dtype=np.uint8)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def jp2(samples: NDArray[np.unsignedinteger], *header: bytes, **options: object) -> bytes:
    """A file of one's own boxes around a codestream by OpenJPEG."""
    stream = bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k", **options))
    parts = 1 if samples.ndim == 2 else samples.shape[2]
    depth = options.get("bitspersample") or samples.dtype.itemsize * 8
    ihdr = struct.pack(">IIHBBBB", *samples.shape[:2], parts, int(str(depth)) - 1, 7, 0, 0)
    head = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return head + box(b"jp2h", box(b"ihdr", ihdr) + b"".join(header)) + box(b"jp2c", stream)


def colour(number: int) -> bytes:
    return box(b"colr", b"\1\0\0" + number.to_bytes(4))


def refusal(data: bytes, match: str) -> None:
    with pytest.raises(ItemError, match=match) as caught:
        decode(data, "item", LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_pillow_finds_what_is_written(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    held = Container("TIFF", icc=kit.ICC, exif=kit.EXIF, xmp=kit.XMP, iptc=kit.IPTC, dpi=(300.0, 150.0))
    data = encode(Photograph("item", picture, held), "jp2")
    image = Image.open(io.BytesIO(data))
    assert image.size == (51, 40)
    assert image.info["dpi"] == pytest.approx((300, 150))
    kinds = [kind for kind, _, _ in boxes(data)]
    assert kinds == [b"jP  ", b"ftyp", b"jp2h", b"uuid", b"uuid", b"uuid", b"jp2c"]
    assert box(b"colr", b"\2\0\0" + kit.ICC) in data
    assert bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC") + kit.XMP in data


def test_alpha_is_defined_as_opacity(picture: NDArray[np.uint8]) -> None:
    data = encode(Photograph("item", picture, Container("TIFF"), picture[..., 0].copy()), "jp2")
    assert box(b"cdef", struct.pack(">13H", 4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 1, 0)) in data
    assert Image.open(io.BytesIO(data)).mode == "RGBA"


def test_the_wavelet_is_the_reversible_one(picture: NDArray[np.uint8]) -> None:
    data = encode(Photograph("item", np.tile(picture, (8, 8, 1)), Container("TIFF")), "jp2")
    cod = data.index(b"\xff\x52")
    assert (data[cod + 9], data[cod + 13]) == (5, 1)


def test_a_profile_is_kept_and_not_applied(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    wide = imagecodecs.cms_profile("adobergb")
    found = decode(jp2(picture, box(b"colr", b"\2\0\0" + wide)), "item", LIMIT)
    assert found.container.icc == wide
    assert np.array_equal(found.pixels, picture)


def test_sycc_becomes_rgb(picture: NDArray[np.uint8]) -> None:
    smooth = np.asarray(Image.fromarray(picture).resize((8, 8)).resize((51, 40)))
    ycc = np.asarray(Image.fromarray(smooth).convert("YCbCr"))
    found = decode(jp2(ycc, colour(18), mct=False), "item", LIMIT)
    assert np.abs(found.pixels.astype(int) - smooth).max() <= 3


def test_a_palette_becomes_colours(rng: np.random.Generator) -> None:
    indices = rng.integers(0, 4, (20, 21), dtype=np.uint8)
    colours = rng.integers(0, 256, (4, 3), dtype=np.uint8)
    pclr = box(b"pclr", struct.pack(">HB3B", 4, 3, 7, 7, 7) + colours.tobytes())
    cmap = box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, number) for number in range(3)))
    found = decode(jp2(indices, colour(16), pclr, cmap), "item", LIMIT)
    assert np.array_equal(found.pixels, colours[indices])


def test_premultiplied_opacity_is_taken_back(picture: NDArray[np.uint8]) -> None:
    half = np.dstack([picture // 2, np.full(picture.shape[:2], 128, np.uint8)])
    cdef = box(b"cdef", struct.pack(">13H", 4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 2, 0))
    found = decode(jp2(half, colour(16), cdef), "item", LIMIT)
    assert np.abs(found.pixels.astype(int) - np.minimum(picture // 2 * 2, 255)).max() <= 2


def test_what_is_not_understood_is_refused(picture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    refusal(jp2(picture, colour(14)), "colour space 14")
    first = box(b"cdef", struct.pack(">13H", 4, 0, 1, 0, 1, 0, 1, 2, 0, 2, 3, 0, 3))
    refusal(jp2(np.dstack([picture, picture[..., 0]]), colour(16), first), "not the last")
    refusal(jp2(picture.astype(np.uint16), colour(18)), "sYCC")
    signed = bytes(imagecodecs.jpeg2k_encode(picture[..., 0].astype(np.int16), level=0, codecformat="j2k"))
    refusal(signed, "signed")


@pytest.mark.parametrize("bits", [2, 4, 10, 14])
def test_other_depths_are_spread_over_the_range(rng: np.random.Generator, bits: int) -> None:
    white = 2**bits - 1
    stored = rng.integers(0, white, (20, 21), endpoint=True).astype(np.uint8 if bits < 8 else np.uint16)
    found = decode(jp2(stored, colour(17), bitspersample=bits), "item", LIMIT)
    peak = found.pixels.dtype.type(255 if bits < 8 else 65535)
    assert np.array_equal(found.pixels[..., 0], np.rint(stored.astype(np.float64) * peak / white))
    assert found.container.conversion == f"{bits}-bit samples spread over {8 if bits < 8 else 16} bits"


def test_display_resolution_is_read(picture: NDArray[np.uint8]) -> None:
    resolution = box(b"res ", box(b"resd", struct.pack(">HHHHbb", 11811, 1, 23622, 1, 0, 0)))
    found = decode(jp2(picture, colour(16), resolution), "item", LIMIT)
    assert found.container.dpi == pytest.approx((600, 300), abs=0.01)

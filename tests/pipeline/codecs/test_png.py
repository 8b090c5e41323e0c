"""PNG's chunks: colour that is said without a profile, text profiles, and metadata that are damaged or bombs."""

from __future__ import annotations

import io
import struct
import zlib
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.codecs import decode, encode
from pipeline.codecs.icc import from_code_points
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph

LIMIT = 10**6


@pytest.fixture
def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(picture: NDArray[np.uint8], *chunks: bytes) -> bytes:
    plain = bytes(imagecodecs.png_encode(picture))
    return plain[:33] + b"".join(chunks) + plain[33:]


def raw_profile(name: bytes, payload: bytes) -> bytes:
    text = b"\n" + name + b"\n%8d\n" % len(payload) + payload.hex().encode() + b"\n"
    return chunk(b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text))


def test_profiles_in_text_are_read(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    """As ImageMagick and ExifTool write them."""
    resources = b"8BIM\x04\x04\0\0" + len(kit.IPTC).to_bytes(4) + kit.IPTC
    data = with_chunks(
        picture,
        raw_profile(b"iptc", resources),
        raw_profile(b"APP1", b"Exif\0\0" + kit.EXIF),
        raw_profile(b"xmp", kit.XMP),
    )
    found = decode(data, "item", LIMIT).container
    assert (found.iptc, found.exif, found.xmp) == (kit.IPTC, kit.EXIF, kit.XMP)


def test_compressed_xmp_behind_the_pixels_is_read(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    plain = bytes(imagecodecs.png_encode(picture))
    packed = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(kit.XMP))
    assert decode(plain[:-12] + packed + plain[-12:], "item", LIMIT).container.xmp == kit.XMP


@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"iCCP", b"ICC\0\0no deflate data"),
        chunk(b"iCCP", b"no end"),
        chunk(b"pHYs", b"\0\0"),
        chunk(b"eXIf", b"MM"),
        chunk(b"cICP", b"\xff\xff\xff\xff"),
        chunk(b"gAMA", bytes(4)),
        chunk(b"cHRM", bytes(32)),
        chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(b"\niptc\n 4\nzz")),
        chunk(b"iTXt", b""),
        b"\0\0\0\4gAMA\0\0\0\1\0\0\0\0",
    ],
    ids=range(10),
)
def test_damaged_metadata_refuse_no_photograph(picture: NDArray[np.uint8], broken: bytes) -> None:
    found = decode(with_chunks(picture, broken), "item", LIMIT)
    assert np.array_equal(found.pixels, picture)
    assert found.container == Container("PNG")


def test_a_profile_that_is_a_bomb_is_left_out(picture: NDArray[np.uint8]) -> None:
    bomb = chunk(b"iCCP", b"ICC\0\0" + zlib.compress(bytes(80 * 2**20), 9))
    assert decode(with_chunks(picture, bomb), "item", LIMIT).container.icc is None


def test_damaged_pixels_are_refused(picture: NDArray[np.uint8]) -> None:
    data = bytearray(imagecodecs.png_encode(picture))
    data[data.index(b"IDAT") + 200] ^= 1
    with pytest.raises(ItemError) as caught:
        decode(bytes(data), "item", LIMIT)
    assert caught.value.reason is Reason.TRUNCATED


def test_code_points_become_a_profile(picture: NDArray[np.uint8]) -> None:
    found = decode(with_chunks(picture, chunk(b"cICP", bytes((12, 13, 0, 1)))), "item", LIMIT)
    assert found.container.icc == from_code_points(12, 13)
    assert found.container.icc is not None


def test_gamma_and_chromaticities_become_a_profile(picture: NDArray[np.uint8]) -> None:
    """Adobe RGB, said in PNG's oldest way: seen through the profile, colours are those of Adobe RGB."""
    chrm = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    data = with_chunks(picture, chunk(b"gAMA", struct.pack(">I", 45470)), chunk(b"cHRM", chrm))
    assert decode(data, "item", LIMIT).container.icc is not None
    data = with_chunks(picture, chunk(b"gAMA", struct.pack(">I", 45455 - 3000)), chunk(b"cHRM", chrm))
    profile = decode(data, "item", LIMIT).container.icc
    assert profile is not None
    adobe = imagecodecs.cms_profile(
        "rgb",
        whitepoint=(0.3127, 0.329, 1.0),
        primaries=(0.64, 0.33, 1, 0.21, 0.71, 1, 0.15, 0.06, 1),
        gamma=1e5 / 42455,
    )
    seen = [
        imagecodecs.cms_transform(
            picture, one, imagecodecs.cms_profile("srgb"), colorspace="rgb", outcolorspace="rgb", outdtype=np.uint8
        ).astype(int)
        for one in (profile, adobe)
    ]
    assert np.abs(seen[0] - seen[1]).max() <= 2


@pytest.mark.parametrize("said", [[chunk(b"sRGB", b"\0")], [chunk(b"gAMA", struct.pack(">I", 45455))], []])
def test_srgb_needs_no_profile(picture: NDArray[np.uint8], said: list[bytes]) -> None:
    assert decode(with_chunks(picture, *said), "item", LIMIT).container.icc is None


def test_pillow_finds_what_is_written(picture: NDArray[np.uint8], kit: SimpleNamespace) -> None:
    held = Container("TIFF", icc=kit.ICC, exif=kit.EXIF, xmp=kit.XMP, iptc=kit.IPTC, dpi=(300.0, 300.0))
    image = Image.open(io.BytesIO(encode(Photograph("item", picture, held), "png")))
    assert np.array_equal(np.asarray(image), picture)
    assert image.info["icc_profile"] == kit.ICC
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.013)
    assert image.info["XML:com.adobe.xmp"].encode() == kit.XMP
    assert image.getexif().get_ifd(0x8769)[0x9003] == "1954:04:01 12:00:00"
    assert kit.IPTC.hex() in image.info["Raw profile type iptc"].replace("\n", "")


def test_interlaced_is_read(kit: SimpleNamespace) -> None:
    """A file of Adam7 with one pixel in each of the passes that an image of 2 x 2 has."""
    rows = b"\0\x0a" + b"\0\x14" + b"\0\x1e\x28"
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 1))
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert decode(data, "item", LIMIT).pixels[..., 0].tolist() == [[10, 20], [30, 40]]

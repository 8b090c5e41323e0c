"""Files whose parts point at themselves, at nothing, or at each other, and files that are two things at once."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from tests.hostile.builders import png, png_chunk, tiff
from tests.hostile.seeds import by_pillow, by_tifffile, picture, seeds

LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(
        b'<!ENTITY %c "%s">' % (letter, b"&%c;" % (letter - 1) * 10) for letter in range(ord("b"), ord("b") + 12)
    )
    + b']><x:xmpmeta xmlns:x="adobe:ns:meta/">&m;</x:xmpmeta>'
)
OUTSIDE = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&e;</x:xmpmeta>'
_ROW = zlib.compress(bytes(10 * 31))
_PIXELS = bytes(100)


def structures() -> Iterator[tuple[str, bytes]]:
    yield from _nothing()
    yield from _directories()
    yield from _exif()
    yield from _metadata()
    yield from _shapes()
    yield from _polyglots()


def _nothing() -> Iterator[tuple[str, bytes]]:
    yield "nothing/zero-bytes", b""
    yield "nothing/one-byte", b"\x00"
    yield "nothing/a-megabyte-of-zeros", bytes(1 << 20)
    yield "nothing/a-megabyte-of-noise", np.random.default_rng(0).bytes(1 << 20)
    magics = (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"II*\x00",
        b"MM\x00*",
        b"II+\x00\x08\x00\x00\x00",
        b"GIF89a",
        b"BM",
    )
    more = (b"RIFF\xff\xff\xff\xffWEBPVP8X", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"P6", b"P5 ")
    media = (
        b"\x00\x00\x00\x18ftypheic",
        b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00",
        b"8BPS\x00\x01",
        b"\x76\x2f\x31\x01",
    )
    for magic in (*magics, *more, *media):
        yield f"nothing/only-{magic[:12].hex()}", magic
        yield f"nothing/padded-{magic[:12].hex()}", magic + bytes(4096)
    yield (
        "nothing/nested-boxes.heic",
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1" + b"\x00\x00\x10\x00meta" * 512,
    )


def _directories() -> Iterator[tuple[str, bytes]]:
    yield "tiff/directory-follows-itself.tif", tiff({}, _PIXELS, following=-1)
    second = struct.pack("<H", 0) + struct.pack("<I", 8)
    yield "tiff/directories-in-a-ring.tif", tiff({}, _PIXELS, following=8 + 2 + 12 * 9 + 4 + 100, extra=second)
    yield "tiff/directory-at-the-end-of-the-world.tif", b"II*\x00" + struct.pack("<I", 2**32 - 1)
    yield "tiff/directory-is-the-header.tif", b"II*\x00" + struct.pack("<I", 0) + _PIXELS
    yield (
        "tiff/directory-of-65535-tags.tif",
        b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 65_535) + bytes(12 * 65_535),
    )
    yield "tiff/sub-directory-is-itself.tif", tiff({330: "directory", 34665: "directory", 34853: "directory"}, _PIXELS)
    many = tuple(range(5000))
    yield (
        "tiff/many-sub-directories.tif",
        tiff({330: (4, len(many), 222)}, _PIXELS, extra=struct.pack("<5000I", *[8] * 5000)),
    )
    yield "tiff/count-of-4-billion.tif", tiff({282: (5, 2**32 - 1, 8), 700: (1, 2**32 - 1, 8)}, _PIXELS)
    yield "tiff/value-outside.tif", tiff({34675: (7, 5000, 2**31), 270: (2, 5000, 2**31)}, _PIXELS)
    yield "tiff/offsets-outside.tif", tiff({273: 2**32 - 50}, _PIXELS)
    yield "tiff/resolution-of-nothing.tif", tiff({282: (5, 1, 8), 283: (5, 1, 0), 296: 2}, _PIXELS)
    yield "tiff/strips-are-the-directory.tif", tiff({273: "directory"}, _PIXELS)
    for code in (256, 257, 258, 259, 262, 273, 277, 278, 279):
        yield f"tiff/without-{code}.tif", tiff({code: None}, _PIXELS)
        yield f"tiff/zero-{code}.tif", tiff({code: 0}, _PIXELS)
        yield f"tiff/text-{code}.tif", tiff({code: (2, 4, 0x41424344)}, _PIXELS)
    yield "tiff/orientation-99.tif", tiff({274: 99}, _PIXELS)
    yield "tiff/predictor-on-nothing.tif", tiff({317: 3}, _PIXELS)
    yield "tiff/palette-without-colours.tif", tiff({262: 3}, _PIXELS)
    yield "tiff/palette-too-short.tif", tiff({262: 3, 320: (3, 3, 8)}, _PIXELS)
    big = b"II+\x00\x08\x00\x00\x00" + struct.pack("<Q", 16)
    yield "tiff/big-count.tif", big + struct.pack("<Q", 2**63) + bytes(100)
    yield "tiff/big-offset.tif", b"II+\x00\x08\x00\x00\x00" + struct.pack("<Q", 2**63 - 1)
    yield "tiff/nan.tif", by_tifffile(np.full((9, 9), np.nan, np.float32))
    yield "tiff/infinite.tif", by_tifffile(np.full((9, 9, 3), np.inf, np.float64))
    yield "tiff/complex.tif", by_tifffile(np.zeros((9, 9), np.complex64))
    yield "tiff/500-pages.tif", _pages(500)


def _pages(count: int) -> bytes:
    """Directories one behind the other, all of the same strip."""
    first = tiff({}, _PIXELS)
    directory = first[8 : 8 + 2 + 12 * 9]
    start = len(first)
    chain = b"".join(
        directory + struct.pack("<I", start + 114 * (number + 1) if number + 1 < count else 0)
        for number in range(count)
    )
    return first[: 8 + 2 + 12 * 9] + struct.pack("<I", start) + first[8 + 2 + 12 * 9 + 4 :] + chain


def _exif() -> Iterator[tuple[str, bytes]]:
    ring = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIIHHIII", 2, 0x8769, 4, 1, 8, 0x8825, 4, 1, 8, 8)
    makers = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIII", 1, 0x927C, 7, 2**31, 8, 8)
    odd = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIII", 1, 0x0112, 5, 1, 0, 0)
    for name, exif in (("ring", ring), ("maker", makers), ("orientation-is-a-fraction", odd), ("noise", b"\xff" * 900)):
        yield f"exif/{name}.png", png(10, 10, _ROW, png_chunk(b"eXIf", exif))
        jpeg = by_pillow(picture(), "JPEG")
        block = b"Exif\x00\x00" + exif
        yield f"exif/{name}.jpg", jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
        yield f"exif/{name}.webp", by_pillow(picture(), "WEBP", exif=b"Exif\x00\x00" + exif)


def _metadata() -> Iterator[tuple[str, bytes]]:
    profiles = {
        "garbage": b"\x00garbage" * 50,
        "short": b"acsp",
        "lying": struct.pack(">I", 2**32 - 1) + bytes(32) + b"acsp" + bytes(88) + struct.pack(">I", 2**32 - 1),
        "tags-outside": struct.pack(">I", 144)
        + bytes(32)
        + b"acsp"
        + bytes(88)
        + struct.pack(">I4sII", 1, b"rTRC", 2**32 - 4, 2**31),
    }
    for name, profile in profiles.items():
        yield f"profile/{name}.jpg", by_pillow(picture(), "JPEG", icc_profile=profile)
        yield f"profile/{name}.png", by_pillow(picture(), "PNG", icc_profile=profile)
        yield f"profile/{name}.tif", by_tifffile(picture(), iccprofile=profile)
        yield f"profile/{name}.webp", by_pillow(picture(), "WEBP", icc_profile=profile)
    for name, packet in (("laughs", LAUGHS), ("outside", OUTSIDE), ("deep", b"<x>" * 20_000), ("zero", b"\x00" * 99)):
        yield f"xmp/{name}.jpg", by_pillow(picture(), "JPEG", xmp=packet)
        yield f"xmp/{name}.tif", by_tifffile(picture(), extratags=[(700, "B", len(packet), packet, True)])
        yield (
            f"xmp/{name}.png",
            png(10, 10, _ROW, png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + packet)),
        )


def _shapes() -> Iterator[tuple[str, bytes]]:
    for height, width in ((1, 1), (1, 100_000), (100_000, 1)):
        for depth in (8, 16):
            samples = np.zeros((height, width, 3), np.uint8 if depth == 8 else np.uint16)
            yield f"shape/{width}x{height}-{depth}.tif", by_tifffile(samples, compression="zlib")
        grey = np.zeros((height, width), np.uint8)
        yield f"shape/{width}x{height}.png", by_pillow(grey, "PNG")
        yield f"shape/{width}x{height}.bmp", by_pillow(grey, "BMP")
    yield "shape/65500x1.jpg", by_pillow(np.zeros((1, 65_500), np.uint8), "JPEG")
    yield "shape/1x65500.jpg", by_pillow(np.zeros((65_500, 1), np.uint8), "JPEG")


def _polyglots() -> Iterator[tuple[str, bytes]]:
    known = seeds()
    jpeg, gif, tif, whole = known["jpeg.jpg"], known["gif.gif"], known["tiff-plain.tif"], known["png.png"]
    yield "polyglot/jpeg-then-zip.jpg", jpeg + b"PK\x03\x04" + bytes(500)
    yield "polyglot/jpeg-then-tiff.jpg", jpeg + tif
    yield "polyglot/gif-and-script.gif", gif[:10] + b"/*" + gif[12:] + b"*/=1;alert(1)"
    yield "polyglot/pdf-then-jpeg.jpg", b"%PDF-1.7\n" + jpeg
    yield "polyglot/png-in-png.png", whole[:33] + png_chunk(b"prVt", whole) + whole[33:]
    yield "polyglot/tiff-of-jpeg.tif", tiff({259: 7}, jpeg)
    yield "polyglot/tiff-of-png.tif", tiff({259: 34933}, whole)
    yield "polyglot/tiff-of-webp.tif", tiff({259: 50001}, known["webp.webp"])
    yield "polyglot/tiff-of-jpeg2000.tif", tiff({259: 34712}, known["jpeg2000.jp2"])
    yield "polyglot/tiff-of-tiff.tif", tiff({}, tif)
    yield "polyglot/svg.png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "polyglot/postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(%pipe%id) (r) file\n"
    yield "polyglot/laughs.xml", LAUGHS
    yield "polyglot/gzip.tif.gz", zlib.compress(tif, wbits=31)
    yield (
        "polyglot/icon-of-png.ico",
        b"\x00\x00\x01\x00\x01\x00" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, 999, 22) + whole,
    )
    yield "polyglot/multi-picture.jpg", jpeg[:2] + b"\xff\xe2\x00\x10MPF\x00II*\x00\x08\x00\x00\x00" + jpeg[2:] + jpeg

"""Files that promise, or unfold into, far more than they are: compressed emptiness, absurd sizes, absurd counts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

from tests.hostile.builders import png, png_chunk, tiff
from tests.hostile.seeds import ICC, by_pillow, by_tifffile, picture, saved, seeds

_MUCH = 100_000_000


def bombs() -> Iterator[tuple[str, bytes]]:
    yield from _png()
    yield from _tiff()
    yield from _jpeg()
    yield from _jpeg2000()
    yield from _others()


@cache
def _emptiness() -> bytes:
    """A hundred megabytes of zeros in a hundred kilobytes."""
    return zlib.compress(bytes(_MUCH), 9)


def _png() -> Iterator[tuple[str, bytes]]:
    emptiness = _emptiness()
    row = zlib.compress(bytes(10 * 31))
    for width, height in ((60_000, 60_000), (0, 5), (2**31 - 1, 1), (1, 2**31 - 1), (2**31, 2**31)):
        yield f"bomb/png-{width}x{height}.png", png(width, height, row)
    yield "bomb/png-promises-196-megapixels.png", png(14_000, 14_000, row)
    yield "bomb/png-unfolds.png", png(10, 10, emptiness)
    yield "bomb/png-text.png", png(10, 10, row, png_chunk(b"zTXt", b"Comment\x00\x00" + emptiness))
    yield (
        "bomb/png-international-text.png",
        png(10, 10, row, png_chunk(b"iTXt", b"XML\x00\x01\x00\x00\x00" + emptiness)),
    )
    yield "bomb/png-profile.png", png(10, 10, row, png_chunk(b"iCCP", b"ICC\x00\x00" + emptiness))
    yield "bomb/png-many-texts.png", png(10, 10, row, png_chunk(b"tEXt", b"a\x00b") * 20_000)
    yield "bomb/png-many-profiles.png", png(10, 10, row, png_chunk(b"iCCP", b"I\x00\x00" + zlib.compress(ICC)) * 200)
    yield "bomb/png-chunk-of-4-gigabytes.png", png(10, 10, row, b"\xff\xff\xff\xfetEXtabc")
    yield "bomb/png-frames.png", png(10, 10, row, png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))


def _tiff() -> Iterator[tuple[str, bytes]]:
    strip = zlib.compress(bytes(100))
    unfolding = _emptiness()
    yield "bomb/tiff-strip-unfolds.tif", tiff({259: 8}, unfolding)
    yield "bomb/tiff-strip-unfolds-twice.tif", tiff({259: 8}, zlib.compress(unfolding, 9))
    yield "bomb/tiff-60000-square.tif", tiff({256: 60_000, 257: 60_000, 278: 60_000, 259: 8}, strip)
    yield "bomb/tiff-wide.tif", tiff({256: 2**32 - 1, 257: 1, 259: 8}, strip)
    yield "bomb/tiff-promises-196-megapixels.tif", tiff({256: 14_000, 257: 14_000, 278: 14_000, 259: 8}, strip)
    yield "bomb/tiff-promises-deep.tif", tiff({256: 14_000, 257: 14_000, 278: 14_000, 258: 16, 259: 8}, strip)
    yield "bomb/tiff-strip-of-4-billion-rows.tif", tiff({278: 2**32 - 1, 259: 8}, strip)
    yield "bomb/tiff-4-gigabyte-strip.tif", tiff({279: 2**32 - 1}, bytes(100))
    yield "bomb/tiff-65535-samples.tif", tiff({277: 65_535}, bytes(100))
    yield "bomb/tiff-65535-bits.tif", tiff({258: 65_535}, bytes(100))
    for side in (16, 4096, 65_520):
        tiled = {322: side, 323: side, 324: "data", 325: len(strip), 273: None, 279: None, 278: None, 259: 8}
        yield f"bomb/tiff-tile-{side}.tif", tiff(tiled, strip)
    tiny = {256: 10_000, 257: 10_000, 322: 1, 323: 1, 324: "data", 325: 1, 273: None, 279: None, 278: None}
    yield "bomb/tiff-tiles-of-one-pixel.tif", tiff(tiny, b"\x00")
    yield "bomb/tiff-tile-of-no-pixel.tif", tiff(tiny | {322: 0, 323: 0}, b"\x00")
    rows = by_tifffile(np.zeros((20_000, 2), np.uint8), rowsperstrip=1, compression="zlib")
    yield "bomb/tiff-20000-strips.tif", rows
    yield "bomb/tiff-20000-strips-cut.tif", rows[: len(rows) // 2]
    yield "bomb/tiff-old-jpeg.tif", tiff({259: 6}, bytes(100))
    yield "bomb/tiff-lerc.tif", tiff({259: 34887}, b"Lerc2 " + bytes(90))


def _jpeg() -> Iterator[tuple[str, bytes]]:
    sound = seeds()["jpeg-progressive.jpg"]
    frame = sound.index(b"\xff\xc2")
    for height, width in ((65_535, 65_535), (14_000, 14_000), (0, 48), (65_500, 1), (1, 65_500)):
        lie = sound[: frame + 5] + struct.pack(">HH", height, width) + sound[frame + 9 :]
        yield f"bomb/jpeg-{width}x{height}.jpg", lie
    scan = sound.index(b"\xff\xda")
    end = sound.index(b"\xff", scan + 20)
    large = sound[: frame + 5] + struct.pack(">HH", 4000, 4000) + sound[frame + 9 :]
    yield "bomb/jpeg-2000-scans.jpg", large[:scan] + large[scan:end] * 2000 + b"\xff\xd9"
    yield (
        "bomb/jpeg-65535-profiles.jpg",
        (sound[:2] + b"\xff\xe2\x00\x14ICC_PROFILE\x00\x01\xffabcd" * 5000 + sound[2:]),
    )
    yield (
        "bomb/jpeg-profile-of-16-megabytes.jpg",
        (
            sound[:2]
            + b"".join(
                b"\xff\xe2\xff\xff" + b"ICC_PROFILE\x00" + bytes([part, 255]) + bytes(65_519) for part in range(1, 256)
            )
            + sound[2:]
        ),
    )
    yield "bomb/jpeg-restarts.jpg", sound[:-2] + b"\xff\xd0\xff\xd1" * 50_000 + b"\xff\xd9"


def _jpeg2000() -> Iterator[tuple[str, bytes]]:
    sound = seeds()["jpeg2000-grey.j2k"]
    siz = sound.index(b"\xff\x51") + 4

    def lie(**fields: int) -> bytes:
        names = ("capability", "x", "y", "x0", "y0", "tile_x", "tile_y", "tile_x0", "tile_y0", "components")
        values = dict(zip(names, struct.unpack_from(">H8IH", sound, siz), strict=True)) | fields
        return sound[:siz] + struct.pack(">H8IH", *values.values()) + sound[siz + 36 :]

    yield "bomb/jpeg2000-tiles-of-one-pixel.j2k", lie(x=10_000, y=10_000, tile_x=1, tile_y=1)
    yield "bomb/jpeg2000-tiles-of-no-pixel.j2k", lie(tile_x=0, tile_y=0)
    yield "bomb/jpeg2000-4-billion-square.j2k", lie(x=2**32 - 1, y=2**32 - 1)
    yield "bomb/jpeg2000-promises-196-megapixels.j2k", lie(x=14_000, y=14_000, tile_x=14_000, tile_y=14_000)
    yield "bomb/jpeg2000-offset.j2k", lie(x0=2**32 - 2, y0=2**32 - 2)
    yield "bomb/jpeg2000-16384-components.j2k", lie(components=16_384)
    yield "bomb/jpeg2000-no-component.j2k", lie(components=0)


def _others() -> Iterator[tuple[str, bytes]]:
    rgb = picture()
    still = Image.fromarray(rgb).quantize(8)
    yield (
        "bomb/gif-1000-frames.gif",
        saved(
            still, "GIF", save_all=True, append_images=[still.rotate(90 * (n % 4)) for n in range(1000)], optimize=False
        ),
    )
    gif = seeds()["gif.gif"]
    yield "bomb/gif-65535-square.gif", gif[:6] + struct.pack("<HH", 65_535, 65_535) + gif[10:]
    yield "bomb/gif-14000-square.gif", gif[:6] + struct.pack("<HH", 14_000, 14_000) + gif[10:]
    webp = seeds()["webp-moving.webp"]
    canvas = webp.index(b"VP8X") + 12
    yield "bomb/webp-canvas.webp", webp[:canvas] + b"\xff\xff\xff\xff\xff\xff" + webp[canvas + 6 :]
    yield "bomb/webp-canvas-14000.webp", webp[:canvas] + (b"\xaf\x36\x00" * 2) + webp[canvas + 6 :]
    avif = seeds()["avif.avif"]
    extent = avif.index(b"ispe") + 8
    for side in (14_000, 65_536, 2**32 - 1):
        yield f"bomb/avif-{side}.avif", avif[:extent] + struct.pack(">II", side, side) + avif[extent + 8 :]
    bmp = by_pillow(rgb, "BMP")
    for width, height in ((14_000, 14_000), (2**31 - 1, 2**31 - 1), (48, -(2**31)), (0, 0), (1, 2**31 - 1)):
        yield f"bomb/bmp-{width}x{height}.bmp", bmp[:18] + struct.pack("<ii", width, height) + bmp[26:]
    for header in (b"P6 99999999 99999999 255\n", b"P5 14000 14000 255\n", b"P5 14000 14000 65535\n", b"P6 1 1 0\n"):
        yield f"bomb/pnm-{header[:20].decode().strip().replace(' ', '-')}.ppm", header + bytes(100)
    yield "bomb/pnm-plain.ppm", b"P3 14000 14000 255\n" + b"1 2 3 " * 1000

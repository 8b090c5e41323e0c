"""The size of an image from its header, before any pixel is decoded: an upper bound, to reserve memory and time by."""

from __future__ import annotations

import io
import re
import struct
import zlib

import tifffile
from PIL import Image

from pipeline.codecs.tiff import is_tiff
from pipeline.memory import Size

# A TIFF's later pages count too, should one of them be the scan; no more of them than this.
_PAGES = 16
# ImageSpatialExtentsProperty (ISO/IEC 23008-12, 6.5.3): four bytes of version and flags, width, height.
_ISPE = re.compile(rb"\x00\x00\x00\x14ispe....(.{8})", re.DOTALL)
_ISO_MEDIA_HEAD = 1 << 20
_EIGHT_BITS = ("JPEG", "MPO", "WEBP", "GIF", "BMP")
_UNREADABLE = (
    *(
        OSError,
        EOFError,
        SyntaxError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RuntimeError,
    ),
    *(struct.error, zlib.error),
)


def measure(data: bytes) -> Size | None:
    """The largest image that `data` promises, or None where no header can be read: decoding will say what is wrong."""
    try:
        if is_tiff(data):
            return _tiff(data)
        if data[4:8] == b"ftyp":
            return _iso_media(data)
        with Image.open(io.BytesIO(data)) as image:
            depth = 8 if image.format in _EIGHT_BITS else 16
            return Size(image.width, image.height, max(3, len(image.getbands())), depth)
    except _UNREADABLE:
        return None


def _tiff(data: bytes) -> Size | None:
    found = None
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for number in range(_PAGES):
            try:
                page = file.pages[number]
            except IndexError:
                break
            size = Size(page.imagewidth, page.imagelength, page.samplesperpixel, 16 if page.bitspersample > 8 else 8)
            if found is None or size.pixels > found.pixels:
                found = size
    return found


def _iso_media(data: bytes) -> Size | None:
    extents = [struct.unpack(">II", match) for match in _ISPE.findall(data[:_ISO_MEDIA_HEAD])]
    width, height = max(extents, key=lambda extent: extent[0] * extent[1], default=(0, 0))
    return Size(width, height, 4, 16) if width and height else None

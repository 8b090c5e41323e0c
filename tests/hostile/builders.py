"""PNG and TIFF written by hand, so that every field can lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
Value = int | str | tuple[int, ...] | None


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, packed: bytes, *before: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """packed: the zlib stream of IDAT. before: whole chunks between header and data."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return _SIGNATURE + header + b"".join(before) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def tiff(lies: Mapping[int, Value], data: bytes, following: int = 0, extra: bytes = b"") -> bytes:
    """A little-endian greyscale TIFF of 10 x 10, 8 bits, one strip, with `lies` in place of its tags.

    A value of None leaves the tag out; "data", "directory" and "extra" are the places of those in the file. following: where
    the next directory is; -1 for this one. extra: bytes behind the data.
    """
    sound = {256: 10, 257: 10, 258: 8, 259: 1, 262: 1, 273: "data", 277: 1, 278: 10, 279: len(data)}
    plain: dict[int, Value] = {**sound, **lies}
    tags = sorted((code, value) for code, value in plain.items() if value is not None)
    start = 8 + 2 + 12 * len(tags) + 4
    places = {"data": start, "directory": 8, "extra": start + len(data)}
    packed = struct.pack("<H", len(tags))
    for code, value in tags:
        if isinstance(value, tuple):
            # Type, count and value or offset, as they are.
            packed += struct.pack("<HHII", code, *value)
        else:
            number = places[value] if isinstance(value, str) else value
            packed += struct.pack("<HHII", code, 4, 1, number & 0xFFFFFFFF)
    return (
        b"II*\x00" + struct.pack("<I", 8) + packed + struct.pack("<I", 8 if following < 0 else following) + data + extra
    )

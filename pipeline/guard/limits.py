"""How much time and memory the decoding of one photograph may take, and which metadata are too large to carry."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Metadata beyond these lengths are no metadata any more. The largest profiles in use have 4 MB.
MOST_BYTES = {"icc": 16 << 20, "exif": 16 << 20, "xmp": 64 << 20, "iptc": 16 << 20}
_ICC_HEADER = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one photograph's decoding.

    seconds: wall-clock time that every file gets. seconds_per_megapixel: added for each megapixel that its header promises,
    but never for more than 16 megapixels a megabyte of file: a small file that promises much gets little.
    memory: bytes that every file gets beside what an idle decoder holds. memory_per_pixel: added for each pixel; the widest
    sample layout (16-bit RGBA) has 8 bytes, and the costliest conversion on the way holds five such images at once.
    memory_per_byte: added for each byte of the file. decodes: after so many a decoder is replaced, so that leaks do not add up.
    """

    seconds: float = 15.0
    seconds_per_megapixel: float = 1.0
    memory: int = 512 << 20
    memory_per_pixel: int = 40
    memory_per_byte: int = 3
    decodes: int = 2000

    def allowed_seconds(self, file_bytes: int, pixels: int) -> float:
        return self.seconds + self.seconds_per_megapixel * min(pixels, 16 * file_bytes) / 1e6

    def allowed_memory(self, file_bytes: int, pixels: int) -> int:
        """Bytes of private memory (RLIMIT_DATA) beyond what the idle decoder holds."""
        return self.memory + self.memory_per_byte * file_bytes + self.memory_per_pixel * pixels


def icc_fault(icc: bytes) -> str | None:
    """Why these bytes are no ICC profile (ICC.1:2022, 7.2 and 7.3), or None. Looks at the frame, not into the tags."""
    if len(icc) < _ICC_HEADER + 4:
        return f"{len(icc)} bytes are too few for a profile"
    [size] = struct.unpack_from(">I", icc, 0)
    if icc[36:40] != b"acsp":
        return "the signature of a profile is missing"
    if size > len(icc):
        return f"the profile says that it has {size:,} bytes, and {len(icc):,} are there"
    [tags] = struct.unpack_from(">I", icc, _ICC_HEADER)
    if _ICC_HEADER + 4 + 12 * tags > size:
        return f"the profile says that it has {tags:,} tags, for which it is too short"
    for number in range(tags):
        start, length = struct.unpack_from(">II", icc, _ICC_HEADER + 4 + 12 * number + 4)
        if start + length > size:
            return "a tag of the profile lies outside it"
    return None

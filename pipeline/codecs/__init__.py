"""Files to photographs and back, in the photograph's own depth, with profile and metadata.

`raster` reads what Pillow reads, `tiff` reads and writes TIFF, `metadata` knows EXIF, XMP and resolution.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from PIL import UnidentifiedImageError

from pipeline.codecs import raster, tiff
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Photograph

SUFFIXES: Mapping[str, str] = MappingProxyType({"tiff": ".tif", "png": ".png", "jpeg": ".jpg"})
READABLE = frozenset(
    {
        *(".tif", ".tiff", ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".jp2"),
        # Known for photographs and refused with a reason, so that nobody takes them for left out.
        *(".heic", ".avif", ".dng"),
    }
)
ENCODERS: Mapping[str, Callable[[Photograph, int], bytes]] = MappingProxyType(
    {"tiff": tiff.encode, "png": raster.encode_png, "jpeg": raster.encode_jpeg}
)


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """The photograph in `data`. Raises ItemError: not-an-image, truncated, too-large or unsupported."""
    try:
        reader = tiff.decode if tiff.is_tiff(data) else raster.decode
        return reader(data, item_id, max_pixels)
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp":
            raise ItemError(Reason.UNSUPPORTED, f"HEIF or another ISO media file ({data[8:12]!r})") from error
        raise ItemError(Reason.NOT_AN_IMAGE, "the bytes are in no image format that is known here") from error
    except (OSError, EOFError, SyntaxError, struct.error, zlib.error) as error:
        raise ItemError(Reason.TRUNCATED, f"the image data are broken or end too soon: {error}") from error
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        # What codecs raise where a file contradicts itself; none of it is ours to foresee.
        raise ItemError(Reason.TRUNCATED, f"the image data contradict themselves: {error}") from error


def encode(photograph: Photograph, file_format: str, jpeg_quality: int = 95) -> bytes:
    """The photograph as a file; the same photograph gives the same bytes. Raises ItemError: unsupported."""
    return ENCODERS[file_format](photograph, jpeg_quality)

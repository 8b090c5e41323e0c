"""Files to photographs and back, in the photograph's own depth, with profile and metadata. See docs/formats.md.

One module a format; `ifd`, `exif`, `iptc`, `icc`, `bmff`, `jpeg_xmp` and `metadata` know what stands beside the pixels,
`samples` and `cms` what the pixels mean.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from PIL import UnidentifiedImageError

from pipeline.codecs import avif, heif, jp2, jpeg, png, simple, tiff, tiff_write, webp
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Photograph

SUFFIXES: Mapping[str, str] = MappingProxyType(
    {"tiff": ".tif", "jp2": ".jp2", "jpeg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif"}
)
READABLE = frozenset(
    {
        *(".tif", ".tiff", ".btf", ".tf8", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        *(".heic", ".heif", ".hif", ".avif"),
        # Known for photographs and refused with a reason, so that nobody takes them for left out.
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".psd", ".psb", ".jxl", ".jxr"),
    }
)
ENCODERS: Mapping[str, Callable[[Photograph, int | None], bytes]] = MappingProxyType(
    {
        "tiff": tiff_write.encode,
        "jp2": jp2.encode,
        "jpeg": jpeg.encode,
        "png": png.encode,
        "webp": webp.encode,
        "avif": avif.encode,
    }
)
FileFormat = Literal["tiff", "jp2", "jpeg", "png", "webp", "avif"]
PagePolicy = Literal["first", "refuse"]
_Decoder = Callable[[bytes, str, int], Photograph]
# What is recognised by its first bytes and refused by name.
_REFUSED: Mapping[bytes, str] = MappingProxyType(
    {
        b"8BPS": "a Photoshop document; save it as TIFF first",
        b"%PDF": "a PDF document; extract its images first",
        b"%!PS": "a PostScript document",
        b"\xff\x0a": "JPEG XL",
        b"\x00\x00\x00\x0cJXL ": "JPEG XL",
        b"II\xbc\x01": "JPEG XR",
        b"IIRO": "an Olympus raw file; develop it first",
        b"IIRS": "an Olympus raw file; develop it first",
        b"MMOR": "an Olympus raw file; develop it first",
        b"IIU\x00": "a Panasonic raw file; develop it first",
        b"FUJIFILMCCD-RAW": "a Fujifilm raw file; develop it first",
        b"FOVb": "a Sigma raw file; develop it first",
        b"AT&TFORM": "a DjVu document",
        b"SIMPLE  =": "FITS",
        b"v/1\x01": "OpenEXR, whose floating-point samples have no agreed white",
        b"#?RADIANCE": "Radiance HDR, whose floating-point samples have no agreed white",
    }
)


def decode(data: bytes, item_id: str, max_pixels: int, pages: PagePolicy = "first") -> Photograph:
    """The photograph in `data`. Raises ItemError: not-an-image, truncated, too-large or unsupported.

    pages: of a file with several, the first is taken, or the file is refused.
    """
    try:
        photograph = _decoder(data)(data, item_id, max_pixels)
    except UnidentifiedImageError as error:
        raise ItemError(Reason.TRUNCATED, "the file starts like an image and is none") from error
    except (OSError, EOFError, SyntaxError, struct.error, zlib.error) as error:
        raise ItemError(Reason.TRUNCATED, f"the image data are broken or end too soon: {error}") from error
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        # What codecs raise where a file contradicts itself; none of it is ours to foresee.
        raise ItemError(Reason.TRUNCATED, f"the image data contradict themselves: {error}") from error
    if pages == "refuse" and photograph.container.pages > 1:
        raise ItemError(
            Reason.UNSUPPORTED, f'{photograph.container.pages} pages in one file, and the job says pages = "refuse"'
        )
    return photograph


def _decoder(data: bytes) -> _Decoder:
    """By the first bytes: names of files say little. Raises ItemError: not-an-image, unsupported."""
    for head, what in _REFUSED.items():
        if data.startswith(head):
            raise ItemError(Reason.UNSUPPORTED, f"{what}")
    for is_it, decoder in (
        (tiff.is_tiff(data), tiff.decode),
        (data.startswith(jpeg.SIGNATURE), jpeg.decode),
        (data.startswith(png.SIGNATURE) and len(data) > len(png.SIGNATURE), png.decode),
        (webp.is_webp(data), webp.decode),
        (jp2.is_jp2(data), jp2.decode),
        (heif.is_iso_media(data), heif.decode),
        (simple.is_simple(data), simple.decode),
    ):
        if is_it:
            return decoder
    raise ItemError(Reason.NOT_AN_IMAGE, "the bytes are in no image format that is known here")


def encode(photograph: Photograph, file_format: str, quality: int | None = None) -> bytes:
    """The photograph as a file; the same photograph gives the same bytes. Raises ItemError: unsupported.

    quality: 1..100 for jpeg (95 where none is said), webp and avif (lossless where none is said).
    """
    return ENCODERS[file_format](photograph, quality)

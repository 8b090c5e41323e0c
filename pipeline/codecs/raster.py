"""JPEG, PNG, JPEG 2000, WebP, BMP, GIF and PNM in; PNG and JPEG out."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.codecs.metadata import ORIENTATION, exif_bytes, sane_dpi, turned_dpi, upright, upright_xmp
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph, Pixels

_PLAIN_MODES = {"L", "RGB", "RGBA", "LA"}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNM_HEADER = re.compile(rb"P[56]\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*(\d+)")
# A JPEG 2000 codestream begins with SOC and SIZ; the components' depths end the SIZ segment (ISO/IEC 15444-1, A.5.1).
_JP2_SIZ = b"\xff\x4f\xff\x51"
_JPEG_SEGMENT = 65_500


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    with _no_pillow_limit():
        image = Image.open(io.BytesIO(data))
        check_size(image.width, image.height, max_pixels)
        exif = image.getexif()
        orientation = exif.get(ORIENTATION, 1)
        dpi = image.info.get("dpi")
        container = Container(
            format=image.format or "unknown",
            icc=image.info.get("icc_profile") or None,
            exif=exif_bytes(exif),
            xmp=upright_xmp(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")),
            dpi=turned_dpi((float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None, orientation),
        )
        return assemble(item_id, upright(_samples(image, data), orientation), container)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Asked of the header, before any pixel is decoded."""
    if width * height > max_pixels:
        raise ItemError(
            Reason.TOO_LARGE, f"{width} x {height} pixels are over the limit of {max_pixels / 1e6:g} megapixels"
        )


def assemble(item_id: str, samples: NDArray[Any], container: Container) -> Photograph:
    """samples: H x W or H x W x 1..4, 8 or 16 bits; an even number of channels means that the last is alpha."""
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4) or samples.dtype.name not in ("uint8", "uint16"):
        raise ItemError(Reason.UNSUPPORTED, f"samples of shape {samples.shape} and type {samples.dtype}")
    colours = 1 if samples.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(samples[..., colours]) if samples.shape[2] > colours else None
    return Photograph(item_id, np.ascontiguousarray(samples[..., :colours]), container, alpha)


def _samples(image: Image.Image, data: bytes) -> Pixels:
    """Pillow narrows 16-bit colour to 8 bits, so such files go to the codec itself."""
    if image.format == "PNG" and data[24:25] == b"\x10":
        return _three_axes(imagecodecs.png_decode(data))
    if image.format == "JPEG2000":
        return _jpeg2000(data)
    if image.format == "PPM" and (header := _PNM_HEADER.match(data)) and int(header[1]) > 255:
        return _deep_pnm(data, int(header[1]))
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    elif image.mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode not in _PLAIN_MODES:
        raise ItemError(Reason.UNSUPPORTED, f"{image.format} with {image.mode} samples")
    return _three_axes(np.array(image))


def _three_axes(samples: NDArray[Any]) -> Pixels:
    return samples[..., None] if samples.ndim == 2 else samples


def _jpeg2000(data: bytes) -> Pixels:
    start = data.find(_JP2_SIZ) + 40
    [components] = struct.unpack(">H", data[start : start + 2])
    depths = {(data[start + 2 + 3 * number] & 0x7F) + 1 for number in range(components)}
    if depths not in ({8}, {16}):
        raise ItemError(Reason.UNSUPPORTED, f"JPEG 2000 with {sorted(depths)} bits a sample")
    return _three_axes(imagecodecs.jpeg2k_decode(data))


def _deep_pnm(data: bytes, most: int) -> Pixels:
    if most != 65535:
        raise ItemError(Reason.UNSUPPORTED, f"PNM whose white is {most}")
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise ItemError(Reason.TRUNCATED, "the PNM data end too soon")
    return _three_axes(samples)[..., ::-1]


def joined(photograph: Photograph) -> Pixels:
    """H x W or H x W x 2..4: colours, then alpha."""
    if photograph.alpha is not None:
        return np.concatenate([photograph.pixels, photograph.alpha[..., None]], axis=2)
    return photograph.pixels if photograph.pixels.shape[2] == 3 else photograph.pixels[..., 0]


def encode_png(photograph: Photograph, _quality: int) -> bytes:
    data = bytes(imagecodecs.png_encode(np.ascontiguousarray(joined(photograph)), level=6))
    return _add_png_chunks(data, photograph.container)


def _add_png_chunks(data: bytes, container: Container) -> bytes:
    """Profile, resolution, XMP and EXIF behind the header, as PNG (third edition) orders them."""
    chunks = []
    if container.icc is not None:
        chunks.append((b"iCCP", b"ICC\x00\x00" + zlib.compress(container.icc, 9)))
    if (dpi := sane_dpi(container, (2**31 - 1) * 0.0254)) is not None:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1)))
    if container.xmp is not None:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + container.xmp))
    if container.exif is not None:
        chunks.append((b"eXIf", container.exif))
    header = len(_PNG_SIGNATURE) + 25
    packed = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:header] + packed + data[header:]


def encode_jpeg(photograph: Photograph, quality: int) -> bytes:
    container = photograph.container
    for present, what in (
        (photograph.peak != 255, "16-bit samples"),
        (photograph.alpha is not None, "an alpha channel"),
        (len(container.xmp or b"") > _JPEG_SEGMENT, "XMP of this length"),
        (len(container.exif or b"") > _JPEG_SEGMENT, "EXIF of this length"),
        (max(photograph.width, photograph.height) > 65_500, "a side of this length"),
    ):
        if present:
            raise ItemError(Reason.UNSUPPORTED, f"JPEG cannot hold {what}; choose [output] format tiff or png")
    options: dict[str, Any] = {"quality": quality, "subsampling": 0, "optimize": True}
    if container.icc is not None:
        options["icc_profile"] = container.icc
    if container.exif is not None:
        options["exif"] = b"Exif\x00\x00" + container.exif
    if container.xmp is not None:
        options["xmp"] = container.xmp
    if (dpi := sane_dpi(container, 65_535)) is not None:
        options["dpi"] = tuple(round(value) for value in dpi)
    target = io.BytesIO()
    Image.fromarray(joined(photograph)).save(target, "JPEG", **options)
    return target.getvalue()


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Pillow's own bomb limit is a global of 179 megapixels; ours is checked on the header, before any pixel."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit

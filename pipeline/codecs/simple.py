"""BMP, GIF and PNM in, through Pillow; deep PNM by hand, since Pillow narrows it."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
from PIL import Image

from pipeline.codecs.metadata import clean_xmp
from pipeline.codecs.samples import assemble, check_size, no_pillow_limit, to_full_range
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph, Pixels

_SPACE = rb"(?:\s+(?:#[^\n]*\n\s*)*)"
_PNM = re.compile(rb"P([2356])" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)\s")
_EMBEDDED = b"DEBM"
_PLAIN = {"L", "LA", "RGB", "RGBA"}


def is_simple(data: bytes) -> bool:
    return data[:2] == b"BM" or data[:6] in (b"GIF87a", b"GIF89a") or bool(re.match(rb"P[1-6]\s", data))


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """BMP, GIF (its first frame) and PNM."""
    if data[:1] == b"P" and (header := _PNM.match(data)) and int(header[4]) > 255:
        return _deep_pnm(data, header, item_id, max_pixels)
    with no_pillow_limit():
        image = Image.open(io.BytesIO(data), formats=("BMP", "DIB", "GIF", "PPM"))
        check_size(image.width, image.height, max_pixels)
        name = {"PPM": "PNM", "DIB": "BMP"}.get(image.format or "", image.format or "unknown")
        xmp, _ = clean_xmp(image.info.get("xmp") if isinstance(image.info.get("xmp"), bytes) else None)
        container = Container(
            format=name,
            icc=_bmp_profile(data) if name == "BMP" else None,
            xmp=xmp,
            dpi=_bmp_resolution(data) if name == "BMP" else None,
            pages=int(getattr(image, "n_frames", 1)),
        )
        return assemble(item_id, _samples(image), container)


def _samples(image: Image.Image) -> Pixels:
    image.seek(0)
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    elif image.mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode not in _PLAIN:
        raise ItemError(Reason.UNSUPPORTED, f"{image.format} with {image.mode} samples")
    return np.array(image)


def _bmp_resolution(data: bytes) -> tuple[float, float] | None:
    """Pixels a metre, which all headers but the oldest have at the same place."""
    if len(data) < 46 or struct.unpack_from("<I", data, 14)[0] < 40:
        return None
    x, y = struct.unpack_from("<ii", data, 38)
    return (x * 0.0254, y * 0.0254) if x > 0 and y > 0 else None


def _bmp_profile(data: bytes) -> bytes | None:
    """The profile that a version 5 header points to, counted from that header."""
    if len(data) < 138 or struct.unpack_from("<I", data, 14)[0] < 124 or data[70:74] != _EMBEDDED:
        return None
    start, size = struct.unpack_from("<II", data, 14 + 112)
    profile = data[14 + start : 14 + start + size]
    return profile if size and len(profile) == size else None


def _deep_pnm(data: bytes, header: re.Match[bytes], item_id: str, max_pixels: int) -> Photograph:
    """Binary grey (P5) or RGB (P6) of two bytes a sample, the larger first."""
    width, height, white = int(header[2]), int(header[3]), int(header[4])
    check_size(width, height, max_pixels)
    if header[1] not in (b"5", b"6") or white > 65535:
        raise ItemError(Reason.UNSUPPORTED, f"PNM of type P{header[1].decode()} whose white is {white}")
    channels = 3 if header[1] == b"6" else 1
    if len(data) - header.end() < width * height * channels * 2:
        raise ItemError(Reason.TRUNCATED, "the PNM data end too soon")
    samples = np.frombuffer(data, ">u2", width * height * channels, header.end()).astype(np.uint16)
    note = None if white == 65535 else f"samples of 0 to {white} spread over 16 bits"
    return assemble(
        item_id,
        to_full_range(samples.reshape(height, width, channels), white),
        Container(format="PNM", conversion=note),
    )

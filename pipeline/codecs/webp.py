"""WebP in and out (RFC 9649): Pillow codes the pixels and keeps the chunks beside them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from pipeline.codecs import exif
from pipeline.codecs.icc import colour_space
from pipeline.codecs.metadata import clean_xmp, sane_dpi
from pipeline.codecs.samples import assemble, check_size, joined, no_pillow_limit
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph

_MOST_SIDE = 16_383


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def decode(data: bytes, item_id: str, max_pixels: int) -> Photograph:
    """Lossy and lossless, with and without alpha; of an animation the first frame."""
    chunks: dict[bytes, bytes] = {}
    for kind, body in _chunks(data):
        chunks.setdefault(kind, body)
    with no_pillow_limit():
        image: Image.Image = Image.open(io.BytesIO(data), formats=("WEBP",))
        check_size(image.width, image.height, max_pixels)
        frames = int(getattr(image, "n_frames", 1))
        if image.mode not in ("RGB", "RGBA"):
            image = image.convert("RGBA" if "A" in image.mode or "a" in image.mode else "RGB")
        samples = np.array(image)
    cleaned = exif.clean(chunks.get(b"EXIF"))
    xmp, turn = clean_xmp(chunks.get(b"XMP "))
    orientation = cleaned.orientation or turn
    container = Container(
        format="WEBP",
        icc=chunks.get(b"ICCP") or None,
        exif=cleaned.block,
        xmp=xmp,
        dpi=cleaned.dpi,
        pages=frames,
    )
    return assemble(item_id, samples, container, orientation)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind in (b"ICCP", b"EXIF", b"XMP "):
            yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def encode(photograph: Photograph, quality: int | None) -> bytes:
    """Lossless, or lossy of `quality`. Grey is stored as RGB of three equal channels. Raises ItemError: unsupported."""
    container = photograph.container
    grey_profile = photograph.pixels.shape[2] == 1 and colour_space(container.icc) == "GRAY"
    for present, what in (
        (photograph.peak != 255, "16-bit samples"),
        (max(photograph.width, photograph.height) > _MOST_SIDE, f"a side over {_MOST_SIDE:,} pixels"),
        (grey_profile, "a grey profile"),
    ):
        if present:
            raise ItemError(Reason.UNSUPPORTED, f"WebP cannot hold {what}; choose [output] format tiff, png or jp2")
    options: dict[str, Any] = {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    dpi = sane_dpi(container, 1e6)
    block = exif.truthful(container.exif, photograph.width, photograph.height, dpi, carries_dpi=False)
    blocks = {"icc_profile": container.icc, "exif": block, "xmp": container.xmp}
    options |= {name: value for name, value in blocks.items() if value is not None}
    image = Image.fromarray(joined(photograph))
    target = io.BytesIO()
    image.convert("RGBA" if photograph.alpha is not None else "RGB").save(target, "WEBP", method=4, **options)
    return target.getvalue()

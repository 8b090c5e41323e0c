"""Arrays of samples between a codec and a photograph: size, depth, range, alpha."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.codecs.metadata import upright
from pipeline.errors import ItemError, Reason
from pipeline.photograph import Container, Photograph, Pixels

# Rows that are worked on at once where a conversion needs floats: what bounds its memory.
BAND = 256


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Asked of the header, before any pixel is decoded."""
    if width * height > max_pixels:
        raise ItemError(
            Reason.TOO_LARGE, f"{width} x {height} pixels are over the limit of {max_pixels / 1e6:g} megapixels"
        )


def assemble(
    item_id: str, samples: NDArray[Any], container: Container, orientation: int = 1, *, is_upright: bool = False
) -> Photograph:
    """samples: H x W or H x W x 1..4, 8 or 16 bits, as stored; an even number of channels means that the last is alpha.
    orientation: as EXIF has it (tag 274); the photograph stands upright, and its resolution goes with it. is_upright: the
    decoder has turned the samples, and not the resolution."""
    samples = three_axes(samples)
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4) or samples.dtype.name not in ("uint8", "uint16"):
        raise ItemError(Reason.UNSUPPORTED, f"samples of shape {samples.shape} and type {samples.dtype}")
    if 0 in samples.shape:
        raise ItemError(Reason.TRUNCATED, "the image has no pixels")
    samples = samples if is_upright else upright(samples, orientation)
    dpi = container.dpi[::-1] if container.dpi is not None and orientation in (5, 6, 7, 8) else container.dpi
    container = replace(container, dpi=dpi, orientation=orientation if 1 <= orientation <= 8 else 1)
    colours = 1 if samples.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(samples[..., colours]) if samples.shape[2] > colours else None
    return Photograph(item_id, np.ascontiguousarray(samples[..., :colours]), container, alpha)


def joined(photograph: Photograph) -> Pixels:
    """H x W or H x W x 2..4: colours, then alpha."""
    if photograph.alpha is not None:
        return np.concatenate([photograph.pixels, photograph.alpha[..., None]], axis=2)
    return photograph.pixels if photograph.pixels.shape[2] == 3 else photograph.pixels[..., 0]


def three_axes(samples: NDArray[Any]) -> Pixels:
    return samples[..., None] if samples.ndim == 2 else samples


def to_full_range(samples: NDArray[Any], white: int) -> Pixels:
    """Samples of 0..white spread over 0..255 or, where white is above 255, over 0..65535, rounded to nearest.

    One to one: the stored values can be had back with the inverse. Samples that fill the range pass untouched.
    """
    dtype, peak = (np.uint8, 255) if white <= 255 else (np.uint16, 65535)
    if white == peak:
        return samples.astype(dtype, copy=False)
    table = (np.arange(white + 1, dtype=np.int64) * (2 * peak) + white) // (2 * white)
    if int(samples.max(initial=0)) > white:
        raise ItemError(Reason.TRUNCATED, f"a sample is larger than the file's own white of {white}")
    spread: Pixels = table.astype(dtype)[samples]
    return spread


def divide_by_alpha(samples: NDArray[Any]) -> Pixels:
    """Takes premultiplied alpha back (TIFF 6.0, ExtraSamples 1). H x W x 2 or 4, alpha last; works on bands of rows."""
    peak = np.iinfo(samples.dtype).max
    result = samples.copy()
    for top in range(0, samples.shape[0], BAND):
        band = samples[top : top + BAND]
        colours = np.rint(band[..., :-1] * (peak / np.maximum(band[..., -1:].astype(np.float64), 1)))
        result[top : top + BAND, :, :-1] = np.minimum(colours, peak)
    return result


def depth_note(bits: int) -> str | None:
    """What a reader of the record should know of samples that were spread."""
    return None if bits in (1, 8, 16) else f"{bits}-bit samples spread over {8 if bits < 8 else 16} bits"


@contextmanager
def no_pillow_limit() -> Iterator[None]:
    """Pillow's own bomb limit is a global of 179 megapixels; ours is checked on the header, before any pixel."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit

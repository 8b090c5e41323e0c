"""The maps of a photograph as files: small grey pictures of where it was edited, and where detail was invented."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipeline.colour_space import Floats
from pipeline.honesty.measure import Shown

LONGEST = 256
# CIEDE2000 that is shown white.
EDITS_WHITE = 20.0
_LEVEL = 6


def edit_map(shown: Shown) -> bytes:
    """PNG, 8-bit grey: 255 stands for 20 CIEDE2000 and more. Each pixel is the most of the area that it stands for."""
    return _png(shown.edits / np.float32(EDITS_WHITE))


def invented_map(shown: Shown) -> bytes:
    """PNG, 8-bit grey, of the same size: 255 for what is beyond doubt invented."""
    return _png(shown.invented)


def _png(plane: Floats) -> bytes:
    grey = np.rint(np.clip(_most(plane), 0, 1) * 255).astype(np.uint8)
    target = io.BytesIO()
    Image.fromarray(grey).save(target, "PNG", compress_level=_LEVEL)
    return target.getvalue()


def _most(plane: Floats) -> Floats:
    """The maxima of squares, of a side that leaves at most LONGEST of them along the longer side."""
    side = -(-max(plane.shape) // LONGEST)
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % side), (0, -width % side)))
    most: Floats = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side).max(axis=(1, 3))
    return most

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.removal.inpainting import inpaint

Samples = NDArray[np.uint8] | NDArray[np.uint16]


def calm(height: int = 120, width: int = 160, dtype: str = "uint8", channels: int = 3) -> Samples:
    peak = np.iinfo(dtype).max
    slope = np.linspace(0.3, 0.7, width)[None, :, None] + np.linspace(0, 0.1, height)[:, None, None]
    tint = np.array([1.0, 0.8, 0.6])[:channels]
    return np.ascontiguousarray(np.rint(slope * tint * peak).astype(dtype))


def test_everything_damaged_is_no_trouble() -> None:
    pixels = calm(20, 30)
    result = inpaint(pixels, np.ones((20, 30), bool), 3.0)
    assert result.shape == pixels.shape

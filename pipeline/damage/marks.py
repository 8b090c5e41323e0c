"""What a network is shown of a photograph beside its pixels, so that it need not learn what morphology knows."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Radii, in pixels, of what top-hats call thin.
_RADII = (2, 5, 12)
# Side, in pixels, of the square in which lightness varies by noise and texture.
_AROUND = 15
# Top-hats and deviations are about a tenth of the pixels' range; this brings them to it.
_GAIN = np.float32(4)
PLANES = 2 * len(_RADII) + 1


def marks(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """H x W x 3 in 0..1 to H x W x 7: how far each pixel's lightness stands above and below what is wider than a square of each
    radius (white and black top-hats; Serra, 1982), and the standard deviation of lightness around it.

    The edge of what is wide leaves no trace in a top-hat; against the deviation marks are told from grain.
    """
    light = pixels.mean(axis=2, dtype=np.float32)
    found = []
    for radius in _RADII:
        square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
        found.append(cv2.morphologyEx(light, cv2.MORPH_TOPHAT, square))
        found.append(cv2.morphologyEx(light, cv2.MORPH_BLACKHAT, square))
    size = (_AROUND, _AROUND)
    mean = cv2.blur(light, size, borderType=cv2.BORDER_REFLECT)
    variance = cv2.sqrBoxFilter(light, cv2.CV_32F, size, borderType=cv2.BORDER_REFLECT) - mean * mean
    found.append(np.sqrt(np.maximum(variance, 0)))
    planes: NDArray[np.float32] = np.stack(found, axis=2) * _GAIN
    return planes


def shown(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """H x W x 3 in 0..1 to H x W x 10 about zero: pixels, then their marks."""
    planes: NDArray[np.float32] = np.concatenate([pixels - np.float32(0.5), marks(pixels)], axis=2)
    return planes

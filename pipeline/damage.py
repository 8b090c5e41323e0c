"""Classical detector of scratches and dust: thin or small, much lighter or darker than what surrounds it, on calm ground.

Top-hat and black-hat transforms (Serra, 1982) find what is narrower than a disc. A finding has to stand out from the noise
and from the texture around it, and has to be long and thin or small and alone: leaves, lace and lettering are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.measures import noise_sigma
from pipeline.photograph import Mask

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """contrast: least difference from the surroundings, luma 0..1. noise: the same in standard deviations of the noise.
    texture: the same in multiples of the mean response around. limit: fraction of pixels above which a photograph is
    taken to be textured rather than damaged, and nothing is flagged."""

    contrast: float = 0.10
    noise: float = 5.0
    texture: float = 4.0
    limit: float = 0.05


def find_damage(grey: Plane, settings: DetectorSettings) -> tuple[Mask, bool]:
    """grey: H x W luma, 0..1. Returns the mask, grown by the width of a scan's blur, and whether it was held back."""
    height, width = grey.shape
    size = _odd(max(5, round(min(height, width) / 80)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    padded = cv2.copyMakeBorder(grey, size, size, size, size, cv2.BORDER_REFLECT_101) if min(grey.shape) > size else grey
    found = np.zeros(padded.shape, bool)
    sigma = noise_sigma(grey)
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        response = cv2.morphologyEx(padded, operation, disc)
        found |= _candidates(response, sigma, size, settings)
    if padded is not grey:
        found = found[size:-size, size:-size]
    grown: Mask = cv2.dilate(found.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=1).astype(bool)
    if grown.mean() > settings.limit:
        return np.zeros_like(grown), True
    return grown, False


def _candidates(response: Plane, sigma: float, size: int, settings: DetectorSettings) -> Mask:
    around = cv2.blur(response, (size * 5, size * 5))
    threshold = np.maximum(settings.texture * around, max(settings.contrast, settings.noise * sigma))
    strong = response > threshold
    weak = (response > threshold * 0.5).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(weak, connectivity=8)
    seeded = np.zeros(count, bool)
    seeded[np.unique(labels[strong])] = True
    seeded[0] = False
    area = boxes[:, cv2.CC_STAT_AREA]
    longest = np.maximum(boxes[:, cv2.CC_STAT_WIDTH], boxes[:, cv2.CC_STAT_HEIGHT])
    # A line's area is its length times a width below the disc's; letters and leaves fill more of their box.
    line = (longest >= 3 * size) & (area <= longest * size * 0.6)
    spot = (longest <= 2 * size) & (area >= 4)
    keep = seeded & (line | spot)
    mask: Mask = keep[labels]
    return mask


def _odd(number: int) -> int:
    return number | 1

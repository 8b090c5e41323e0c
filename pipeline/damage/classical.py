"""Classical detector of scratches and dust: thin or small, much lighter or darker than what surrounds it, on calm ground.

Top-hat and black-hat transforms (Serra, 1982) find what is narrower than a disc. A finding has to stand out from the noise
and from the texture around it, and has to be long and thin or small and alone: leaves, lace and lettering are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.damage.found import Found
from pipeline.damage.kinds import Kind, Kinds, fraction_of
from pipeline.measures import luma_of, noise_sigma
from pipeline.photograph import Photograph

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """What a finding has to exceed at its strongest point.

    contrast: difference from the ground, luma 0..1. noise: the same in standard deviations of the noise. texture: the same
    in multiples of the mean response around. ground: the same in multiples of the relief that is left once the finding is
    taken away. limit: fraction of pixels above which a photograph is taken to be textured rather than damaged; then
    nothing is flagged.
    """

    contrast: float = 0.16
    noise: float = 6.0
    texture: float = 8.0
    ground: float = 2.0
    limit: float = 0.10


class ClassicalDetector:
    """The detector that needs no weights."""

    model_id: str | None = None

    def __init__(self, settings: DetectorSettings | None = None) -> None:
        self.settings = settings or DetectorSettings()

    def find(self, photograph: Photograph) -> Found:
        return find_damage(luma_of(photograph), self.settings)


def find_damage(grey: Plane, settings: DetectorSettings) -> Found:
    """Lines and spots, grown by the width of a scan's blur; without confidence. grey: H x W luma, 0..1."""
    size = _odd(max(5, round(min(grey.shape) / 100)))
    pad = 2 * size
    padded = cv2.copyMakeBorder(grey, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    floor = max(settings.contrast, settings.noise * noise_sigma(grey))
    bright, dark = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc), cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)
    found = _candidates(padded - bright, bright, size, floor, settings)
    np.maximum(found, _candidates(dark - padded, dark, size, floor, settings), out=found)
    grown: Kinds = cv2.dilate(found[pad:-pad, pad:-pad], np.ones((3, 3), np.uint8))
    if fraction_of(grown) > settings.limit:
        return Found(np.zeros_like(grown), {}, "held back: the texture of this photograph looks like damage everywhere")
    return Found(grown, {})


def _candidates(response: Plane, ground: Plane, size: int, floor: float, settings: DetectorSettings) -> Kinds:
    """response: how far each pixel stands out of the ground. Hysteresis: strong pixels seed, weaker neighbours join. What is
    long and thin is a line, what is small a spot."""
    around = cv2.blur(response, (size * 9, size * 9))
    relief = cv2.morphologyEx(
        ground, cv2.MORPH_GRADIENT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1,) * 2)
    )
    threshold = np.maximum(np.maximum(settings.texture * around, settings.ground * relief), floor)
    weak = (response > np.maximum(threshold * 0.5, floor * 0.5)).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(weak, connectivity=8)
    strong = np.bincount(labels[response > threshold], minlength=count)
    area = boxes[:, cv2.CC_STAT_AREA]
    longest = np.maximum(boxes[:, cv2.CC_STAT_WIDTH], boxes[:, cv2.CC_STAT_HEIGHT])
    # A good part of a finding has to be strong: the edge of a leaf touches the threshold in a pixel or two.
    sure = strong >= np.maximum(3, 0.3 * area)
    line = (longest >= 3 * size) & (area <= longest * size * 0.6)
    spot = (longest <= 2 * size) & (area >= 4)
    codes = np.select([sure & line, sure & spot], [Kind.LINE, Kind.SPOT], Kind.NONE).astype(np.uint8)
    codes[0] = Kind.NONE
    kinds: Kinds = codes[labels]
    return kinds


def _odd(number: int) -> int:
    return number | 1

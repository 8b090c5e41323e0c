"""Which true marks a person could see: what nobody could point at is no fair question to a detector."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind, Kinds
from pipeline.photograph import Mask

# Contrast with the undamaged scan below which nothing is noticed on calm ground, of 0..1, and how many standard deviations
# of the ground it has to reach (both after Chou and Li, IEEE Trans. CSVT 5(6), 1995: a threshold, and masking by texture).
JUST_NOTICEABLE = 8 / 255
IN_DEVIATIONS = 1.0
# Sides, in pixels, of the squares over which contrast and ground are averaged.
_SHARP = (3, 3)
_AROUND = (15, 15)


def noticeable(damaged: NDArray[np.uint8], undamaged: NDArray[np.uint8], kinds: Kinds) -> Mask:
    """damaged, undamaged: H x W x 3, the same scan with marks and without. H x W: where marks that are lines or spots stand out
    as much as the eye needs; stains and missing areas count as they are."""
    difference = damaged.astype(np.float32) - undamaged.astype(np.float32)
    contrast = np.abs(cv2.blur(difference, _SHARP, borderType=cv2.BORDER_REFLECT)).max(axis=2) / np.float32(255)
    ground = undamaged.astype(np.float32).mean(axis=2) / np.float32(255)
    mean = cv2.blur(ground, _AROUND, borderType=cv2.BORDER_REFLECT)
    variance = cv2.blur(ground * ground, _AROUND, borderType=cv2.BORDER_REFLECT) - mean * mean
    floor = np.maximum(JUST_NOTICEABLE, IN_DEVIATIONS * np.sqrt(np.maximum(variance, 0)))
    thin = (kinds == Kind.LINE) | (kinds == Kind.SPOT)
    seen: Mask = (kinds != Kind.NONE) & (~thin | (contrast >= floor))
    return seen

"""Inpainting: lines and spots are filled from their surroundings."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.photograph import Mask, Pixels, is_neutral


def inpaint(pixels: Pixels, mask: Mask, radius: float) -> Pixels:
    """New pixels where `mask` is set, the same bits elsewhere. Telea's method, channel by channel, in full depth."""
    wanted = mask.astype(np.uint8)
    if is_neutral(pixels):
        plane = cv2.inpaint(np.ascontiguousarray(pixels[..., 0]), wanted, radius, cv2.INPAINT_TELEA)
        filled = np.repeat(plane[..., None], pixels.shape[2], axis=2)
    else:
        planes = [
            cv2.inpaint(np.ascontiguousarray(p), wanted, radius, cv2.INPAINT_TELEA) for p in np.moveaxis(pixels, 2, 0)
        ]
        filled = np.stack(planes, axis=2)
    result = pixels.copy()
    result[mask] = filled[mask]
    return result

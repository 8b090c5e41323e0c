"""What the eye sees of a person beside the shape of the face: skin, irises, glasses. All on crops of 112 x 112, in which eyes
and mouth lie where `models.identity.TEMPLATE` has them, and which are no finer than the scan."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.models.identity import TEMPLATE
from pipeline.photograph import LUMA

Crop = NDArray[np.float32]

# Cheeks and nose: between the eyes and the mouth. The inner face: brows to mouth.
_CHEEKS = (slice(60, 84), slice(34, 79))
_INNER = (slice(36, 100), slice(26, 87))
# Of an iris and its pupil.
_IRIS = 3
# Across the nose, from above the eyes' line to below it: where the bridge of glasses lies.
_BRIDGE = (slice(38, 60), slice(50, 62))
# Shading along the nose is wider than a bridge.
_SHADING = 4.0
# Below this contrast (standard deviation of luma, 0..1) nothing is told from noise.
_LEAST_CONTRAST = 0.02


def skin_drift(before: Crop, after: Crop) -> float:
    """Difference of the cheeks' median colours: CIE 1976, D65. Lightness counts, since paling is a fault of restorers."""
    colours = [np.median(_lab(crop[_CHEEKS]).reshape(-1, 3), axis=0) for crop in (before, after)]
    return float(np.linalg.norm(colours[1] - colours[0]))


def eye_drift(before: Crop, after: Crop) -> float:
    """Difference of the irises' median colours in a* and b*, the larger of both eyes. Lightness does not count: what is
    sharpened gets darker pupils. Of a photograph without colours it is 0."""
    most = 0.0
    for x, y in np.rint(TEMPLATE[:2]).astype(int):
        around = (slice(y - _IRIS, y + _IRIS + 1), slice(x - _IRIS, x + _IRIS + 1))
        colours = [np.median(_lab(crop[around]).reshape(-1, 3), axis=0)[1:] for crop in (before, after)]
        most = max(most, float(np.linalg.norm(colours[1] - colours[0])))
    return most


def glasses_change(before: Crop, after: Crop) -> float:
    """How much darker or lighter a line across the nose became, between the eyes, as a share of the face's contrast: the
    bridge of glasses that came or went. Frames without a bridge, and glass alone, it does not see."""
    contrast = max(float((before[_INNER] @ LUMA).std()), _LEAST_CONTRAST)
    one, other = (_across(crop) for crop in (before, after))
    return float(np.abs(other - one).max()) / contrast


def _across(crop: Crop) -> NDArray[np.float32]:
    """Mean luma of each row of the bridge, less what changes slowly from row to row."""
    rows = (crop[:, _BRIDGE[1]] @ LUMA).mean(axis=1, keepdims=True).astype(np.float32)
    slow = cv2.GaussianBlur(rows, (0, 0), sigmaX=0.1, sigmaY=_SHADING)
    lines: NDArray[np.float32] = (rows - slow)[_BRIDGE[0], 0]
    return lines


def _lab(part: Crop) -> NDArray[np.float32]:
    lab: NDArray[np.float32] = cv2.cvtColor(np.ascontiguousarray(part, np.float32), cv2.COLOR_RGB2LAB)
    return lab

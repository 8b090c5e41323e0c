"""Faces on their way to a restorer and back: aligned as facexlib aligns them, and the doors to detectors and restorers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.models.face_detectors import DETECTORS, FaceDetector, open_detector
from pipeline.models.face_restorers import PATCH, RESTORERS, FaceRestorer, open_restorer
from pipeline.photograph import Face, Pixels, as_unit, to_depth

__all__ = [
    "DETECTORS",
    "PATCH",
    "RESTORERS",
    "TEMPLATE",
    "FaceDetector",
    "FaceRestorer",
    "align",
    "as_patch",
    "open_detector",
    "open_restorer",
]

# Eyes, nose and mouth corners of an aligned FFHQ face of 512 x 512, as facexlib aligns them.
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
# What lies outside the scan, RGB 0..1: the grey that the restorers were trained with.
_OUTSIDE = (132 / 255, 133 / 255, 135 / 255)


def similarity(points: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """2 x 3: turns, scales and moves 5 x 2 points to a template's, by least median of squares, as facexlib finds it. None where
    they allow none."""
    matrix, _ = cv2.estimateAffinePartial2D(points, template, method=cv2.LMEDS)
    return None if matrix is None else matrix.astype(np.float64)


def align(pixels: Pixels, face: Face) -> tuple[NDArray[np.float32], NDArray[np.float64]] | None:
    """The face as a 512 x 512 x 3 float32 RGB patch in 0..1, and the 2 x 3 matrix from scan to patch coordinates.

    None where the landmarks allow none.
    """
    matrix = similarity(np.reshape(face.landmarks, (5, 2)), TEMPLATE)
    if matrix is None:
        return None
    around, moved = _surroundings(pixels, matrix)
    unit = as_unit(around)
    image = np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit
    patch = cv2.warpAffine(image, moved, (PATCH, PATCH), borderMode=cv2.BORDER_CONSTANT, borderValue=_OUTSIDE)
    return patch.astype(np.float32), matrix


def _surroundings(pixels: Pixels, matrix: NDArray[np.float64]) -> tuple[Pixels, NDArray[np.float64]]:
    """The part of the scan that a patch reaches, so that no more becomes floats; and the matrix from there."""
    corners = np.array([[0, 0, 1], [PATCH, 0, 1], [0, PATCH, 1], [PATCH, PATCH, 1]])
    reached = corners @ cv2.invertAffineTransform(matrix).T
    height, width = pixels.shape[:2]
    left, top = (int(v) for v in np.clip(np.floor(reached.min(axis=0)) - 2, 0, (width - 1, height - 1)))
    right, bottom = (int(v) for v in np.clip(np.ceil(reached.max(axis=0)) + 3, (left + 1, top + 1), (width, height)))
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (left, top)
    return pixels[top:bottom, left:right], moved


def as_patch(unit: NDArray[np.float32]) -> NDArray[np.uint16]:
    """A restored face as it travels: 16 bits, whatever the photograph's depth."""
    patch = to_depth(unit, np.dtype(np.uint16))
    return patch.astype(np.uint16, copy=False)

"""Boxes around faces: how far they overlap, and which of several around one face stays. numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def overlap(box: Rows, others: Rows) -> Rows:
    """Intersection over union of one box (left, top, right, bottom) with each of K x 4."""
    shared, area, areas = _areas(box, others)
    return np.divide(shared, area + areas - shared, out=np.zeros_like(shared), where=shared > 0)


def covered(box: Rows, others: Rows) -> Rows:
    """Intersection over the smaller of the two: 1 where one box lies inside the other."""
    shared, area, areas = _areas(box, others)
    return np.divide(shared, np.minimum(area, areas), out=np.zeros_like(shared), where=shared > 0)


def _areas(box: Rows, others: Rows) -> tuple[Rows, float, Rows]:
    """What is shared, and the areas of the one and of the others."""
    corner, opposite = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    shared: Rows = np.prod(np.maximum(opposite - corner, 0), axis=1)
    areas: Rows = np.prod(others[:, 2:4] - others[:, :2], axis=1)
    return shared, float(np.prod(box[2:4] - box[:2])), areas


def best_first(scores: Rows) -> NDArray[np.intp]:
    """Indices by falling score; equal scores keep their order, whatever instructions the machine sorts with."""
    return np.argsort(-scores, kind="stable")


def suppressed(boxes: Rows, scores: Rows, threshold: float) -> NDArray[np.intp]:
    """Non-maximum suppression: indices of what stays, best first.

    A box goes where a better one that stays overlaps it by more than `threshold` (intersection over union).
    """
    left = best_first(scores)
    kept: list[int] = []
    while left.size:
        kept.append(int(left[0]))
        left = left[1:][overlap(boxes[left[0]], boxes[left[1:]]) <= threshold]
    return np.array(kept, np.intp)

"""Whole marks in place of single pixels: what stands out of its ground in one piece is judged in one piece.

A network is unsure of most pixels of a scratch, and of few of all of them together. Where a mark ends is seen in the picture
better than in the network's answer.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

# How much surer a pixel has to be that is in no piece.
ALONE = np.float32(4)
# Diameter, in pixels, of the disc in which no mark has place.
_DISC = 9
# How far a piece stands out, in lightness: a mark is in one piece at one of them, and together with what touches it at others.
_LEVELS = (0.06, 0.10, 0.16, 0.25)
# Pixels: least length, and the most that a piece may have of them for each of its length.
_LONG, _THICK = 21, 5.4


def judged(odds: Plane, light: Plane) -> Plane:
    """The mean log-odds of the long, thin piece that a pixel belongs to, of several pieces the surest, H x W. Every pixel
    counts for itself as well, but less: nets of cracks are in no such piece. odds: H x W log-odds of damage. light: H x W,
    0..1.

    Pieces are connected regions of white and black top-hats (Serra, 1982) above each of four levels.
    """
    flat = odds.ravel()
    found = flat - ALONE
    for hat in _hats(light):
        for level in _LEVELS:
            count, labels, boxes, _ = cv2.connectedComponentsWithStats((hat > level).astype(np.uint8), connectivity=8)
            where = np.flatnonzero(labels)
            piece = labels.ravel()[where]
            area = boxes[:, cv2.CC_STAT_AREA]
            longest = np.maximum(boxes[:, cv2.CC_STAT_WIDTH], boxes[:, cv2.CC_STAT_HEIGHT])
            mean = (np.bincount(piece, flat[where], count) / area).astype(np.float32)
            value = np.where((longest >= _LONG) & (area <= longest * _THICK), mean, np.float32(-np.inf))[piece]
            found[where] = np.maximum(found[where], value)
    result: Plane = found.reshape(odds.shape)
    return result


def _hats(light: Plane) -> tuple[Plane, Plane]:
    """How far pixels stand above, and below, what is wider than the disc."""
    pad = 2 * _DISC
    padded = cv2.copyMakeBorder(light, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_DISC, _DISC))
    inner = np.s_[pad:-pad, pad:-pad]
    return (
        cv2.morphologyEx(padded, cv2.MORPH_TOPHAT, disc)[inner],
        cv2.morphologyEx(padded, cv2.MORPH_BLACKHAT, disc)[inner],
    )

"""Masks of faces, in their patches of 512 x 512: what of a restored face is laid in, and what of a kept one is left alone."""

from __future__ import annotations

import io
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.models.faces import PATCH
from pipeline.photograph import Face

Weight = NDArray[np.float32]

SQUARE = "square"
# Width of the border of a patch that stays out, and of the blur inside it, as shares of the patch.
_MARGIN = 0.05
_BLUR = 0.025
# facexlib's numbers for a mask from a parsing network: twice blurred, then a border of nothing.
_KERNEL, _SIGMA, _BORDER = (101, 101), 11, 10
# A face as the template has it, from the hair to the chin and from ear to ear; pixels of the patch.
_CENTRE, _AXES, _EDGE = (256, 290), (150, 200), 11


@cache
def soft_square(size: int) -> Weight:
    """A mask of size x size: 1 inside, falling to exactly 0 before the border. Not to be changed."""
    margin = max(1, round(size * _MARGIN))
    mask = np.zeros((size, size), np.float32)
    mask[2 * margin : -2 * margin, 2 * margin : -2 * margin] = 1.0
    side = (2 * margin - 1) | 1
    return _frozen(cv2.GaussianBlur(mask, (side, side), size * _BLUR).astype(np.float32))


def parsed_weight(parsed: NDArray[np.bool_]) -> Weight:
    """parsed: 512 x 512, where a network sees the face. The soft mask that facexlib makes of it, 0..1."""
    mask = cv2.GaussianBlur(parsed.astype(np.float64), _KERNEL, _SIGMA)
    mask = cv2.GaussianBlur(mask, _KERNEL, _SIGMA)
    edge = np.zeros_like(mask)
    edge[_BORDER:-_BORDER, _BORDER:-_BORDER] = mask[_BORDER:-_BORDER, _BORDER:-_BORDER]
    weight: Weight = edge.astype(np.float32)
    return weight


def weight_of(face: Face) -> Weight:
    """How much of a face's patch is laid in, 0..1, before its strength."""
    return soft_square(PATCH) if face.mask is None else parsed_weight(unpacked(face.mask))


@cache
def guard() -> Weight:
    """Where a face is that stays as it is, whatever is laid in beside it: an ellipse with a soft edge. Not to be changed."""
    drawn = cv2.ellipse(np.zeros((PATCH, PATCH), np.float32), _CENTRE, _AXES, 0, 0, 360, 1.0, -1)
    soft = cv2.GaussianBlur(drawn, (0, 0), _EDGE)
    # All of the ellipse; the soft edge is outside.
    return _frozen(np.maximum(drawn, soft).astype(np.float32))


def packed(parsed: NDArray[np.bool_]) -> bytes:
    """The mask as the record keeps it: PNG, one bit a pixel, one or two kilobytes."""
    target = io.BytesIO()
    Image.fromarray(parsed).save(target, "PNG")
    return target.getvalue()


def unpacked(mask: bytes) -> NDArray[np.bool_]:
    with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
        return np.asarray(image.convert("1"), np.bool_)


def _frozen(mask: Weight) -> Weight:
    mask.flags.writeable = False
    return mask

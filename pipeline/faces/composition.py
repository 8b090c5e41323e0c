"""Lays restored faces into a photograph of any scale, in float: as facexlib's helper does, without its faults.

Where it differs: nothing is cut off to whole numbers but once, by rounding; 16 bits stay; a pixel's centre is where it is (the
helper is half a pixel of the output off); a face that is to stay is not painted over by its neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colour_space import ColourSpace, Stored, bands
from pipeline.faces.masks import Weight, guard, weight_of
from pipeline.models.faces import PATCH, TEMPLATE, similarity
from pipeline.photograph import Face, Mask, Pixels, as_unit, is_neutral, luma, to_depth

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pixels to lay faces into, H x W x 1|3, changed in place.

    scale: how many times wider they are than the scan. space: of the pixels. neutral: whether all of them are grey; then only
    a patch's luma goes in.
    """

    pixels: Pixels
    scale: int
    space: ColourSpace
    neutral: bool

    @classmethod
    def of(cls, pixels: Pixels, scale: int, space: ColourSpace | None = None) -> Sheet:
        return cls(pixels, scale, Stored() if space is None else space, is_neutral(pixels))


def in_order(faces: Sequence[Face]) -> list[Face]:
    """The order in which faces are laid in: best score first, then by box, so that where two overlap the later one is on
    top, whatever order they were found in. It is the order of the reference's detector."""
    return sorted(faces, key=lambda face: (-face.score, face.box))


def lay_in(sheet: Sheet, face: Face, kept: Sequence[Face] = ()) -> bool:
    """Blend one patch into the sheet, by its mask and strength. kept: faces that stay; they are spared.

    Whether the patch reaches the sheet at all.
    """
    assert face.patch is not None
    weight = weight_of(face) * np.float32(face.strength)
    restored = luma(face.patch)[..., None] if sheet.neutral else as_unit(face.patch)
    guards = [matrix for other in kept if (matrix := matrix_of(other)) is not None]
    reached = False
    for area in _areas(face, sheet.scale, sheet.pixels.shape):
        mask = area.masked(weight)
        for matrix in guards:
            mask *= 1.0 - area.through(matrix, guard(), sheet.scale)
        inside = mask > 0
        if not inside.any():
            continue
        reached = True
        region = sheet.pixels[area.rows, area.columns]
        given = region[..., :1] if sheet.neutral else region
        before = sheet.space.to_srgb(given)
        # The patch knows nothing beyond sRGB's gamut: what the photograph has there stays, and is mixed in neither case.
        patch = area.warped(restored).reshape(before.shape)
        mixed = sheet.space.from_srgb(before + (patch - np.clip(before, 0, 1)) * mask[..., None], given)
        region[inside] = np.broadcast_to(to_depth(mixed, region.dtype), region.shape)[inside]
    return reached


def footprint(faces: Sequence[Face], scale: int, shape: tuple[int, int]) -> Mask:
    """Every pixel (H x W) that composition may have changed, from what the record keeps of faces: affine, mask, strength
    and decision. Outside it not a bit has changed."""
    union = np.zeros(shape, np.bool_)
    for face in faces:
        if face.affine is None or face.strength <= 0:
            continue
        weight = weight_of(face) * np.float32(face.strength)
        for area in _areas(face, scale, shape):
            union[area.rows, area.columns] |= area.masked(weight) > 0
    return union


def matrix_of(face: Face) -> Matrix | None:
    """The 2 x 3 similarity from scan to patch: the recorded one, else the one of the landmarks."""
    if face.affine is not None:
        return np.reshape(np.array(face.affine, np.float64), (2, 3))
    return similarity(np.reshape(face.landmarks, (5, 2)), TEMPLATE)


def to_output(matrix: Matrix, scale: int) -> Matrix:
    """From patch to a photograph `scale` times as wide as the scan."""
    inverse: Matrix = cv2.invertAffineTransform(matrix) * scale
    # Pixel centres: x of the scan lies at scale * x + (scale - 1) / 2 of the larger image.
    inverse[:, 2] += (scale - 1) / 2
    return inverse


@dataclass(frozen=True, slots=True)
class _Area:
    """A part of the photograph. inverse: from the patch to the photograph's columns, and to rows from the area's first."""

    rows: slice
    columns: slice
    inverse: Matrix

    def masked(self, weight: Weight) -> Weight:
        """What of a mask of the patch's size lies here, linear, 0 outside it.

        In doubles and from the first column on, whatever lies before the area: OpenCV rounds places to parts of a pixel, and
        a mask's edge would show it. So it is what the reference has, to the bit.
        """
        box = (self.columns.stop, self.rows.stop - self.rows.start)
        whole = cv2.warpAffine(weight.astype(np.float64), self.inverse, box, flags=cv2.INTER_LINEAR)
        masked: Weight = whole[:, self.columns].astype(np.float32)
        return masked

    def warped(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of an image of the patch's size lies here, linear, 0 outside it."""
        moved = self.inverse.copy()
        moved[0, 2] -= self.columns.start
        box = (self.columns.stop - self.columns.start, self.rows.stop - self.rows.start)
        warped: NDArray[np.float32] = cv2.warpAffine(image, moved, box, flags=cv2.INTER_LINEAR)
        return warped

    def through(self, matrix: Matrix, image: Weight, scale: int) -> Weight:
        """The same for an image in the patch of another face."""
        inverse = to_output(matrix, scale)
        inverse[1, 2] -= self.rows.start
        return _Area(self.rows, self.columns, inverse).warped(image)


def _areas(face: Face, scale: int, shape: tuple[int, ...]) -> Iterator[_Area]:
    """The part of the photograph that a patch reaches, in bands of rows: a face may fill a scan of any size."""
    matrix = matrix_of(face)
    assert matrix is not None
    inverse = to_output(matrix, scale)
    corners = np.array([[0, 0], [PATCH, 0], [0, PATCH], [PATCH, PATCH]]) @ inverse[:, :2].T + inverse[:, 2]
    left, top = (int(v) for v in np.maximum(np.floor(corners.min(axis=0)), 0))
    right, bottom = (int(v) for v in np.minimum(np.ceil(corners.max(axis=0)) + 1, (shape[1], shape[0])))
    if right <= left or bottom <= top:
        return
    for band in bands(np.broadcast_to(np.uint8(0), (bottom - top, right))):
        placed = inverse.copy()
        placed[1, 2] -= top + band.start
        yield _Area(slice(top + band.start, top + band.stop), slice(left, right), placed)

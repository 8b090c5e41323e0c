"""Compose: lays restored faces into the upscaled photograph, in float, with a soft edge. Touches nothing outside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colour_space import ColourSpace, Stored, space_of
from pipeline.errors import ItemError
from pipeline.models.store import ModelStore
from pipeline.photograph import Face, Photograph, Pixels, as_unit, deepened, is_neutral, luma, to_depth
from pipeline.policy import Policy
from pipeline.stage import Device, ModelNeed, Outcome, Parameters, Step

# Width of the border of a patch that stays out, and of the blur inside it, as shares of the patch.
_MARGIN = 0.05
_BLUR = 0.025


class ComposeParameters(Parameters):
    """Nothing to choose."""


class Compose:
    """Blends each face's patch by its strength, in order of detection."""

    name: ClassVar[str] = "compose"
    version: ClassVar[str] = "2"
    Parameters: ClassVar[type[Parameters]] = ComposeParameters

    def __init__(self, parameters: ComposeParameters, policy: Policy) -> None:
        """Nothing to keep."""

    @classmethod
    def needs(cls, parameters: ComposeParameters) -> tuple[ModelNeed, ...]:
        return ()

    def open(self, models: ModelStore, device: Device) -> None:
        """Nothing to load."""

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step:
        faces = [face for face in photograph.faces if face.patch is not None and face.strength > 0]
        if not faces:
            return Step(photograph, Outcome.SKIPPED, "no restored face")
        deep, space = deepened(photograph), space_of(photograph)
        pixels = deep.pixels.copy() if deep is photograph else deep.pixels
        neutral = is_neutral(pixels)
        for face in faces:
            lay_in(pixels, face, photograph.scale, space, neutral=neutral)
        models = tuple(dict.fromkeys(face.model_id for face in faces if face.model_id is not None))
        bare = tuple(replace(face, patch=None) for face in photograph.faces)
        return Step(replace(deep, pixels=pixels, faces=bare), models=models, findings={"faces": len(faces)})


def soft_square(size: int) -> NDArray[np.float32]:
    """A mask of size x size: 1 inside, falling to exactly 0 before the border."""
    margin = max(1, round(size * _MARGIN))
    mask = np.zeros((size, size), np.float32)
    mask[2 * margin : -2 * margin, 2 * margin : -2 * margin] = 1.0
    side = (2 * margin - 1) | 1
    blurred: NDArray[np.float32] = cv2.GaussianBlur(mask, (side, side), size * _BLUR).astype(np.float32)
    return blurred


def lay_in(
    pixels: Pixels, face: Face, scale: int, space: ColourSpace | None = None, *, neutral: bool | None = None
) -> None:
    """Blend one patch into `pixels` (H x W x 1|3, changed in place), which are `scale` times the scan it came from.

    space: of the pixels, sRGB where None; patches are in sRGB. neutral: whether all pixels are grey, asked of them where
    None; then only the patch's luma goes in.
    """
    assert face.patch is not None
    assert face.affine is not None
    inverse = cv2.invertAffineTransform(np.reshape(face.affine, (2, 3))) * scale
    # Pixel centres: x of the scan lies at scale * x + (scale - 1) / 2 of the larger image.
    inverse[:, 2] += (scale - 1) / 2
    size = face.patch.shape[0]
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ inverse[:, :2].T + inverse[:, 2]
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, (pixels.shape[1], pixels.shape[0]))
    if right <= left or bottom <= top:
        return
    inverse[:, 2] -= (left, top)
    box = (int(right - left), int(bottom - top))
    mask = cv2.warpAffine(soft_square(size) * np.float32(face.strength), inverse, box, flags=cv2.INTER_LINEAR)
    space = Stored() if space is None else space
    grey = is_neutral(pixels) if neutral is None else neutral
    restored = luma(face.patch) if grey else as_unit(face.patch)
    patch = cv2.warpAffine(restored, inverse, box, flags=cv2.INTER_LINEAR).reshape(box[1], box[0], -1)
    region = pixels[top:bottom, left:right]
    given = region[..., :1] if grey else region
    before = space.to_srgb(given)
    # The patch knows nothing beyond sRGB's gamut: what the photograph has there stays, and is mixed in neither case.
    mixed = space.from_srgb(before + (patch - np.clip(before, 0, 1)) * mask[..., None], given)
    inside = mask > 0
    region[inside] = np.broadcast_to(to_depth(mixed, pixels.dtype), region.shape)[inside]

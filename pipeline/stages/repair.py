"""Repair: fills scratches and dust from their surroundings and calms noise, inside a recorded mask and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import cv2
import numpy as np
from pydantic import Field

from pipeline.colour_space import bands, space_of, visible
from pipeline.damage import DetectorSettings, find_damage
from pipeline.errors import ItemError
from pipeline.measures import luma_of, noise_sigma
from pipeline.models.store import ModelStore
from pipeline.photograph import Mask, Photograph, Pixels, as_unit, deepened, is_neutral, to_depth
from pipeline.policy import Policy, ceiling
from pipeline.stage import Device, ModelNeed, Outcome, Parameters, Step

# Noise below this standard deviation (luma 0..255) is not worth touching.
_QUIET = 2.0


class RepairParameters(Parameters):
    """radius: how far inpainting looks, in pixels. denoise: 0..1, None for what the policy allows."""

    radius: float = Field(default=3.0, gt=0, le=50)
    denoise: float | None = Field(default=None, ge=0, le=1)


class Repair:
    """Inpainting after Telea (J. Graphics Tools 9(1), 2004); non-local means (Buades et al., 2005) on calm areas."""

    name: ClassVar[str] = "repair"
    version: ClassVar[str] = "2"
    Parameters: ClassVar[type[Parameters]] = RepairParameters

    def __init__(self, parameters: RepairParameters, policy: Policy) -> None:
        self.parameters = parameters
        self.denoise, self.refused = ceiling("denoise", parameters.denoise, policy)

    @classmethod
    def needs(cls, parameters: RepairParameters) -> tuple[ModelNeed, ...]:
        return ()

    def open(self, models: ModelStore, device: Device) -> None:
        """Nothing to load."""

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step:
        damage = photograph.damage
        if damage is None:
            damage, _ = find_damage(luma_of(photograph), DetectorSettings())
        damage = _spare_faces(damage, photograph)
        result = photograph
        findings: dict[str, Any] = {"inpainted_fraction": float(damage.mean())} | self.refused
        if damage.any():
            result = deepened(photograph)
            result = replace(result, pixels=inpaint(result.pixels, damage, self.parameters.radius))
        if self.denoise > 0 and (sigma := noise_sigma(luma_of(result)) * 255) >= _QUIET:
            result = deepened(result)
            pixels, calm = denoise(result, sigma, self.denoise)
            result, damage = replace(result, pixels=pixels), damage | calm
            findings |= {"denoised_fraction": float(calm.mean()), "noise_sigma": sigma}
        if result is photograph:
            return Step(photograph, Outcome.SKIPPED, "nothing to repair was found", findings=findings)
        return Step(replace(result, damage=damage), findings=findings)


def _spare_faces(damage: Mask, photograph: Photograph) -> Mask:
    """Catchlights and lashes look like dust: inside a face only lines that run across it count."""
    if not photograph.faces:
        return damage
    spared = damage.copy()
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(damage.astype(np.uint8), connectivity=8)
    for face in photograph.faces:
        left, top, right, bottom = (max(0, round(side)) for side in face.box)
        inside = labels[top:bottom, left:right]
        for label in np.unique(inside):
            longest = max(boxes[label, cv2.CC_STAT_WIDTH], boxes[label, cv2.CC_STAT_HEIGHT])
            if label and longest < (right - left) / 2:
                spared[labels == label] = False
    return spared


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


def denoise(photograph: Photograph, sigma: float, strength: float) -> tuple[Pixels, Mask]:
    """Calmer pixels on areas without structure, the same bits elsewhere; and those areas. In the photograph's depth.

    sigma: of the noise, luma 0..255. strength: 0..1, share of the calmed value.
    """
    slope = cv2.GaussianBlur(luma_of(photograph) * np.float32(255), (0, 0), 2.0)
    gradient = np.hypot(cv2.Sobel(slope, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(slope, cv2.CV_32F, 0, 1) / 8)
    calm: Mask = gradient < max(1.0, sigma * 0.5)
    shown, neutral = visible(photograph), is_neutral(photograph.pixels)
    source = np.ascontiguousarray(shown[..., :1] if neutral else shown)
    force = [float(0.8 * sigma * np.iinfo(source.dtype).max / 255)] * source.shape[2]
    smooth = cv2.fastNlMeansDenoising(
        source, h=force, templateWindowSize=5, searchWindowSize=15, normType=cv2.NORM_L1
    ).reshape(source.shape)
    space, result = space_of(photograph), photograph.pixels.copy()
    for rows in bands(result):
        change = (as_unit(smooth[rows]) - as_unit(source[rows])) * np.float32(strength)
        band, inside = result[rows], calm[rows]
        given = band[..., :1] if neutral else band
        # What lies outside sRGB's gamut stays where it was: only the change is added.
        calmed = to_depth(space.from_srgb(space.to_srgb(given) + change, given), result.dtype)
        band[inside] = np.broadcast_to(calmed, band.shape)[inside]
    return result, calm

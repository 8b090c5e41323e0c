"""Repair: fills lines, spots and small holes from their surroundings, in a recorded mask and nowhere else; calms noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import cv2
import numpy as np
from pydantic import Field

from pipeline.colour_space import bands, space_of, visible
from pipeline.damage import FOUND, REPAIRED, ClassicalDetector, Kind, Kinds, fraction_of
from pipeline.damage.choice import Left, areas_of, choose
from pipeline.errors import ItemError
from pipeline.measures import luma_of, noise_sigma
from pipeline.models.store import ModelStore
from pipeline.photograph import Mask, Photograph, Pixels, as_unit, deepened, is_neutral, to_depth
from pipeline.policy import Policy, ceiling
from pipeline.stage import Device, ModelNeed, Outcome, Parameters, Step

# Noise below this standard deviation (luma 0..255) is not worth touching.
_QUIET = 2.0


class RepairParameters(Parameters):
    """radius: how far inpainting looks, in pixels. fill_missing_radius: missing areas whose inscribed circle has a smaller
    radius, in pixels, are filled like spots. denoise: 0..1, None for what the policy allows."""

    radius: float = Field(default=3.0, gt=0, le=50)
    fill_missing_radius: float = Field(default=6.0, ge=0, le=200)
    denoise: float | None = Field(default=None, ge=0, le=1)


class Repair:
    """Inpainting after Telea (J. Graphics Tools 9(1), 2004); non-local means (Buades et al., 2005) on calm areas.

    Marks in `damage` what was repaired. Outside it not a bit changes, but where noise was calmed.
    """

    name: ClassVar[str] = "repair"
    version: ClassVar[str] = "3"
    Parameters: ClassVar[type[Parameters]] = RepairParameters

    def __init__(self, parameters: RepairParameters, policy: Policy) -> None:
        self.parameters = parameters
        self.denoise, self.refused = ceiling("denoise", parameters.denoise, policy)
        radius, may = parameters.fill_missing_radius, policy.generative_fill > 0
        self.no_filler = f"with a radius of {radius:g} pixels or more they would have to be made up: "
        self.no_filler += "no method here does that" if may else f"the {policy.name} policy does not allow it"

    @classmethod
    def needs(cls, parameters: RepairParameters) -> tuple[ModelNeed, ...]:
        return ()

    def open(self, models: ModelStore, device: Device) -> None:
        """Nothing to load."""

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step:
        given = photograph
        if photograph.damage is None:
            photograph = replace(photograph, damage=ClassicalDetector().find(photograph).kinds)
        photograph, left = self._fill(photograph)
        photograph, left = self._stains(photograph, left)
        photograph, calmed = self._calm(photograph)
        assert photograph.damage is not None
        findings = _repaired(photograph.damage) | calmed | self.refused
        if left:
            findings["left"] = {name: asdict(areas) for name, areas in left.items()}
        if photograph.pixels is given.pixels:
            reason = "what was found is left as it was" if left else "nothing to repair was found"
            return Step(photograph, Outcome.SKIPPED, reason, findings=findings)
        return Step(photograph, findings=findings)

    def _fill(self, photograph: Photograph) -> tuple[Photograph, dict[str, Left]]:
        """Lines, spots and small missing areas, from their surroundings; and what is left of them."""
        kinds = photograph.damage
        assert kinds is not None
        chosen = choose(kinds, photograph.faces, self.parameters.fill_missing_radius, self.no_filler)
        if not chosen.fill.any():
            return photograph, dict(chosen.left)
        deep = deepened(photograph)
        # Twice as far as inpainting looks, to all sides.
        reach = 4 * int(np.ceil(self.parameters.radius)) + 3
        # What lies in a hole is no picture: where a line runs into one, its brim is filled as well and then put back.
        brim = chosen.holes & (cv2.dilate(chosen.fill.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0)
        filled = inpaint(deep.pixels, chosen.fill | brim, self.parameters.radius)
        filled[brim] = deep.pixels[brim]
        return replace(deep, pixels=filled, damage=_marked(kinds, chosen.fill)), dict(chosen.left)

    def _stains(self, photograph: Photograph, left: dict[str, Left]) -> tuple[Photograph, dict[str, Left]]:
        """Stains stay: the picture beneath them is not to be painted over."""
        assert photograph.damage is not None
        stains = photograph.damage == int(Kind.STAIN)
        if not stains.any():
            return photograph, left
        stain = Left(areas_of(stains), fraction_of(stains), "there is no method for stains")
        return photograph, left | {"stain": stain}

    def _calm(self, photograph: Photograph) -> tuple[Photograph, dict[str, Any]]:
        """Noise, where the policy allows it. It is no damage: what is recorded is the share of calmed pixels, and no mask."""
        if self.denoise <= 0 or (sigma := noise_sigma(luma_of(photograph)) * 255) < _QUIET:
            return photograph, {}
        deep = deepened(photograph)
        pixels, calm = denoise(deep, sigma, self.denoise)
        return replace(deep, pixels=pixels), {"denoised_fraction": fraction_of(calm), "noise_sigma": sigma}


def _marked(kinds: Kinds, where: Mask) -> Kinds:
    """The codes with REPAIRED added where `where` is set."""
    marked: Kinds = kinds | (where * np.uint8(REPAIRED))
    return marked


def _repaired(damage: Kinds) -> dict[str, Any]:
    """Shares of the pixels, 0..1: what was filled from around, and what was repaired of each kind."""
    shares = {kind.name.lower(): fraction_of(damage == kind | REPAIRED) for kind in FOUND}
    inpainted = sum(share for name, share in shares.items() if name != "stain")
    return {
        "inpainted_fraction": inpainted,
        "repaired": {name: share for name, share in shares.items() if share > 0},
    }


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

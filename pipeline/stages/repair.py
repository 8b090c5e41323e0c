"""Repair: fills scratches and dust from their surroundings and calms noise, inside a recorded mask and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import cv2
import numpy as np
from pydantic import Field

from pipeline.damage import DetectorSettings, find_damage
from pipeline.errors import ItemError
from pipeline.measures import luma_of, noise_sigma
from pipeline.models.store import ModelStore
from pipeline.photograph import Mask, Photograph, deepened
from pipeline.policy import Policy, ceiling
from pipeline.removal import denoise, inpaint
from pipeline.stage import Device, ModelNeed, Outcome, Parameters, Step

# Noise below this standard deviation (luma 0..255) is not worth touching.
_QUIET = 2.0


class RepairParameters(Parameters):
    """radius: how far inpainting looks for examples, in pixels. denoise: 0..1, None for what the policy allows."""

    radius: float = Field(default=14.0, gt=0, le=50)
    denoise: float | None = Field(default=None, ge=0, le=1)


class Repair:
    """Inpainting by non-local Bayes (pipeline.removal.inpainting); non-local means (Buades et al., 2005) on calm areas."""

    name: ClassVar[str] = "repair"
    version: ClassVar[str] = "3"
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

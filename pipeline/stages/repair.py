"""Repair: fills lines, spots and small holes, takes stains away, in a recorded mask and nowhere else; noise where asked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.damage import FOUND, REPAIRED, ClassicalDetector, Kind, Kinds, fraction_of
from pipeline.damage.choice import Left, areas_of, choose
from pipeline.errors import ItemError
from pipeline.honesty.difference import changed_fraction
from pipeline.models.denoisers import open_denoiser
from pipeline.models.store import ModelStore
from pipeline.photograph import Mask, Photograph, deepened
from pipeline.policy import Policy, ceiling
from pipeline.removal import Denoiser, Noise, inpaint, remove_stains
from pipeline.stage import Device, Footprint, ModelNeed, Outcome, Parameters, Step

# Noise below this standard deviation (samples 0..255) is not worth touching.
QUIET = 2.0
# Weaker grain than this is not told from fine texture with any certainty.
QUIET_GRAIN = 6.0
# Nor what is as smooth as texture, and like texture the same in all channels, below this: of 40 clean photographs the worst
# seemed to have 10.9 of it.
QUIET_TEXTURE = 12.0
_WHITE = 0.2
_SMOOTH, _ALIKE = 0.3, 0.9
_UNSURE = "they do not stand out of the picture, or their sides contradict each other"


class RepairParameters(Parameters):
    """radius: how far inpainting looks for examples, in pixels. fill_missing_radius: missing areas whose inscribed circle has
    a smaller radius, in pixels, are filled like spots. denoise: share of noise and grain that goes, 0..1; none unless it is
    asked for, since weak grain comes out worse (docs/noise-model.md). denoiser: the model for it."""

    radius: float = Field(default=14.0, gt=0, le=50)
    fill_missing_radius: float = Field(default=6.0, ge=0, le=200)
    denoise: float = Field(default=0.0, ge=0, le=1)
    denoiser: str = "albumen-noise"


class Repair:
    """Each kind of damage by its own method of `pipeline.removal`.

    Marks in `damage` what was repaired. Outside it not a bit changes, but where noise was taken away.
    """

    name: ClassVar[str] = "repair"
    version: ClassVar[str] = "6"
    Parameters: ClassVar[type[Parameters]] = RepairParameters
    # The networks against noise multiply and add 0.3 million times a pixel, with what tiles share counted twice.
    footprint: ClassVar[Footprint] = Footprint(
        working=lambda size: 44 + 6 * size.colours,
        seconds=3.0,
        network_seconds=15.0,
        card_seconds=0.5,
        card_bytes=2 << 30,
    )

    def __init__(self, parameters: RepairParameters, policy: Policy) -> None:
        self.parameters = parameters
        self.denoise, self.refused = ceiling("denoise", parameters.denoise, policy)
        self.denoiser: Denoiser | None = None
        radius, may = parameters.fill_missing_radius, policy.generative_fill > 0
        self.no_filler = f"with a radius of {radius:g} pixels or more they would have to be made up: "
        self.no_filler += "no method here does that" if may else f"the {policy.name} policy does not allow it"

    @classmethod
    def needs(cls, parameters: RepairParameters) -> tuple[ModelNeed, ...]:
        if parameters.denoise == 0:
            return ()
        return (ModelNeed(parameters.denoiser, required=True, task="denoise", ceiling="denoise"),)

    def open(self, models: ModelStore, device: Device) -> None:
        if self.denoise > 0:
            network = open_denoiser(models, self.parameters.denoiser, device)
            self.denoiser = Denoiser(network, self.parameters.denoiser, device.kind)

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
        models = () if self.denoiser is None or not calmed else (self.denoiser.model_id,)
        precision = "fp32" if models else None
        if photograph.pixels is given.pixels:
            reason = "what was found is left as it was" if left else "nothing to repair was found"
            return Step(photograph, Outcome.SKIPPED, reason, models, precision, findings)
        return Step(photograph, models=models, precision=precision, findings=findings)

    def _fill(self, photograph: Photograph) -> tuple[Photograph, dict[str, Left]]:
        """Lines, spots and small missing areas, from their surroundings; and what is left of them."""
        kinds = photograph.damage
        assert kinds is not None
        chosen = choose(kinds, photograph.faces, self.parameters.fill_missing_radius, self.no_filler)
        if not chosen.fill.any():
            return photograph, dict(chosen.left)
        deep = deepened(photograph)
        # What lies in a hole is no picture: nothing is filled from it.
        filled = inpaint(deep.pixels, chosen.fill, self.parameters.radius, chosen.holes)
        return replace(deep, pixels=filled, damage=_marked(kinds, chosen.fill)), dict(chosen.left)

    def _stains(self, photograph: Photograph, left: dict[str, Left]) -> tuple[Photograph, dict[str, Left]]:
        """Stains give way to the picture beneath them. Their soft edges are marked with them; what is gone stays as it is."""
        kinds = photograph.damage
        assert kinds is not None
        stains = kinds == int(Kind.STAIN)
        if not stains.any():
            return photograph, left
        deep = deepened(photograph)
        cleaned = remove_stains(deep, stains, kinds == int(Kind.MISSING))
        if cleaned.left.any():
            left = left | {"stain": Left(areas_of(cleaned.left), fraction_of(cleaned.left), _UNSURE)}
        if not cleaned.changed.any():
            return photograph, left
        edges = np.where(cleaned.changed & (kinds == Kind.NONE), np.uint8(Kind.STAIN), kinds)
        marked = np.where(cleaned.changed, edges | np.uint8(REPAIRED), kinds)
        return replace(deep, pixels=cleaned.pixels, damage=marked), left

    def _calm(self, photograph: Photograph) -> tuple[Photograph, dict[str, Any]]:
        """Noise, where it is asked for and the policy allows it. It is no damage: what is recorded is its level and the share
        of pixels that changed, which is nearly all of them, and no mask."""
        if self.denoiser is None:
            return photograph, {}
        noise = self.denoiser.find(photograph)
        found = {
            "noise_level": noise.level,
            "noise_correlation": noise.along,
            "noise_between_channels": noise.between,
        }
        if is_quiet(noise):
            return photograph, found | {"denoise_strength": 0.0, "denoised_fraction": 0.0}
        deep = deepened(photograph)
        after = replace(deep, pixels=self.denoiser.denoise(deep, noise, self.denoise))
        changed = changed_fraction(deep, after)
        return after, found | {"denoise_strength": self.denoise, "denoised_fraction": changed}


def is_quiet(noise: Noise) -> bool:
    """Whether it stays as it is."""
    if max(noise.along, noise.between) < _WHITE:
        return noise.level < QUIET
    like_texture = noise.along > _SMOOTH and noise.between > _ALIKE
    return noise.level < (QUIET_TEXTURE if like_texture else QUIET_GRAIN)


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

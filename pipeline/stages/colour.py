"""Colour: takes back casts and faded tones, gently. Grey stays exactly grey, toned prints keep their tone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.colour_space import ColourSpace, Floats, bands, space_of
from pipeline.errors import ItemError
from pipeline.measures import tone_of_photograph
from pipeline.models.store import ModelStore
from pipeline.photograph import LUMA, Photograph, Pixels, Tone, is_neutral, to_depth, widened
from pipeline.policy import Policy, ceiling
from pipeline.stage import Device, Footprint, ModelNeed, Outcome, Parameters, Step

# A gain outside these bounds is no cast or fading but the photographer's light.
_MOST_GAIN = 1.25
_MOST_STRETCH = 1.6
_PERCENTILES = (0.1, 99.9)
_MINKOWSKI = 6
# Smaller changes than half an 8-bit step are not worth a change.
_LEAST = 0.5 / 255
# Tones and casts are measured on at most this many pixels, evenly spread.
_MEASURED = 1 << 22


class ColourParameters(Parameters):
    """balance, contrast: 0..1, None for what the policy allows."""

    balance: float | None = Field(default=None, ge=0, le=1)
    contrast: float | None = Field(default=None, ge=0, le=1)


class Colour:
    """Balance: shades of grey (Finlayson and Trezzi, CIC 2004), coloured photographs only. Contrast: one linear stretch
    of all channels between percentiles of luma, so that hues keep their order; of toned prints between those of the channels,
    so that no channel is cut off and the tone bleached. Measures and acts in sRGB, and answers in 16 bits."""

    name: ClassVar[str] = "colour"
    version: ClassVar[str] = "2"
    Parameters: ClassVar[type[Parameters]] = ColourParameters
    footprint: ClassVar[Footprint] = Footprint(working=lambda size: 8 * size.colours, seconds=4.0)

    def __init__(self, parameters: ColourParameters, policy: Policy) -> None:
        self.balance, no_balance = ceiling("balance", parameters.balance, policy)
        self.contrast, no_contrast = ceiling("contrast", parameters.contrast, policy)
        self.refused = no_balance | no_contrast

    @classmethod
    def needs(cls, parameters: ColourParameters) -> tuple[ModelNeed, ...]:
        return ()

    def open(self, models: ModelStore, device: Device) -> None:
        """Nothing to load."""

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step:
        tone, space = tone_of_photograph(photograph), space_of(photograph)
        sample = space.to_srgb(_spread(photograph.pixels))
        gains = np.ones(photograph.pixels.shape[2], np.float32)
        if tone is Tone.COLOURED and self.balance > 0:
            gains = 1 + np.float32(self.balance) * (balance_gains(sample) - 1)
        slope, offset = stretch(sample, self.contrast, gains, by_channel=tone is Tone.TONED)
        findings: dict[str, Any] = {
            "tone": str(tone),
            "gains": [float(gain) for gain in gains],
            "slope": slope,
            "offset": offset,
        } | self.refused
        if max(float(np.abs(gains - 1).max()), abs(slope - 1), abs(offset)) < _LEAST:
            return Step(photograph, Outcome.SKIPPED, "already balanced", findings=findings)
        changed = adjusted(photograph.pixels, space, gains * np.float32(slope), np.float32(offset))
        alpha = None if photograph.alpha is None else widened(photograph.alpha)
        return Step(replace(photograph, pixels=changed, alpha=alpha), findings=findings)


def adjusted(pixels: Pixels, space: ColourSpace, factors: Floats, offset: np.float32) -> Pixels:
    """sRGB values times `factors` (of the channels) plus `offset`, in 16 bits and in the photograph's space. In bands."""
    neutral = is_neutral(pixels)
    result = np.empty(pixels.shape, np.uint16)
    for rows in bands(pixels):
        band = pixels[rows, :, :1] if neutral else pixels[rows]
        srgb = space.to_srgb(band) * (factors[:1] if neutral else factors) + offset
        result[rows] = to_depth(space.from_srgb(srgb, band), result.dtype)
    return result


def _spread(pixels: Pixels) -> Pixels:
    step = int(np.ceil((pixels.shape[0] * pixels.shape[1] / _MEASURED) ** 0.5))
    return pixels[::step, ::step]


def balance_gains(srgb: Floats) -> NDArray[np.float32]:
    """Gain of each channel that makes the Minkowski mean of order 6 grey, bounded. srgb: H x W x 3. float32, 3."""
    unit = np.clip(srgb, 0, 1).reshape(-1, 3)
    light = np.mean(unit.astype(np.float64) ** _MINKOWSKI, axis=0) ** (1 / _MINKOWSKI)
    gains = light.mean() / np.maximum(light, 1e-6)
    bounded: NDArray[np.float32] = np.clip(gains, 1 / _MOST_GAIN, _MOST_GAIN).astype(np.float32)
    return bounded


def stretch(
    srgb: Floats, strength: float, gains: Floats | None = None, *, by_channel: bool = False
) -> tuple[float, float]:
    """Slope and offset that carry the tones `strength` of the way to the full range, without clipping the percentiles.

    srgb: H x W x 1|3. gains: of the channels, applied before. by_channel: percentiles of every channel, not of luma.
    """
    scaled = srgb if gains is None else srgb * gains
    if srgb.shape[2] == 3 and not by_channel:
        scaled = (scaled @ LUMA)[..., None]
    found = np.percentile(np.clip(scaled, 0, 1).reshape(-1, scaled.shape[2]), _PERCENTILES, axis=0)
    low, high = float(found[0].min()), float(found[1].max())
    if strength <= 0 or high - low < 1 / 255:
        return 1.0, 0.0
    slope = min(1.0 / (high - low), _MOST_STRETCH)
    middle = (low + high) / 2
    # The middle stays where it is unless that would clip an end.
    offset = min(max(middle * (1.0 - slope), -low * slope), 1.0 - high * slope)
    return 1.0 + strength * (slope - 1.0), strength * offset

"""Colour: takes back casts and faded tones, gently. Grey stays exactly grey, toned prints keep their tone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import ItemError
from pipeline.measures import lab, tone_of
from pipeline.models.store import ModelStore
from pipeline.photograph import LUMA, Photograph, Pixels, Tone, luma, to_depth
from pipeline.policy import Policy, ceiling
from pipeline.stage import Device, ModelNeed, Outcome, Parameters, Step

# A gain outside these bounds is no cast or fading but the photographer's light.
_MOST_GAIN = 1.25
_MOST_STRETCH = 1.6
_PERCENTILES = (0.1, 99.9)
_MINKOWSKI = 6
# Smaller changes than half an 8-bit step are not worth a change.
_LEAST = 0.5 / 255


class ColourParameters(Parameters):
    """balance, contrast: 0..1, None for what the policy allows."""

    balance: float | None = Field(default=None, ge=0, le=1)
    contrast: float | None = Field(default=None, ge=0, le=1)


class Colour:
    """Balance: shades of grey (Finlayson and Trezzi, CIC 2004), coloured photographs only. Contrast: one linear stretch
    of all channels between percentiles of luma, so that hues keep their order."""

    name: ClassVar[str] = "colour"
    version: ClassVar[str] = "1"
    Parameters: ClassVar[type[Parameters]] = ColourParameters

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
        tone = _tone(photograph)
        gains = np.ones(photograph.pixels.shape[2], np.float32)
        if tone is Tone.COLOURED and self.balance > 0:
            gains = 1 + np.float32(self.balance) * (balance_gains(photograph.pixels) - 1)
        slope, offset = stretch(photograph.pixels, self.contrast, gains)
        findings: dict[str, Any] = {
            "tone": str(tone),
            "gains": [float(gain) for gain in gains],
            "slope": slope,
            "offset": offset,
        } | self.refused
        if max(float(np.abs(gains - 1).max()), abs(slope - 1), abs(offset)) < _LEAST:
            return Step(photograph, Outcome.SKIPPED, "already balanced", findings=findings)
        unit = photograph.pixels.astype(np.float32) / np.float32(photograph.peak)
        changed = to_depth(unit * (gains * np.float32(slope)) + np.float32(offset), photograph.pixels.dtype)
        return Step(replace(photograph, pixels=changed), findings=findings)


def _tone(photograph: Photograph) -> Tone:
    if photograph.analysis is not None:
        return Tone(photograph.analysis.tone)
    step = max(1, round((photograph.pixels.size / 3e6) ** 0.5))
    sample = photograph.pixels[::step, ::step]
    return tone_of(photograph.pixels, lab(sample))


def balance_gains(pixels: Pixels) -> NDArray[np.float32]:
    """Gain of each channel that makes the Minkowski mean of order 6 grey, bounded. float32, 3."""
    unit = pixels.reshape(-1, 3).astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    light = np.mean(unit.astype(np.float64) ** _MINKOWSKI, axis=0) ** (1 / _MINKOWSKI)
    gains = light.mean() / np.maximum(light, 1e-6)
    bounded: NDArray[np.float32] = np.clip(gains, 1 / _MOST_GAIN, _MOST_GAIN).astype(np.float32)
    return bounded


def stretch(pixels: Pixels, strength: float, gains: NDArray[np.float32] | None = None) -> tuple[float, float]:
    """Slope and offset that carry the tones `strength` of the way to the full range, without clipping the percentiles.

    gains: of the channels, applied before.
    """
    light = luma(pixels)
    if gains is not None and pixels.shape[2] == 3:
        light = pixels.astype(np.float32) @ (gains * LUMA / np.float32(np.iinfo(pixels.dtype).max))
    low, high = (float(value) for value in np.percentile(light, _PERCENTILES))
    if strength <= 0 or high - low < 1 / 255:
        return 1.0, 0.0
    slope = min(1.0 / (high - low), _MOST_STRETCH)
    middle = (low + high) / 2
    # The middle stays where it is unless that would clip an end.
    offset = min(max(middle * (1.0 - slope), -low * slope), 1.0 - high * slope)
    return 1.0 + strength * (slope - 1.0), strength * offset

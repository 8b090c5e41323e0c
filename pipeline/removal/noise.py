"""Noise and grain, taken away by a network that another one tells what they are.

How strong noise looks at one place says little: grass looks like grain. So what the first network finds is gathered over the
whole photograph, where it is quietest, as a curve of the level over tone (a noise level function: Liu, Szeliski, Kang,
Zitnick and Freeman, IEEE TPAMI 30(2), 2008), and the second is told that curve's value at every pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colour_space import Floats, space_of, visible
from pipeline.models.precision import convolving
from pipeline.photograph import LUMA, Photograph, Pixels, as_unit, is_neutral, to_depth
from pipeline.tiles import Window, windows

if TYPE_CHECKING:
    import torch

    from pipeline.models.noise_net import NoiseNet

# What the networks see at once, and how far they look; both even, so that folded pixels are the same ones everywhere.
_TILE = 384
_HALO = 24
# Over how many folded pixels tone is averaged, so that noise does not decide what tone a place has.
_AROUND = 9
_TONES = 32
# Spread of what is found of one tone over its neighbours, in tones; and the weight of all tones together.
_SPREAD, _ALL = 1.2, 1e-3
# Levels are counted in so many steps, of which so many are a factor of e.
_LEVELS, _FINE = 96, 20
# The share of a tone that is its quietest; the share of a photograph below which a tone says nothing of others; and how much
# stronger than at the quietest of these noise can be at another tone.
_QUIETEST, _RARE, _MOST = 0.06, 0.02, 2.5


@dataclass(frozen=True, slots=True)
class Noise:
    """What noise a photograph has. curve: standard deviation at tones from black to white, both in 0..1 of sRGB. along,
    between: correlation of the noise with that of the next pixel, and with that of other channels, 0..1. level: mean standard
    deviation over the photograph, of samples in 0..255."""

    curve: tuple[float, ...]
    along: float
    between: float
    level: float


class Denoiser:
    """network: ready for inference on `device`. Tile by tile without a seam, for a tile is seen with all that bears on it."""

    def __init__(self, network: NoiseNet, model_id: str, device: str) -> None:
        self.network, self.model_id, self.device = network, model_id, device

    def find(self, photograph: Photograph) -> Noise:
        """A tenth of the work of taking it away."""
        import torch

        from pipeline.models.noise_net import LEAST_LEVEL

        # Counts, and sums of both correlations, of every tone and level.
        sums = np.zeros((3, _TONES * _LEVELS))
        shown = visible(photograph)
        for around, inner, _ in windows(shown.shape[0], shown.shape[1], _TILE, _HALO):
            unit = _even(shown[around])
            with torch.inference_mode(), convolving(self.device, exact=True):
                maps = self.network.finder(self._tensor(unit))[0].float().cpu().numpy()
            part = tuple(slice(side.start // 2, -(-side.stop // 2)) for side in inner)
            level, along, between, _ = (plane[part].ravel() for plane in maps)
            tone = np.clip((_tones(unit)[part].ravel() * _TONES).astype(np.intp), 0, _TONES - 1)
            height = np.clip(np.log(level / LEAST_LEVEL + 1) * _FINE, 0, _LEVELS - 1).astype(np.intp)
            for row, values in enumerate((None, along, between)):
                sums[row] += np.bincount(tone * _LEVELS + height, values, _TONES * _LEVELS)
        return _gathered(sums.reshape(3, _TONES, _LEVELS))

    def denoise(self, photograph: Photograph, noise: Noise, strength: float) -> Pixels:
        """In the photograph's own depth and colours. strength: 0..1, the share of the noise that goes; what lies outside sRGB's
        gamut stays there, neutral photographs stay exactly neutral."""
        space, result = space_of(photograph), np.empty_like(photograph.pixels)
        neutral = is_neutral(photograph.pixels)
        for window, change in self._changes(visible(photograph), noise):
            given = photograph.pixels[window]
            given = given[..., :1] if neutral else given
            change = (change @ LUMA)[..., None] if neutral else change
            # Only the change is added, so that nothing is pressed into sRGB.
            calmed = space.from_srgb(space.to_srgb(given) + change * np.float32(strength), given)
            result[window] = np.broadcast_to(to_depth(calmed, result.dtype), result[window].shape)
        return result

    def _changes(self, shown: Pixels, noise: Noise) -> Iterator[tuple[Window, Floats]]:
        """What has to be added to be rid of the noise, h x w x 3 in 0..1 of sRGB, window by window."""
        import torch

        for around, inner, window in windows(shown.shape[0], shown.shape[1], _TILE, _HALO):
            unit = _even(shown[around])
            level = np.interp(_tones(unit), (np.arange(_TONES) + 0.5) / _TONES, noise.curve)
            told = np.stack([level, np.full_like(level, noise.along), np.full_like(level, noise.between)], axis=2)
            with torch.inference_mode(), convolving(self.device, exact=True):
                cleaned = self.network.remover(self._tensor(unit), self._tensor(told))
            after = cleaned[0].float().cpu().numpy().transpose(1, 2, 0)[inner]
            yield window, np.clip(after, 0, 1) - unit[inner]

    def _tensor(self, pixels: NDArray[np.floating[Any]]) -> torch.Tensor:
        """1 x C x H x W float32."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))[None]
        return tensor.to(self.device, memory_format=torch.channels_last)


def _even(pixels: Pixels) -> Floats:
    """H x W x 3 in 0..1; sides that are odd are one longer."""
    unit: Floats = as_unit(pixels)
    unit = np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit
    height, width = unit.shape[:2]
    even: Floats = cv2.copyMakeBorder(unit, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return even


def _tones(unit: Floats) -> Floats:
    """H/2 x W/2: lightness around each folded pixel, 0..1."""
    grey = unit.mean(axis=2)
    small = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    tones: Floats = cv2.blur(small, (_AROUND, _AROUND), borderType=cv2.BORDER_REPLICATE)
    return tones


def _gathered(sums: NDArray[np.float64]) -> Noise:
    """sums: 3 x tones x levels. Grain is everywhere where a tone is, texture is not: the quietest places of a tone say what
    noise it has. Where a tone has no quiet place at all, others do: noise is not that much stronger at one than at another."""
    from pipeline.models.noise_net import LEAST_LEVEL

    counts = sums[0]
    distance = np.arange(_TONES)[:, None] - np.arange(_TONES)
    near = np.exp(-np.square(distance) / (2 * _SPREAD**2)) + _ALL
    below = np.cumsum(near @ counts, axis=1)
    quiet = (below < _QUIETEST * below[:, -1:]).sum(axis=1)
    curve = LEAST_LEVEL * (np.exp((quiet + 0.5) / _FINE) - 1) * (quiet > 0)
    share = counts.sum(axis=1) / counts.sum()
    usual = (share > _RARE) & (np.arange(_TONES) >= 1) & (np.arange(_TONES) < _TONES - 1)
    if usual.any():
        curve = np.minimum(curve, _MOST * curve[usual].min())
    told = np.arange(_LEVELS)[None] <= quiet[:, None] + _FINE / 4
    weight = max(float((counts * told).sum()), 1.0)
    return Noise(
        curve=tuple(float(value) for value in curve),
        along=float((sums[1] * told).sum() / weight),
        between=float((sums[2] * told).sum() / weight),
        level=float(255 * (curve * share).sum()),
    )

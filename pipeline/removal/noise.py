"""Noise and grain, taken away by a network that estimates how much of them there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.colour_space import Floats, space_of, visible
from pipeline.photograph import LUMA, Photograph, Pixels, as_unit, is_neutral, to_depth
from pipeline.tiles import windows

if TYPE_CHECKING:
    import torch

    from pipeline.models.noise_net import NoiseNet

# What the network sees at once, and how far it looks; both even, so that its folded pixels are the same ones everywhere.
_TILE = 384
_HALO = 36


class Denoiser:
    """network: ready for inference on `device`. Tile by tile without a seam, for a tile is seen with all that bears on it."""

    def __init__(self, network: NoiseNet, model_id: str, device: str) -> None:
        self.network, self.model_id, self.device = network, model_id, device

    def level(self, photograph: Photograph) -> float:
        """Mean standard deviation of the noise, of samples in 0..255 of sRGB; a twentieth of the work of taking it away."""
        import torch

        shown = visible(photograph)
        total, count = 0.0, 0
        for around, inner, _ in windows(shown.shape[0], shown.shape[1], _TILE, _HALO):
            with torch.inference_mode():
                found = self.network.levels(self._tensor(shown[around]))[0, 0]
            rows, columns = (slice(part.start // 2, -(-part.stop // 2)) for part in inner)
            part = found[rows, columns]
            total += float(part.double().sum())
            count += part.numel()
        return 255 * total / count

    def denoise(self, photograph: Photograph, strength: float) -> Pixels:
        """In the photograph's own depth and colours. strength: 0..1, the share of the noise that goes; what lies outside sRGB's
        gamut stays there, neutral photographs stay exactly neutral."""
        import torch

        shown, neutral = visible(photograph), is_neutral(photograph.pixels)
        space, result = space_of(photograph), np.empty_like(photograph.pixels)
        for around, inner, window in windows(shown.shape[0], shown.shape[1], _TILE, _HALO):
            with torch.inference_mode():
                cleaned, _ = self.network(self._tensor(shown[around]))
            after = cleaned[0].float().cpu().numpy().transpose(1, 2, 0)[inner]
            given = photograph.pixels[window]
            given = given[..., :1] if neutral else given
            change = np.clip(after, 0, 1) - as_unit(shown[window])
            change = (change @ LUMA)[..., None] if neutral else change
            # Only the change is added, so that nothing is pressed into sRGB.
            calmed = space.from_srgb(space.to_srgb(given) + change * np.float32(strength), given)
            result[window] = np.broadcast_to(to_depth(calmed, result.dtype), result[window].shape)
        return result

    def _tensor(self, pixels: Pixels) -> torch.Tensor:
        """1 x 3 x H x W float32; sides that are odd are one longer."""
        import torch

        unit: Floats = as_unit(pixels)
        unit = np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit
        height, width = unit.shape[:2]
        even = cv2.copyMakeBorder(unit, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        tensor = torch.from_numpy(np.ascontiguousarray(even.transpose(2, 0, 1)))[None]
        return tensor.to(self.device, memory_format=torch.channels_last)

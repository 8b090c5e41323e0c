"""The network that takes noise away: one estimates its level, one removes it, as CBDNet (Guo et al., CVPR 2019) has it.

The second is FFDNet (Zhang, Zuo and Zhang, IEEE TIP 27(9), 2018), so that weights of FFDNet are a start for training.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

# What the sides of an input must be divisible by.
MULTIPLE = 2
# How far a pixel is seen, in pixels: a convolution of 3 on folded pixels reaches 2 further.
_LAYERS, _LEVEL_LAYERS = 12, 5
REACH = 2 * (_LAYERS + _LEVEL_LAYERS)


class NoiseNet(nn.Module):
    """N x 3 x H x W sRGB in 0..1, H and W even, to the same without noise, not clipped."""

    def __init__(self, width: int = 96, level_width: int = 32) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.unfold = nn.PixelShuffle(2)
        self.level = _chain(12, level_width, 1, _LEVEL_LAYERS)
        self.body = _chain(13, width, 12, _LAYERS)

    def levels(self, pixels: torch.Tensor) -> torch.Tensor:
        """N x 1 x H/2 x W/2: standard deviation of the noise around every pixel, in the pixels' unit."""
        found: torch.Tensor = functional.softplus(self.level(self.fold(pixels)), beta=40.0)
        return found

    def cleaned(self, pixels: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Without noise of these levels."""
        result: torch.Tensor = self.unfold(self.body(torch.cat([self.fold(pixels), levels], dim=1)))
        return result

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        levels = self.levels(pixels)
        return self.cleaned(pixels, levels), levels


def _chain(before: int, width: int, after: int, layers: int) -> nn.Sequential:
    chain: list[nn.Module] = [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
    for _ in range(layers - 2):
        chain += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*chain, nn.Conv2d(width, after, 3, padding=1))


def from_ffdnet(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of FFDNet for colour (`model.0.weight` ...) under the names that NoiseNet has for them."""
    return {name.replace("model.", "body.", 1): tensor for name, tensor in tensors.items()}

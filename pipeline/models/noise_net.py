"""The networks that take noise away: one says what noise there is, one removes it, as CBDNet (Guo et al., CVPR 2019) has it.

The second is FFDNet (Zhang, Zuo and Zhang, IEEE TIP 27(9), 2018) that is told more than a level, so that weights of FFDNet are
a start for training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

# What the sides of an input must be divisible by.
MULTIPLE = 2
# What FFDNet's part is told at every pixel: standard deviation of the noise in 0..1, its correlation with the noise one pixel
# on, and its correlation between channels. White noise in colours of their own has correlations of 0, and is what FFDNet knows.
CONDITIONS = 3
_LAYERS = 12
# A wider look tells texture from grain; of these steps the network that finds noise is made.
_STEPS = (1, 1, 2, 2, 1, 1)
# How far a pixel is seen, in pixels: a convolution of 3 on folded pixels reaches 2 further.
REACH = 2 * max(_LAYERS, sum(_STEPS))


class NoiseFinder(nn.Module):
    """N x 3 x H x W sRGB in 0..1, H and W even, to N x 4 x H/2 x W/2: standard deviation of the noise around every pixel, in
    the pixels' unit; its correlation between neighbours and between channels, 0..1; and the doubt of all this, as the
    logarithm of what the level is likely to be wrong by, a share of it."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.chain = _chain(12, width, CONDITIONS + 1, _STEPS)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        answer = self.chain(self.fold(pixels))
        level = functional.softplus(answer[:, :1], beta=40.0)
        return torch.cat([level, answer[:, 1:3].sigmoid(), answer[:, 3:]], dim=1)


class NoiseRemover(nn.Module):
    """N x 3 x H x W sRGB in 0..1, H and W even, and N x 3 x H/2 x W/2 conditions, to the pixels without noise, not
    clipped."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.unfold = nn.PixelShuffle(2)
        self.chain = _chain(12 + CONDITIONS, width, 12, (1,) * _LAYERS)

    def forward(self, pixels: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.unfold(self.chain(torch.cat([self.fold(pixels), conditions], dim=1)))
        return result


class NoiseNet(nn.Module):
    """Both, as they ship."""

    def __init__(self, width: int = 96, finder_width: int = 40) -> None:
        super().__init__()
        self.finder = NoiseFinder(finder_width)
        self.remover = NoiseRemover(width)


def _chain(before: int, width: int, after: int, steps: Sequence[int]) -> nn.Sequential:
    """Convolutions of 3 x 3, so many pixels apart, with what is negative cut off between them."""
    widths = [before, *[width] * (len(steps) - 1), after]
    layers: list[nn.Module] = []
    for given, made, step in zip(widths, widths[1:], steps, strict=False):
        layers += [nn.Conv2d(given, made, 3, padding=step, dilation=step), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def from_ffdnet(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of FFDNet for colour (`model.0.weight` ...) as those of NoiseRemover: correlations count nothing at first."""
    found = {name.replace("model.", "chain.", 1): tensor for name, tensor in tensors.items()}
    first = found["chain.0.weight"]
    nothing = first.new_zeros(first.shape[0], CONDITIONS - 1, *first.shape[2:])
    return found | {"chain.0.weight": torch.cat([first, nothing], dim=1)}

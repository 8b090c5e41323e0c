"""The networks that take noise away: one says what noise there is, one removes it, as CBDNet (Guo et al., CVPR 2019) has it.

The second is FFDNet (Zhang, Zuo and Zhang, IEEE TIP 27(9), 2018) that is told more than a level, so that weights of FFDNet are
a start for training.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

# What the sides of an input must be divisible by.
MULTIPLE = 2
# What FFDNet's part is told at every pixel: standard deviation of the noise in 0..1, its correlation with the noise one pixel
# on, and its correlation between channels. White noise in colours of their own has correlations of 0, and is what FFDNet knows.
CONDITIONS = 3
# Levels are told as ratios; what is below this hardly counts.
LEAST_LEVEL = 1 / 255
_LAYERS = 12
# The network that finds noise takes means over so many folded pixels around.
_NEAR = 4
_BANDS = 15
_LEAST_POWER = 1e-7
# Orthonormal: white noise has the same power in each.
_OPPONENT = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, -(2**-0.5), 0.0),
    (6**-0.5, 6**-0.5, -2 * 6**-0.5),
)
# How far a pixel is seen, in pixels: a convolution of 3 on folded pixels reaches 2 further.
REACH = 2 * _LAYERS


class NoiseFinder(nn.Module):
    """N x 3 x H x W sRGB in 0..1, H and W even, to N x 4 x H/2 x W/2: standard deviation of the noise around every pixel, in
    the pixels' unit; its correlation between neighbours and between channels, 0..1; and the doubt of all this, as the
    logarithm of what the level is likely to be wrong by, a share of it.

    It looks at logarithms of the power in bands of a discrete cosine transform, of lightness and two differences of colour,
    so that not much is left to learn: how the powers of grain go together, and how those of pictures.
    """

    bank: torch.Tensor
    opponent: torch.Tensor

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.register_buffer("bank", _cosines().repeat(3, 1, 1, 1), persistent=False)
        self.register_buffer("opponent", torch.tensor(_OPPONENT)[..., None, None], persistent=False)
        layers: list[nn.Module] = []
        for given, made in ((2 * 3 * _BANDS + 3, width), (width, width), (width, width), (width, CONDITIONS + 1)):
            layers += [nn.Conv2d(given, made, 1), nn.ReLU(inplace=True)]
        self.chain = nn.Sequential(*layers[:-1])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        answer = self.chain(self._looks(pixels))
        level = (answer[:, :1].exp() - LEAST_LEVEL).clamp_min(0)
        return torch.cat([level, answer[:, 1:3].sigmoid(), answer[:, 3:].clamp(-5, 2)], dim=1)

    def _looks(self, pixels: torch.Tensor) -> torch.Tensor:
        planes = functional.conv2d(pixels, self.opponent)
        around = functional.pad(planes, (1, 1, 1, 1), mode="replicate")
        bands = functional.conv2d(around, self.bank, stride=2, groups=3)
        power, size = _nearby(bands.square()), _nearby(bands.abs())
        # Both would be the same for a Gaussian but for a factor, and are not where there are edges.
        logarithms = torch.cat([0.5 * torch.log(power + _LEAST_POWER), torch.log(size + _LEAST_POWER**0.5)], dim=1)
        return torch.cat([logarithms / 2 + 2, _nearby(functional.avg_pool2d(planes, 2))], dim=1)


def _cosines() -> torch.Tensor:
    """The 15 bands of the orthonormal cosine transform of 4 x 4 pixels that are not the mean, 15 x 1 x 4 x 4."""
    place = torch.arange(4.0)
    rows = torch.cos(torch.pi / 4 * (place[None] + 0.5) * place[:, None]) * (0.5**0.5)
    rows[0] = 0.5
    return torch.einsum("ai,bj->abij", rows, rows).reshape(16, 1, 4, 4)[1:]


def _nearby(planes: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(planes, 2 * _NEAR + 1, stride=1, padding=_NEAR, count_include_pad=False)


class NoiseRemover(nn.Module):
    """N x 3 x H x W sRGB in 0..1, H and W even, and N x 3 x H/2 x W/2 conditions, to the pixels without noise, not
    clipped."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.unfold = nn.PixelShuffle(2)
        self.chain = _chain(12 + CONDITIONS, width, 12)

    def forward(self, pixels: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.unfold(self.chain(torch.cat([self.fold(pixels), conditions], dim=1)))
        return result


class NoiseNet(nn.Module):
    """Both, as they ship."""

    def __init__(self, width: int = 96, finder_width: int = 64) -> None:
        super().__init__()
        self.finder = NoiseFinder(finder_width)
        self.remover = NoiseRemover(width)


def _chain(before: int, width: int, after: int) -> nn.Sequential:
    """Convolutions of 3 x 3 with what is negative cut off between them."""
    widths = [before, *[width] * (_LAYERS - 1), after]
    layers: list[nn.Module] = []
    for given, made in pairwise(widths):
        layers += [nn.Conv2d(given, made, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def from_ffdnet(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of FFDNet for colour (`model.0.weight` ...) as those of NoiseRemover: correlations count nothing at first."""
    found = {name.replace("model.", "chain.", 1): tensor for name, tensor in tensors.items()}
    first = found["chain.0.weight"]
    nothing = first.new_zeros(first.shape[0], CONDITIONS - 1, *first.shape[2:])
    return found | {"chain.0.weight": torch.cat([first, nothing], dim=1)}

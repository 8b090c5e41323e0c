"""The networks that take noise away: one says what noise there is, one removes it, as CBDNet (Guo et al., CVPR 2019) has it.

The second is FFDNet (Zhang, Zuo and Zhang, IEEE TIP 27(9), 2018) with corrections for noise that is not white.
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
# Channels of a correction beside one of FFDNet's convolutions.
RANK = 11
# Noise whose correlations are below the first is taken for white; from the second on corrections count in full.
_WHITE, _GRAIN = 0.2, 0.4
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
    clipped.

    FFDNet as it was published, and beside each of its convolutions a narrow one that corrects it (low-rank adaptation: Hu et
    al., ICLR 2022) as far as the noise is not white: of white noise the answer is FFDNet's own, to the bit.
    """

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.unfold = nn.PixelShuffle(2)
        widths = [12 + CONDITIONS, *[width] * (_LAYERS - 1), 12]
        self.layers = nn.ModuleList(_Adapted(given, made) for given, made in pairwise(widths))

    def forward(self, pixels: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        share = ((conditions[:, 1:].amax(dim=1, keepdim=True) - _WHITE) / (_GRAIN - _WHITE)).clamp(0, 1)
        x = torch.cat([self.fold(pixels), conditions], dim=1)
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x, share))
        result: torch.Tensor = self.unfold(self.layers[-1](x, share))
        return result


class _Adapted(nn.Module):
    """A convolution of 3 x 3, and a correction of it that is nothing at first."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.base = nn.Conv2d(given, made, 3, padding=1)
        self.narrow = nn.Conv2d(given, RANK, 3, padding=1, bias=False)
        self.wide = nn.Conv2d(RANK, made, 1)
        for parameter in self.wide.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.base(x) + share * self.wide(self.narrow(x))
        return answer


class NoiseNet(nn.Module):
    """Both, as they ship."""

    def __init__(self, width: int = 96, finder_width: int = 64) -> None:
        super().__init__()
        self.finder = NoiseFinder(finder_width)
        self.remover = NoiseRemover(width)


def from_ffdnet(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of FFDNet for colour (`model.0.weight`, `model.2.weight` ...) as the base of NoiseRemover."""
    found = {}
    for name, tensor in tensors.items():
        _, place, kind = name.split(".")
        found[f"layers.{int(place) // 2}.base.{kind}"] = tensor
    first = found["layers.0.base.weight"]
    nothing = first.new_zeros(first.shape[0], CONDITIONS - 1, *first.shape[2:])
    return found | {"layers.0.base.weight": torch.cat([first, nothing], dim=1)}

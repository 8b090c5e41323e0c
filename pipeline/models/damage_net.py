"""The network that tells damage from picture: a small U-Net (Ronneberger et al., MICCAI 2015) over folded pixels."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.damage.marks import PLANES

# Channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the photograph's size.
WIDTHS = (20, 32, 64, 96, 128)
# What the sides of an input must be divisible by.
MULTIPLE = 2 ** len(WIDTHS)
KINDS = 5


class DamageNet(nn.Module):
    """N x 10 x H x W, sRGB photographs as `pipeline.damage.marks` shows them, to N x 5 x H x W scores, one channel a `Kind`;
    softmax makes them probabilities.

    H and W are divisible by 32. Planes are folded 2 x 2 into channels on the way in and out, which costs no detail and a
    quarter of the work. normed: as it is trained, with batch normalisation; without, as it is used. bounds: log-odds from
    which each kind of `damage.FOUND` counts, which calibration sets; they are kept with the weights.
    """

    bounds: torch.Tensor

    def __init__(self, widths: Sequence[int] = WIDTHS, *, normed: bool = False) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.down = nn.ModuleList()
        before = 4 * (3 + PLANES)
        for width in widths:
            self.down.append(_block(before, width, normed=normed))
            before = width
        self.up = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up.append(_block(before + width, width, normed=normed))
            before = width
        self.head = nn.Conv2d(before, KINDS * 4, 3, padding=1)
        self.unfold = nn.PixelShuffle(2)
        if not normed:
            self.register_buffer("bounds", torch.zeros(KINDS - 1))

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        x = self.fold(planes)
        passed = []
        for number, block in enumerate(self.down):
            x = block(x if number == 0 else functional.max_pool2d(x, 2))
            passed.append(x)
        passed.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, passed.pop()], dim=1))
        scores: torch.Tensor = self.unfold(self.head(x))
        return scores


def _block(before: int, width: int, *, normed: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, width):
        layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not normed))
        layers.append(nn.BatchNorm2d(width) if normed else nn.Identity())
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def folded(network: DamageNet) -> DamageNet:
    """A trained network as it is used: every normalisation is part of the convolution before it."""
    result = copy.deepcopy(network).eval()
    for block in (*result.down, *result.up):
        assert isinstance(block, nn.Sequential)
        for place in (0, 3):
            convolution, norm = block[place], block[place + 1]
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            block[place] = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
            block[place + 1] = nn.Identity()
    result.register_buffer("bounds", torch.zeros(KINDS - 1))
    return result

"""Convolutions of 3 x 3 with a quarter of the multiplications (Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, CVPR 2016), in fp32 on CPUs, whose libraries have no such kernels.

Squares of 6 x 6 pixels, moved by 4, are transformed; in each of the 36 places of the transform all channels of all squares
are one product of matrices; what comes out is transformed back to 4 x 4 pixels.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

_STEP, _TAPS = 4, 3
_SIDE = _STEP + _TAPS - 1
# Where polynomials are evaluated, besides infinity. Half the rounding of the usual 0, 1, -1, 2, -2, as measured (why: Barabasz
# et al., Error analysis and improving the accuracy of Winograd convolution, ACM TOMS 46(4), 2020).
_POINTS = (0.0, -1.0, 1.0, 0.5, -2.0)
# Squares that are worked on together, so that what is between the transforms stays in the processor's cache.
_TOGETHER = 64
# Below, the transforms cost more than what they save, as measured on AVX2.
_LEAST_CHANNELS, _LEAST_SIDE = 128, 32


def pays(channels: int, given: int, height: int, width: int) -> bool:
    """Whether a convolution from `given` to `channels` channels is faster this way; sides have to be multiples of 4."""
    fits = height % _STEP == 0 and width % _STEP == 0
    return fits and min(channels, given) >= _LEAST_CHANNELS and min(height, width) >= _LEAST_SIDE


class WinogradConvolution(nn.Module):
    """forward: N x C x H x W fp32, channels last, to N x K x H x W: what `conv2d(x, weight, padding=1)` gives, but for
    rounding: two to three times its error, some millionths of the output's deviation. weight: K x C x 3 x 3."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        _, kernel, _ = _transforms()
        spread = torch.from_numpy(np.kron(kernel, kernel)) @ weight.detach().double().flatten(2).permute(
            2, 1, 0
        ).flatten(1)
        places = spread.view(_SIDE**2, weight.shape[1], weight.shape[0]).float()
        self.places = nn.Parameter(places.contiguous(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
        count, _, height, width = x.shape
        out = x.new_empty(count, height, width, self.places.shape[2])
        rows = max(1, _TOGETHER * _STEP // width)
        for face, result in zip(padded, out, strict=True):
            for top in range(0, height // _STEP, rows):
                bottom = min(top + rows, height // _STEP)
                self._strip(face, result, top, bottom)
        return out.permute(0, 3, 1, 2)

    def _strip(self, padded: Tensor, out: Tensor, top: int, bottom: int) -> None:
        """Squares of the rows from `top` to `bottom`. padded: H + 2 x W + 2 x C. out: H x W x K."""
        (_, width, channels), kept = padded.shape, out.shape[2]
        down, across = bottom - top, (width - 2) // _STEP
        row = width * channels
        strides = (row, channels, _STEP * row, _STEP * channels, 1)
        start = padded.storage_offset() + top * _STEP * row
        squares = padded.as_strided((_SIDE, _SIDE, down, across, channels), strides, start)
        forth, back = _matrices()
        given = forth @ squares.reshape(_SIDE**2, -1)
        product = torch.bmm(given.view(_SIDE**2, -1, channels), self.places)
        answer = (back @ product.view(_SIDE**2, -1)).view(_STEP, _STEP, down, across, kept)
        target = out[top * _STEP : bottom * _STEP].view(down, _STEP, across, _STEP, kept)
        target.copy_(answer.permute(2, 0, 3, 1, 4))


@cache
def _transforms() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of six samples (6 x 6), of three taps (6 x 3), and back to four sums (4 x 6): the Toom-Cook algorithm."""
    others = [[q for q in _POINTS if q != p] for p in _POINTS]
    samples = np.zeros((_SIDE, _SIDE))
    for place, rest in enumerate([*others, list(_POINTS)]):
        factors = np.poly(rest)[::-1]
        samples[place, : len(factors)] = factors
    scale = np.array([np.prod([p - q for q in rest]) for p, rest in zip(_POINTS, others, strict=True)])
    # At infinity a polynomial is its highest coefficient.
    taps = np.vstack([np.vander(_POINTS, _TAPS, increasing=True) / scale[:, None], np.eye(_TAPS)[-1]])
    sums = np.vstack([np.vander(_POINTS, _STEP, increasing=True), np.eye(_STEP)[-1]]).T
    return samples, taps, sums


@cache
def _matrices() -> tuple[Tensor, Tensor]:
    """Both transforms for rows and columns at once: 36 x 36 and 16 x 36 fp32."""
    samples, _, sums = _transforms()
    forth, back = (torch.from_numpy(np.kron(one, one)).float() for one in (samples, sums))
    return forth, back

"""Upscalers over a photograph of any size: a few layers at a time over the whole of it, in windows.

A deep network sees far (RRDBNet some 350 pixels), and answers otherwise near the border of a tile than in the middle of a
photograph. A few of its layers see only a few pixels far. So these are computed over the whole photograph before the next
few, in windows that read those few pixels of their neighbours: the answer is the one without tiles but for roundings, little
is computed twice, and what one window takes stays in a processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import torch
from torch import nn
from torch.nn import functional

# Convolutions of a dense block, and pixels that what follows all blocks depends on.
_DENSE = 5
_TAIL = 2
# Convolutions of a compact network that are computed together: more have wider margins, fewer pass more over memory.
_TOGETHER = 8
_Window = tuple[slice, slice]


class WindowedRRDBNet(nn.Module):
    """RRDBNet (Wang et al., ESRGAN, ECCVW 2018): N x 3 x H x W in 0..1 to N x 3 x sH x sW, as `reference` gives it.

    reference: basicsr's, whose weights it shares. window: the longest side of what is computed at once, in pixels of the
    trunk. fold: pixels of the photograph to one of the trunk, on a side. Takes four arrays of 64 channels.
    """

    def __init__(self, reference: Any, window: int, fold: int = 1) -> None:
        super().__init__()
        self.reference = reference
        self.window = window
        self.fold = fold

    def forward(self, photograph: torch.Tensor) -> torch.Tensor:
        net, fold = self.reference, self.fold
        if max(photograph.shape[2:]) <= self.window * fold:
            return _whole(net, photograph)
        features: torch.Tensor = net.conv_first(
            functional.pixel_unshuffle(photograph, fold) if fold > 1 else photograph
        )
        windows = list(_windows(features.shape[2], features.shape[3], self.window))
        trunk, second, third = (_with_margin(features, features.shape[1], _DENSE) for _ in range(3))
        _inside(trunk, _DENSE).copy_(features)
        for block in net.body:
            _dense(block.rdb1, trunk, second, windows)
            _dense(block.rdb2, second, third, windows)
            _dense(block.rdb3, third, trunk, windows, residual=True)
        del second, third
        for rows, columns in windows:
            seen = trunk[:, :, _wider(rows, _DENSE, 1), _wider(columns, _DENSE, 1)]
            features[:, :, rows, columns] += functional.conv2d(seen, net.conv_body.weight, net.conv_body.bias)
        del trunk
        return self._enlarged(features)

    def _enlarged(self, features: torch.Tensor) -> torch.Tensor:
        """What follows the trunk, at four times its sides, where a window of it is sixteen times as heavy."""
        net = self.reference
        count, _, height, width = features.shape
        result = features.new_empty(count, net.conv_last.out_channels, 4 * height, 4 * width)
        for rows, columns in _windows(height, width, self.window // 2):
            top, left = max(0, rows.start - _TAIL), max(0, columns.start - _TAIL)
            x = features[:, :, top : rows.stop + _TAIL, left : columns.stop + _TAIL]
            for layer in (net.conv_up1, net.conv_up2):
                x = net.lrelu(layer(functional.interpolate(x, scale_factor=2, mode="nearest")))
            x = net.conv_last(net.lrelu(net.conv_hr(x)))
            result[:, :, _times(rows, 0), _times(columns, 0)] = x[:, :, _times(rows, top), _times(columns, left)]
        return result


class WindowedCompact(nn.Module):
    """SRVGGNetCompact (Wang et al., Real-ESRGAN, ICCVW 2021, released with it): N x 3 x H x W in 0..1 to N x 3 x sH x sW, as
    `reference` gives it.

    reference: realesrgan's, whose weights it shares. window: the longest side of what is computed at once, in pixels.
    """

    def __init__(self, reference: Any, window: int) -> None:
        super().__init__()
        self.reference = reference
        self.window = window
        convolutions = [place for place, layer in enumerate(reference.body) if isinstance(layer, nn.Conv2d)]
        starts = [*convolutions[::_TOGETHER], len(reference.body)]
        # Parts of the body that begin with a convolution each.
        self.parts = tuple(slice(start, end) for start, end in pairwise(starts))

    def forward(self, photograph: torch.Tensor) -> torch.Tensor:
        net = self.reference
        if max(photograph.shape[2:]) <= self.window:
            return _whole(net, photograph)
        windows = list(_windows(photograph.shape[2], photograph.shape[3], self.window))
        source = _with_margin(photograph, photograph.shape[1], _TOGETHER)
        _inside(source, _TOGETHER).copy_(photograph)
        for part in self.parts:
            layers = list(net.body[part])
            channels = next(layer for layer in reversed(layers) if isinstance(layer, nn.Conv2d)).out_channels
            target = _with_margin(photograph, channels, _TOGETHER)
            _chained(layers, source, target, windows)
            source = target
        answer: torch.Tensor = net.upsampler(_inside(source, _TOGETHER))
        return answer + functional.interpolate(photograph, scale_factor=net.upscale, mode="nearest")


def _whole(network: nn.Module, photograph: torch.Tensor) -> torch.Tensor:
    """Of what is one window, no margin needs to be computed."""
    answer: torch.Tensor = network(photograph)
    return answer


def _dense(
    block: Any, source: torch.Tensor, target: torch.Tensor, windows: Sequence[_Window], *, residual: bool = False
) -> None:
    """One dense block of `source` into `target`, both with a margin of zeros. residual: a fifth of the answer is added to
    what stands in `target`, as behind every third block."""
    size, inside = _size(source, _DENSE), _inside(target, _DENSE)
    for rows, columns in windows:
        x = seen = source[:, :, _wider(rows, _DENSE, _DENSE), _wider(columns, _DENSE, _DENSE)]
        for number, layer in enumerate((block.conv1, block.conv2, block.conv3, block.conv4), 1):
            grown = functional.leaky_relu_(functional.conv2d(seen, layer.weight, layer.bias), 0.2)
            _blank(grown, (rows, columns), _DENSE - number, size)
            seen = torch.cat((seen[:, :, 1:-1, 1:-1], grown), 1)
        answer = functional.conv2d(seen, block.conv5.weight, block.conv5.bias)
        answer = answer.mul_(0.2).add_(_inside(x, _DENSE))
        if residual:
            inside[:, :, rows, columns].add_(answer, alpha=0.2)
        else:
            inside[:, :, rows, columns].copy_(answer)


def _chained(
    layers: Sequence[nn.Module], source: torch.Tensor, target: torch.Tensor, windows: Sequence[_Window]
) -> None:
    """Convolutions of 3 x 3, and what is computed for each pixel, of `source` into `target`, both with a margin of zeros."""
    size, inside = _size(source, _TOGETHER), _inside(target, _TOGETHER)
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    for rows, columns in windows:
        reach = convolutions
        x = source[:, :, _wider(rows, _TOGETHER, reach), _wider(columns, _TOGETHER, reach)]
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                _blank(x, (rows, columns), reach, size)
                x = functional.conv2d(x, layer.weight, layer.bias)
                reach -= 1
            else:
                x = layer(x)
        inside[:, :, rows, columns] = x


def _blank(array: torch.Tensor, window: _Window, reach: int, size: tuple[int, int]) -> None:
    """Zeros where what was computed `reach` pixels around a window lies outside the photograph: what every convolution of the
    network finds there."""
    for axis, (part, side) in enumerate(zip(window, size, strict=True), 2):
        before, behind = max(0, reach - part.start), max(0, part.stop + reach - side)
        if before:
            array.narrow(axis, 0, before).zero_()
        if behind:
            array.narrow(axis, array.shape[axis] - behind, behind).zero_()


def _with_margin(like: torch.Tensor, channels: int, margin: int) -> torch.Tensor:
    count, _, height, width = like.shape
    size = (count, channels, height + 2 * margin, width + 2 * margin)
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last).zero_()


def _inside(array: torch.Tensor, margin: int) -> torch.Tensor:
    return array[:, :, margin:-margin, margin:-margin]


def _size(array: torch.Tensor, margin: int) -> tuple[int, int]:
    return array.shape[2] - 2 * margin, array.shape[3] - 2 * margin


def _wider(part: slice, margin: int, reach: int) -> slice:
    """Of an array with a margin: a part of what lies inside, and `reach` around it."""
    return slice(part.start + margin - reach, part.stop + margin + reach)


def _times(part: slice, start: int) -> slice:
    """At four times the sides, counted from `start`."""
    return slice(4 * (part.start - start), 4 * (part.stop - start))


def _windows(height: int, width: int, side: int) -> Iterator[_Window]:
    """Every pixel once, in windows of about one size."""
    yield from product(_parts(height, side), _parts(width, side))


def _parts(length: int, side: int) -> list[slice]:
    count = -(-length // side)
    return [slice(start, end) for start, end in pairwise(round(i * length / count) for i in range(count + 1))]

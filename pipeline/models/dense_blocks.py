"""RRDBNet's dense blocks (Wang et al., ESRGAN, 2018) by Winograd's method, in fp32 on CPUs.

A dense block's five convolutions see the same features again and again: the block's input five times, what the first made of
it four times. Here each feature is transformed once, when it is there, and every convolution that sees it takes the
transform: 192 channels to transform where convolutions by themselves would transform 640. That is faster than plain
convolutions, where `winograd` for each of them, with so few channels, is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.winograd import SIDE, STEP, matrices, spread_kernels

# Squares that are worked on together: few enough that what is between the transforms stays in the processor's cache.
_TOGETHER = 256
_SLOPE = 0.2
_SHARE = 0.2


@dataclass(slots=True)
class _Room:
    """Arrays that all blocks work in, for tiles of one height and width: the system has to clear those that are made anew.
    features: of each source, H' x W' x C between borders of zeros, where H' and W' are H and W up to the
    next multiple of 4. spread: their transforms, 36 x squares x channels."""

    height: int
    width: int
    features: list[Tensor]
    spread: Tensor

    @classmethod
    def of(cls, height: int, width: int, channels: list[int]) -> _Room:
        down, across = (-(-side // STEP) for side in (height, width))
        return cls(
            height,
            width,
            [torch.zeros(down * STEP + 2, across * STEP + 2, count) for count in channels],
            torch.empty(SIDE**2, down * across, sum(channels)),
        )

    def inside(self, source: int) -> Tensor:
        return self.features[source][1 : self.height + 1, 1 : self.width + 1]


class _Rooms:
    """The last one that was used: tiles of a photograph have one shape."""

    def __init__(self) -> None:
        self.last: _Room | None = None

    def room(self, height: int, width: int, channels: list[int]) -> _Room:
        if self.last is None or (self.last.height, self.last.width) != (height, width):
            self.last = None
            self.last = _Room.of(height, width, channels)
        return self.last


class DenseBlock(nn.Module):
    """forward: N x 64 x H x W fp32, channels last, to the same: what basicsr's ResidualDenseBlock gives, but for rounding."""

    def __init__(self, block: nn.Module, rooms: _Rooms) -> None:
        super().__init__()
        self.rooms = rooms
        convolutions = [getattr(block, f"conv{number}") for number in range(1, 6)]
        # The last one's answer counts for a fifth.
        shares = [1.0] * 4 + [_SHARE]
        self.places = nn.ParameterList(
            nn.Parameter(spread_kernels(one.weight * share), requires_grad=False)
            for one, share in zip(convolutions, shares, strict=True)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(one.bias * share, requires_grad=False) for one, share in zip(convolutions, shares, strict=True)
        )
        self.sources = [one.in_channels for one in convolutions]
        self.channels = [self.sources[0], *(one.out_channels for one in convolutions[:-1])]

    def forward(self, x: Tensor) -> Tensor:
        room = self.rooms.room(x.shape[2], x.shape[3], self.channels)
        given = x.permute(0, 2, 3, 1)
        out = torch.empty_like(given)
        for image, answer in zip(given, out, strict=True):
            room.inside(0).copy_(image)
            self._transform(room, 0)
            for number in range(4):
                self._convolve(room, number, room.features[number + 1][1:-1, 1:-1])
                # Beyond the photograph there is nothing.
                room.features[number + 1][room.height + 1 :] = 0
                room.features[number + 1][:, room.width + 1 :] = 0
                self._transform(room, number + 1)
            last = room.features[0]
            self._convolve(room, 4, last[1:-1, 1:-1])
            torch.add(room.inside(0), image, out=answer)
            last[room.height + 1 :] = 0
            last[:, room.width + 1 :] = 0
        return out.permute(0, 3, 1, 2)

    def _transform(self, room: _Room, source: int) -> None:
        padded, first = room.features[source], sum(self.channels[:source])
        channels, row = padded.shape[2], padded.stride(0)
        down, across = _squares(padded)
        forth, _ = matrices()
        for top, bottom in _strips(down, across):
            squares = padded[top * STEP :].as_strided(
                (SIDE, SIDE, bottom - top, across, channels), (row, channels, STEP * row, STEP * channels, 1)
            )
            spread = (forth @ squares.reshape(SIDE**2, -1)).view(SIDE**2, -1, channels)
            room.spread[:, top * across : bottom * across, first : first + channels] = spread

    def _convolve(self, room: _Room, number: int, target: Tensor) -> None:
        """target: H' x W' x K."""
        places, bias = self.places[number], self.biases[number]
        down, across = target.shape[0] // STEP, target.shape[1] // STEP
        _, back = matrices()
        for top, bottom in _strips(down, across):
            given = room.spread[:, top * across : bottom * across, : self.sources[number]]
            product = torch.bmm(given, places)
            answer = (back @ product.view(SIDE**2, -1)).view(STEP, STEP, bottom - top, across, -1)
            answer += bias
            if number < 4:
                functional.leaky_relu_(answer, _SLOPE)
            strip = target[top * STEP : bottom * STEP].view(bottom - top, STEP, across, STEP, answer.shape[-1])
            strip.copy_(answer.permute(2, 0, 3, 1, 4))


def _squares(padded: Tensor) -> tuple[int, int]:
    return (padded.shape[0] - 2) // STEP, (padded.shape[1] - 2) // STEP


def _strips(down: int, across: int) -> list[tuple[int, int]]:
    rows = max(1, _TOGETHER // across)
    return [(top, min(top + rows, down)) for top in range(0, down, rows)]


def with_shared_transforms(network: nn.Module) -> nn.Module:
    """The network, its dense blocks (of RRDBNet) replaced in place; others are left as they are. In fp32 on the CPU."""
    rooms = _Rooms()
    trunks = [module for module in network.modules() if hasattr(module, "rdb1")]
    for trunk in trunks:
        for name in ("rdb1", "rdb2", "rdb3"):
            setattr(trunk, name, DenseBlock(getattr(trunk, name), rooms))
    return network

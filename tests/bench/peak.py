"""Part b: the rate at which a network computes, beside the rate of the fastest of its own layers alone, in turns.

Operations are counted while the network runs: two for each multiplication and addition of a convolution, as it is written
down, whatever method computes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.precision import Precision
from pipeline.models.upscalers import open_upscaler
from pipeline.stage import Device
from tests.bench.ground import Figure, Network, Options, devices, middle, networks, spread, timed
from tests.bench.upscalers import PRECISIONS, an_upscaler, side_of
from tests.tables import alternate

# Of the layers, those that are tried as the fastest: the largest.
_TRIED = 4


@dataclass(frozen=True)
class Layer:
    """A convolution of kernel x kernel as it is called. height, width: of its output."""

    given: int
    channels: int
    kernel: int
    height: int
    width: int

    @property
    def multiply_adds(self) -> int:
        return self.given * self.channels * self.kernel**2 * self.height * self.width


def layers(network: nn.Module, x: Tensor) -> Counter[Layer]:
    """Every convolution that `network` calls for x (N x C x H x W), and how often; counted for the whole batch.

    The network is one of plain `Conv2d`s: groups and what else multiplies is not foreseen, and refused.
    """
    found: Counter[Layer] = Counter()

    def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        if module.groups != 1:
            raise ValueError(f"a convolution of {module.groups} groups is not counted here")
        kernel, (height, width) = module.kernel_size[0], output.shape[2:]
        found[Layer(module.in_channels, module.out_channels, kernel, height, width)] += len(output)

    odd = [m for m in network.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d | nn.Conv1d | nn.Conv3d)]
    if odd:
        raise ValueError(f"{type(odd[0]).__name__} is not counted here")
    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.inference_mode():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def multiply_adds(found: Counter[Layer]) -> int:
    return sum(layer.multiply_adds * count for layer, count in found.items())


def convolution(layer: Layer, device: Device, kind: torch.dtype) -> Callable[[], None]:
    """The bare layer on numbers that are there, channels last."""
    x, weight = (
        torch.randn(shape).to(device=device.kind, dtype=kind, memory_format=torch.channels_last)
        for shape in (
            (1, layer.given, layer.height, layer.width),
            (layer.channels, layer.given, layer.kernel, layer.kernel),
        )
    )

    def call() -> None:
        with torch.inference_mode():
            functional.conv2d(x, weight, padding=layer.kernel // 2)
        if device.kind == "cuda":
            torch.cuda.synchronize()

    return call


def rows(options: Options) -> Iterator[Figure]:
    for device in devices():
        for network in networks():
            side = side_of(network, device)
            found = layers(open_upscaler(network.store, network.model), torch.zeros(1, 3, 16, 16))
            # Every convolution pads: work goes with the pixels.
            larger = Counter(
                {
                    Layer(one.given, one.channels, one.kernel, one.height * side // 16, one.width * side // 16): count
                    for one, count in found.items()
                }
            )
            for precision in PRECISIONS:
                yield from _row(network, device, precision, larger, options.runs)


def _row(network: Network, device: Device, precision: Precision, found: Counter[Layer], runs: int) -> Iterator[Figure]:
    stage = an_upscaler(network, device, precision)
    if precision == "fast" and stage.precision == "fp32":
        return
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[stage.precision]
    tried = sorted(found, key=lambda layer: -layer.multiply_adds * found[layer])[:_TRIED]
    alone = {layer: min(timed(convolution(layer, device, kind), 3)) / layer.multiply_adds for layer in tried}
    best = min(alone, key=lambda layer: alone[layer])
    side = side_of(network, device)
    tiles = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    assert stage.network is not None
    run, total = stage.network, multiply_adds(found)
    # The layer as often as it takes to be timed like the network.
    times = max(1, min(200, total // best.multiply_adds // 4))
    call = convolution(best, device, kind)
    layer_times, network_times = alternate(lambda: [call() for _ in range(times)], lambda: run(tiles), runs)
    yield Figure(
        f"{network.name}, {stage.precision}, {device.kind}",
        2e-9 * total / middle(network_times.wall),
        "GFLOP/s",
        spread(network_times.wall),
        2e-9 * best.multiply_adds * times / middle(layer_times.wall),
        f"GFLOP/s: {best.given} to {best.channels} channels at {best.height} x {best.width}, alone",
        f"{2e-9 * total:.0f} GFLOP a call",
    )

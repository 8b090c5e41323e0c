"""Part d: photographs of 0.1 to 20 megapixels beside photographs of one size, for a megapixel.

Timed with a small network of the compact one's kind with random weights, which doubles: all sizes end in a minute or two,
and what the tile engine itself takes is a larger share than with a real one. Counted besides, for the real tile: how many
pixels a network is given for one of the photograph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from pipeline.models import compat
from pipeline.stage import Device
from pipeline.stages.upscale import UpscaleParameters
from pipeline.tiles import Array, Network, Tiling, cut, run_tiled
from tests.bench.ground import Figure, Options, devices, middle, picture, spread
from tests.tables import alternate

# Megapixels: 32.6 together, and as many photographs of the other kind as come nearest to that.
MIXED = (0.1, 0.5, 1.0, 3.0, 8.0, 20.0)
UNIFORM = 4.0
_SCALE = 2


def sides(megapixels: float) -> tuple[int, int]:
    """Height and width, 2 : 3, as film has it."""
    height = round(math.sqrt(megapixels * 1e6 * 2 / 3))
    return height, round(height * 3 / 2)


def given_for_each(megapixels: float, tiling: Tiling) -> float:
    """Pixels that the network is given, in all tiles together, for one pixel of the photograph."""
    total = 1
    for side in sides(megapixels):
        found = cut(side, tiling.tile, tiling.halo)
        total *= sum(end - start for start, end in found)
    return total / math.prod(sides(megapixels))


def a_small_network(device: Device) -> Network:
    compat.install()
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    torch.manual_seed(0)
    module = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=16, num_conv=4, upscale=_SCALE, act_type="prelu")
    module = module.eval().to(device.kind, memory_format=torch.channels_last)

    def network(tiles: Array) -> Array:
        with torch.inference_mode():
            x = torch.from_numpy(tiles).to(device.kind, memory_format=torch.channels_last)
            answer: Array = module(x).float().cpu().numpy()
        return answer

    return network


def rows(options: Options) -> Iterator[Figure]:
    parameters = UpscaleParameters()
    tiling = Tiling(parameters.tile, parameters.halo, batch=1)
    for device in devices():
        network = a_small_network(device)

        def restore(sizes: tuple[float, ...], network: Network = network) -> None:
            for size in sizes:
                run_tiled(network, picture(*sides(size)).astype(np.float32) / 255, _SCALE, tiling)

        uniform = (UNIFORM,) * round(sum(MIXED) / UNIFORM)
        same, mixed = alternate(lambda: restore(uniform), lambda: restore(MIXED), min(options.runs, 2))  # noqa: B023
        yield Figure(
            f"{', '.join(f'{size:g}' for size in MIXED)} megapixels, {device.kind}",
            sum(MIXED) / middle(mixed.wall),
            "megapixels/s",
            spread(mixed.wall),
            sum(uniform) / middle(same.wall),
            f"megapixels/s: {len(uniform)} of {UNIFORM:g}",
        )
    whole = given_for_each(UNIFORM, tiling)
    for size in MIXED:
        yield Figure(
            f"network's pixels for one of {size:g} megapixels", given_for_each(size, tiling), "", None, whole,
            f"of {UNIFORM:g} megapixels", "counted; 1 would be without tiles",
        )  # fmt: skip

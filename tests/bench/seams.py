"""Part t: how far tiles are from the whole, by halo: what of a network's surroundings a halo leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pipeline.tiles import Array, Tiling, cut, run_tiled
from tests.bench.ground import EMBEDDED, Figure, Options, devices, networks, picture
from tests.bench.upscalers import an_upscaler

HALOS = (16, 24, 32, 48)
# Without halos: of a tile, and so about what it is of by itself.
_INSIDE = 64


def gradient(image: Array, width: int, tiling: Tiling, scale: int) -> float:
    """Mean absolute difference of neighbours along rows, over the columns that two tiles share. image: sH x sW x 3."""
    steps = np.abs(np.diff(image, axis=1))
    shared = [(second[0], first[1]) for first, second in pairwise(cut(width, tiling.tile, tiling.halo))]
    return float(np.mean([steps[:, scale * start : scale * end].mean() for start, end in shared]))


def rows(options: Options) -> Iterator[Figure]:
    """In `exact`, of answers cut to 0..1 and without back-projection; the halo is what the whole costs."""
    for network in networks():
        stage = an_upscaler(network, devices()[-1])
        assert stage.network is not None
        height, width = (64, 160) if network.model == EMBEDDED else (128, 320)
        image = picture(height, width).astype(np.float32) / 255
        whole = np.clip(run_tiled(stage.network, image, stage.scale, Tiling(1024, 16, 1)), 0, 1)
        for halo in HALOS:
            tiling = Tiling(_INSIDE + 2 * halo, halo, 1)
            if tiling.tile >= width:
                continue
            tiled = np.clip(run_tiled(stage.network, image, stage.scale, tiling), 0, 1)
            apart = 255 * np.abs(tiled - whole)
            ratio = gradient(tiled, width, tiling, stage.scale) / gradient(whole, width, tiling, stage.scale)
            yield Figure(
                f"{network.name}, halo {halo}: furthest from the whole",
                float(apart.max()),
                "steps of 255",
                note=f"999 of 1000 values within {np.quantile(apart, 0.999):.2f}; gradient at seams {ratio:.4f}",
            )

"""What tiles, batches and threads do to an enlargement by the real networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.models.catalogue import ModelCard
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph
from pipeline.policy import POLICIES
from pipeline.stage import Device, Step
from pipeline.stages.upscale import Upscale, UpscaleParameters
from pipeline.tiles import cut

Samples = NDArray[np.uint8]
Stages = Callable[..., Upscale]
SCALE = 4


def opened(store: ModelStore, model: str, **parameters: object) -> Upscale:
    stage = Upscale(UpscaleParameters(model=model, **parameters), POLICIES["conservation"])  # type: ignore[arg-type]
    stage.open(store, Device("cpu", 2))
    return stage


@pytest.fixture
def compact(shared: Path, card_for: Callable[..., ModelCard]) -> Stages:
    file = shared / "weights" / "realesr-general-x4v3.fp16derived.pth"
    store = ModelStore(ModelSource(cache="", local=(card_for(file, "srvggnet-compact", SCALE, "compact"),)))
    return lambda **parameters: opened(store, "compact", **parameters)


@pytest.fixture
def large() -> Stages:
    return lambda **parameters: opened(ModelStore(), "realesrgan-x4plus-embedded", **parameters)


def enlarged(stage: Upscale, pixels: Samples) -> NDArray[np.uint16]:
    [step] = stage.restore([Photograph("item", pixels, Container("PNG"))])
    assert isinstance(step, Step)
    return np.asarray(step.photograph.pixels, np.uint16)


def gradient_at_seams(pixels: NDArray[np.uint16], width: int, tile: int, halo: int) -> float:
    """Mean absolute difference of neighbours along rows, where two tiles share the columns."""
    steps = np.abs(np.diff(pixels.astype(np.float64), axis=1))
    shared = [(second[0], first[1]) for first, second in pairwise(cut(width, tile, halo))]
    assert shared
    return float(np.mean([steps[:, SCALE * start : SCALE * end].mean() for start, end in shared]))


def a_crop(photo: Samples, height: int, width: int) -> Samples:
    return np.ascontiguousarray(photo[100 : 100 + height, 120 : 120 + width])


@pytest.mark.parametrize(("tile", "halo", "most"), [(96, 16, 6), (144, 64, 1)])
def test_tiles_show_at_no_seam(compact: Stages, real_photo: Samples, tile: int, halo: int, most: int) -> None:
    """34 convolutions see 34 pixels far. A halo of 64, whose outer half does not count, leaves out the last two of them; one
    of 16 leaves more out, and where that is there is still no edge."""
    crop = a_crop(real_photo, 48, 160)
    whole = enlarged(compact(consistency=0, tile=512), crop)
    tiled = enlarged(compact(consistency=0, tile=tile, halo=halo), crop)
    apart = np.abs(whole.astype(np.int64) - tiled)
    assert 0 < apart.max() <= most * 257
    width = crop.shape[1]
    assert gradient_at_seams(tiled, width, tile, halo) <= 1.02 * gradient_at_seams(whole, width, tile, halo)


@pytest.mark.parametrize("batch", [4, 16])
def test_batches_change_no_byte(compact: Stages, real_photo: Samples, batch: int) -> None:
    """Nine tiles: one batch that is not full, or several of which the last is not."""
    crop, stage = a_crop(real_photo, 72, 72), compact(tile=40, halo=8)
    alone = enlarged(stage, crop)
    assert len(cut(72, 40, 8)) == 3
    stage.tiling = replace(stage.tiling, batch=batch)
    assert np.array_equal(enlarged(stage, crop), alone)


def test_the_number_of_threads_changes_no_byte(large: Stages, compact: Stages, real_photo: Samples) -> None:
    """Two actors of one thread each give what one of two gives: convolutions are shared out by pixels, and no sum is."""
    crop, threads = a_crop(real_photo, 20, 28), torch.get_num_threads()
    for stage in (compact(), large()):
        try:
            torch.set_num_threads(1)
            one = enlarged(stage, crop)
            torch.set_num_threads(2)
            two = enlarged(stage, crop)
        finally:
            torch.set_num_threads(threads)
        assert np.array_equal(one, two)

"""Shapes that no camera makes: one pixel, one row, one column, through all stages of the default recipe but upscale."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from pipeline.codecs import decode, encode
from pipeline.errors import Status
from pipeline.models.store import ModelSource, ModelStore
from pipeline.photograph import Container, Photograph
from pipeline.policy import POLICIES
from pipeline.record import Record
from pipeline.stage import Device
from pipeline.stages import STAGES
from pipeline.supervision import run_stage

CHAIN = ("analyse", "repair", "faces", "compose", "colour")


@pytest.mark.parametrize(
    ("dtype", "channels", "policy"),
    [("uint8", 1, "presentation"), ("uint8", 3, "conservation"), ("uint16", 3, "presentation")],
)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 100_000), (100_000, 1), (2, 50_000), (3, 3)], ids=str)
def test_no_shape_fails_and_none_takes_absurd_memory(
    tmp_path: Path, rng: np.random.Generator, shape: tuple[int, int], dtype: str, channels: int, policy: str
) -> None:
    pixels = rng.integers(0, np.iinfo(dtype).max, (*shape, channels), dtype=dtype)
    models = ModelStore(ModelSource(cache=str(tmp_path)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record = Record(0, "item", "scan.tif", photograph=Photograph("item", pixels, Container("TIFF")))
    for name in CHAIN:
        # The network that finds damage has its own test of such shapes: it takes seconds for a tenth of a megapixel in a row.
        chosen = {"damage": "classical"} if name == "analyse" else {}
        parameters = STAGES[name].Parameters.model_validate(chosen)
        stage = STAGES[name](parameters, POLICIES[policy])
        stage.open(models, Device())
        [record] = run_stage(stage, parameters, [record], models, Device())
        assert record.status is Status.PENDING, (name, record.detail)
    assert record.photograph is not None
    assert record.photograph.pixels.shape == pixels.shape
    assert record.photograph.pixels.dtype.name in (dtype, "uint16")
    # 200 MB for a tenth of a megapixel would be a buffer that grows with the longest side squared.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    again = decode(encode(record.photograph, "tiff"), "item", 10**6)
    assert np.array_equal(again.pixels, record.photograph.pixels)

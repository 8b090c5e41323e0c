"""Damage networks are opened from safetensors, verified, or refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from pipeline.damage.marks import PLANES
from pipeline.errors import ModelError
from pipeline.models.damage import open_damage_network
from pipeline.models.damage_net import DamageNet, folded
from pipeline.models.store import ModelStore
from pipeline.photograph import Container, Photograph
from pipeline.policy import POLICIES
from pipeline.stage import Device, Step
from pipeline.stages.analyse import Analyse, AnalyseParameters
from pipeline.training.trainer import export

DEVICE = Device("cpu", 1)
Stores = Callable[[Path, str], ModelStore]


@pytest.fixture
def trained() -> DamageNet:
    torch.manual_seed(5)
    return DamageNet(normed=True).eval()


def test_what_training_exports_is_what_is_opened(trained: DamageNet, store_of: Stores, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    export(folded(trained), path)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert path.stat().st_size < 2_500_000
    network = open_damage_network(store_of(path, "damage-unet"), "mine", DEVICE)
    pixels = torch.rand(1, 3 + PLANES, 64, 64)
    with torch.inference_mode():
        expected = folded(trained)(pixels)
        assert torch.allclose(network(pixels), expected, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("fault", ["torn", "other tensors", "other architecture", "altered"])
def test_what_is_no_such_network_is_refused(trained: DamageNet, store_of: Stores, tmp_path: Path, fault: str) -> None:
    path = tmp_path / "mine.safetensors"
    export(folded(trained), path)
    if fault == "torn":
        path.write_bytes(path.read_bytes()[:1000])
    elif fault == "other tensors":
        save_file({"a": torch.zeros(3)}, path)
    store = store_of(path, "rrdbnet" if fault == "other architecture" else "damage-unet")
    if fault == "altered":
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match="mine"):
        open_damage_network(store, "mine", DEVICE)


def test_analyse_finds_damage_with_it(
    trained: DamageNet, store_of: Stores, tmp_path: Path, real_photo: NDArray[np.uint8]
) -> None:
    """Random weights with low bounds find something, and what they find is what is recorded."""
    path = tmp_path / "mine.safetensors"
    network = folded(trained)
    network.bounds.fill_(-3)
    export(network, path)
    parameters = AnalyseParameters(detector="none", damage="mine", threshold=0.7)
    assert [need.model_id for need in Analyse.needs(parameters) if need.required] == ["mine"]
    stage = Analyse(parameters, POLICIES["conservation"])
    stage.open(store_of(path, "damage-unet"), DEVICE)
    [step] = stage.restore([Photograph("item", np.ascontiguousarray(real_photo[:96, :70]), Container("PNG"))])
    assert isinstance(step, Step)
    assert step.models == ("mine",)
    assert step.photograph.damage is not None
    assert step.findings["damage_fraction"] == (step.photograph.damage > 0).mean() > 0
    assert all(0.7 - 1 / 255 <= found["confidence"] <= 1 for found in step.findings["damage"].values())

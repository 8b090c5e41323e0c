"""The damage network: sizes, shapes, and the same answers once its normalisations are folded away."""

from __future__ import annotations

import pytest
import torch

from pipeline.damage.marks import PLANES
from pipeline.models.damage_net import KINDS, MULTIPLE, DamageNet, folded


@pytest.fixture
def network() -> DamageNet:
    """Random weights, and statistics as training leaves them."""
    torch.manual_seed(3)
    network = DamageNet(normed=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.normal_(module.weight, 1.0, 0.2)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
    return network.eval()


@pytest.mark.parametrize("size", [(MULTIPLE, MULTIPLE), (2 * MULTIPLE, 5 * MULTIPLE)])
def test_every_pixel_gets_a_score_of_every_kind(network: DamageNet, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert network(torch.rand(2, 3 + PLANES, *size)).shape == (2, KINDS, *size)


def test_it_is_small() -> None:
    assert sum(weights.numel() for weights in DamageNet().parameters()) <= 2_000_000


def test_folding_changes_no_answer(network: DamageNet) -> None:
    pixels = torch.rand(1, 3 + PLANES, 64, 96)
    with torch.inference_mode():
        before = network(pixels)
        after = folded(network)(pixels)
        loaded = DamageNet()
        loaded.load_state_dict(folded(network).state_dict())
        assert torch.equal(loaded(pixels), after)
    assert before.abs().max() > 0.1
    assert torch.allclose(before, after, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded(network).modules())

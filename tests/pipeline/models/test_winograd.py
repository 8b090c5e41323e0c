from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pipeline.models.winograd import WinogradConvolution, pays


def some(*shape: int, seed: int = 1) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("given", "kept", "height", "width"), [(128, 192, 32, 32), (5, 3, 4, 4), (16, 8, 12, 300), (64, 64, 132, 64)]
)
def test_it_is_the_convolution_but_for_a_rounding(given: int, kept: int, height: int, width: int) -> None:
    """One strip and several, the last of them shorter; strips as wide as the picture and squares fewer than a strip's."""
    x, weight = some(2, given, height, width), some(kept, given, 3, 3, seed=2) / (3 * given**0.5)
    exact = functional.conv2d(x.double(), weight.double(), padding=1)
    found = WinogradConvolution(weight)(x)
    assert (found.shape, found.dtype) == (exact.shape, torch.float32)
    assert found.is_contiguous(memory_format=torch.channels_last)
    error = (found - exact).square().mean().sqrt() / exact.std()
    direct = (functional.conv2d(x, weight, padding=1) - exact).square().mean().sqrt() / exact.std()
    assert error < 4e-6
    assert error < 8 * direct


def test_the_border_is_nothing() -> None:
    """Nine ones under nine ones: four of them lie on the picture at a corner, six at an edge."""
    found = WinogradConvolution(torch.ones(1, 1, 3, 3))(torch.ones(1, 1, 8, 8))[0, 0]
    assert [float(found[place]) for place in ((0, 0), (0, 4), (4, 7), (4, 4))] == pytest.approx([4, 6, 6, 9], abs=1e-5)


def test_neither_neighbours_nor_threads_change_a_bit() -> None:
    x, convolution = some(3, 128, 32, 32), WinogradConvolution(some(128, 128, 3, 3, seed=2))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = convolution(x[1:2])
        torch.set_num_threads(2)
        together = convolution(x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone[0], together[1])


def test_it_is_for_large_convolutions_only() -> None:
    assert pays(512, 256, 64, 64)
    assert not pays(512, 64, 64, 64)
    assert not pays(512, 512, 16, 16)
    assert not pays(512, 512, 64, 62)

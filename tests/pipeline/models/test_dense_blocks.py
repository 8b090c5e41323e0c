from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.models import compat
from pipeline.models.dense_blocks import DenseBlock, with_shared_transforms
from pipeline.models.store import ModelStore
from pipeline.models.upscalers import open_upscaler
from pipeline.stages.upscale import DEFAULT_MODEL


@pytest.fixture(autouse=True)
def _inference() -> object:
    with torch.inference_mode():
        yield


@pytest.fixture
def block() -> torch.nn.Module:
    """The package's own, with weights that are as large as trained ones."""
    compat.install()
    from basicsr.archs.rrdbnet_arch import ResidualDenseBlock

    torch.manual_seed(3)
    made: torch.nn.Module = ResidualDenseBlock(64, 32)
    for parameter in made.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.03)
    return made


def ours(block: torch.nn.Module) -> DenseBlock:
    trunk = torch.nn.Module()
    trunk.rdb1 = trunk.rdb2 = trunk.rdb3 = block
    found = with_shared_transforms(trunk).rdb1
    assert isinstance(found, DenseBlock)
    return found


def features(*shape: int, seed: int = 1) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(8, 12), (13, 7), (1, 1), (4, 5), (72, 90)])
def test_it_is_the_block_but_for_a_rounding(block: torch.nn.Module, size: tuple[int, int]) -> None:
    """Sides that are multiples of 4 and others; in one strip and, with 18 x 23 squares, in several."""
    x = features(2, 64, *size)
    before, found, expected = x.clone(), ours(block)(x), copy.deepcopy(block).double()(x.double())
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.shape == x.shape
    assert torch.equal(x, before)
    assert (expected - x).abs().max() > 0.05
    assert (found - expected).abs().max() <= 1e-5


def test_what_was_computed_before_leaves_no_trace(block: torch.nn.Module) -> None:
    sizes, blocks = [(9, 14), (12, 16), (10, 13), (9, 14)], ours(block)
    for number, size in enumerate(sizes):
        x = features(1, 64, *size, seed=number)
        blocks(features(1, 64, *size, seed=99))
        assert torch.equal(blocks(x), ours(block)(x))


def test_neither_neighbours_nor_threads_change_a_bit(block: torch.nn.Module) -> None:
    x, threads = features(3, 64, 40, 52), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = ours(block)(x[1:2])
        torch.set_num_threads(2)
        together = ours(block)(x)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone[0], together[1])


def test_the_whole_network_gives_what_it_gave(real_photo: NDArray[np.uint8]) -> None:
    network = open_upscaler(ModelStore(), DEFAULT_MODEL)
    crop = np.ascontiguousarray(real_photo[100:122, 120:150].transpose(2, 0, 1)[None])
    x = torch.from_numpy(crop).float() / 255
    expected = network(x)
    found = with_shared_transforms(copy.deepcopy(network).to(memory_format=torch.channels_last))(x)
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() <= 1e-5


def test_a_network_without_dense_blocks_is_left_alone() -> None:
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    assert with_shared_transforms(plain) is plain
    assert isinstance(plain[0], torch.nn.Conv2d)

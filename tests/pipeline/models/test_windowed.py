"""Networks computed in windows answer what they answer as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.models import compat, windowed
from pipeline.models.store import ModelStore
from pipeline.models.upscalers import in_windows
from pipeline.models.windowed import WindowedCompact, WindowedRRDBNet


def seeded(make: Callable[[], Any]) -> Any:
    """With biases: zeros outside a photograph would hide in a network without."""
    torch.manual_seed(0)
    network = make()
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    return network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)


def an_rrdbnet(scale: int, blocks: int = 2) -> Any:
    compat.install()
    from basicsr.archs.rrdbnet_arch import RRDBNet

    return seeded(lambda: RRDBNet(3, 3, scale=scale, num_feat=8, num_block=blocks, num_grow_ch=4))


def a_compact(convolutions: int, scale: int = 2) -> Any:
    compat.install()
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    return seeded(lambda: SRVGGNetCompact(3, 3, num_feat=8, num_conv=convolutions, upscale=scale, act_type="prelu"))


def photograph(height: int, width: int, count: int = 1) -> torch.Tensor:
    samples = np.random.default_rng(height * 1000 + width).random((count, 3, height, width), np.float32)
    return torch.from_numpy(samples).contiguous(memory_format=torch.channels_last)


def assert_same(windows: nn.Module, whole: nn.Module, given_photograph: torch.Tensor) -> None:
    """Up to roundings, of answers of any size."""
    with torch.inference_mode():
        expected, found = whole(given_photograph), windows(given_photograph)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 2e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("scale", [4, 2, 1])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(height=st.integers(1, 15), width=st.integers(1, 15), window=st.integers(2, 40))
def test_rrdbnet_does_not_notice_windows(scale: int, height: int, width: int, window: int) -> None:
    network, fold = an_rrdbnet(scale), 4 // scale
    assert_same(WindowedRRDBNet(network, window, fold), network, photograph(height * fold, width * fold))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(height=st.integers(1, 50), width=st.integers(1, 50), window=st.integers(1, 60), convolutions=st.integers(0, 18))
def test_the_compact_network_does_not_notice_windows(height: int, width: int, window: int, convolutions: int) -> None:
    network = a_compact(convolutions)
    assert_same(WindowedCompact(network, window), network, photograph(height, width))


def test_a_batch_is_a_batch() -> None:
    for network, windows in (
        (an_rrdbnet(4), lambda net: WindowedRRDBNet(net, 8)),
        (a_compact(9), lambda net: WindowedCompact(net, 8)),
    ):
        assert_same(windows(network), network, photograph(20, 30, count=3))


@pytest.mark.parametrize("forgotten", ["zeros outside the photograph", "a pixel of the neighbours"])
def test_both_would_be_noticed(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    if forgotten == "a pixel of the neighbours":
        monkeypatch.setattr(windowed, "_TAIL", 0)
    else:
        monkeypatch.setattr(windowed, "_blank", lambda *given_: None)
    with pytest.raises(AssertionError):
        assert_same(WindowedRRDBNet(network := an_rrdbnet(4), 8), network, photograph(24, 24))


@pytest.mark.parametrize(
    ("model", "kind"), [("realesrgan-x4plus-embedded", WindowedRRDBNet), ("realesr-general-x4v3", WindowedCompact)]
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_upscaler_is_computed_in_windows(model: str, kind: type, device: str) -> None:
    network = a_compact(3) if kind is WindowedCompact else an_rrdbnet(4)
    assert isinstance(in_windows(network, ModelStore().card(model), device), kind)

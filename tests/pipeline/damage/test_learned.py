"""The learned detector around its network: tiles, pyramid, depths and sizes. Its network here is a rule that can be checked."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.damage.kinds import Kind
from pipeline.damage.learned import LearnedDetector, LearnedSettings
from pipeline.photograph import Container, Photograph

SMALL = LearnedSettings(tile=176, halo=48, smallest=4000)


class Narrow(torch.nn.Module):
    """Pixels that stand out of the mean of 15 x 15 around them by more than 0.3 are LINE."""

    bounds = torch.zeros(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        grey = pixels.mean(1, keepdim=True)
        around = functional.avg_pool2d(functional.pad(grey, (7, 7, 7, 7), mode="reflect"), 15, 1)
        line = ((grey - around).abs() > 0.3).float() * 20 - 10
        zero, none = torch.zeros_like(line), torch.full_like(line, -30.0)
        return torch.cat([zero, line, none, none, none], dim=1)


def detector(settings: LearnedSettings = SMALL) -> LearnedDetector:
    return LearnedDetector(Narrow().eval(), "narrow", "cpu", settings)


def of(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Photograph:
    return Photograph("item", pixels, Container("PNG"))


def scratched(height: int, width: int, wide: int = 2) -> NDArray[np.uint8]:
    pixels = np.full((height, width, 3), 60, np.uint8)
    pixels[:, width // 2 : width // 2 + wide] = 230
    return pixels


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (97, 131), (200, 40)])
def test_any_size_is_answered_at_its_own_size(size: tuple[int, int]) -> None:
    found = detector().find(of(np.full((*size, 3), 128, np.uint8)))
    assert found.kinds.shape == size
    assert not found.kinds.any()
    assert found.confidence == {}


@pytest.mark.parametrize("change", [lambda p: p, lambda p: p.astype(np.uint16) * 257, lambda p: p[..., :1].copy()])
def test_depth_and_channels_make_no_difference(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
    found = detector().find(of(change(scratched(150, 170))))
    assert np.array_equal(np.flatnonzero(found.kinds.any(axis=0)), np.arange(84, 88))
    assert (found.kinds[:, 85:87] == Kind.LINE).all()
    assert found.confidence[Kind.LINE] == pytest.approx(1, abs=0.01)


def test_tiles_leave_no_trace(rng: np.random.Generator) -> None:
    pixels = rng.integers(50, 60, (230, 310, 3), np.uint8)
    for start, end in (((5, 8), (300, 60)), ((40, 220), (280, 100)), ((150, 0), (160, 229))):
        cv2.line(pixels, start, end, (240, 240, 240), 2)
    pixels[rng.integers(0, 230, 40), rng.integers(0, 310, 40)] = 255
    whole = detector(LearnedSettings(tile=1024, halo=48, smallest=4000)).find(of(pixels))
    tiled = detector().find(of(pixels))
    assert whole.kinds.any()
    assert np.array_equal(whole.kinds, tiled.kinds)
    assert whole.confidence == tiled.confidence


@pytest.mark.parametrize("size", [(400, 600), (401, 603)])
def test_what_is_too_wide_for_the_network_is_found_in_a_smaller_level(size: tuple[int, int]) -> None:
    scan = of(scratched(*size, wide=24))
    assert not (detector().find(scan).kinds[:, size[1] // 2 + 12] > 0).any()
    found = detector(LearnedSettings(tile=176, halo=48, smallest=100)).find(scan).kinds
    inside = found[:, size[1] // 2 + 2 : size[1] // 2 + 22]
    assert (inside == Kind.LINE).mean() > 0.95
    assert (found > 0).mean() < 0.15


def test_a_threshold_decides() -> None:
    class Unsure(Narrow):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().forward(pixels).clamp(max=1)

    scan = of(scratched(64, 64))
    for threshold, seen in ((0.5, True), (0.9, False)):
        unsure = LearnedDetector(Unsure().eval(), "unsure", "cpu", LearnedSettings(threshold, 176, 48, 4000))
        assert unsure.find(scan).kinds.any() == seen

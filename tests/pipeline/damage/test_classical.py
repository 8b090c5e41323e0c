from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.damage import DetectorSettings, find_damage
from pipeline.photograph import luma

Plane = NDArray[np.float32]


def slope(height: int = 400, width: int = 500) -> Plane:
    return np.linspace(0.3, 0.6, width, dtype=np.float32)[None].repeat(height, 0)


@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_a_scratch_is_found_and_little_else(shade: float) -> None:
    drawn = np.zeros((400, 500), np.uint8)
    cv2.line(drawn, (60, 20), (90, 380), 255, 2)
    grey = np.where(drawn > 0, np.float32(shade), slope())
    mask, held_back = find_damage(grey, DetectorSettings())
    assert not held_back
    assert mask[drawn > 0].mean() > 0.95
    assert not mask[cv2.dilate(drawn, np.ones((7, 7), np.uint8)) == 0].any()


@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_dust_is_found(shade: float) -> None:
    drawn = np.zeros((400, 500), np.uint8)
    for centre in ((50, 60), (200, 300), (444, 90), (3, 390)):
        cv2.circle(drawn, centre, 2, 255, -1)
    mask, _ = find_damage(np.where(drawn > 0, np.float32(shade), slope()), DetectorSettings())
    assert mask[drawn > 0].mean() > 0.95


def test_calm_ground_and_noise_are_left_alone(rng: np.random.Generator) -> None:
    assert not find_damage(slope(), DetectorSettings())[0].any()
    noisy = slope() + rng.normal(0, 0.04, slope().shape).astype(np.float32)
    assert find_damage(noisy, DetectorSettings())[0].mean() < 1e-3


def test_a_clean_photograph_is_hardly_touched(real_photo: NDArray[np.uint8]) -> None:
    mask, _ = find_damage(luma(real_photo), DetectorSettings())
    assert mask.mean() < 0.01


def test_a_photograph_full_of_findings_is_taken_for_texture() -> None:
    grey = slope()
    grey[::40, ::40] = 1.0
    grey[1::40, ::40] = 1.0
    grey[::40, 1::40] = 1.0
    grey[1::40, 1::40] = 1.0
    found, held_back = find_damage(grey, DetectorSettings())
    assert found.any()
    assert not held_back
    nothing, held_back = find_damage(grey, DetectorSettings(limit=0.001))
    assert held_back
    assert not nothing.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (40, 6)])
def test_small_photographs_are_no_trouble(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    mask, _ = find_damage(rng.random(shape, np.float32), DetectorSettings())
    assert (mask.shape, mask.dtype) == (shape, np.bool_)

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.damage import ClassicalDetector, DetectorSettings, Kind, find_damage
from pipeline.photograph import Container, Photograph, luma

Plane = NDArray[np.float32]


def slope(height: int = 400, width: int = 500) -> Plane:
    return np.linspace(0.3, 0.6, width, dtype=np.float32)[None].repeat(height, 0)


@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_a_scratch_is_found_and_little_else(shade: float) -> None:
    drawn = np.zeros((400, 500), np.uint8)
    cv2.line(drawn, (60, 20), (90, 380), 255, 2)
    grey = np.where(drawn > 0, np.float32(shade), slope())
    found = find_damage(grey, DetectorSettings())
    assert (found.note, found.confidence) == (None, {})
    assert (found.kinds[drawn > 0] == Kind.LINE).mean() > 0.95
    assert not found.kinds[cv2.dilate(drawn, np.ones((7, 7), np.uint8)) == 0].any()


@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_dust_is_found(shade: float) -> None:
    drawn = np.zeros((400, 500), np.uint8)
    for centre in ((50, 60), (200, 300), (444, 90), (3, 390)):
        cv2.circle(drawn, centre, 2, 255, -1)
    kinds = find_damage(np.where(drawn > 0, np.float32(shade), slope()), DetectorSettings()).kinds
    assert (kinds[drawn > 0] == Kind.SPOT).mean() > 0.95
    assert not (kinds == Kind.LINE).any()


@pytest.mark.parametrize("turned", [False, True])
def test_lines_and_spots_on_one_photograph_are_told_apart(turned: bool) -> None:
    """Dark and light, and as wide as one another: it is their length that differs."""
    lines, spots = np.zeros((400, 500), np.uint8), np.zeros((400, 500), np.uint8)
    cv2.line(lines, (60, 20), (90, 380), 255, 2)
    cv2.line(lines, (150, 300), (430, 330), 255, 2)
    for centre in ((200, 80), (300, 200), (444, 90)):
        cv2.circle(spots, centre, 2, 255, -1)
    grey = slope()
    grey[lines > 0], grey[spots > 0] = 1.0, 0.0
    kinds = find_damage(np.ascontiguousarray(grey.T) if turned else grey, DetectorSettings()).kinds
    kinds = kinds.T if turned else kinds
    assert (kinds[lines > 0] == Kind.LINE).mean() > 0.9
    assert (kinds[spots > 0] == Kind.SPOT).mean() > 0.9
    assert set(np.unique(kinds)) == {Kind.NONE, Kind.LINE, Kind.SPOT}


def test_the_summary_has_shares_and_no_confidence_that_nobody_measured() -> None:
    drawn = np.zeros((400, 500), np.uint8)
    cv2.line(drawn, (60, 20), (90, 380), 255, 2)
    pixels = np.rint(np.where(drawn > 0, np.float32(1), slope()) * 255).astype(np.uint8)[..., None]
    found = ClassicalDetector().find(Photograph("item", pixels, Container("PNG")))
    share = (found.kinds == Kind.LINE).mean()
    assert found.findings() == {"damage": {"line": {"fraction": share, "confidence": None}}}


def test_calm_ground_and_noise_are_left_alone(rng: np.random.Generator) -> None:
    assert not find_damage(slope(), DetectorSettings()).kinds.any()
    noisy = slope() + rng.normal(0, 0.04, slope().shape).astype(np.float32)
    assert (find_damage(noisy, DetectorSettings()).kinds > 0).mean() < 1e-3


def test_a_clean_photograph_is_hardly_touched(real_photo: NDArray[np.uint8]) -> None:
    assert (find_damage(luma(real_photo), DetectorSettings()).kinds > 0).mean() < 0.01


def test_a_photograph_full_of_findings_is_taken_for_texture() -> None:
    grey = slope()
    grey[::40, ::40] = 1.0
    grey[1::40, ::40] = 1.0
    grey[::40, 1::40] = 1.0
    grey[1::40, 1::40] = 1.0
    found = find_damage(grey, DetectorSettings())
    assert found.kinds.any()
    assert found.note is None
    nothing = find_damage(grey, DetectorSettings(limit=0.001))
    assert not nothing.kinds.any()
    assert nothing.findings()["damage"] == {}
    assert nothing.findings()["damage_note"].startswith("held back: ")


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (40, 6)])
def test_small_photographs_are_no_trouble(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    kinds = find_damage(rng.random(shape, np.float32), DetectorSettings()).kinds
    assert (kinds.shape, kinds.dtype) == (shape, np.uint8)

"""Marks are judged in one piece."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.damage.pieces import ALONE, judged

Plane = NDArray[np.float32]


@pytest.fixture
def light(rng: np.random.Generator) -> Plane:
    plane: Plane = rng.normal(0.4, 0.01, (80, 120)).astype(np.float32)
    return plane


@pytest.mark.parametrize("tone", [0.9, 0.02])
@pytest.mark.parametrize("wide", [1, 2])
def test_a_scratch_gets_the_mean_of_its_pixels_from_end_to_end(light: Plane, tone: float, wide: int) -> None:
    mark = cv2.line(np.zeros(light.shape, np.uint8), (10, 12), (110, 66), 1, wide) > 0
    light[mark] = tone
    odds = np.full(light.shape, -3, np.float32)
    odds[mark & (np.arange(120) < 60)] = 3
    found = judged(odds, light)
    assert found[mark] == pytest.approx(odds[mark].mean(), abs=0.05)
    assert np.array_equal(found[~mark], odds[~mark] - ALONE)


def test_what_is_short_thick_or_faint_is_no_line(light: Plane) -> None:
    light[10:12, 20:38] = 0.9
    light[30:38, 20:44] = 0.9
    light[60:62, 20:100] += 0.04
    odds = np.full(light.shape, 9, np.float32)
    assert np.array_equal(judged(odds, light), odds - ALONE)


def test_a_scratch_that_crosses_something_bright_is_one_piece_where_it_stands_out_further(light: Plane) -> None:
    """At the lowest level it is one with the patch, which is too thick for a line."""
    light[20:60, 50:56] = 0.5
    light[20:60, 58:64] = 0.5
    light[40:42, 5:115] = 0.95
    odds = np.zeros(light.shape, np.float32)
    odds[40:42, 5:115] = 3
    found = judged(odds, light)
    assert (found[40:42, 5:115] > 2.5).all()
    assert np.array_equal(found[25:35, 50:64], odds[25:35, 50:64] - ALONE)


def test_of_several_pieces_the_surest_counts(light: Plane) -> None:
    """A faint tail that the network does not see is no reason to give up the plain part."""
    light[40, 10:40] = 0.95
    light[40, 40:110] = 0.48
    odds = np.full(light.shape, -5, np.float32)
    odds[40, 10:40] = 5
    found = judged(odds, light)
    assert found[40, 12:38] == pytest.approx(5, abs=0.5)
    assert found[40, 60:100] == pytest.approx(odds[40, 10:110].mean(), abs=0.5)

"""What a network is shown beside the pixels: thin things stand out, edges of wide ones do not, and noise has its measure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.damage.marks import PLANES, marks, shown


def grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=2).astype(np.float32)


@pytest.mark.parametrize(("width", "expected"), [(3, (1, 1, 1)), (9, (0, 1, 1)), (21, (0, 0, 1)), (40, (0, 0, 0))])
def test_a_bright_bar_stands_out_of_the_squares_that_are_wider(width: int, expected: tuple[int, ...]) -> None:
    plane = np.full((96, 96), 0.5)
    plane[:, 30 : 30 + width] = 0.75
    found = marks(grey(plane))
    middle = found[48, 30 + width // 2]
    assert middle[0:6:2].tolist() == pytest.approx(expected)
    assert not found[..., 1:6:2].any()


def test_a_dark_one_stands_out_in_the_other_planes() -> None:
    plane = np.full((64, 64), 0.5)
    plane[30:33] = 0.25
    found = marks(grey(plane))
    assert found[31, 32, 1:6:2].tolist() == pytest.approx([1, 1, 1])
    assert not found[..., 0:6:2].any()


def test_an_edge_leaves_no_trace_but_in_the_deviation() -> None:
    plane = np.zeros((64, 64))
    plane[:, 32:] = 1
    found = marks(grey(plane))
    assert not found[..., :6].any()
    assert found[32, 32, 6] > found[32, 5, 6] == 0


def test_deviation_is_that_of_the_noise() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.05, (128, 128))
    assert np.median(marks(grey(noise))[..., 6]) == pytest.approx(4 * 0.05, rel=0.05)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_any_size_gives_finite_planes_behind_the_pixels(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((height, width, 3), np.float32)
    planes = shown(pixels)
    assert planes.shape == (height, width, 3 + PLANES)
    assert planes.dtype == np.float32
    assert np.isfinite(planes).all()
    assert np.array_equal(planes[..., :3], pixels - np.float32(0.5))
    assert (planes[..., 3:] >= -1e-6).all()

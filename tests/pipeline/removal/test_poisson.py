from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.removal.poisson import differences, field_of


@pytest.mark.parametrize("side", [5, 33, 130, 301])
def test_a_field_comes_back_from_its_differences(rng: np.random.Generator, side: int) -> None:
    free = cv2.GaussianBlur(rng.standard_normal((side, side + 40)).astype(np.float32), (0, 0), 6) > -0.02
    free[0] = free[-1] = False
    field = cv2.GaussianBlur(rng.standard_normal(free.shape).astype(np.float32), (0, 0), 3) * free
    found = field_of(*differences(field), free)
    assert np.abs(found - field).max() < 2e-3 * np.abs(field).max()
    assert not found[~free].any()


def test_beyond_the_border_of_the_picture_nothing_pulls() -> None:
    free = np.zeros((40, 60), bool)
    free[:, 30:] = True
    step = np.zeros((40, 60), np.float32)
    step[:, 30:] = 1
    assert np.abs(field_of(*differences(step), free) - step).max() < 1e-3


def test_gradients_that_no_field_has_are_met_in_the_mean(rng: np.random.Generator) -> None:
    free = np.zeros((32, 32), bool)
    free[4:28, 4:28] = True
    right, down = rng.standard_normal((2, 32, 32)).astype(np.float32)
    field = field_of(right, down, free)

    def miss(candidate: np.ndarray) -> float:
        x, y = differences(candidate)
        return float(np.square(x - right).sum() + np.square(y - down).sum())

    for _ in range(10):
        assert miss(field) <= miss(field + rng.normal(0, 0.01, free.shape).astype(np.float32) * free)

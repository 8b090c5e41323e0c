"""Which true marks count: those that stand out of the scan as much as an eye needs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind
from pipeline.training.visibility import JUST_NOTICEABLE, noticeable

Pixels = NDArray[np.uint8]
ROWS = slice(20, 23)


def marked(ground: Pixels, by: int, channels: slice = slice(None)) -> tuple[Pixels, NDArray[np.uint8]]:
    """A line of three rows, lighter by so many steps of 255; and the codes of it."""
    damaged, kinds = ground.copy(), np.zeros(ground.shape[:2], np.uint8)
    damaged[ROWS, :, channels] += np.uint8(by)
    kinds[ROWS] = Kind.LINE
    return damaged, kinds


def calm() -> Pixels:
    return np.full((48, 48, 3), 100, np.uint8)


@pytest.mark.parametrize(("by", "seen"), [(7, False), (9, True), (60, True)])
def test_on_calm_ground_a_mark_needs_eight_steps(by: int, seen: bool) -> None:
    assert JUST_NOTICEABLE == 8 / 255
    damaged, kinds = marked(calm(), by)
    found = noticeable(damaged, calm(), kinds)
    # In the middle of the line, where the mean of 3 x 3 pixels is all of it.
    assert (found[21] == seen).all()
    assert not found[kinds == Kind.NONE].any()


def test_darker_marks_and_those_of_one_channel_count_as_much() -> None:
    damaged, kinds = marked(calm(), 12, slice(0, 1))
    assert noticeable(damaged, calm(), kinds)[21].all()
    assert noticeable(calm(), damaged, kinds)[21].all()


def test_texture_hides_what_calm_ground_shows(rng: np.random.Generator) -> None:
    """Its standard deviation is 30 steps: a mark of 20 drowns in it and one of 60 does not."""
    rough = np.repeat(np.clip(rng.normal(100, 30, (48, 48, 1)), 0, 180).astype(np.uint8), 3, axis=2)
    shares = []
    for by in (20, 60):
        damaged, kinds = marked(rough, by)
        shares.append(float(noticeable(damaged, rough, kinds)[21].mean()))
    assert shares[0] < 0.05
    assert shares[1] > 0.95


def test_a_mark_alone_is_averaged_with_what_lies_around_it() -> None:
    """One pixel of 40 steps is 40/9 over 3 x 3; one of 120 is more than eight."""
    for by, seen in ((40, False), (120, True)):
        damaged, kinds = calm(), np.zeros((48, 48), np.uint8)
        damaged[24, 24] += np.uint8(by)
        kinds[24, 24] = Kind.SPOT
        assert noticeable(damaged, calm(), kinds)[24, 24] == seen


def test_stains_and_what_is_missing_count_as_they_are() -> None:
    kinds = np.zeros((48, 48), np.uint8)
    kinds[:10], kinds[10:20], kinds[20:30] = Kind.STAIN, Kind.MISSING, Kind.LINE
    found = noticeable(calm(), calm(), kinds)
    assert found[:20].all()
    assert not found[20:].any()

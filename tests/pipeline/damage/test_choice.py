"""Which damage is filled and which is left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.damage import Kind
from pipeline.damage.choice import areas_of, choose

WHY = "nobody can"


def square(side: int, at: int = 20, size: int = 80) -> NDArray[np.uint8]:
    kinds = np.zeros((size, size), np.uint8)
    kinds[at : at + side, at : at + side] = Kind.MISSING
    return kinds


@pytest.mark.parametrize(("side", "filled"), [(1, True), (12, True), (13, False), (40, False)])
def test_the_inscribed_circle_decides(side: int, filled: bool) -> None:
    """The middle of a square of 12 pixels is 6 from the nearest pixel outside, that of 13 is 7."""
    chosen = choose(square(side), (), 6.5, WHY)
    assert chosen.fill.any() == filled
    assert chosen.holes.any() != filled
    assert ("missing" in chosen.left) != filled


def test_a_long_thin_gap_is_filled_however_long() -> None:
    kinds = np.zeros((40, 400), np.uint8)
    kinds[18:24] = Kind.MISSING
    assert choose(kinds, (), 6.0, WHY).fill.sum() == 6 * 400


def test_at_the_border_an_area_goes_on() -> None:
    """A corner of 5 pixels has nothing on two of its sides that it could be filled from."""
    assert choose(square(5, at=0), (), 6.0, WHY).fill.any()
    assert not choose(square(6, at=0), (), 6.0, WHY).fill.any()
    assert choose(square(6, at=20), (), 6.0, WHY).fill.any()


def test_a_photograph_that_is_gone_altogether_is_left() -> None:
    kinds = np.full((9, 12), Kind.MISSING, np.uint8)
    chosen = choose(kinds, (), 200.0, WHY)
    assert not chosen.fill.any()
    assert (chosen.left["missing"].areas, chosen.left["missing"].fraction) == (1, 1.0)
    assert chosen.left["missing"].reason == WHY


def test_areas_are_counted_each() -> None:
    kinds = square(20) | square(15, at=60)
    kinds[0, 0] = kinds[5, 70] = Kind.MISSING
    chosen = choose(kinds, (), 6.0, WHY)
    assert (chosen.left["missing"].areas, int(chosen.fill.sum())) == (2, 2)
    assert areas_of(kinds > 0) == 4


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0, 20), shape=st.sampled_from([(1, 1), (1, 30), (17, 23)]))
def test_every_pixel_is_filled_or_left_and_none_is_made_up(seed: int, radius: float, shape: tuple[int, int]) -> None:
    kinds = np.random.default_rng(seed).integers(0, 5, shape, dtype=np.uint8)
    chosen = choose(kinds, (), radius, WHY)
    marked = (kinds > 0) & (kinds != Kind.STAIN)
    assert np.array_equal(chosen.fill | chosen.holes, marked)
    assert not (chosen.fill & chosen.holes).any()
    assert (kinds[chosen.holes] == Kind.MISSING).all()

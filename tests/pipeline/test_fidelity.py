from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.fidelity import REACH, back_projected, grown, shrunk, tint_of
from pipeline.photograph import LUMA, as_unit

Floats = NDArray[np.float32]


def smooth(rng: np.random.Generator, height: int, width: int, channels: int) -> Floats:
    return grown(rng.uniform(0.2, 0.8, (height // 4, width // 4, channels)).astype(np.float32), 4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([2, 3, 4]), channels=st.sampled_from([1, 3]))
def test_an_answer_comes_to_agree_with_the_scan(seed: int, scale: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    scan = smooth(rng, 24, 32, channels)
    wrong = grown(scan, scale) + rng.normal(0.1, 0.05, (24 * scale, 32 * scale, channels)).astype(np.float32)
    away = [float(np.abs(shrunk(back_projected(wrong, scan, n, (-1, 2)), scale) - scan).max()) for n in (0, 1, 5)]
    assert away[0] > 0.08
    assert away[1] < 0.4 * away[0]
    assert away[2] < 0.005


def test_detail_that_averages_out_stays(rng: np.random.Generator) -> None:
    scan = np.full((8, 8, 1), 0.5, np.float32)
    fine = np.tile(np.array([[0.3, -0.3], [-0.3, 0.3]], np.float32), (16, 16))[..., None] + np.float32(0.5)
    assert np.abs(back_projected(fine, scan, 5, (0, 1)) - fine).max() < 1e-5


def test_samples_stay_within_their_limits(rng: np.random.Generator) -> None:
    scan = rng.random((12, 12, 3), dtype=np.float32)
    answer = back_projected(rng.random((48, 48, 3), dtype=np.float32), scan, 5, (0.0, 1.0))
    assert (answer.min(), answer.max()) == (0.0, 1.0)


def test_no_rounds_and_no_enlargement_change_nothing(rng: np.random.Generator) -> None:
    scan, answer = rng.random((6, 6, 3), dtype=np.float32), rng.random((24, 24, 3), dtype=np.float32)
    assert back_projected(answer, scan, 0, (0, 1)) is answer
    assert back_projected(scan + 1, scan, 5, (0, 1)).min() >= 1


@pytest.mark.parametrize("rounds", [1, 3])
def test_rows_depend_on_no_more_than_their_reach(rng: np.random.Generator, rounds: int) -> None:
    scan, answer = rng.random((60, 9, 3), dtype=np.float32), rng.random((240, 36, 3), dtype=np.float32)
    whole = back_projected(answer, scan, rounds, (0, 1))
    reach = REACH * rounds
    part = back_projected(answer[(20 - reach) * 4 : (40 + reach) * 4], scan[20 - reach : 40 + reach], rounds, (0, 1))
    assert np.array_equal(part[reach * 4 : (reach + 20) * 4], whole[80:160])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_small_photographs_work(size: tuple[int, int]) -> None:
    scan = np.full((*size, 3), 0.4, np.float32)
    assert back_projected(grown(scan, 4) + np.float32(0.2), scan, 3, (0, 1)) == pytest.approx(0.4, abs=1e-3)
    grey = (scan @ LUMA)[..., None]
    assert tint_of(scan, grey).added_to(grown(grey, 4), slice(0, size[0]), 3) == pytest.approx(0.4, abs=1e-3)


def test_a_tint_is_all_of_a_print_s_colour(real_photo: NDArray[np.uint8]) -> None:
    grey = (as_unit(real_photo[:80, :90]) @ LUMA)[..., None]
    stained = grey * np.array([1.0, 0.9, 0.7], np.float32) + np.float32(0.02)
    stained[20:40, 30:60, 2] -= 0.01
    light = (stained @ LUMA)[..., None]
    tint = tint_of(stained, light)
    enlarged = back_projected(grown(light, 2), light, 5, (0, 1))
    assert np.abs(shrunk(tint.added_to(enlarged, slice(0, 80), 5), 2) - stained).max() < 0.02
    # The stain is what no curve over luma explains.
    stain, around = tint.rest[25:35, 35:55, 2].mean(), tint.rest[60:, :, 2].mean()
    assert stain < around - 0.002
    assert abs(around) < 0.002


def test_detail_finer_than_the_scan_does_not_move_a_print_s_colours() -> None:
    """A tone is a curve, and the curve of a mean is not the mean of the curve: what a network sharpens to black and white
    within one pixel of the scan is still that pixel's colour when it is averaged down."""
    light = np.repeat(np.linspace(0.05, 0.95, 64, dtype=np.float32)[None, :, None], 16, axis=0)
    # A tone that is strong in the middle and none at the ends.
    bent = light * (1 - light)
    scan = np.concatenate([light + 0.6 * bent, light, light - 0.6 * bent], axis=2)
    luma = (scan @ LUMA)[..., None]
    stripes = np.tile(np.float32([-1, 1]), 64)[None, :, None]
    sharp = grown(luma, 2) + stripes * np.minimum(luma, 1 - luma).repeat(2, axis=0).repeat(2, axis=1)
    toned = tint_of(scan, luma).added_to(sharp.clip(0, 1), slice(0, 16), 5)
    assert np.abs(shrunk(toned, 2) - scan).max() < 0.03

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.measures import analyse
from pipeline.photograph import Container, Photograph, Tone, as_unit, is_neutral, luma
from pipeline.policy import POLICIES
from pipeline.stage import Outcome, Step
from pipeline.stages.colour import Colour, ColourParameters, balance_gains, stretch

Samples = NDArray[np.uint8] | NDArray[np.uint16]


def coloured(pixels: Samples, policy: str = "conservation", measured: bool = True, **parameters: float) -> Step:
    photograph = Photograph("item", pixels, Container("PNG"))
    if measured:
        photograph = Photograph("item", pixels, Container("PNG"), analysis=analyse(photograph, None))
    step = Colour(ColourParameters(**parameters), POLICIES[policy]).restore([photograph])[0]
    assert isinstance(step, Step)
    return step


def faded(rng: np.random.Generator, dtype: str = "uint8", cast: tuple[float, float, float] = (1, 1, 1)) -> Samples:
    unit = 0.3 + 0.35 * rng.random((60, 80, 3))
    return np.rint(unit * np.array(cast) * np.iinfo(dtype).max).astype(dtype)


def sepia(rng: np.random.Generator) -> Samples:
    grey = 80 + 100 * rng.random((60, 80, 1))
    return np.rint(grey * np.array([1.0, 0.85, 0.65])).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_neutral_stays_exactly_neutral(rng: np.random.Generator, dtype: str, channels: int) -> None:
    pixels = np.repeat(faded(rng, dtype)[..., :1], channels, axis=2)
    step = coloured(pixels, "presentation")
    assert step.outcome is Outcome.APPLIED
    assert step.findings["gains"] == [1.0] * channels
    assert step.photograph.pixels.shape == pixels.shape
    assert is_neutral(step.photograph.pixels)


def test_a_toned_print_keeps_its_tone(rng: np.random.Generator) -> None:
    pixels = sepia(rng)
    step = coloured(pixels, "presentation")
    assert step.findings["tone"] == Tone.TONED
    assert step.findings["gains"] == [1.0, 1.0, 1.0]


def test_a_toned_print_with_all_its_contrast_is_left_alone(rng: np.random.Generator) -> None:
    pixels = sepia(rng)
    step = coloured(pixels, "presentation", contrast=0.0)
    assert (step.outcome, step.photograph.pixels is pixels) == (Outcome.SKIPPED, True)


@pytest.mark.parametrize("measured", [True, False])
def test_a_cast_is_taken_back_by_half_in_conservation(rng: np.random.Generator, measured: bool) -> None:
    pixels = faded(rng, cast=(1.0, 0.9, 0.8))
    step = coloured(pixels, measured=measured, contrast=0.0)
    assert step.findings["tone"] == Tone.COLOURED

    def red_over_blue(samples: Samples) -> float:
        return float(samples[..., 0].mean() / samples[..., 2].mean())

    before, after = red_over_blue(pixels), red_over_blue(step.photograph.pixels)
    assert 1.0 < after < before
    assert after - 1 == pytest.approx((before - 1) / 2, rel=0.25)
    full = coloured(pixels, "presentation", contrast=0.0).photograph.pixels
    assert red_over_blue(full) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", ["balance", "contrast"])
def test_the_ceiling_of_the_policy_is_recorded(rng: np.random.Generator, name: str) -> None:
    step = coloured(faded(rng), **{name: 0.9})
    assert step.findings[f"{name}_refused"] == "0.9 was asked for; the conservation policy allows 0.5"
    assert f"{name}_refused" not in coloured(faded(rng), "presentation", **{name: 0.9}).findings
    assert f"{name}_refused" not in coloured(faded(rng), **{name: 0.4}).findings


def test_nothing_asked_for_is_a_skip(rng: np.random.Generator) -> None:
    pixels = faded(rng)
    step = coloured(pixels, balance=0.0, contrast=0.0)
    assert (step.outcome, step.reason) == (Outcome.SKIPPED, "already balanced")
    assert step.photograph.pixels is pixels


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_answer_has_16_bits_and_the_given_pixels_stay(rng: np.random.Generator, dtype: str) -> None:
    pixels = faded(rng, dtype)
    copy = pixels.copy()
    after = coloured(pixels).photograph.pixels
    assert after.dtype == np.uint16
    assert np.array_equal(pixels, copy)
    assert luma(after).std() > luma(pixels).std()


@st.composite
def greys(draw: st.DrawFn) -> Samples:
    dtype = draw(st.sampled_from(["uint8", "uint16"]))
    peak = np.iinfo(dtype).max
    ends = sorted((draw(st.integers(0, peak)), draw(st.integers(0, peak))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([1, 3]))
    return rng.integers(ends[0], ends[1], (23, 31, channels), dtype=dtype, endpoint=True)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(pixels=greys(), strength=st.floats(0, 1))
def test_a_stretch_never_clips_its_percentiles(pixels: Samples, strength: float) -> None:
    slope, offset = stretch(as_unit(pixels), strength)
    low, high = np.percentile(luma(pixels), (0.1, 99.9))
    assert slope >= 1.0 - 1e-6
    assert slope <= 1.6
    assert low * slope + offset >= -1e-6
    assert high * slope + offset <= 1 + 1e-6


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pixels=greys())
def test_no_strength_is_no_stretch(pixels: Samples) -> None:
    assert stretch(as_unit(pixels), 0.0) == (1.0, 0.0)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_photograph_is_not_stretched(value: int) -> None:
    assert stretch(as_unit(np.full((9, 9, 3), value, np.uint8)), 1.0) == (1.0, 0.0)


def test_a_full_stretch_reaches_both_ends(rng: np.random.Generator) -> None:
    pixels = rng.integers(40, 216, (60, 80, 1), dtype=np.uint8)
    slope, offset = stretch(as_unit(pixels), 1.0)
    low, high = np.percentile(luma(pixels), (0.1, 99.9))
    assert (low * slope + offset, high * slope + offset) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), cast=st.tuples(*[st.floats(0.05, 1)] * 3))
def test_gains_are_bounded(seed: int, cast: tuple[float, float, float]) -> None:
    pixels = np.rint(np.random.default_rng(seed).random((20, 20, 3)) * cast * 255).astype(np.uint8)
    gains = balance_gains(as_unit(pixels))
    assert (gains >= 1 / 1.25 - 1e-6).all()
    assert (gains <= 1.25 + 1e-6).all()


def test_black_has_no_gains() -> None:
    assert np.isfinite(balance_gains(np.zeros((5, 5, 3), np.float32))).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    cast=st.tuples(*[st.floats(0.6, 1)] * 3),
    low=st.floats(0, 0.4),
    high=st.floats(0.6, 1),
)
def test_balance_and_stretch_together_clip_no_more_than_the_percentiles(
    seed: int, cast: tuple[float, float, float], low: float, high: float
) -> None:
    unit = low + (high - low) * np.random.default_rng(seed).random((40, 40, 3))
    pixels = np.rint(unit * cast * 65535).astype(np.uint16)
    step = coloured(pixels, "presentation")
    grey = pixels.astype(np.float64) / 65535
    mixed = grey * np.array(step.findings["gains"]) * step.findings["slope"] + step.findings["offset"]
    found = np.percentile(mixed @ np.array([0.299, 0.587, 0.114]), (0.1, 99.9))
    assert found[0] >= -0.02
    assert found[1] <= 1.02

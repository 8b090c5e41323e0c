"""The scan: what each step does, and how far it reaches."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.degradation.ageing import noise_field
from pipeline.degradation.scanning import Blur, Jpeg, Noise, Resize, Scan, Sharpen, Step, as_image, draw_scan
from pipeline.degradation.settings import PRESETS, Degradation, Effect

SIZE = (90, 110)


def noise(rng: np.random.Generator, channels: int = 3) -> Noise:
    return Noise(np.stack([noise_field(rng, SIZE, 0.5) for _ in range(channels)]), 0.5, 0.02, 0.02)


def steps(rng: np.random.Generator) -> list[Step]:
    return [
        Blur((1.2, 1.2)),
        Blur((2.0, 0.7), 0.6, 1.5),
        Resize(0.5, (45, 55), cv2.INTER_AREA, cv2.INTER_CUBIC),
        Resize(0.77, (69, 85), cv2.INTER_CUBIC, cv2.INTER_LINEAR),
        noise(rng),
        Sharpen(1.0, 0.7),
        Jpeg(40, subsampled=True),
        Jpeg(60, subsampled=False),
    ]


@pytest.fixture
def planes(crop: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.moveaxis(crop[:90, :110], 2, 0))


@pytest.mark.parametrize("number", range(8))
def test_a_step_changes_the_picture_and_nothing_beyond_its_reach(
    planes: NDArray[np.float32], rng: np.random.Generator, number: int
) -> None:
    step = steps(rng)[number]
    changed = planes.copy()
    changed[:, 40:44, 50:55] = 1 - np.round(changed[:, 40:44, 50:55])
    before, after = step.apply(planes), step.apply(changed)
    assert before.shape == planes.shape
    assert before.dtype == np.float32
    assert not np.array_equal(before, planes)
    far = np.ones(SIZE, bool)
    far[max(0, 40 - step.reach) : 44 + step.reach, max(0, 50 - step.reach) : 55 + step.reach] = False
    assert far.any()
    assert np.array_equal(before[:, far], after[:, far])
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("number", range(8))
def test_grey_stays_grey_whether_scanned_as_one_plane_or_three(
    planes: NDArray[np.float32], rng: np.random.Generator, number: int
) -> None:
    step = steps(rng)[number]
    if isinstance(step, Noise):
        step = noise(rng, channels=1)
    one, three = step.apply(planes[:1]), step.apply(np.repeat(planes[:1], 3, axis=0))
    for plane in three:
        assert np.array_equal(plane, one[0])


def test_noise_grows_with_light_and_has_the_strength_that_it_says(rng: np.random.Generator) -> None:
    step = Noise(noise_field(rng, (400, 400), 0.8)[None], 0.8, 0.02, 0.03)
    for level in (0.0, 0.25, 1.0):
        noisy = step.apply(np.full((1, 400, 400), level, np.float32))
        assert noisy.std() == pytest.approx((0.02**2 + 0.03**2 * level) ** 0.5, rel=0.05)
        assert noisy.mean() == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize("width", [0.0, 0.4, 0.9, 1.8])
def test_noise_fields_are_normal_and_as_wide_as_asked(rng: np.random.Generator, width: float) -> None:
    field = noise_field(rng, (500, 500), width)
    assert field.std() == pytest.approx(1, rel=0.05)
    assert abs(field.mean()) < 0.05
    neighbours = float((field[:, 1:] * field[:, :-1]).mean())
    # White noise through a Gaussian has the correlation of a Gaussian that is wider by the square root of two.
    expected = float(np.exp(-1 / (4 * width**2))) if width > 0.6 else None
    if expected is not None:
        assert neighbours == pytest.approx(expected, abs=0.06)
    if width == 0:
        assert abs(neighbours) < 0.02


def test_jpeg_at_low_quality_has_blocks(planes: NDArray[np.float32]) -> None:
    decoded = Jpeg(12, subsampled=True).apply(planes)[1]
    steps_ = np.abs(np.diff(decoded, axis=1)).mean(axis=0)
    at_edges = steps_[7::8].mean()
    between = np.delete(steps_, np.s_[7::8]).mean()
    assert at_edges > 1.3 * between


def test_a_scan_is_drawn_once_or_twice_as_the_settings_say(rng: np.random.Generator) -> None:
    every = {name: Effect(chance=1) for name in ("blur", "resize", "noise", "sharpen", "jpeg")}
    once = draw_scan(Degradation.none(**every), SIZE, rng, colour=True)
    twice = draw_scan(Degradation.none(**every, again=Effect(chance=1)), SIZE, rng, colour=True)
    assert [type(step) for step in once.steps] == [Blur, Resize, Noise, Sharpen, Jpeg]
    assert len(twice.steps) == 10
    assert twice.reach == sum(step.reach for step in twice.steps)
    assert twice.softness > 0
    assert twice.noise > 0
    assert draw_scan(Degradation.none(), SIZE, rng, colour=True).steps == ()


def test_grey_prints_get_grey_noise(rng: np.random.Generator) -> None:
    for _ in range(20):
        for step in draw_scan(PRESETS["heavy"], SIZE, rng, colour=False).steps:
            assert not isinstance(step, Noise) or len(step.field) == 1


def test_no_step_is_no_change(planes: NDArray[np.float32]) -> None:
    assert Scan(()).apply(planes) is planes
    assert np.array_equal(as_image(planes), np.moveaxis(planes, 0, 2))
    assert as_image(planes[:1]).shape == (*SIZE, 3)

"""Drawing: thin lines have their width, shapes their area, and nothing leaves the photograph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.degradation.draw import Patch, Sketch, rough_loop, smooth_line, value_noise, walk


@pytest.mark.parametrize("width", [0.7, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.1])
def test_a_line_is_as_wide_as_asked(width: float, angle: float) -> None:
    ends = np.array([(20, 20), (20 + 60 * np.cos(angle), 20 + 60 * np.sin(angle))], np.float32)
    sketch = Sketch((120, 120), ends, width + 2)
    sketch.stroke(ends, np.full(2, width, np.float32), np.ones(2, np.float32))
    area = float(sketch.patch().alpha.sum())
    # Its round ends add about one width.
    assert area == pytest.approx(60 * width + width**2 * np.pi / 4, rel=0.3)


def test_opacity_is_kept_also_of_hairlines() -> None:
    ends = np.array([(10, 10.5), (50, 10.5)], np.float32)
    for width, opacity in ((2.0, 0.5), (0.1, 1.0)):
        sketch = Sketch((30, 60), ends)
        sketch.stroke(ends, np.full(2, width, np.float32), np.full(2, opacity, np.float32))
        assert sketch.patch().alpha.sum() == pytest.approx(40 * width * opacity, rel=0.3)


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    x=st.floats(-80, 120),
    y=st.floats(-80, 120),
    seed=st.integers(0, 99),
)
def test_patches_stay_inside(height: int, width: int, x: float, y: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outline = rough_loop(rng, (x, y), 12, 20, 0.4)
    sketch = Sketch((height, width), outline)
    sketch.fill(outline, 0.8)
    patch = sketch.patch().softened(1.0).times(2.0)
    canvas = np.zeros((height, width), np.float32)
    canvas[patch.window] += patch.alpha
    assert canvas.max() <= 1
    assert canvas.min() >= 0


@pytest.mark.parametrize("cell", [1.0, 2.5, 9.0, 40.0, 400.0])
def test_noise_is_centred_and_as_smooth_as_its_cells(rng: np.random.Generator, cell: float) -> None:
    fields = np.stack([value_noise(rng, (120, 90), cell) for _ in range(12)])
    assert fields.shape == (12, 120, 90)
    assert np.abs(fields).max() < 1.6
    assert abs(fields.mean()) < 0.4
    assert fields.std() > 0.1
    assert np.abs(np.diff(fields, axis=2)).max() < 4 / cell + 1e-3


def test_octaves_add_detail(rng: np.random.Generator) -> None:
    smooth, rough = value_noise(rng, (90, 90), 30), value_noise(rng, (90, 90), 30, 4)
    assert np.abs(np.diff(rough)).mean() > 1.5 * np.abs(np.diff(smooth)).mean()


def test_walks_are_as_long_as_asked_and_straight_without_wander(rng: np.random.Generator) -> None:
    straight = walk(rng, (5, 5), 0.3, 200, 0.0)
    assert np.linalg.norm(straight[-1] - straight[0]) == pytest.approx(200, rel=1e-4)
    crooked = walk(rng, (5, 5), 0.3, 200, 0.3)
    assert np.linalg.norm(np.diff(crooked, axis=0), axis=1).sum() == pytest.approx(200, rel=1e-3)
    assert np.linalg.norm(crooked[-1] - crooked[0]) < 199


def test_smooth_lines_have_any_length(rng: np.random.Generator) -> None:
    for count in (1, 2, 3, 50):
        line = smooth_line(rng, count, count // 4)
        assert line.shape == (count,)
        assert line.min() >= 0
        assert line.max() <= 1


def test_a_patch_without_pixels_can_be_softened() -> None:
    empty = Patch(3, 4, np.zeros((0, 5), np.float32))
    assert empty.softened(2.0).alpha.size == 0
    assert empty.times(0.5).alpha.size == 0

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.measures import analyse, lab, noise_sigma, sharpness, tone_of
from pipeline.photograph import Container, Photograph, Tone, luma


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_noise_is_measured(rng: np.random.Generator, sigma: float) -> None:
    slope = np.linspace(0.2, 0.8, 200, dtype=np.float32)[None].repeat(200, 0)
    noisy = slope + rng.normal(0, sigma, slope.shape).astype(np.float32)
    assert noise_sigma(noisy) == pytest.approx(sigma, rel=0.1)
    assert noise_sigma(slope) < 1e-6


def test_edges_are_not_noise(rng: np.random.Generator) -> None:
    boxes = np.kron((rng.random((12, 12)) > 0.5), np.ones((20, 20))).astype(np.float32)
    assert noise_sigma(boxes) < 0.001


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2)])
def test_what_is_too_small_has_no_noise(shape: tuple[int, int]) -> None:
    assert noise_sigma(np.ones(shape, np.float32)) == 0.0


def test_a_blur_lowers_sharpness(real_photo: NDArray[np.uint8]) -> None:
    grey = luma(real_photo)
    assert sharpness(cv2.GaussianBlur(grey, (0, 0), 2)) < 0.5 * sharpness(grey)


def test_tones_are_told_apart(real_photo: NDArray[np.uint8]) -> None:
    grey = np.repeat((luma(real_photo) * 255).round().astype(np.uint8)[..., None], 3, axis=2)
    sepia = np.rint(grey * np.array([1.0, 0.88, 0.7])).astype(np.uint8)
    hues = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert tone_of(grey, lab(grey)) is Tone.NEUTRAL
    assert tone_of(grey[..., :1].copy(), lab(grey[..., :1].copy())) is Tone.NEUTRAL
    assert tone_of(sepia, lab(sepia)) is Tone.TONED
    assert tone_of(hues, lab(hues)) is Tone.COLOURED


def test_depth_does_not_change_the_measures(real_photo: NDArray[np.uint8]) -> None:
    pixels = real_photo[:120, :120].copy()
    mask = np.zeros((120, 120), np.uint8)
    mask[:6], mask[6:12] = 1, 4
    shallow = analyse(Photograph("i", pixels, Container("PNG"), damage=mask), 2)
    deep = analyse(Photograph("i", pixels.astype(np.uint16) * 257, Container("PNG"), damage=mask), 2)
    assert (shallow.damage_fraction, shallow.face_count, shallow.megapixels) == (pytest.approx(0.1), 2, 0.0144)
    for name in ("noise_sigma", "sharpness", "luma_mean", "luma_p01", "luma_p99", "cast_a", "cast_b", "chroma_p99"):
        assert getattr(shallow, name) == pytest.approx(getattr(deep, name), rel=1e-3, abs=1e-3), name
    assert shallow.tone == deep.tone


def test_a_flat_red_photograph_has_known_measures() -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[..., 0] = 255
    found = analyse(Photograph("i", pixels, Container("PNG")), None)
    assert found.luma_mean == pytest.approx(0.299 * 255, abs=0.01)
    assert (found.cast_a, found.cast_b) == (pytest.approx(80.1, abs=0.3), pytest.approx(67.2, abs=0.3))
    assert (found.clipped_low, found.clipped_high, found.damage_fraction, found.face_count) == (0.0, 0.0, 0.0, None)

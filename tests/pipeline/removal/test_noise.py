from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.photograph import Container, Photograph
from pipeline.removal.noise import denoise

Samples = NDArray[np.uint8] | NDArray[np.uint16]


def noisy(rng: np.random.Generator, dtype: str, channels: int, neutral: bool = False) -> Samples:
    peak = np.iinfo(dtype).max
    plane = np.linspace(0.3, 0.7, 96)[None, :, None].repeat(80, 0).repeat(channels, 2)
    plane[:, 48:] += 0.2  # an edge that has to stay
    plane = plane + rng.normal(0, 0.04, (80, 96, 1 if neutral else channels))
    return np.rint(np.clip(plane, 0, 1) * peak).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_denoising_is_confined_to_calm_areas(rng: np.random.Generator, dtype: str, channels: int) -> None:
    pixels = noisy(rng, dtype, channels)
    result, where = denoise(Photograph("item", pixels, Container("PNG")), 0.04 * 255, 1.0)
    assert 0 < where.mean() < 1
    assert not where[:, 48].any()
    assert np.array_equal(result[~where], pixels[~where])
    assert result[20:60, 10:38].std() < 0.9 * pixels[20:60, 10:38].std()


def test_strength_mixes(rng: np.random.Generator) -> None:
    pixels = noisy(rng, "uint16", 1)
    photograph = Photograph("item", pixels, Container("PNG"))
    nothing, half, full = (denoise(photograph, 10.0, s)[0].astype(float) for s in (0.0, 0.5, 1.0))
    assert np.array_equal(nothing, pixels)
    assert np.abs(half - (pixels + full) / 2).max() <= 1

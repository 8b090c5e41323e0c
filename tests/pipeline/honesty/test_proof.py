from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.honesty import proof as proofs
from pipeline.honesty.proof import block_mean, means, proof_of, reduce, step_for
from pipeline.photograph import Container, Photograph, as_unit


def mean_of(plane: NDArray[np.float32], row: int, column: int, side: int) -> float:
    return float(plane[row * side : (row + 1) * side, column * side : (column + 1) * side].mean(dtype=np.float64))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 23), st.integers(1, 23), st.integers(1, 7), st.integers(0, 2**31))
def test_block_means_are_means_of_blocks_and_of_what_is_left_over(
    height: int, width: int, side: int, seed: int
) -> None:
    plane = np.random.default_rng(seed).random((height, width), np.float32)
    found = block_mean(plane, side)
    assert found.shape == (-(-height // side), -(-width // side))
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            assert found[row, column] == pytest.approx(mean_of(plane, row, column, side), abs=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("band", [50, 1 << 19])
def test_a_reduction_is_the_same_in_bands_and_as_numpy_has_it(
    channels: int, band: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(proofs, "BAND", band)
    pixels = rng.integers(0, 65535, (24, 36, channels), np.uint16)
    found = reduce(pixels, step=3, scale=2)
    unit = as_unit(pixels)
    grey = unit[..., 0] if channels == 1 else unit @ proofs.LUMA
    on_scan = grey.reshape(12, 2, 18, 2).mean(axis=(1, 3))
    assert np.allclose(found.samples, unit.reshape(4, 6, 6, 6, channels).mean(axis=(1, 3)), atol=1e-5)
    assert np.allclose(found.coarse, on_scan.reshape(4, 3, 6, 3).var(axis=(1, 3)), atol=1e-5)
    fine = grey.reshape(12, 2, 18, 2).var(axis=(1, 3)).reshape(4, 3, 6, 3).mean(axis=(1, 3))
    assert np.allclose(found.fine, fine, atol=1e-5)
    assert np.array_equal(means(pixels, 6), found.samples)


def test_a_small_scan_is_its_own_proof() -> None:
    pixels = np.full((40, 30, 3), 7, np.uint8)
    proof = proof_of(Photograph("item", pixels, Container("PNG")))
    assert proof.samples is pixels
    assert (proof.step, proof.deviation) == (1, None)
    assert not proof.variance.any()


def test_a_large_scan_is_averaged_and_its_texture_kept(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(proofs, "PROOF_PIXELS", 1000)
    noise = rng.normal(0.5, 0.1, (90, 120))
    pixels = np.rint(np.clip(noise, 0, 1) * 65535).astype(np.uint16)[..., None]
    proof = proof_of(Photograph("item", pixels, Container("TIFF")))
    assert (proof.step, proof.samples.shape, proof.shape) == (4, (23, 30, 1), (90, 120))
    assert proof.samples.size <= 1000
    # Of sixteen values, the variance about their own mean is a sixteenth less.
    assert np.sqrt(proof.variance.mean()) == pytest.approx(0.1 * np.sqrt(15 / 16), rel=0.03)


def test_the_smallest_number_of_pixels_is_kept() -> None:
    assert step_for(1, 1, 1 << 20) == 1
    assert step_for(1 << 10, 1 << 10, 1 << 20) == 1
    assert step_for((1 << 10) + 1, 1 << 10, 1 << 20) == 2
    assert step_for(12649, 15811, 1 << 20) == 14


@pytest.mark.parametrize("what", ["samples", "deviation", "clipped", "step"])
def test_a_changed_proof_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(proofs, "PROOF_PIXELS", 100)
    proof = proof_of(Photograph("item", rng.integers(0, 255, (40, 40, 1), np.uint8), Container("PNG")))
    assert proof.is_whole()
    assert proof.deviation is not None
    samples, deviation = proof.samples.copy(), proof.deviation.copy()
    samples[3, 4] ^= 1
    deviation[3, 4] ^= 1
    changes = {"samples": samples, "deviation": deviation, "clipped": (0.5, 0.0), "step": 5}
    assert not replace(proof, **{what: changes[what]}).is_whole()  # type: ignore[arg-type]


def test_black_and_white_are_counted() -> None:
    pixels = np.full((10, 10, 1), 128, np.uint8)
    pixels[0], pixels[1:3] = 0, 255
    assert proof_of(Photograph("item", pixels, Container("PNG"))).clipped == (0.1, 0.2)

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from pipeline.photograph import (
    Container,
    Photograph,
    deepened,
    is_neutral,
    luma,
    narrowed,
    pixel_digest,
    to_depth,
    widened,
)

PLAIN = Container("PNG")


def of(pixels: np.ndarray, **more: object) -> Photograph:
    return Photograph("item", pixels, PLAIN, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 3), np.int16),
        np.zeros((4, 10, 3), np.uint8)[:, ::2],
    ],
    ids=["flat", "two channels", "four channels", "floats", "signed", "strided"],
)
def test_pixels_of_another_form_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pixels must be"):
        of(pixels)


def test_alpha_and_damage_have_to_fit() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="alpha"):
        of(pixels, alpha=np.zeros((5, 4), np.uint8))
    with pytest.raises(ValueError, match="alpha"):
        of(pixels, alpha=np.zeros((4, 5), np.uint16))
    with pytest.raises(ValueError, match="damage"):
        of(pixels, damage=np.zeros((5, 4), np.uint8))
    with pytest.raises(ValueError, match="damage"):
        of(pixels, damage=np.zeros((4, 5), bool))


def test_a_photograph_is_frozen() -> None:
    photograph = of(np.zeros((4, 5, 3), np.uint16))
    assert (photograph.height, photograph.width, photograph.peak) == (4, 5, 65535)
    with pytest.raises(FrozenInstanceError):
        photograph.scale = 2  # type: ignore[misc]


def test_a_digest_depends_on_samples_shape_depth_and_alpha(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    other = pixels.copy()
    other[3, 5, 2] ^= 1
    alpha = np.zeros((4, 6), np.uint8)
    changed = alpha.copy()
    changed[0, 0] = 1
    variants = [
        of(pixels),
        of(other),
        of(pixels.reshape(6, 4, 3)),
        of(pixels.astype(np.uint16)),
        of(pixels, alpha=alpha),
        of(pixels, alpha=changed),
    ]
    assert len({pixel_digest(variant) for variant in variants}) == len(variants)


def test_a_digest_does_not_depend_on_anything_else(rng: np.random.Generator) -> None:
    photograph = of(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    twin = replace(photograph, item_id="other", container=Container("TIFF", icc=b"x"), scale=4)
    assert pixel_digest(twin) == pixel_digest(photograph)


def test_one_sample_off_is_not_neutral(rng: np.random.Generator) -> None:
    grey = np.repeat(rng.integers(0, 65536, (4, 6, 1), dtype=np.uint16), 3, axis=2)
    assert is_neutral(grey)
    assert is_neutral(grey[..., :1])
    for channel in range(3):
        tinted = grey.copy()
        tinted[3, 5, channel] ^= 1
        assert not is_neutral(tinted)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_luma_runs_from_zero_to_one(dtype: type) -> None:
    peak = np.iinfo(dtype).max
    pixels = np.array([[[0, 0, 0], [peak, peak, peak], [peak, 0, 0], [0, peak, 0], [0, 0, peak]]], dtype)
    assert luma(pixels)[0] == pytest.approx([0, 1, 0.299, 0.587, 0.114], abs=1e-6)
    assert luma(pixels[..., :1].copy())[0] == pytest.approx([0, 1, 1, 0, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_sample_survives_the_way_through_floats(dtype: type) -> None:
    peak = np.iinfo(dtype).max
    samples = np.arange(peak + 1, dtype=dtype)
    unit = samples.astype(np.float32) / np.float32(peak)
    assert np.array_equal(to_depth(unit, np.dtype(dtype)), samples)


def test_floats_outside_the_range_are_clipped_and_the_rest_rounded() -> None:
    unit = np.array([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.7], np.float32)
    assert to_depth(unit, np.dtype(np.uint8)).tolist() == [0, 0, 0, 1, 255, 255]


def test_eight_bits_survive_the_way_through_sixteen() -> None:
    samples = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert widened(samples).max() == 65535
    assert np.array_equal(widened(samples), samples.astype(np.uint16) * 257)
    assert np.array_equal(narrowed(widened(samples)), samples)
    assert widened(widened(samples)) is not samples
    assert narrowed(samples) is samples


def test_narrowing_rounds_to_nearest() -> None:
    samples = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(narrowed(samples), np.rint(samples / 257).astype(np.uint8))


def test_what_is_deepened_takes_its_alpha_along(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    photograph = of(pixels, alpha=pixels[..., 0].copy())
    deep = deepened(photograph)
    assert np.array_equal(deep.pixels, widened(pixels))
    assert deep.alpha is not None
    assert np.array_equal(deep.alpha, widened(pixels[..., 0]))
    assert deepened(deep) is deep

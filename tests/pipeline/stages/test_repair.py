from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.photograph import Container, Face, Photograph, is_neutral, widened
from pipeline.policy import POLICIES
from pipeline.stage import Outcome, Step
from pipeline.stages.repair import Repair, RepairParameters

Mask = NDArray[np.bool_]
Samples = NDArray[np.uint8] | NDArray[np.uint16]


def lines(height: int, width: int) -> Mask:
    drawn = np.zeros((height, width), np.uint8)
    cv2.line(drawn, (width // 5, 2), (width // 3, height - 3), 255, 3)
    cv2.line(drawn, (0, height // 2), (width - 1, height // 2 + 4), 255, 2)
    return drawn > 0


def calm(height: int = 120, width: int = 160, dtype: str = "uint8", channels: int = 3) -> Samples:
    peak = np.iinfo(dtype).max
    slope = np.linspace(0.3, 0.7, width)[None, :, None] + np.linspace(0, 0.1, height)[:, None, None]
    tint = np.array([1.0, 0.8, 0.6])[:channels]
    return np.ascontiguousarray(np.rint(slope * tint * peak).astype(dtype))


def noisy(rng: np.random.Generator, dtype: str, channels: int, neutral: bool = False) -> Samples:
    peak = np.iinfo(dtype).max
    plane = np.linspace(0.3, 0.7, 96)[None, :, None].repeat(80, 0).repeat(channels, 2)
    plane[:, 48:] += 0.2  # an edge that has to stay
    plane = plane + rng.normal(0, 0.04, (80, 96, 1 if neutral else channels))
    return np.rint(np.clip(plane, 0, 1) * peak).astype(dtype)


def repaired(pixels: Samples, policy: str = "conservation", **more: object) -> Step:
    parameters = more.pop("parameters", RepairParameters())
    photograph = Photograph("item", pixels, Container("PNG"), **more)  # type: ignore[arg-type]
    step = Repair(parameters, POLICIES[policy]).restore([photograph])[0]  # type: ignore[arg-type]
    assert isinstance(step, Step)
    return step


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_damage_is_filled_from_around(dtype: str, channels: int) -> None:
    sound, mask = calm(dtype=dtype, channels=channels), lines(120, 160)
    broken = sound.copy()
    broken[mask] = np.iinfo(dtype).max
    step = repaired(broken, damage=mask)
    assert step.photograph.pixels.dtype == np.uint16
    assert np.abs(step.photograph.pixels.astype(float) - widened(sound)).max() < 0.03 * 65535
    assert step.findings["inpainted_fraction"] == mask.mean()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["uint8", "uint16"]),
    channels=st.sampled_from([1, 3]),
    share=st.floats(0.001, 0.3),
)
def test_outside_the_recorded_mask_not_a_bit_changes(seed: int, dtype: str, channels: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, np.iinfo(dtype).max, (24, 37, channels), dtype=dtype, endpoint=True)
    copy = pixels.copy()
    step = repaired(pixels, damage=rng.random((24, 37)) < share)
    mask = step.photograph.damage
    assert mask is not None
    assert np.array_equal(step.photograph.pixels[~mask], widened(pixels)[~mask])
    assert np.array_equal(pixels, copy)


def test_the_mask_is_found_and_recorded_where_nobody_looked() -> None:
    pixels, drawn = calm(300, 400), np.zeros((300, 400), np.uint8)
    cv2.line(drawn, (80, 5), (130, 290), 255, 2)
    mask = drawn > 0
    pixels[mask] = 255
    step = repaired(pixels)
    found = step.photograph.damage
    assert found is not None
    assert found[mask].mean() > 0.9
    assert np.array_equal(step.photograph.pixels[~found], widened(pixels)[~found])
    assert step.outcome is Outcome.APPLIED


def test_nothing_to_repair_is_a_skip() -> None:
    pixels = calm()
    step = repaired(pixels)
    assert (step.outcome, step.reason) == (Outcome.SKIPPED, "nothing to repair was found")
    assert step.photograph.pixels is pixels


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("policy", ["conservation", "presentation"])
def test_neutral_stays_neutral(rng: np.random.Generator, dtype: str, policy: str) -> None:
    pixels = noisy(rng, dtype, 3, neutral=True)
    assert is_neutral(pixels)
    step = repaired(pixels, policy, damage=lines(80, 96))
    assert is_neutral(step.photograph.pixels)
    assert not np.array_equal(step.photograph.pixels, widened(pixels))


def test_neutral_rgb_and_grey_are_repaired_alike(rng: np.random.Generator) -> None:
    pixels = noisy(rng, "uint8", 3, neutral=True)
    grey = np.ascontiguousarray(pixels[..., :1])
    for policy in ("conservation", "presentation"):
        colour = repaired(pixels, policy, damage=lines(80, 96)).photograph.pixels
        alone = repaired(grey, policy, damage=lines(80, 96)).photograph.pixels
        # Luma of three equal channels is rounded once more: denoising may differ by one step of 16 bits.
        most = 0 if policy == "conservation" else 1
        assert np.abs(colour[..., :1].astype(int) - alone).max() <= most


def test_conservation_never_denoises_and_records_the_refusal(rng: np.random.Generator) -> None:
    pixels = noisy(rng, "uint8", 3)
    step = repaired(pixels, parameters=RepairParameters(denoise=0.8), damage=np.zeros((80, 96), bool))
    assert step.photograph.pixels is pixels
    assert "0.8 was asked for" in step.findings["denoise_refused"]


def test_presentation_denoises_and_says_how_much(rng: np.random.Generator) -> None:
    step = repaired(noisy(rng, "uint8", 1), "presentation", damage=np.zeros((80, 96), bool))
    assert step.findings["noise_sigma"] == pytest.approx(0.04 * 255, rel=0.2)
    assert 0 < step.findings["denoised_fraction"] < 1


def test_denoised_pixels_lie_in_the_recorded_mask(rng: np.random.Generator) -> None:
    pixels = noisy(rng, "uint8", 3)
    step = repaired(pixels, "presentation", damage=np.zeros((80, 96), bool))
    changed = (step.photograph.pixels != widened(pixels)).any(axis=2)
    assert step.photograph.damage is not None
    assert not (changed & ~step.photograph.damage).any()


def test_specks_inside_a_face_are_spared_and_scratches_across_it_are_not() -> None:
    mask = np.zeros((120, 160), bool)
    mask[50:53, 70:73] = True  # a catchlight in the face
    mask[20:22, 20:23] = True  # dust beside it
    mask[60:62, 30:140] = True  # a scratch across it
    face = Face((50.0, 30.0, 110.0, 100.0), (0.0,) * 10, 0.99)
    step = repaired(calm(), damage=mask, faces=(face,))
    kept = step.photograph.damage
    assert kept is not None
    assert not kept[50:53, 70:73].any()
    assert kept[20:22, 20:23].all()
    assert kept[60:62, 30:140].all()


def test_a_face_over_the_border_is_no_trouble() -> None:
    face = Face((-30.0, -20.0, 400.0, 90.0), (0.0,) * 10, 0.99)
    mask = np.zeros((120, 160), bool)
    mask[5, 5] = True
    step = repaired(calm(), damage=mask, faces=(face,))
    assert (step.outcome, step.findings["inpainted_fraction"]) == (Outcome.SKIPPED, 0.0)

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.damage import REPAIRED, Kind
from pipeline.photograph import Container, Face, Photograph, is_neutral, widened
from pipeline.policy import POLICIES
from pipeline.stage import Outcome, Step
from pipeline.stages.repair import Repair, RepairParameters

Codes = NDArray[np.uint8]
Samples = NDArray[np.uint8] | NDArray[np.uint16]


def lines(height: int, width: int) -> Codes:
    drawn = np.zeros((height, width), np.uint8)
    cv2.line(drawn, (width // 5, 2), (width // 3, height - 3), 255, 3)
    cv2.line(drawn, (0, height // 2), (width - 1, height // 2 + 4), 255, 2)
    return (drawn > 0) * np.uint8(Kind.LINE)


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
    sound, codes = calm(dtype=dtype, channels=channels), lines(120, 160)
    broken = sound.copy()
    broken[codes > 0] = np.iinfo(dtype).max
    step = repaired(broken, damage=codes)
    assert step.photograph.pixels.dtype == np.uint16
    assert np.abs(step.photograph.pixels.astype(float) - widened(sound)).max() < 0.03 * 65535
    assert step.findings["inpainted_fraction"] == step.findings["repaired"]["line"] == (codes > 0).mean()
    assert "left" not in step.findings


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["uint8", "uint16"]),
    channels=st.sampled_from([1, 3]),
    neutral=st.booleans(),
    share=st.floats(0.001, 0.3),
    missing_radius=st.sampled_from([0.0, 2.0, 6.0, 100.0]),
    radius=st.sampled_from([1.0, 3.0, 7.5]),
    face=st.booleans(),
)
def test_outside_the_recorded_mask_not_a_bit_changes(
    seed: int,
    dtype: str,
    channels: int,
    neutral: bool,
    share: float,
    missing_radius: float,
    radius: float,
    face: bool,
) -> None:
    """Whatever kinds are marked, whatever of them is left: only what the mask calls repaired has other bits."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, np.iinfo(dtype).max, (24, 37, 1 if neutral else channels), dtype=dtype, endpoint=True)
    pixels = np.ascontiguousarray(np.repeat(drawn, channels // drawn.shape[2], axis=2))
    alpha = rng.integers(0, np.iinfo(dtype).max, (24, 37), dtype=dtype, endpoint=True)
    codes = np.where(rng.random((24, 37)) < share, rng.integers(1, 5, (24, 37)), 0).astype(np.uint8)
    codes[4:14, 20:33] = Kind.MISSING
    copies = pixels.copy(), codes.copy()
    step = repaired(
        pixels,
        parameters=RepairParameters(radius=radius, fill_missing_radius=missing_radius),
        damage=codes,
        alpha=alpha,
        faces=(Face((3.0, 2.0, 18.0, 20.0), (0.0,) * 10, 0.9),) if face else (),
    )
    after = step.photograph
    assert after.damage is not None
    untouched = after.damage < REPAIRED
    assert np.array_equal(widened(after.pixels)[untouched], widened(pixels)[untouched])
    assert np.array_equal(after.damage & 7, codes)
    assert not (after.damage[codes == Kind.STAIN] & REPAIRED).any()
    assert after.alpha is not None
    assert np.array_equal(widened(after.alpha), widened(alpha))
    assert (np.array_equal(pixels, copies[0]), np.array_equal(codes, copies[1])) == (True, True)
    assert is_neutral(after.pixels) == is_neutral(pixels)


def test_the_mask_is_found_and_recorded_where_nobody_looked() -> None:
    pixels, drawn = calm(300, 400), np.zeros((300, 400), np.uint8)
    cv2.line(drawn, (80, 5), (130, 290), 255, 2)
    mask = drawn > 0
    pixels[mask] = 255
    step = repaired(pixels)
    found = step.photograph.damage
    assert found is not None
    assert (found[mask] == Kind.LINE | REPAIRED).mean() > 0.9
    assert np.array_equal(step.photograph.pixels[found == 0], widened(pixels)[found == 0])
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
        assert np.array_equal(colour[..., :1], alone)


def test_specks_inside_a_face_are_spared_and_scratches_across_it_are_not() -> None:
    codes = np.zeros((120, 160), np.uint8)
    codes[50:53, 70:73] = Kind.SPOT  # a catchlight in the face
    codes[20:22, 20:23] = Kind.SPOT  # dust beside it
    codes[60:62, 30:140] = Kind.LINE  # a scratch across it
    face = Face((50.0, 30.0, 110.0, 100.0), (0.0,) * 10, 0.99)
    step = repaired(calm(), damage=codes, faces=(face,))
    kept = step.photograph.damage
    assert kept is not None
    assert (kept[50:53, 70:73] == Kind.SPOT).all()
    assert (kept[20:22, 20:23] == Kind.SPOT | REPAIRED).all()
    assert (kept[60:62, 30:140] == Kind.LINE | REPAIRED).all()
    left = step.findings["left"]["spot"]
    assert (left["areas"], left["fraction"]) == (1, 9 / codes.size)
    assert "catchlights" in left["reason"]


def test_a_face_over_the_border_is_no_trouble() -> None:
    face = Face((-30.0, -20.0, 400.0, 90.0), (0.0,) * 10, 0.99)
    codes = np.zeros((120, 160), np.uint8)
    codes[5, 5] = Kind.SPOT
    step = repaired(calm(), damage=codes, faces=(face,))
    assert (step.outcome, step.findings["inpainted_fraction"]) == (Outcome.SKIPPED, 0.0)
    assert step.reason == "what was found is left as it was"


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("policy", "why"),
    [("conservation", "the conservation policy does not allow it"), ("presentation", "no method here does that")],
)
def test_a_small_hole_is_filled_and_a_torn_corner_is_left_and_reported(
    dtype: str, channels: int, policy: str, why: str
) -> None:
    sound = calm(dtype=dtype, channels=channels)
    codes = np.zeros(sound.shape[:2], np.uint8)
    cv2.circle(codes, (60, 50), 4, int(Kind.MISSING), -1)
    cv2.fillPoly(codes, [np.array([(159, 0), (159, 60), (100, 0)])], int(Kind.MISSING))
    torn = sound.copy()
    torn[codes > 0] = np.iinfo(dtype).max
    step = repaired(torn, policy, damage=codes, parameters=RepairParameters(denoise=0.0))
    marked, corner = step.photograph.damage, np.s_[0:20, 145:160]
    assert marked is not None
    assert (marked[46:54, 60] == Kind.MISSING | REPAIRED).all()
    assert (marked[corner] == Kind.MISSING).all()
    hole = marked >= REPAIRED
    assert np.abs(step.photograph.pixels.astype(float) - widened(sound))[hole].max() < 0.03 * 65535
    assert np.array_equal(step.photograph.pixels[~hole], widened(torn)[~hole])
    left = step.findings["left"]["missing"]
    assert (left["areas"], left["fraction"]) == (1, (marked == Kind.MISSING).mean())
    assert why in left["reason"]
    assert step.findings["repaired"] == {"missing": hole.mean()}


def test_a_line_that_runs_into_a_hole_is_not_filled_from_it() -> None:
    sound = calm()
    codes = np.zeros(sound.shape[:2], np.uint8)
    codes[:, 120:] = Kind.MISSING
    codes[60:64, 20:120] = Kind.LINE
    torn = sound.copy()
    torn[codes > 0] = 255
    after = repaired(torn, damage=codes).photograph.pixels
    # From the hole it would be white, 0.4 away.
    assert np.abs(after.astype(float) - widened(sound))[codes == Kind.LINE].max() < 0.05 * 65535
    assert np.array_equal(after[codes == Kind.MISSING], widened(torn)[codes == Kind.MISSING])


def stained(edge: float = 1.0) -> tuple[Samples, Samples, Codes]:
    """A sound photograph, the same with a brown stain, and the codes of the stain, two pixels too narrow."""
    sound = widened(skimage.data.coffee()[:160, 150:350])
    inside = np.zeros(sound.shape[:2], np.float32)
    cv2.circle(inside, (100, 70), 40, 1.0, -1)
    density = cv2.GaussianBlur(inside, (0, 0), edge)[..., None] * np.array([0.1, 0.25, 0.5])
    damaged = np.rint((sound / 65535 + 0.055) * np.exp(-density) * 65535 - 0.055 * 65535).clip(0, 65535)
    codes = np.zeros(inside.shape, np.uint8)
    cv2.circle(codes, (100, 70), 38, int(Kind.STAIN), -1)
    return sound, damaged.astype(np.uint16), codes


def test_a_stain_is_taken_away_and_what_changed_is_marked() -> None:
    sound, damaged, codes = stained()
    step = repaired(damaged, damage=codes)
    marked = step.photograph.damage
    assert marked is not None
    after, whole = step.photograph.pixels.astype(float), codes > 0
    assert np.abs(after - sound)[whole].mean() < 0.4 * np.abs(damaged.astype(float) - sound)[whole].mean()
    assert np.array_equal(step.photograph.pixels[marked < REPAIRED], damaged[marked < REPAIRED])
    assert (marked[whole] == Kind.STAIN | REPAIRED).all()
    assert step.findings["repaired"]["stain"] == (marked == Kind.STAIN | REPAIRED).mean()
    assert step.findings["inpainted_fraction"] == 0
    assert "left" not in step.findings


def test_what_is_gone_is_not_changed_with_the_stain_around_it() -> None:
    _, damaged, codes = stained()
    codes[60:84, 90:114] = Kind.MISSING
    step = repaired(damaged, damage=codes)
    assert step.photograph.damage is not None
    assert np.array_equal(step.photograph.pixels[codes == Kind.MISSING], damaged[codes == Kind.MISSING])
    assert (step.photograph.damage[codes == Kind.MISSING] == Kind.MISSING).all()
    assert (step.photograph.damage == Kind.STAIN | REPAIRED).any()


def test_a_stain_that_nothing_shows_is_left_and_reported() -> None:
    pixels, codes = calm(), np.zeros((120, 160), np.uint8)
    codes[10:40, 10:40] = codes[70:90, 100:120] = Kind.STAIN
    step = repaired(pixels, damage=codes)
    assert (step.outcome, step.reason) == (Outcome.SKIPPED, "what was found is left as it was")
    assert step.photograph.pixels is pixels
    assert step.photograph.damage is codes
    assert step.findings["left"]["stain"]["areas"] == 2
    assert step.findings["left"]["stain"]["fraction"] == (codes > 0).mean()
    assert step.findings["repaired"] == {}

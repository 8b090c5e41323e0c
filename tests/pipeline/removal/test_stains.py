from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from pipeline.codecs import decode
from pipeline.colour_space import in_srgb, space_of
from pipeline.photograph import Container, Photograph, is_neutral, narrowed, widened
from pipeline.removal.stains import remove_stains
from tests.marred import TONES, Case, colour_error, stained, texture_likeness

Samples = NDArray[np.uint8] | NDArray[np.uint16]


def cleaned(pixels: Samples, mask: NDArray[np.bool_], icc: bytes | None = None) -> tuple[Samples, NDArray[np.bool_]]:
    photograph = Photograph("item", pixels, Container("PNG", icc=icc))
    copy = pixels.copy()
    answer = remove_stains(photograph, mask)
    assert np.array_equal(pixels, copy)
    assert (answer.pixels.dtype, answer.pixels.shape) == (pixels.dtype, pixels.shape)
    assert np.array_equal(answer.pixels[~answer.changed], pixels[~answer.changed])
    return answer.pixels, answer.changed


def coffee(tone: str, seed: int = 3) -> Case:
    return stained(skimage.data.coffee()[:320, 100:480], tone, np.random.default_rng(seed), [])


@pytest.mark.parametrize("tone", TONES)
def test_colour_errors_are_halved_and_texture_is_kept(tone: str, shared: Path) -> None:
    outlines = sorted((shared / "damage" / "masks" / "stain").glob("*.png"))
    files = sorted((shared / "photos" / "clean").glob("*.jpg"))[1::13]
    errors, textures = [], []
    for number, file in enumerate(files):
        photo = decode(file.read_bytes(), "", 10**9).pixels
        case = stained(photo, tone, np.random.default_rng([number, TONES.index(tone)]), outlines)
        after, _ = cleaned(widened(case.damaged), case.given)
        for kept, measure in ((errors, colour_error), (textures, texture_likeness)):
            kept.append([measure(pixels, case.clean, case.truth) for pixels in (case.damaged, after)])
    before, later = np.mean(errors, axis=0)
    # Without colour a weak stain is hard to tell from the picture, and less of it is taken away.
    assert later < before * (0.65 if tone == "grey" else 0.5)
    assert np.mean(textures, axis=0)[1] > np.mean(textures, axis=0)[0]


@pytest.mark.parametrize("tone", TONES)
def test_a_stain_goes_without_shared_data_too(tone: str) -> None:
    case = coffee(tone)
    after, changed = cleaned(widened(case.damaged), case.given)
    assert colour_error(after, case.clean, case.truth) < colour_error(case.damaged, case.clean, case.truth) / 2
    assert not (changed & (cv2.dilate(case.given.astype(np.uint8), np.ones((19, 19))) == 0)).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_neutral_stays_neutral_and_is_the_same_in_one_channel_and_three(channels: int) -> None:
    case = coffee("grey")
    grey = widened(case.damaged)
    after, changed = cleaned(np.ascontiguousarray(np.repeat(grey, channels, axis=2)), case.given)
    assert is_neutral(after)
    assert changed.any()
    assert np.array_equal(after[..., :1], cleaned(grey, case.given)[0])


def test_eight_bits_stay_eight_and_agree_with_sixteen() -> None:
    case = coffee("sepia")
    deep, _ = cleaned(widened(case.damaged), case.given)
    shallow, _ = cleaned(case.damaged, case.given)
    assert np.abs(narrowed(deep).astype(int) - shallow).max() <= 1


@pytest.mark.parametrize("name", ["adobe", "scanner"])
def test_in_other_colour_spaces_it_is_the_same_picture(profiles: dict[str, bytes], name: str) -> None:
    case = coffee("sepia")
    window = slice(80, 220), slice(120, 260)
    damaged, given = widened(np.ascontiguousarray(case.damaged[window])), case.given[window]
    plain, _ = cleaned(damaged, given)
    stored, truth = (Photograph("item", damaged, Container("PNG", icc=icc)) for icc in (profiles[name], None))
    space, srgb = space_of(stored), in_srgb(damaged, space_of(truth))
    pixels = np.rint(space.from_srgb(srgb, damaged) * 65535).astype(np.uint16)
    holds = np.abs(in_srgb(pixels, space) - srgb).max(axis=2) < 1e-3
    after, changed = cleaned(pixels, given, profiles[name])
    assert (changed & holds).sum() > 1000
    # Clipping at the end of the gamut moves the estimate a little.
    assert np.abs(in_srgb(after, space) - plain / 65535)[changed & holds].mean() < 0.004


def test_colours_outside_srgb_are_not_cut_off(profiles: dict[str, bytes], vivid: NDArray[np.uint16]) -> None:
    mask = np.zeros(vivid.shape[:2], bool)
    mask[30:70, 40:90] = True
    stain = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1)[..., None] * np.array([0.1, 0.3, 0.6])
    damaged = np.rint(vivid * np.exp(-stain)).astype(np.uint16)
    after, changed = cleaned(damaged, mask, profiles["prophoto"])
    space = space_of(Photograph("item", vivid, Container("PNG", icc=profiles["prophoto"])))
    assert changed.any()
    assert (in_srgb(after, space)[mask] < 0).any() == (in_srgb(vivid, space)[mask] < 0).any()


def test_a_mask_over_a_sound_picture_changes_next_to_nothing() -> None:
    case = coffee("grey-rgb")
    for pixels in (case.clean, np.ascontiguousarray(case.clean[..., :1])):
        answer = remove_stains(Photograph("item", pixels, Container("PNG")), case.given)
        assert colour_error(answer.pixels, pixels, case.truth) < 0.3


def test_a_stain_whose_sides_contradict_each_other_is_left() -> None:
    # Lighter than its ground on one side, as much darker on the other: an object, no stain.
    rng = np.random.default_rng(0)
    grey = np.full((160, 240), 0.35)
    grey[:, 120:] = 0.65
    mask = np.zeros(grey.shape, bool)
    mask[40:120, 70:170] = True
    grey[mask] = 0.5
    pixels = np.rint((grey + rng.normal(0, 0.01, grey.shape))[..., None] * 65535).astype(np.uint16)
    answer = remove_stains(Photograph("item", pixels, Container("PNG")), mask)
    assert (answer.findings["stains"], answer.findings["stains_left"]) == (1, 1)
    assert answer.pixels is not pixels
    assert np.array_equal(answer.pixels, pixels)


def test_findings_say_how_many_and_how_much() -> None:
    case = coffee("sepia")
    answer = remove_stains(Photograph("item", widened(case.damaged), Container("PNG")), case.given)
    assert answer.findings["stain_fraction"] == pytest.approx(answer.changed.mean())
    assert 0 <= answer.findings["stains_left"] < answer.findings["stains"]
    none = remove_stains(Photograph("item", case.damaged, Container("PNG")), np.zeros_like(case.given))
    assert none.findings == {"stains": 0, "stains_left": 0, "stains_lessened": 0, "stain_fraction": 0.0}


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3), (40, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_photographs_and_whole_masks_are_no_trouble(
    rng: np.random.Generator, shape: tuple[int, int], channels: int
) -> None:
    pixels = rng.integers(0, 255, (*shape, channels), dtype=np.uint8, endpoint=True)
    after, _ = cleaned(pixels, np.ones(shape, bool))
    assert np.array_equal(after, pixels)
    speck = np.zeros(shape, bool)
    speck[shape[0] // 2, shape[1] // 2] = True
    cleaned(pixels, speck)


def test_large_stains_are_solved_on_a_coarser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.removal.stains._WORK", 1 << 16)
    monkeypatch.setattr("pipeline.removal.stains._OUTLINES", 1 << 15)
    case = coffee("sepia")
    big = cv2.resize(case.damaged, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)[:-3, :-5]
    clean = cv2.resize(case.clean, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)[:-3, :-5]
    given, truth = (np.repeat(np.repeat(m, 2, 0), 2, 1)[:-3, :-5] for m in (case.given, case.truth))
    after, _ = cleaned(widened(big), given)
    assert colour_error(after, clean, truth) < colour_error(big, clean, truth) / 2


def test_the_same_twice() -> None:
    case = coffee("colour")
    first, second = (cleaned(widened(case.damaged), case.given)[0] for _ in range(2))
    assert np.array_equal(first, second)

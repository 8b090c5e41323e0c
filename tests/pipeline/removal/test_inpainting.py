from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from pipeline.codecs import decode
from pipeline.photograph import is_neutral, widened
from pipeline.removal.inpainting import PATCH, REACH, inpaint
from tests.marred import psnr, scratched

Samples = NDArray[np.uint8] | NDArray[np.uint16]


def calm(height: int = 120, width: int = 160, dtype: str = "uint8", channels: int = 3) -> Samples:
    peak = np.iinfo(dtype).max
    slope = np.linspace(0.3, 0.7, width)[None, :, None] + np.linspace(0, 0.1, height)[:, None, None]
    tint = np.array([1.0, 0.8, 0.6])[:channels]
    return np.ascontiguousarray(np.rint(slope * tint * peak).astype(dtype))


def telea(pixels: Samples, mask: NDArray[np.bool_]) -> Samples:
    planes = [
        cv2.inpaint(np.ascontiguousarray(p), mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)
        for p in np.moveaxis(pixels, 2, 0)
    ]
    return np.stack(planes, axis=2)


def test_it_comes_closer_than_telea_on_real_outlines(shared: Path) -> None:
    gains = []
    for number, file in enumerate(sorted((shared / "photos" / "clean").glob("*.jpg"))[5::13]):
        kind = ("scratches", "hair", "lint", "spots", "hair-short")[number % 5]
        outline = sorted((shared / "damage" / "masks" / kind).glob("*.png"))[number]
        case = scratched(decode(file.read_bytes(), "", 10**9).pixels, outline, np.random.default_rng(number))
        ours = inpaint(widened(case.damaged), case.given)
        gains.append(psnr(ours, case.clean, case.truth) - psnr(telea(case.damaged, case.given), case.clean, case.truth))
    assert np.mean(gains) > 1
    assert min(gains) > 0


def test_texture_that_repeats_is_continued() -> None:
    stripes = np.where(np.arange(160) % 8 < 4, 60, 190).astype(np.uint8)
    pixels = np.repeat(np.repeat(stripes[None, :, None], 120, 0), 3, 2)
    mask = np.zeros((120, 160), bool)
    mask[58:62, 10:150] = True
    broken = pixels.copy()
    broken[mask] = 255
    assert np.abs(inpaint(widened(broken), mask) / 257 - pixels).max() < 8


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_depth_is_kept_and_neutral_stays_neutral(dtype: str) -> None:
    grey = skimage.data.camera()[100:200, 180:320, None]
    pixels = np.repeat(grey if dtype == "uint8" else widened(grey), 3, axis=2)
    mask = np.zeros(grey.shape[:2], bool)
    mask[40:44, 20:120] = True
    filled = inpaint(pixels, mask)
    assert filled.dtype == pixels.dtype
    assert is_neutral(filled)
    assert np.array_equal(filled[~mask], pixels[~mask])
    assert np.array_equal(filled[..., :1], inpaint(np.ascontiguousarray(pixels[..., :1]), mask))


def test_sixteen_bits_are_used() -> None:
    pixels, mask = calm(dtype="uint16"), np.zeros((120, 160), bool)
    mask[50:54, 20:140] = True
    filled = inpaint(pixels, mask)[mask].astype(int)
    assert len(np.unique(filled % 257)) > 50
    assert np.abs(filled - pixels[mask]).max() < 60


def test_what_is_far_from_damage_plays_no_part() -> None:
    pixels, mask = widened(skimage.data.astronaut()), np.zeros((512, 512), bool)
    mask[100:103, 90:140] = True
    near = np.zeros_like(mask)
    near[100 - 60 : 103 + 60, 90 - 60 : 140 + 60] = True
    assert 2 * (REACH + PATCH) < 60
    other = pixels.copy()
    other[~near] = 0
    assert np.array_equal(inpaint(pixels, mask)[mask], inpaint(other, mask)[mask])


def test_tiles_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, mask = widened(skimage.data.astronaut()[:200, :300]), np.zeros((200, 300), bool)
    mask[20:180:40, 110:190] = True
    mask[10:190, 150:152] = True
    whole = inpaint(pixels, mask)
    monkeypatch.setattr("pipeline.removal.inpainting._TILE", 64)
    tiled = inpaint(pixels, mask)
    # Surroundings are another set of patches for each tile: not the same, and close.
    assert psnr(whole, tiled, mask) > 35


def test_the_same_twice() -> None:
    pixels, mask = skimage.data.astronaut()[:80, :90], np.zeros((80, 90), bool)
    mask[30:33, 5:80] = True
    assert np.array_equal(inpaint(pixels, mask), inpaint(pixels, mask))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (3, 3), (9, 9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_photographs_are_no_trouble(rng: np.random.Generator, shape: tuple[int, int], channels: int) -> None:
    pixels = rng.integers(0, 255, (*shape, channels), dtype=np.uint8, endpoint=True)
    mask = np.zeros(shape, bool)
    mask[shape[0] // 2, shape[1] // 2] = True
    filled = inpaint(pixels, mask)
    assert np.array_equal(filled[~mask], pixels[~mask])


def test_large_areas_are_filled_smoothly_in_bounded_time() -> None:
    pixels, mask = calm(), np.zeros((120, 160), bool)
    mask[40:80, 50:110] = True
    broken = pixels.copy()
    broken[mask] = 0
    assert np.abs(inpaint(broken, mask).astype(int) - pixels)[mask].max() < 12


def test_everything_damaged_is_no_trouble() -> None:
    pixels = calm(20, 30)
    result = inpaint(pixels, np.ones((20, 30), bool))
    assert np.array_equal(result, pixels)

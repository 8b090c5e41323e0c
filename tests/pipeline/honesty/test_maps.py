from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.honesty.maps import EDITS_WHITE, edit_map, invented_map
from pipeline.honesty.measure import Shown
from pipeline.photograph import Photograph


def grey(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("PNG", "L")
    return np.asarray(image)


def shown(shape: tuple[int, int]) -> Shown:
    return Shown(np.zeros(shape, np.float32), np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 1), (1, 1)), ((256, 100), (256, 100)), ((257, 100), (129, 50)), ((900, 1100), (180, 220))]
)
def test_maps_are_small(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert grey(edit_map(shown(shape))).shape == grey(invented_map(shown(shape))).shape == size


def test_one_pixel_is_never_lost() -> None:
    plane = shown((700, 900))
    plane.edits[699, 899], plane.invented[350, 1] = EDITS_WHITE / 2, 1.0
    edits, invented = grey(edit_map(plane)), grey(invented_map(plane))
    assert (edits[-1, -1], np.count_nonzero(edits)) == (128, 1)
    assert (invented[350 // 4, 0], np.count_nonzero(invented)) == (255, 1)


def test_what_is_beyond_white_is_white() -> None:
    plane = shown((4, 4))
    plane.edits[:] = 3 * EDITS_WHITE
    assert grey(edit_map(plane)).min() == 255


def test_the_same_bytes_for_any_number_of_threads(scan: Photograph, judge: Any) -> None:
    pixels = np.ascontiguousarray(cv2.GaussianBlur(scan.pixels, (0, 0), 1.0))
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            honesty, plane = judge(pixels)
            found.append((honesty, edit_map(plane), invented_map(plane)))
    finally:
        cv2.setNumThreads(before)
    assert found[0] == found[1]

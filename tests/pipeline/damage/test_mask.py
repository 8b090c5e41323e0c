"""The mask as other programs read it."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.damage import FOUND, REPAIRED, Kind, mask_png, stored_mask
from pipeline.photograph import Container, Photograph

CODES = [0, *FOUND, *(kind | REPAIRED for kind in FOUND)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 40), share=st.floats(0.01, 1))
def test_every_code_comes_back(seed: int, height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((height, width)) < share, rng.choice(np.array(CODES, np.uint8), (height, width)), 0)
    codes[0, 0] = Kind.LINE
    codes = codes.astype(np.uint8)
    codes.flags.writeable = False
    data = mask_png(codes)
    assert data is not None
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode, image.size) == ("PNG", "P", (width, height))
    assert np.array_equal(np.asarray(image), codes)


def test_every_code_has_a_colour_of_its_own_and_what_was_left_is_darker() -> None:
    codes = np.array([CODES], np.uint8)
    data = mask_png(codes)
    assert data is not None
    # Another reader than the one whose writer made it.
    colours = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[0].astype(int)
    assert len({tuple(colour) for colour in colours}) == len(CODES)
    left, repaired = colours[1:5], colours[5:9]
    assert (left.sum(axis=1) < repaired.sum(axis=1)).all()
    assert (colours[0] == 0).all()


def test_the_same_codes_give_the_same_bytes_whatever_their_layout() -> None:
    codes = np.zeros((30, 40), np.uint8)
    codes[3, 4:30] = Kind.LINE
    assert mask_png(codes) == mask_png(np.asfortranarray(codes)) == mask_png(np.repeat(codes, 2, axis=1)[:, ::2])


@pytest.mark.parametrize("damage", [None, np.zeros((4, 5), np.uint8)])
def test_nothing_marked_is_no_mask(damage: np.ndarray | None) -> None:
    assert stored_mask(Photograph("item", np.zeros((4, 5, 1), np.uint8), Container("PNG"), damage=damage)) is None


def test_the_mask_of_before_is_kept_once_the_photograph_has_grown() -> None:
    grown = Photograph("item", np.zeros((8, 10, 1), np.uint8), Container("PNG"), mask=b"of before", scale=2)
    assert stored_mask(grown) == b"of before"

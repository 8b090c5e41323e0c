from __future__ import annotations

import numpy as np
import pytest

from pipeline.faces.masks import guard, packed, parsed_weight, soft_square, unpacked, weight_of
from pipeline.models.faces import TEMPLATE
from pipeline.photograph import Face


@pytest.mark.parametrize("size", [64, 512])
def test_the_soft_square_ends_in_nothing(size: int) -> None:
    mask = soft_square(size)
    assert mask.dtype == np.float32
    assert mask[size // 2, size // 2] == pytest.approx(1.0, abs=1e-6)
    border = np.concatenate([mask[:2].ravel(), mask[-2:].ravel(), mask[:, :2].ravel(), mask[:, -2:].ravel()])
    assert not border.any()
    assert (mask >= 0).all()
    assert np.allclose(mask, mask[::-1, ::-1])


def test_a_parsed_mask_comes_back_bit_for_bit_and_is_small(rng: np.random.Generator) -> None:
    rows, columns = np.mgrid[:512, :512]
    parsed = np.hypot((rows - 270) / 1.3, columns - 256) < 140
    data = packed(parsed)
    assert np.array_equal(unpacked(data), parsed)
    assert len(data) < 2000
    noise = rng.random((512, 512)) < 0.5
    assert np.array_equal(unpacked(packed(noise)), noise)


def test_a_parsed_mask_is_soft_and_leaves_the_patch_its_border() -> None:
    weight = parsed_weight(np.ones((512, 512), np.bool_))
    assert weight[256, 256] == pytest.approx(1.0, abs=1e-6)
    for edge in (weight[:10], weight[-10:], weight[:, :10], weight[:, -10:]):
        assert not edge.any()
    half = parsed_weight(np.mgrid[:512, :512][1] < 256)
    assert np.abs(np.diff(half[256, 100:400])).max() < 0.03
    assert half[256, 256] == pytest.approx(0.5, abs=0.02)


def test_the_mask_of_a_face_is_the_parsed_one_where_there_is_one() -> None:
    face = Face((0, 0, 1, 1), (0.0,) * 10, 0.9)
    assert np.array_equal(weight_of(face), soft_square(512))
    nothing = Face((0, 0, 1, 1), (0.0,) * 10, 0.9, mask_kind="parsenet", mask=packed(np.zeros((512, 512), np.bool_)))
    assert not weight_of(nothing).any()


def test_the_guard_covers_the_features() -> None:
    for x, y in np.rint(TEMPLATE).astype(int):
        assert (guard()[y - 20 : y + 21, x - 20 : x + 21] == 1).all()
    assert guard()[0].max() == 0

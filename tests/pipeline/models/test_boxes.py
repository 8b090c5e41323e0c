from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou, nms

from pipeline.models.boxes import best_first, covered, overlap, suppressed

Row = tuple[int, int, int, int, int]
boxes = st.lists(st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 30)] * 2, st.integers(0, 9)), max_size=30)


def placed(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    found = np.array(rows, np.float64).reshape(-1, 5)
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1), found[:, 4] / 10


@settings(deadline=None, database=None)
@given(boxes, st.sampled_from([0.2, 0.4, 0.7]))
def test_suppression_is_torchvisions(rows: list[Row], threshold: float) -> None:
    corners, scores = placed(rows)
    expected = nms(torch.from_numpy(corners), torch.from_numpy(scores), threshold)
    assert suppressed(corners, scores, threshold).tolist() == expected.tolist()


@settings(deadline=None, database=None)
@given(boxes)
def test_overlap_is_torchvisions(rows: list[Row]) -> None:
    corners, _ = placed(rows)
    for corner in corners:
        expected = box_iou(torch.from_numpy(corner[None]), torch.from_numpy(corners))[0].numpy()
        assert overlap(corner, corners) == pytest.approx(expected)


def test_a_box_inside_another_is_covered_whole() -> None:
    inside, outside, apart = np.array([[2.0, 2, 4, 4], [0, 0, 10, 10], [20, 20, 30, 30]])
    assert covered(inside, np.stack([outside, apart])).tolist() == [1, 0]
    assert covered(outside, np.stack([inside, apart])).tolist() == [1, 0]


def test_boxes_without_area_neither_cover_nor_divide_by_zero() -> None:
    point = np.array([3.0, 3, 3, 3])
    assert overlap(point, point[None]).tolist() == [0]
    assert covered(point, point[None]).tolist() == [0]


def test_equal_scores_keep_their_order() -> None:
    assert best_first(np.array([0.5, 0.9, 0.5, 0.9] * 20)).tolist() == [
        *range(1, 80, 2),
        *range(0, 80, 2),
    ]

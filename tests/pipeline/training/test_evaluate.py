"""What a detector is measured by."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training.evaluate import Counts


def line(row: int) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    mask[row, 5:35] = True
    return mask


@pytest.mark.parametrize(("away", "f1"), [(0, 1.0), (2, 1.0), (3, 0.0)])
def test_two_pixels_are_near_enough(away: int, f1: float) -> None:
    counts = Counts()
    counts.add(line(10 + away), line(10))
    assert counts.facts()["f1"] == f1


def test_precision_and_recall_are_told_apart() -> None:
    counts = Counts()
    counts.add(line(10) | line(30), line(10))
    assert (counts.facts()["precision"], counts.facts()["recall"]) == (0.5, 1.0)
    counts = Counts()
    counts.add(line(10), line(10) | line(30))
    assert (counts.facts()["precision"], counts.facts()["recall"]) == (1.0, 0.5)


def test_images_without_damage_are_not_counted_as_damaged() -> None:
    counts = Counts()
    counts.add(line(10), np.zeros((40, 40), bool))
    counts.add(np.zeros((40, 40), bool), line(10))
    counts.add(line(10), line(10))
    assert (counts.images, counts.facts()["image_recall"]) == (2, 0.5)

"""What a detector is measured by."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.damage.found import Found
from pipeline.damage.kinds import Kind
from pipeline.degradation import Pair, Shapes
from pipeline.photograph import Photograph
from pipeline.training import evaluate
from pipeline.training.corpus import Corpus
from pipeline.training.evaluate import Counts, measure


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


def test_what_nobody_could_see_counts_neither_way() -> None:
    """Found or not, it changes nothing; what is found far from any truth is still wrong."""
    for found in (line(10), line(10) | line(30)):
        counts = Counts()
        counts.add(found, line(10) | line(30), unseen=line(30))
        facts = counts.facts()
        assert (facts["precision"], facts["recall"], facts["image_recall"]) == (1.0, 1.0, 1.0)
    counts = Counts()
    counts.add(line(10) | line(20), line(10) | line(30), unseen=line(30))
    assert (counts.facts()["precision"], counts.facts()["recall"]) == (0.5, 1.0)


def test_what_is_found_beside_something_that_can_be_seen_is_counted() -> None:
    """A mark that fades away at one end: what is found of its visible part is right."""
    visible, faded = line(10), line(10)
    visible[:, 20:], faded[:, :20] = False, False
    counts = Counts()
    counts.add(visible, visible | faded, unseen=faded)
    assert (counts.facts()["precision"], counts.facts()["recall"]) == (1.0, 1.0)
    assert counts.true == 15


def test_an_image_of_which_nothing_can_be_seen_is_none_that_is_damaged() -> None:
    counts = Counts()
    counts.add(np.zeros((40, 40), bool), line(10), unseen=line(10))
    assert (counts.images, counts.true) == (0, 0)


class Bright:
    """Takes for a line what is almost white."""

    model_id = None

    def find(self, photograph: Photograph) -> Found:
        kinds = (photograph.pixels.min(axis=2) > 240) * np.uint8(Kind.LINE)
        return Found(kinds, {})


def test_a_detector_is_told_what_it_finds_of_all_and_of_what_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of two can be seen, and is found; one clean photograph of two is flagged."""
    clean: NDArray[np.float32] = np.full((40, 40, 3), 0.4, np.float32)
    kinds = (line(10) | line(30)) * np.uint8(Kind.LINE)
    damaged = clean.copy()
    damaged[line(10)], damaged[line(30)] = 1.0, 0.4 + 4 / 255
    monkeypatch.setattr(evaluate, "pairs", lambda *_: iter([Pair(clean, clean, damaged, kinds, {})]))
    images = (np.full((40, 40, 3), 90, np.uint8), np.full((40, 40, 3), 90, np.uint8))
    images[1][:2] = 255
    found = measure(Bright(), Corpus(("calm", "bright"), images, ("", "")), Shapes.none())
    both, seen = found["line_and_spot"], found["line_and_spot_noticeable"]
    assert isinstance(both, dict)
    assert isinstance(seen, dict)
    assert (both["precision"], both["recall"]) == (1.0, 0.5)
    assert (seen["precision"], seen["recall"], seen["f1"]) == (1.0, 1.0, 1.0)
    assert found["aged_flagged_percent"] == 0
    assert found["clean_flagged_percent"] == {
        "photographs": 2,
        "mean": 2.5,
        "median": 2.5,
        "worst": {"bright": 5.0, "calm": 0.0},
    }

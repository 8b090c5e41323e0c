"""What was found before is not looked for again, and what changed is; on a real face, with the calls of the network counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from pipeline.faces.search import search, seek
from pipeline.models.boxes import Rows, overlap
from pipeline.models.faces import FaceDetector
from pipeline.photograph import Container, Face, Photograph, Pixels, deepened
from pipeline.record import Record
from pipeline.transit import pack, unpack

ASTRONAUT = np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356])


class Counting:
    """A network that counts how often it is asked, and how many pixels it is shown."""

    def __init__(self, detector: FaceDetector) -> None:
        self.network = detector._network
        self.shown: list[int] = []

    def detect(self, pixels: Pixels) -> Rows:
        self.shown.append(pixels.shape[0] * pixels.shape[1])
        return self.network.detect(pixels)


@pytest.fixture
def network(mobile: FaceDetector) -> Counting:
    return Counting(mobile)


@pytest.fixture
def detector(mobile: FaceDetector, network: Counting) -> FaceDetector:
    return FaceDetector(mobile.model_id, network, mobile.search)


@pytest.fixture
def scan() -> NDArray[np.uint8]:
    """800 x 1000, the face near the left upper corner, far from the right lower one."""
    sheet = np.full((800, 1000, 3), 90, np.uint8)
    sheet[:256, :256] = ASTRONAUT
    return sheet


@pytest.fixture
def analysed(scan: NDArray[np.uint8], detector: FaceDetector, network: Counting) -> Photograph:
    done = search(Photograph("item", scan, Container("PNG")), detector)
    assert len(done.faces) == 1
    assert network.shown
    network.shown.clear()
    return done


def changed(photograph: Photograph, rows: slice, columns: slice, value: int = 200) -> Photograph:
    pixels = photograph.pixels.copy()
    pixels[rows, columns] = value
    return replace(photograph, pixels=pixels)


def near(one: Face, other: Face) -> bool:
    return bool(overlap(np.array(one.box), np.array([other.box]))[0] > 0.8)


def test_what_did_not_change_is_not_looked_at_again(
    analysed: Photograph, detector: FaceDetector, network: Counting
) -> None:
    """Nor what only has more bits."""
    for same in (analysed, deepened(analysed)):
        sought = seek(same, detector)
        assert sought.faces is same.faces
        assert (sought.lost, sought.looked, network.shown) == ((), False, [])
        assert sought.finding == {"kept": 1, "again": 0, "lost": 0, "new": 0}


def test_where_no_face_was_none_is_looked_for(detector: FaceDetector, network: Counting) -> None:
    bare = search(Photograph("item", np.full((60, 80, 3), 90, np.uint8), Container("PNG")), detector)
    network.shown.clear()
    sought = seek(bare, detector)
    assert (sought.faces, sought.looked, network.shown) == ((), False, [])


def test_without_a_search_before_or_with_another_detector_all_is_searched(
    analysed: Photograph, detector: FaceDetector, network: Counting
) -> None:
    assert analysed.searched is not None
    for other in (None, replace(analysed.searched, detector="another")):
        sought = seek(replace(analysed, searched=other), detector)
        assert (sought.finding, sought.looked, len(sought.faces)) == ("whole", True, 1)
        assert network.shown
        network.shown.clear()


def test_a_change_far_away_leaves_a_face_as_it_was(
    analysed: Photograph, detector: FaceDetector, network: Counting
) -> None:
    sought = seek(changed(analysed, slice(700, 720), slice(900, 940)), detector)
    assert sought.faces == analysed.faces
    assert sought.finding == {"kept": 1, "again": 0, "lost": 0, "new": 0}
    # One look at the whole, for what may have come to light.
    assert network.shown == [800 * 1000]


def test_a_face_that_was_touched_is_measured_again(
    analysed: Photograph, detector: FaceDetector, network: Counting
) -> None:
    left, top, _, bottom = (int(v) for v in analysed.faces[0].box)
    sought = seek(changed(analysed, slice(top, bottom), slice(left + 4, left + 8)), detector)
    assert sought.finding == {"kept": 0, "again": 1, "lost": 0, "new": 0}
    (face,) = sought.faces
    assert face != analysed.faces[0]
    assert near(face, analysed.faces[0])
    assert np.abs(np.subtract(face.landmarks, analysed.faces[0].landmarks)).max() < 0.2 * face.eyes
    assert face.detector == detector.model_id


def test_a_face_that_is_gone_is_lost(analysed: Photograph, detector: FaceDetector) -> None:
    sought = seek(changed(analysed, slice(0, 300), slice(0, 300)), detector)
    assert (sought.faces, sought.lost) == ((), analysed.faces)
    assert sought.finding == {"kept": 0, "again": 0, "lost": 1, "new": 0}


def test_a_face_that_came_to_light_is_found(analysed: Photograph, detector: FaceDetector) -> None:
    pixels = analysed.pixels.copy()
    pixels[500:756, 700:956] = ASTRONAUT
    sought = seek(replace(analysed, pixels=pixels), detector)
    assert sought.finding == {"kept": 1, "again": 0, "lost": 0, "new": 1}
    kept, new = sought.faces
    assert kept == analysed.faces[0]
    assert new.box[0] > 700


def test_a_face_is_the_same_to_the_bit_after_its_way_to_another_worker(
    analysed: Photograph, detector: FaceDetector
) -> None:
    """Else a photograph that is derived again, in one process, would be another one."""
    [arrived] = unpack(pack([Record(0, "item", "file:///x.png", photograph=analysed, faces=analysed.faces)]))
    assert arrived.photograph is not None
    assert arrived.photograph.searched == analysed.searched
    assert arrived.photograph.faces == analysed.faces
    touched = changed(analysed, slice(50, 60), slice(50, 60))
    again = seek(replace(arrived.photograph, pixels=touched.pixels), detector)
    assert again == seek(touched, detector)

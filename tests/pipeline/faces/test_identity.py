"""The gate on real faces, in short; `python -m tests.bench_identity` has the whole curve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.faces.appearance import eye_drift, glasses_change, skin_drift
from pipeline.faces.identity import LOST, Gate, Pair, displacement, landmarks_of, objections
from pipeline.models.faces import TEMPLATE, FaceDetector
from pipeline.models.identity import FaceEmbedder
from pipeline.photograph import Likeness
from pipeline.policy import POLICIES
from tests import planted
from tests.planted import Subject

LIMITS = POLICIES["conservation"].gate
EYES = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))


@pytest.fixture(scope="module")
def gate(mobile: FaceDetector, embedder: FaceEmbedder) -> Gate:
    return Gate(mobile, embedder)


@pytest.fixture(scope="module")
def people(shared: Path, gate: Gate) -> list[Subject]:
    """Four persons of whom three photographs, old and new, have enough to be told apart."""
    wanted = {"astronaut.png": 1, "grace_hopper.jpg": 1, "old_a.png": 1, "gfpgan_10045.png": 1}
    found = []
    for subject in reversed(planted.subjects(shared, gate.detector, LIMITS.least_eyes, names=frozenset(wanted))):
        if wanted[subject.photograph]:
            wanted[subject.photograph] -= 1
            found.append(subject)
    return found


def refused(gate: Gate, pair: Pair) -> tuple[str, ...]:
    likeness, found = gate.measure(pair)
    return objections(likeness, "mobilefacenet", LIMITS, found=found)


def test_a_face_is_itself(gate: Gate, people: list[Subject]) -> None:
    patch = people[0].patch()
    likeness, found = gate.measure(people[0].pair(patch, patch))
    assert found
    assert likeness == Likeness("mobilefacenet", pytest.approx(1.0, abs=1e-6), 0.0, 0.0, 0.0, 0.0)


def test_planted_swaps_are_refused_and_mild_restorations_pass(gate: Gate, people: list[Subject]) -> None:
    assert len(people) == 4
    swaps, milds = [], []
    for number, subject in enumerate(people):
        source = subject.patch()
        others = [other for other in people if other is not subject]
        swaps += [refused(gate, subject.pair(source, planted.swapped(subject, other))) for other in others]
        restorations = planted.milds(subject, np.random.default_rng(number))
        milds += [refused(gate, pair) for i, (_, pair) in enumerate(restorations) if i % 4 == number]
    assert all("identity" in reasons for reasons in swaps)
    assert len(swaps) == 12
    assert len(milds) >= 15
    assert sum(bool(reasons) for reasons in milds) <= 1


def test_what_was_planted_is_what_is_held_against_it(gate: Gate, people: list[Subject]) -> None:
    subject = next(person for person in people if person.photograph == "astronaut.png")
    source, glasses = subject.patch(), planted.with_glasses(subject)
    assert "glasses" in refused(gate, subject.pair(source, glasses))
    assert "glasses" in refused(gate, subject.pair(glasses, source))
    assert refused(gate, subject.pair(source, planted.paler(subject))) == ("skin_drift",)
    assert refused(gate, subject.pair(source, planted.other_irises(subject))) == ("eye_drift",)


def test_a_face_that_is_gone_is_lost(gate: Gate, people: list[Subject]) -> None:
    source = people[0].patch()
    likeness, found = gate.measure(people[0].pair(source, np.full_like(source, 0.5)))
    assert not found
    assert likeness.displacement is None
    assert LOST in objections(likeness, "mobilefacenet", LIMITS, found=found)


def test_features_that_moved_are_noticed(gate: Gate, people: list[Subject]) -> None:
    subject = next(person for person in people if person.photograph == "astronaut.png")
    source = subject.patch()
    moved = np.roll(source, 64, axis=0)
    seen, _ = gate.measure(subject.pair(source, moved))
    assert seen.displacement == pytest.approx(64 / EYES, abs=0.1)
    assert "displacement" in refused(gate, subject.pair(source, moved))


def test_landmarks_are_found_where_the_patch_has_them(gate: Gate, people: list[Subject]) -> None:
    for subject in people:
        found = landmarks_of(gate.detector, subject.patch())
        assert found is not None
        assert displacement(found, subject.pair(subject.patch(), subject.patch()).landmarks) < 0.3


def test_without_an_embedder_the_rest_is_measured(gate: Gate, people: list[Subject]) -> None:
    source = people[0].patch()
    likeness, found = Gate(gate.detector, None).measure(people[0].pair(source, source))
    assert (likeness.identity_model, likeness.identity, likeness.skin_drift) == (None, None, 0.0)
    assert objections(likeness, None, LIMITS, found=found) == ()


ALIKE = Likeness("mobilefacenet", 0.9, 0.01, 1.0, 1.0, 0.1)


@pytest.mark.parametrize(
    ("likeness", "reasons"),
    [
        (ALIKE, ()),
        (replace(ALIKE, identity=0.1), ("identity",)),
        (replace(ALIKE, displacement=0.9, glasses=5.0), ("displacement", "glasses")),
        (replace(ALIKE, skin_drift=60.0, eye_drift=60.0), ("skin_drift", "eye_drift")),
        (Likeness(), ()),
    ],
)
def test_each_limit_has_its_word(likeness: Likeness, reasons: tuple[str, ...]) -> None:
    assert objections(likeness, "mobilefacenet", LIMITS, found=True) == reasons
    assert objections(likeness, "mobilefacenet", LIMITS, found=False) == (LOST, *reasons)


def test_conservation_is_the_stricter() -> None:
    one, other = (POLICIES[name].gate for name in ("conservation", "presentation"))
    assert one.least_eyes > other.least_eyes
    assert (one.mobilefacenet, one.sface) > (other.mobilefacenet, other.sface)
    for name in ("displacement", "skin_drift", "eye_drift", "glasses"):
        assert getattr(one, name) < getattr(other, name)
    assert (one.unchecked, other.unchecked) == (0.0, 0.5)


@pytest.fixture
def face(rng: np.random.Generator) -> NDArray[np.float32]:
    """Something with a face's contrast, 112 x 112."""
    plane = cv2.GaussianBlur(rng.random((112, 112, 3)).astype(np.float32), (0, 0), 6)
    return np.asarray(0.55 + (plane - plane.mean()) * 4, np.float32)


def shifted(face: NDArray[np.float32], channel: int, by: float) -> NDArray[np.float32]:
    lab = cv2.cvtColor(face, cv2.COLOR_RGB2LAB)
    lab[..., channel] += by
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_skin_drifts_by_as_much_as_its_colour_changed(face: NDArray[np.float32], channel: int) -> None:
    assert skin_drift(face, shifted(face, channel, 6)) == pytest.approx(6, abs=0.3)


def test_irises_drift_by_their_hue_and_not_by_their_lightness(face: NDArray[np.float32]) -> None:
    assert eye_drift(face, shifted(face, 2, -9)) == pytest.approx(9, abs=0.4)
    assert eye_drift(face, shifted(face, 0, -9)) < 0.4


def test_a_bridge_across_the_nose_is_seen_and_shading_is_not(face: NDArray[np.float32]) -> None:
    bridge = face.copy()
    bridge[48:50, 48:64] = 0.1
    assert glasses_change(face, bridge) > 0.6
    assert glasses_change(bridge, face) > 0.6
    shaded = face * np.linspace(0.8, 1.1, 112, dtype=np.float32)[:, None, None]
    assert glasses_change(face, shaded) < 0.1
    flat = np.full((112, 112, 3), 0.5, np.float32)
    assert glasses_change(flat, flat) == 0.0

"""The identity gate: whether a restored face is still the person that it was made of. docs/identity.md says how far it can be
trusted, and on what its limits were measured."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.faces.appearance import eye_drift, glasses_change, skin_drift
from pipeline.models.faces import PATCH, TEMPLATE, FaceDetector
from pipeline.models.identity import FaceEmbedder, crop
from pipeline.photograph import Likeness, to_depth
from pipeline.policy import FaceGate

Patch = NDArray[np.float32]
Points = NDArray[np.float64]

# Landmarks are looked for on a patch of this side, which detectors see as a face that fills the picture.
_LOOK = 256
_EYES = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))
# Standard deviation, pixels of the crop: what is finer is grain more often than person, and restorers take it away.
_GRAIN = 1.0
# The reason of a face in which the detector finds none.
LOST = "lost"


@dataclass(frozen=True, slots=True)
class Pair:
    """A face before and after, in sRGB, 512 x 512 x 3 float32, 0..1.

    source: aligned from the scan. composed: with the restored face laid in at full strength, whatever strength is used: half
    of another person is no better. landmarks: 5 x 2, in the patch. eyes: pixels between the eyes in the scan.
    """

    source: Patch
    composed: Patch
    landmarks: Points
    eyes: float


class Gate:
    """measure: how alike the two are. embedder: None where no model that tells people apart is installed."""

    def __init__(self, detector: FaceDetector, embedder: FaceEmbedder | None) -> None:
        self.detector = detector
        self.embedder = embedder

    def measure(self, pair: Pair) -> tuple[Likeness, bool]:
        """The likeness, and whether a face is still found."""
        places = landmarks_of(self.detector, pair.composed)
        moved = None if places is None else displacement(self._before(pair), places)
        before, after = (crop(patch, pair.landmarks, pair.eyes) for patch in (pair.source, pair.composed))
        if before is None or after is None:
            return Likeness(displacement=moved), places is not None
        identity = None
        if self.embedder is not None:
            one, other = (self.embedder.embed(cv2.GaussianBlur(seen, (0, 0), _GRAIN)) for seen in (before, after))
            identity = float(one @ other)
        return Likeness(
            identity_model=None if self.embedder is None else self.embedder.model_id,
            identity=identity,
            displacement=moved,
            skin_drift=skin_drift(before, after),
            eye_drift=eye_drift(before, after),
            glasses=glasses_change(before, after),
        ), places is not None

    def _before(self, pair: Pair) -> Points:
        """Landmarks of the source, found in the same way as those of the restored face, so that what the way adds is in
        both; where a face is too blurred to be found again, the ones it was found by."""
        found = landmarks_of(self.detector, pair.source)
        return pair.landmarks if found is None else found


def landmarks_of(detector: FaceDetector, patch: Patch) -> Points | None:
    """The five landmarks of the face that lies where a patch's face lies, or None where there is none."""
    small = cv2.resize(patch, (_LOOK, _LOOK), interpolation=cv2.INTER_AREA)
    grown = PATCH / _LOOK
    found = [np.reshape(face.landmarks, (5, 2)) for face in detector.find(to_depth(small, np.dtype(np.uint8)))]
    places = [(points + 0.5) * grown - 0.5 for points in found]
    near = [points for points in places if np.linalg.norm(points.mean(axis=0) - TEMPLATE.mean(axis=0)) < _EYES]
    return min(near, key=lambda points: float(np.abs(points - TEMPLATE).sum()), default=None)


def displacement(before: Points, after: Points) -> float:
    """The farthest way that a landmark went, as a share of the distance between the eyes."""
    return float(np.linalg.norm(after - before, axis=1).max()) / _EYES


def objections(likeness: Likeness, architecture: str | None, gate: FaceGate, *, found: bool) -> tuple[str, ...]:
    """What the gate holds against a restored face: nothing where it may be laid in.

    architecture: of the model behind `identity`, None without one. found: whether the detector finds a face in it.
    """
    against = [] if found else [LOST]
    if likeness.identity is not None and architecture is not None and likeness.identity < gate.cosine(architecture):
        against.append("identity")
    limits = {
        "displacement": gate.displacement,
        "skin_drift": gate.skin_drift,
        "eye_drift": gate.eye_drift,
        "glasses": gate.glasses,
    }
    for name, most in limits.items():
        value: float | None = getattr(likeness, name)
        if value is not None and value > most:
            against.append(name)
    return tuple(against)

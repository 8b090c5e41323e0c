"""What is done to the faces that were found: aligned, restored in batches, masked, and put before the gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.faces.identity import Gate, Pair, objections
from pipeline.faces.masks import SQUARE, packed, weight_of
from pipeline.models.faces import PATCH, FaceRestorer, align, as_patch
from pipeline.models.parsing import FaceParser
from pipeline.photograph import LUMA, Decision, Face, Pixels, Tone, as_unit
from pipeline.policy import FaceGate

Patch = NDArray[np.float32]

# Faces that go through the networks together, from one photograph or from several.
BATCH = 8
TOO_SMALL, NOT_ALIGNED, UNCHECKED, NO_STRENGTH = "too-small", "not-aligned", "unchecked", "no-strength"


@dataclass(frozen=True, slots=True)
class Found:
    """A face and where it was found. number: of the photograph, for the caller. shown: its pixels in sRGB."""

    number: int
    face: Face
    shown: Pixels
    tone: Tone


@dataclass(frozen=True, slots=True)
class _Ready:
    """A face with its place, and its aligned patch."""

    face: Face
    aligned: Patch


@dataclass(frozen=True, slots=True)
class Workshop:
    """Who does it, and how far they may go. sha256: of the restorer's weights. strength: share of a restored face, 0..1."""

    restorer: FaceRestorer
    sha256: str
    parser: FaceParser | None
    gate: Gate
    limits: FaceGate
    strength: float

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models behind a restored face, the detector's first."""
        given = (self.gate.detector, self.restorer, self.parser, self.gate.embedder)
        return tuple(model.model_id for model in given if model is not None)

    @property
    def allowed(self) -> float:
        """The strength that is used: a face that nobody compares with its original gets no more than the policy grants it."""
        return self.strength if self.gate.embedder is not None else min(self.strength, self.limits.unchecked)

    def settle(self, found: Sequence[Found]) -> Iterator[tuple[int, Face]]:
        """Each face with what became of it, in the order given."""
        waiting = iter(found)
        while batch := list(islice(waiting, BATCH)):
            yield from self._settle(batch)

    def _settle(self, batch: Sequence[Found]) -> Iterator[tuple[int, Face]]:
        prepared = [self._prepared(found) for found in batch]
        answers = iter(self._restored([item.aligned for item in prepared if isinstance(item, _Ready)]))
        for found, item in zip(batch, prepared, strict=True):
            done = self._judged(found, item, next(answers)) if isinstance(item, _Ready) else item
            yield found.number, done

    def _prepared(self, found: Found) -> Face | _Ready:
        """A face that is left, or one that can be restored."""
        face = found.face
        if self.allowed <= 0:
            return face.staying(Decision.LEFT, NO_STRENGTH if self.strength <= 0 else UNCHECKED)
        if face.eyes < self.limits.least_eyes:
            return face.staying(Decision.LEFT, TOO_SMALL)
        aligned = align(found.shown, face)
        if aligned is None:
            return face.staying(Decision.LEFT, NOT_ALIGNED)
        return _Ready(replace(face, affine=tuple(float(v) for v in aligned[1].ravel())), aligned[0])

    def _restored(self, aligned: Sequence[Patch]) -> Sequence[Patch]:
        """All faces of all photographs in one call, which makes batches of them."""
        return list(self.restorer.restore(np.stack(aligned))) if aligned else []

    def _judged(self, found: Found, ready: _Ready, answer: Patch) -> Face:
        stored = as_patch(toned(answer, ready.aligned, found.tone))
        face = replace(
            ready.face,
            patch=stored,
            strength=self.allowed,
            model_id=self.restorer.model_id,
            model_sha256=self.sha256,
            mask_kind=SQUARE if self.parser is None else self.parser.model_id,
            mask=None if self.parser is None else packed(self.parser.face_of(self.parser.parse(answer[None])[0])),
        )
        likeness, seen = self.gate.measure(pair_of(face, ready.aligned, as_unit(stored), found.shown.shape))
        face = replace(face, likeness=likeness)
        embedder = self.gate.embedder
        against = objections(likeness, None if embedder is None else embedder.architecture, self.limits, found=seen)
        if against:
            return face.staying(Decision.REFUSED, ", ".join(against))
        return replace(face, decision=Decision.ACCEPTED, reason=None if embedder is not None else UNCHECKED)


def pair_of(face: Face, aligned: Patch, patch: Patch, shape: tuple[int, ...]) -> Pair:
    """The face before and after, at full strength. shape: of the scan, beyond which nothing is laid in."""
    matrix = np.reshape(np.array(face.affine, np.float64), (2, 3))
    inside = _within(matrix, shape)
    composed = aligned + (weight_of(face) * inside)[..., None] * (patch - aligned)
    landmarks = np.reshape(face.landmarks, (5, 2)) @ matrix[:, :2].T + matrix[:, 2]
    return Pair(aligned, composed.astype(np.float32), landmarks, face.eyes)


def _within(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """512 x 512: 1 where the patch lies on the scan, 0 beyond its border."""
    inverse = cv2.invertAffineTransform(matrix)
    x, y = np.arange(PATCH)[None, :], np.arange(PATCH)[:, None]
    column, row = (line[0] * x + line[1] * y + line[2] for line in inverse)
    within = (column >= 0) & (column <= shape[1] - 1) & (row >= 0) & (row <= shape[0] - 1)
    inside: NDArray[np.float32] = within.astype(np.float32)
    return inside


def toned(answer: Patch, aligned: Patch, tone: Tone) -> Patch:
    """The network answers in colour: a grey photograph gets its luma, a toned print the luma with the print's own tone."""
    if tone is Tone.COLOURED:
        return answer
    grey: Patch = (answer @ LUMA)[..., None]
    return np.repeat(grey, 3, axis=2) if tone is Tone.NEUTRAL else grey + aligned - (aligned @ LUMA)[..., None]

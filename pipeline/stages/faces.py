"""Faces: finds, aligns and restores faces on the repaired scan. The patches are laid in later, at output scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from pipeline.colour_space import Floats, visible
from pipeline.errors import ItemError
from pipeline.measures import tone_of_photograph
from pipeline.models.faces import FaceDetector, FaceRestorer, align, as_patch, open_detector, open_restorer
from pipeline.models.store import ModelStore
from pipeline.photograph import LUMA, Face, Photograph, Pixels, Tone, is_neutral
from pipeline.policy import Policy, ceiling
from pipeline.stage import Device, ModelNeed, Outcome, Parameters, Step


class FacesParameters(Parameters):
    """detector, restorer: ids of the catalogue. strength: share of the restored face, None for what the policy allows.
    required: whether a run without the models is refused; else their absence is a recorded skip."""

    detector: str = "retinaface-resnet50"
    restorer: str = "gfpgan-v1.4"
    strength: float | None = Field(default=None, ge=0, le=1)
    required: bool = False


class Faces:
    """Fills `faces` with boxes, landmarks and restored patches."""

    name: ClassVar[str] = "faces"
    version: ClassVar[str] = "2"
    Parameters: ClassVar[type[Parameters]] = FacesParameters

    def __init__(self, parameters: FacesParameters, policy: Policy) -> None:
        self.parameters = parameters
        self.strength, self.refused = ceiling("faces", parameters.strength, policy)
        self.detector: FaceDetector | None = None
        self.restorer: FaceRestorer | None = None
        self.missing: tuple[str, ...] = ()

    @classmethod
    def needs(cls, parameters: FacesParameters) -> tuple[ModelNeed, ...]:
        return (
            ModelNeed(parameters.detector, parameters.required, "detect-faces"),
            ModelNeed(parameters.restorer, parameters.required, "faces"),
        )

    def open(self, models: ModelStore, device: Device) -> None:
        wanted = (self.parameters.detector, self.parameters.restorer)
        if not self.parameters.required:
            self.missing = tuple(model for model in wanted if not models.available(model))
        if not self.missing:
            self.detector = open_detector(models, self.parameters.detector, device)
            self.restorer = open_restorer(models, self.parameters.restorer, device)

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        if self.detector is None or self.restorer is None:
            reason = f"not installed: {', '.join(self.missing)}"
            return [Step(photograph, Outcome.SKIPPED, reason) for photograph in photographs]
        return [self._one(photograph, self.detector, self.restorer) for photograph in photographs]

    def _one(self, photograph: Photograph, detector: FaceDetector, restorer: FaceRestorer) -> Step:
        shown = visible(photograph)
        found = detector.find(shown)
        if not found:
            return Step(photograph, Outcome.SKIPPED, "no face was found", (detector.model_id,), "fp32", self.refused)
        tone = Tone.NEUTRAL if is_neutral(photograph.pixels) else tone_of_photograph(photograph)
        faces = tuple(self._restore(shown, tone, face, restorer) for face in found)
        restored = sum(face.patch is not None for face in faces)
        return Step(
            replace(photograph, faces=faces),
            models=(detector.model_id, restorer.model_id),
            precision="fp32",
            findings={"faces": len(faces), "restored": restored} | self.refused,
        )

    def _restore(self, shown: Pixels, tone: Tone, face: Face, restorer: FaceRestorer) -> Face:
        """shown: the photograph in sRGB."""
        aligned = align(shown, face)
        if aligned is None:
            return face
        patch, matrix = aligned
        unit = restorer.restore(patch[None])[0]
        if tone is not Tone.COLOURED:
            unit = _toned(unit, patch, neutral=tone is Tone.NEUTRAL)
        restored = as_patch(unit)
        return replace(
            face,
            affine=tuple(float(v) for v in matrix.ravel()),
            patch=restored,
            strength=self.strength,
            model_id=restorer.model_id,
        )


def _toned(answer: Floats, aligned: Floats, *, neutral: bool) -> Floats:
    """The network answers in colour: a grey photograph gets its luma, a toned print the luma with the print's own tone."""
    grey = (answer @ LUMA)[..., None]
    return np.repeat(grey, 3, axis=2) if neutral else grey + aligned - (aligned @ LUMA)[..., None]

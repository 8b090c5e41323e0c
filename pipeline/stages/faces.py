"""Faces: finds, aligns and restores faces on the repaired scan. The patches are laid in later, at output scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from pipeline.errors import ItemError
from pipeline.models.faces import FaceDetector, FaceRestorer, align, as_patch, open_detector, open_restorer
from pipeline.models.store import ModelStore
from pipeline.photograph import Face, Photograph, is_neutral, luma
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
    version: ClassVar[str] = "1"
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
        found = detector.find(photograph.pixels)
        if not found:
            return Step(photograph, Outcome.SKIPPED, "no face was found", (detector.model_id,), "fp32", self.refused)
        faces = tuple(self._restore(photograph, face, restorer) for face in found)
        restored = sum(face.patch is not None for face in faces)
        return Step(
            replace(photograph, faces=faces),
            models=(detector.model_id, restorer.model_id),
            precision="fp32",
            findings={"faces": len(faces), "restored": restored} | self.refused,
        )

    def _restore(self, photograph: Photograph, face: Face, restorer: FaceRestorer) -> Face:
        aligned = align(photograph.pixels, face)
        if aligned is None:
            return face
        patch, matrix = aligned
        unit = restorer.restore(patch)
        restored = as_patch(unit)
        if is_neutral(photograph.pixels):
            # The network answers in colour; a grey photograph gets its luma.
            restored = as_patch(np.repeat(luma(restored)[..., None], 3, axis=2))
        return replace(
            face,
            affine=tuple(float(v) for v in matrix.ravel()),
            patch=restored,
            strength=self.strength,
            model_id=restorer.model_id,
        )

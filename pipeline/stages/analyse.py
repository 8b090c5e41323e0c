"""Analyse: measures the source and marks damage and faces for the stages that follow. Changes no pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from pydantic import field_validator

from pipeline.colour_space import profile_finding, visible
from pipeline.damage import ClassicalDetector, Detector
from pipeline.errors import ItemError
from pipeline.measures import analyse
from pipeline.models.faces import FaceDetector, open_detector
from pipeline.models.store import ModelStore
from pipeline.photograph import Photograph
from pipeline.policy import Policy
from pipeline.stage import Device, ModelNeed, Parameters, Step


class AnalyseParameters(Parameters):
    """detector: face detector from the catalogue, or "none". Used where it is installed."""

    detector: str | None = "retinaface-resnet50"

    @field_validator("detector")
    @classmethod
    def _no_detector(cls, value: str | None) -> str | None:
        return None if value == "none" else value


class Analyse:
    """Fills `analysis`, `damage` and, with a detector, `faces`."""

    name: ClassVar[str] = "analyse"
    version: ClassVar[str] = "3"
    Parameters: ClassVar[type[Parameters]] = AnalyseParameters

    def __init__(self, parameters: AnalyseParameters, policy: Policy) -> None:
        self.parameters = parameters
        self.detector: FaceDetector | None = None
        self.damage: Detector = ClassicalDetector()

    @classmethod
    def needs(cls, parameters: AnalyseParameters) -> tuple[ModelNeed, ...]:
        return (
            ()
            if parameters.detector is None
            else (ModelNeed(parameters.detector, required=False, task="detect-faces"),)
        )

    def open(self, models: ModelStore, device: Device) -> None:
        if self.parameters.detector is not None and models.available(self.parameters.detector):
            self.detector = open_detector(models, self.parameters.detector, device)

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step:
        found = self.damage.find(photograph)
        faces = () if self.detector is None else self.detector.find(visible(photograph))
        marked = replace(photograph, damage=found.kinds, faces=faces)
        measured = analyse(marked, None if self.detector is None else len(faces))
        findings: dict[str, Any] = asdict(measured) | found.findings()
        if (profile := profile_finding(photograph)) is not None:
            findings["profile"] = profile
        if self.detector is None:
            findings["faces"] = "not looked for: no face detector is installed"
        models = () if self.detector is None else (self.detector.model_id,)
        return Step(replace(marked, analysis=measured), models=models, findings=findings)

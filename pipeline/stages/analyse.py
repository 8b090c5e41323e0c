"""Analyse: measures the source and marks damage and faces for the stages that follow. Changes no pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from pydantic import Field, field_validator

from pipeline.colour_space import profile_finding
from pipeline.damage import ClassicalDetector, Detector
from pipeline.damage.learned import LearnedDetector, LearnedSettings
from pipeline.errors import ItemError
from pipeline.faces.search import search
from pipeline.measures import analyse
from pipeline.models.damage import open_damage_network
from pipeline.models.faces import FaceDetector, open_detector
from pipeline.models.store import ModelStore
from pipeline.photograph import Photograph
from pipeline.policy import Policy
from pipeline.stage import Device, Footprint, ModelNeed, Parameters, Step


class AnalyseParameters(Parameters):
    """detector: face detector from the catalogue, or "none"; used where it is installed. damage: what finds damage, a model
    for it or "classical". threshold: certainty from which a pixel counts, where a model finds it, 0..1; 0.5 is as calibrated.
    """

    detector: str | None = "retinaface-resnet50"
    damage: str = "albumen-damage"
    threshold: float = Field(default=0.5, gt=0, lt=1)

    @field_validator("detector")
    @classmethod
    def _no_detector(cls, value: str | None) -> str | None:
        return None if value == "none" else value


class Analyse:
    """Fills `analysis`, `damage` and, with a detector, `faces`."""

    name: ClassVar[str] = "analyse"
    version: ClassVar[str] = "7"
    Parameters: ClassVar[type[Parameters]] = AnalyseParameters
    footprint: ClassVar[Footprint] = Footprint(
        working=lambda size: 48 + 4 * size.colours,
        seconds=2.0,
        network_seconds=2.0,
        card_seconds=0.1,
        card_bytes=2 << 30,
    )

    def __init__(self, parameters: AnalyseParameters, policy: Policy) -> None:
        self.parameters = parameters
        self.detector: FaceDetector | None = None
        # A network is there once it is opened, and nothing takes its place before.
        self.damage: Detector | None = ClassicalDetector() if parameters.damage == "classical" else None

    @classmethod
    def needs(cls, parameters: AnalyseParameters) -> tuple[ModelNeed, ...]:
        needs = []
        if parameters.detector is not None:
            needs.append(ModelNeed(parameters.detector, required=False, task="detect-faces"))
        if parameters.damage != "classical":
            # So small that it asks for no pool of its own: that would cost a process and its memory for a second a megapixel.
            needs.append(ModelNeed(parameters.damage, required=True, task="detect-damage", essential=False))
        return tuple(needs)

    def open(self, models: ModelStore, device: Device) -> None:
        if self.parameters.detector is not None and models.available(self.parameters.detector):
            self.detector = open_detector(models, self.parameters.detector, device)
        if (model := self.parameters.damage) != "classical":
            network = open_damage_network(models, model, device)
            self.damage = LearnedDetector(network, model, device.kind, LearnedSettings(self.parameters.threshold))

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step:
        assert self.damage is not None
        found = self.damage.find(photograph)
        marked = replace(photograph, damage=found.kinds, faces=(), searched=None)
        if self.detector is not None:
            marked = search(marked, self.detector)
        measured = analyse(marked, None if self.detector is None else len(marked.faces))
        findings: dict[str, Any] = asdict(measured) | found.findings()
        if (profile := profile_finding(photograph)) is not None:
            findings["profile"] = profile
        if self.detector is None:
            findings["faces"] = "not looked for: no face detector is installed"
        models = tuple(used.model_id for used in (self.detector, self.damage) if used is not None and used.model_id)
        precision = "fp32" if models else None
        return Step(replace(marked, analysis=measured), models=models, precision=precision, findings=findings)

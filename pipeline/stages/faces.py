"""Faces: finds, aligns and restores faces on the repaired scan, and holds back those that became somebody else. The patches are
laid in later, at output scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from pipeline.colour_space import visible
from pipeline.errors import ItemError
from pipeline.faces.identity import Gate
from pipeline.faces.masks import SQUARE
from pipeline.faces.search import Sought, seek
from pipeline.faces.work import Found, Workshop
from pipeline.measures import tone_of_photograph
from pipeline.models.catalogue import CODEFORMER, by_id
from pipeline.models.faces import FaceDetector, FaceRestorer, open_detector, open_restorer
from pipeline.models.identity import open_embedder
from pipeline.models.parsing import open_parser
from pipeline.models.precision import Precision
from pipeline.models.store import ModelStore
from pipeline.photograph import Decision, Face, Photograph, Tone, is_neutral
from pipeline.policy import Policy, ceiling
from pipeline.stage import Device, Footprint, ModelNeed, Outcome, Parameters, Step

# Which is used where none is named: the first that is installed.
PARSERS = ("parsenet", "bisenet")
EMBEDDERS = ("mobilefacenet", "sface-2021dec")
NOT_INSTALLED, NOT_FOUND_AGAIN = "not-installed", "not-found-again"


class FacesParameters(Parameters):
    """detector, restorer: ids of the catalogue. strength: share of the restored face, None for what the policy allows.
    required: whether a run without the models is refused; else their absence is a recorded skip.
    parser: what says which part of a face is laid in, "square" for none; identity: what tells people apart. None for the first
    of those known that is installed.
    precision: of the restorer; `exact` is fp32, `fast` 16-bit floats where the device computes them natively and the network
    bears them, recorded per photograph. fidelity: of CodeFormer alone, 0 for the best looks to 1 for the closest to the scan;
    None for 0.5, and for other restorers, which have nothing of the kind."""

    detector: str = "retinaface-resnet50"
    restorer: str = "gfpgan-v1.4"
    parser: str | None = None
    identity: str | None = None
    strength: float | None = Field(default=None, ge=0, le=1)
    required: bool = False
    precision: Precision = "exact"
    fidelity: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _fidelity(self) -> Self:
        card = by_id().get(self.restorer)
        if self.fidelity is not None and card is not None and card.architecture != CODEFORMER:
            raise ValueError(f"a fidelity is for CodeFormer, and {self.restorer} has none")
        return self

    @property
    def parsers(self) -> tuple[str, ...]:
        if self.parser is None:
            return PARSERS
        return () if self.parser == SQUARE else (self.parser,)

    @property
    def embedders(self) -> tuple[str, ...]:
        return EMBEDDERS if self.identity is None else (self.identity,)


class Faces:
    """Fills `faces` with boxes, landmarks and restored patches, and says of each face what became of it."""

    name: ClassVar[str] = "faces"
    version: ClassVar[str] = "5"
    Parameters: ClassVar[type[Parameters]] = FacesParameters
    footprint: ClassVar[Footprint] = Footprint(
        working=lambda size: 16 + 8 * size.colours, seconds=30.0, card_seconds=0.2, card_bytes=3 << 30
    )

    def __init__(self, parameters: FacesParameters, policy: Policy) -> None:
        self.parameters = parameters
        self.policy = policy
        self.strength, self.refused = ceiling("faces", parameters.strength, policy)
        self.detector: FaceDetector | None = None
        self.workshop: Workshop | None = None
        self.missing: tuple[str, ...] = ()

    @classmethod
    def needs(cls, parameters: FacesParameters) -> tuple[ModelNeed, ...]:
        """A parser or an embedder that is named is as required as the others; of those that are not, any may be missing."""
        parse, tell = (_named(parameters, model) for model in (parameters.parser, parameters.identity))
        return (
            ModelNeed(parameters.detector, parameters.required, "detect-faces"),
            ModelNeed(parameters.restorer, parameters.required, "faces"),
            *_alternatives(parameters.parsers, "parse-faces", required=parse),
            *_alternatives(parameters.embedders, "identify-faces", required=tell),
        )

    def open(self, models: ModelStore, device: Device) -> None:
        wanted = (self.parameters.detector, self.parameters.restorer)
        if not self.parameters.required:
            self.missing = tuple(model for model in wanted if not models.available(model))
        if self.missing:
            return
        parser = _first(models, self.parameters.parsers, required=_named(self.parameters, self.parameters.parser))
        embedder = _first(models, self.parameters.embedders, required=_named(self.parameters, self.parameters.identity))
        self.detector = open_detector(models, self.parameters.detector, device)
        self.workshop = Workshop(
            restorer=self._restorer(models, device),
            sha256=models.card(self.parameters.restorer).sha256,
            parser=None if parser is None else open_parser(models, parser, device),
            gate=Gate(self.detector, None if embedder is None else open_embedder(models, embedder)),
            limits=self.policy.gate,
            strength=self.strength,
        )

    def _restorer(self, models: ModelStore, device: Device) -> FaceRestorer:
        wanted = self.parameters
        return open_restorer(models, wanted.restorer, device, precision=wanted.precision, fidelity=wanted.fidelity)

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        detector, workshop = self.detector, self.workshop
        if detector is None or workshop is None:
            reason = f"not installed: {', '.join(self.missing)}"
            return [Step(_all_left(p, NOT_INSTALLED), Outcome.SKIPPED, reason) for p in photographs]
        sought = [seek(photograph, detector) for photograph in photographs]
        found = [item for i, (p, one) in enumerate(zip(photographs, sought, strict=True)) for item in _found(i, p, one)]
        settled: list[list[Face]] = [[] for _ in photographs]
        for number, face in workshop.settle(found):
            settled[number].append(face)
        return [self._step(p, one, faces) for p, one, faces in zip(photographs, sought, settled, strict=True)]

    def _step(self, photograph: Photograph, sought: Sought, settled: Sequence[Face]) -> Step:
        assert self.workshop is not None
        lost = [face.staying(Decision.LEFT, NOT_FOUND_AGAIN) for face in sought.lost]
        after = replace(photograph, faces=(*settled, *lost)) if settled or lost else photograph
        findings: dict[str, Any] = {"search": sought.finding} | self.refused
        # Where nothing was looked at and nothing restored, no network was at work here.
        looked = (self.workshop.gate.detector.model_id,) if sought.looked else ()
        precision = "fp32" if sought.looked else None
        if not settled:
            return Step(after, Outcome.SKIPPED, "no face was found", looked, precision, findings)
        findings |= _findings(after.faces, self.workshop, self.policy)
        if all(face.decision is Decision.LEFT for face in settled):
            return Step(after, Outcome.SKIPPED, "every face was left as it is", looked, precision, findings)
        return Step(after, models=self.workshop.models, precision=self.workshop.restorer.precision, findings=findings)


def _named(parameters: FacesParameters, model: str | None) -> bool:
    return parameters.required and model is not None


def _alternatives(models: Sequence[str], task: str, *, required: bool) -> Iterator[ModelNeed]:
    """The first that is there is used."""
    for model, before in zip(models, (None, *models), strict=False):
        yield ModelNeed(model, required, task, essential=False, instead_of=before)


def _first(models: ModelStore, known: Sequence[str], *, required: bool) -> str | None:
    """The first that the run may use; one that is required is opened, and missed, all the same."""
    return next((model for model in known if required or models.available(model)), None)


def _found(number: int, photograph: Photograph, sought: Sought) -> list[Found]:
    if not sought.faces:
        return []
    shown = visible(photograph)
    tone = Tone.NEUTRAL if is_neutral(photograph.pixels) else tone_of_photograph(photograph)
    return [Found(number, face, shown, tone) for face in sought.faces]


def _all_left(photograph: Photograph, reason: str) -> Photograph:
    """Faces that were found before: what became of them is said, too."""
    if not photograph.faces:
        return photograph
    return replace(photograph, faces=tuple(face.staying(Decision.LEFT, reason) for face in photograph.faces))


def _findings(faces: Sequence[Face], workshop: Workshop, policy: Policy) -> dict[str, Any]:
    counted = Counter(face.decision for face in faces)
    embedder = workshop.gate.embedder
    return {
        "faces": len(faces),
        "accepted": counted[Decision.ACCEPTED],
        "refused": counted[Decision.REFUSED],
        "left": counted[Decision.LEFT],
        "gate": "unavailable" if embedder is None else embedder.model_id,
        "limits": asdict(policy.gate),
    }

"""Compose: lays restored faces into the upscaled photograph, in float, with a soft edge. Touches nothing outside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pipeline.colour_space import space_of
from pipeline.errors import ItemError
from pipeline.faces.composition import Sheet, in_order, lay_in
from pipeline.models.store import ModelStore
from pipeline.photograph import Decision, Face, Photograph, deepened
from pipeline.policy import Policy
from pipeline.stage import Device, Footprint, ModelNeed, Outcome, Parameters, Step

OUTSIDE = "outside"


class ComposeParameters(Parameters):
    """Nothing to choose."""


class Compose:
    """Blends each accepted face's patch by its mask and strength, best score first. Faces that stay are spared."""

    name: ClassVar[str] = "compose"
    version: ClassVar[str] = "3"
    Parameters: ClassVar[type[Parameters]] = ComposeParameters
    footprint: ClassVar[Footprint] = Footprint(working=lambda size: 2 * size.stored, seconds=1.0)

    def __init__(self, parameters: ComposeParameters, policy: Policy) -> None:
        """Nothing to keep."""

    @classmethod
    def needs(cls, parameters: ComposeParameters) -> tuple[ModelNeed, ...]:
        return ()

    def open(self, models: ModelStore, device: Device) -> None:
        """Nothing to load."""

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        return [self._one(photograph) for photograph in photographs]

    def _one(self, photograph: Photograph) -> Step:
        accepted = [face for face in photograph.faces if _to_lay_in(face)]
        if not accepted:
            return Step(photograph, Outcome.SKIPPED, "no restored face")
        deep = deepened(photograph)
        pixels = deep.pixels.copy() if deep is photograph else deep.pixels
        sheet = Sheet.of(pixels, photograph.scale, space_of(photograph))
        kept = [face for face in photograph.faces if not _to_lay_in(face)]
        reached = [face for face in in_order(accepted) if lay_in(sheet, face, kept)]
        faces = tuple(_done(face, reached) if _to_lay_in(face) else face for face in photograph.faces)
        laid = [face for face in faces if face.decision is Decision.RESTORED]
        if not laid:
            return Step(replace(photograph, faces=faces), Outcome.SKIPPED, "no restored face lies on the photograph")
        models = tuple(dict.fromkeys(face.model_id for face in laid if face.model_id is not None))
        return Step(replace(deep, pixels=pixels, faces=faces), models=models, findings={"faces": len(laid)})


def _to_lay_in(face: Face) -> bool:
    return face.decision is Decision.ACCEPTED and face.patch is not None and face.strength > 0


def _done(face: Face, reached: Sequence[Face]) -> Face:
    if not any(face is one for one in reached):
        return face.staying(Decision.LEFT, OUTSIDE)
    return replace(face, patch=None, decision=Decision.RESTORED)

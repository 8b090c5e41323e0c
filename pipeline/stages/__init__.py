"""The table of stages, in the order in which a recipe runs them. `ingest` and `deliver` stand at the ends of every recipe."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.stage import Footprint, Stage
from pipeline.stages.analyse import Analyse
from pipeline.stages.colour import Colour
from pipeline.stages.compose import Compose
from pipeline.stages.deliver import Deliver
from pipeline.stages.faces import Faces
from pipeline.stages.ingest import Ingest
from pipeline.stages.repair import Repair
from pipeline.stages.upscale import Upscale

STAGES: Mapping[str, type[Stage]] = MappingProxyType(
    {stage.name: stage for stage in (Analyse, Repair, Faces, Upscale, Compose, Colour)}
)

FOOTPRINTS: Mapping[str, Footprint] = MappingProxyType(
    {
        Ingest.name: Ingest.footprint,
        **{name: stage.footprint for name, stage in STAGES.items()},
        Deliver.name: Deliver.footprint,
    }
)

"""Derives a photograph's output again, in this process and without Ray, through the stages that a run sends it through.

What it delivers is kept in memory: nothing is written anywhere.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import BinaryIO, Self

from pipeline.errors import Status
from pipeline.models.store import ModelSource, ModelStore
from pipeline.recipe import Recipe
from pipeline.record import Record
from pipeline.stage import Device, Stage
from pipeline.stages import STAGES
from pipeline.stages.deliver import Deliver
from pipeline.stages.ingest import Ingest
from pipeline.storage import Store
from pipeline.supervision import run_end, run_stage

_NOWHERE = "memory"


class _Kept(Store):
    """A store that keeps what is created in it in memory, and knows nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def create(self, uri: str, data: bytes) -> bool:
        if uri in self.files:
            return False
        self.files[uri] = data
        return True

    def read(self, uri: str) -> bytes:
        return self.files[uri]

    def open(self, uri: str) -> BinaryIO:
        return io.BytesIO(self.files[uri])


@dataclass(frozen=True, slots=True)
class Derived:
    """record: as a run would commit it, but that its URIs name nothing. output, mask, edits, invented: the files' bytes,
    where there are any."""

    record: Record
    output: bytes | None
    mask: bytes | None
    edits: bytes | None
    invented: bytes | None


class Deriver:
    """The stages of a recipe, opened once for any number of photographs. A context manager: it holds a decoder's process.

    device: of stages that have a pool of their own in a run; the others have one core there, and so here, whatever they
    compute with. Raises ModelError where a model that the recipe was planned with is missing or altered.
    """

    def __init__(self, recipe: Recipe, source: Store, models: ModelSource, device: Device) -> None:
        self._recipe = recipe
        self._models = ModelStore(models)
        self._devices = {
            spec.name: device if spec.holds_network(spec.available(self._models)) else Device()
            for spec in recipe.stages
        }
        self._ingest = Ingest(recipe.ingest, source)
        self._stages: Mapping[str, Stage] = {
            spec.name: STAGES[spec.name](spec.parameters, recipe.policy) for spec in recipe.stages
        }
        for name, stage in self._stages.items():
            stage.open(self._models, self._devices[name])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ingest.close()

    def derive(self, planned: Record, recipe_id: str) -> Derived:
        """planned: on its way, as `record.from_manifest` makes it. recipe_id: for the XMP of what is delivered."""
        kept = _Kept()
        deliver = Deliver(self._recipe.deliver, kept, _NOWHERE, recipe_id)
        record = run_end(self._ingest, self._recipe.ingest, self._ingest.read, planned)
        for spec in self._recipe.stages:
            device = self._devices[spec.name]
            _give(device.threads)
            [record] = run_stage(self._stages[spec.name], spec.parameters, [record], self._models, device)
        record = run_end(deliver, deliver.parameters, deliver.write, record)
        if record.status is Status.PENDING:
            record = replace(record, status=Status.RESTORED)
        record = replace(record, photograph=None)
        uris = (record.output_uri, record.mask_uri, record.edits_uri, record.invented_uri)
        return Derived(record, *(kept.files.get(uri or "") for uri in uris))


def _give(threads: int) -> None:
    """Networks of one process share torch's threads; each gets as many as it asked for when it was opened."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)

"""A recipe's stages one after another as actors run them, in this process and without Ray; and the jobs that parts measure."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from jobs.spec import JobSpec, parse_spec
from pipeline import provenance
from pipeline.errors import Status
from pipeline.models.store import ModelStore
from pipeline.record import Record
from pipeline.stage import Device, Stage
from pipeline.stages import STAGES
from pipeline.stages.deliver import Deliver
from pipeline.stages.ingest import Ingest
from pipeline.stages.upscale import Upscale
from pipeline.storage import Store
from pipeline.supervision import run_end, run_stage, verify_transit
from pipeline.transit import pack, unpack
from tests.bench.ground import EMBEDDED, Pixels, compact_file

_RECIPE = "cd" * 32
LIGHT = ("analyse", "repair", "faces", "compose", "colour")


def job_for(
    folder: Path,
    *,
    compact: bool,
    stages: Sequence[str] | None = None,
    consistency: int | None = None,
    damage: str | None = None,
) -> dict[str, Any]:
    """A job of folder/scans, as its file would have it. stages: None for those of every job. compact: upscale with the
    compact network, whose shared weights have to be there. damage: what finds it, where not the default."""
    upscale: dict[str, Any] = {"model": "compact" if compact else EMBEDDED}
    if consistency is not None:
        upscale["consistency"] = consistency
    recipe: dict[str, Any] = {"upscale": upscale} if stages is None or "upscale" in stages else {}
    if stages is not None:
        recipe["stages"] = list(stages)
    if damage is not None:
        recipe["analyse"] = {"damage": damage}
    job: dict[str, Any] = {
        "collection": {"name": "bench", "source": str(folder / "scans")},
        "output": {"uri": str(folder / "run"), "format": "png"},
        "recipe": recipe,
    }
    if compact:
        file = compact_file()
        card = {"id": "compact", "file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        card |= {"architecture": "srvggnet-compact", "task": "upscale", "licence": "BSD-3-Clause"}
        job["models"] = {"local": [card | {"scale": 4}]}
    return job


def write_job(folder: Path, job: dict[str, Any]) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def write_scan(folder: Path, name: str, pixels: Pixels) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", dpi=(300, 300), compress_level=1)
    path = folder / f"{name}.png"
    path.write_bytes(data.getvalue())
    return path


class Chain:
    """All stages of a job's recipe, opened once. A context manager: it holds a decoder's process."""

    def __init__(self, job: dict[str, Any], folder: Path, device: Device) -> None:
        spec: JobSpec = parse_spec(job, folder)
        self.recipe, self.device, self.run = spec.make_recipe(), device, str(folder / "run")
        self.models, store = ModelStore(spec.model_source()), Store()
        self.stamp = provenance.Stamp("bench", _RECIPE, "bench", 1)
        self.store = store
        self.ingest = Ingest(self.recipe.ingest, store)
        self.deliver = Deliver(self.recipe.deliver, store, self.run, _RECIPE)
        self.stages: dict[str, Stage] = {}
        for one in self.recipe.stages:
            stage = STAGES[one.name](one.parameters, self.recipe.policy)
            stage.open(self.models, device)
            self.stages[one.name] = stage

    def __enter__(self) -> Self:
        self.ingest.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ingest.close()

    @property
    def upscaler(self) -> Upscale:
        stage = self.stages["upscale"]
        assert isinstance(stage, Upscale)
        return stage

    def restore(self, number: int, source: Path) -> Record:
        """From file to commit; what goes from pool to pool is packed, unpacked and looked at again, as it is in a run.

        number: of the photograph; another one each time, since what is delivered stays.
        """
        record = Record(number, f"{number:032x}", str(source))
        record = run_end(self.ingest, self.recipe.ingest, self.ingest.read, record)
        for one in self.recipe.stages:
            heavy = one.name == "upscale"
            record = self._sent(record) if heavy else record
            [record] = run_stage(self.stages[one.name], one.parameters, [record], self.models, self.device)
            record = self._sent(record) if heavy else record
        record = run_end(self.deliver, self.deliver.parameters, self.deliver.write, record)
        if record.status is not Status.PENDING:
            raise RuntimeError(f"{source} was not restored: {record.reason}: {record.detail}")
        record = replace(record, status=Status.RESTORED, photograph=None)
        provenance.commit(self.store, self.run, self.stamp, [record])
        return record

    @staticmethod
    def _sent(record: Record) -> Record:
        [arrived] = unpack(pack([record]))
        return verify_transit(arrived)

"""Measures what a recipe takes: on a slice of the collection, in this process and without Ray, or from a run that was made."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from jobs import manifest
from jobs.calibration import ENGINE, Calibration, Sample, describe_machine, suffix_of
from jobs.rundir import Plan
from pipeline.errors import JobError
from pipeline.provenance import view
from pipeline.record import Record, from_manifest
from pipeline.replay import Deriver
from pipeline.stage import Device
from pipeline.storage import Store

# Of a manifest, what is sorted to choose from; and of a run, what is read.
_CANDIDATES = 1_000_000
_ROWS = 2_000
_PARTS = 8
Said = Callable[[str], None]


def measure_slice(plan: Plan, photographs: int, device: Device, said: Said = lambda text: None) -> Calibration:
    """Restore a slice of the collection in memory; nothing is written. photographs: how many, spread over all sizes of files.

    said: told about each photograph. Raises JobError where none can be measured.
    """
    chosen = choose(Store(plan.spec.output_options), plan, photographs)
    samples = []
    with _one_core(), Deriver(plan.recipe, Store(plan.spec.source_options), _models(plan), device) as deriver:
        # Once unmeasured: caches are filled, the decoder's process is started, libraries decide how they compute.
        deriver.derive(chosen[0], plan.recipe_id)
        for record in chosen:
            before = time.perf_counter()
            done = deriver.derive(record, plan.recipe_id).record
            sample = _sample(_facts(done), time.perf_counter() - before)
            said(f"{record.source_uri}  {sample.megapixels:.2f} megapixels  {sum(sample.seconds.values()):.1f} s")
            samples.append(sample)
    found = Calibration(
        plan.recipe_id,
        "slice",
        device.kind,
        device.threads,
        tuple(samples),
        _card_bytes(plan, device),
        describe_machine(),
    )
    return _usable(found)


def choose(store: Store, plan: Plan, count: int) -> list[Record]:
    """Photographs of the manifest, in the order of their bytes: one from the middle of each of `count` equal shares."""
    stride = -(-plan.photographs // _CANDIDATES)
    numbers, sizes = [], []
    for part in manifest.parts(store, plan.run, plan.index):
        sound = part.filter(pa.compute.is_null(part["reason"]))
        rows = sound.take(pa.array(range(0, sound.num_rows, stride), pa.int64()))
        numbers.append(rows["item_no"].to_numpy())
        sizes.append(rows["source_bytes"].fill_null(0).to_numpy())
    number, size = np.concatenate(numbers), np.concatenate(sizes)
    if not len(number):
        raise JobError(
            f"{plan.run}: every entry of the manifest was refused while listing; there is nothing to measure"
        )
    order = number[np.argsort(size, kind="stable")]
    count = min(count, len(order))
    wanted = {int(order[(2 * i + 1) * len(order) // (2 * count)]): i for i in range(count)}
    found: dict[int, Record] = {}
    for part in manifest.parts(store, plan.run, plan.index):
        rows = part.filter(pa.compute.is_in(part["item_no"], pa.array(wanted, pa.int64())))
        found |= {wanted[record.item_no]: record for record in from_manifest(rows)}
    return [found[i] for i in sorted(found)]


def measure_run(run: str, recipe_id: str, store: Store, threads: int) -> Calibration:
    """What a run's own record says: the seconds that each stage took for each photograph, on the machines of that run.

    threads: that its networks had, which the record does not hold. Raises JobError where it restored nothing.
    """
    columns = [
        "source_uri",
        "source_bytes",
        "source_width",
        "source_height",
        "status",
        "output_bytes",
        "events",
        "recipe_id",
    ]

    def some(seal: view.Seal, commits: list[view.Loose]) -> pa.Table:
        parts = seal.parts[:: max(1, -(-len(seal.parts) // _PARTS))]
        uris = [*(view.part_uri(run, part) for part in parts), *(loose.uri for loose in commits[:_ROWS])]
        return view.read(store, uris, columns)

    table = view.looking(store, run, some)
    table = table.filter(pa.compute.equal(table["recipe_id"], recipe_id))
    table = table.take(pa.array(range(0, table.num_rows, max(1, -(-table.num_rows // _ROWS))), pa.int64()))
    rows = table.to_pylist()
    samples = tuple(_sample(row) for row in rows)
    on_card = any(event["device"] == "cuda" for row in rows for event in row["events"])
    return _usable(Calibration(recipe_id, run, "cuda" if on_card else "cpu", threads, samples))


def _usable(found: Calibration) -> Calibration:
    if not found.measured:
        raise JobError("not one of the photographs could be decoded: there is nothing to measure")
    return found


def _facts(record: Record) -> dict[str, Any]:
    names = ("source_uri", "source_bytes", "source_width", "source_height", "output_bytes")
    events = [{"stage": event.stage, "seconds": event.seconds} for event in record.events]
    return {name: getattr(record, name) for name in names} | {"status": str(record.status), "events": events}


def _sample(row: Mapping[str, Any], whole: float | None = None) -> Sample:
    """row: of the record, with events. whole: seconds of the photograph from end to end, where they are known."""
    seconds: dict[str, float] = defaultdict(float)
    for event in row["events"] or ():
        seconds[event["stage"]] += event["seconds"]
    if whole is not None:
        seconds[ENGINE] = max(0.0, whole - sum(seconds.values()))
    return Sample(
        suffix=suffix_of(row["source_uri"]),
        bytes=row["source_bytes"] or 0,
        megapixels=(row["source_width"] or 0) * (row["source_height"] or 0) / 1e6,
        status=row["status"],
        output_bytes=row["output_bytes"] or 0,
        seconds={name: round(value, 6) for name, value in seconds.items()},
    )


def _models(plan: Plan) -> Any:
    planned = frozenset(use.id for use in plan.models if use.sha256 is not None)
    return replace(plan.spec.model_source(), planned=planned)


def default_device() -> str:
    """A card where there is one, as pools of a run take it."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def _one_core() -> Iterator[None]:
    """Stages without a network are measured in seconds of one core; OpenCV would take all there are."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _card_bytes(plan: Plan, device: Device) -> dict[str, int]:
    """What all stages together took of the card at most, for each that holds a model: more than any of them alone takes."""
    if device.kind != "cuda":
        return {}
    import torch

    most = int(torch.cuda.max_memory_reserved())
    return {spec.name: most for spec in plan.recipe.stages if spec.needs()}

"""`albumen replay`: outputs derived again from their records, and held against them (docs/query.md).

Nothing is written to the run. The stages, with their parameters, come from run.json; the record of each photograph says which
source, versions, parameters and models it was made with, and what every stage gave back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs import rundir
from jobs.query import Records, open_run
from jobs.query.views import literal
from jobs.replay.differences import Difference, ModelsHere, models_of, results_of, software_of, stages_of
from jobs.spec import JobSpec
from pipeline.errors import ItemError, JobError, SpecError, Status
from pipeline.models.store import ModelSource, ModelStore
from pipeline.recipe import Recipe, describe_faults
from pipeline.record import Record
from pipeline.replay import Derived, Deriver
from pipeline.stage import Device
from pipeline.storage import Store, StoreOptions, contains, join

__all__ = ["Difference", "Replayed", "as_json", "replay"]

# Of an item id, to be taken for the beginning of one.
_PREFIX = 6
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Replayed:
    """equal: every event's digests, the end, and the bytes of output, mask and maps, and the measures, are those of the
    record. causes: what is other
    now than then; results: where what came of it is other, the first first. events: digests compared."""

    item_id: str
    source_uri: str
    equal: bool
    events: int
    causes: tuple[Difference, ...]
    results: tuple[Difference, ...]
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class _Work:
    """What a run says of itself, and what is here. planned: SHA-256 of the models that it was planned with. recipe_id: of the
    recipe with them, as this version tells it."""

    known: Mapping[str, Any]
    spec: JobSpec
    recipe: Recipe
    models: ModelSource
    software: Mapping[str, str | None]
    planned: Mapping[str, str]
    recipe_id: str


def replay(
    run: str, items: Sequence[str], endpoint: str | None = None, *, output: Path | None = None, device: str = "cpu"
) -> Iterator[Replayed]:
    """Derive photographs again. items: item ids, beginnings of at least six digits of them, or source URIs.

    output: a folder that keeps what is derived, outside the run and the originals. Raises JobError where `run` is none,
    SpecError with every item that it does not have.
    """
    with open_run(run, endpoint) as records:
        if len(records.runs) != 1:
            raise SpecError(f"replay: {run} holds {len(records.runs)} runs; name one of them")
        place = records.runs[0]
        rows = _rows(records, items)
    work = _work(rundir.load(place, endpoint))
    _check_output(output, place, work.spec)
    source, here = Store(work.spec.source_options), ModelsHere(ModelStore(work.models))
    causes = {row["item_id"]: tuple(_causes(row, work, source, here)) for row in rows}
    # What can be derived at all: the same bytes in, and every model that was planned with is here.
    ready = [row for row in rows if not any(cause.kind in ("source", "model") for cause in causes[row["item_id"]])]
    missing = list(here.differences(work.planned)) if ready else []
    if not ready or missing:
        for row in rows:
            yield _judged(row, (*causes[row["item_id"]], *missing), None, None)
        return
    with Deriver(work.recipe, source, work.models, Device(device)) as deriver:
        for row in rows:
            if row not in ready:
                yield _judged(row, causes[row["item_id"]], None, None)
                continue
            derived = deriver.derive(_planned(row), row["recipe_id"])
            yield _judged(row, causes[row["item_id"]], derived, _keep(output, row, derived))


def _judged(
    row: Mapping[str, Any], causes: Sequence[Difference], derived: Derived | None, kept: str | None
) -> Replayed:
    results = () if derived is None else tuple(results_of(row, derived.record))
    equal = derived is not None and not [one for one in results if one.kind != "device"]
    return Replayed(row["item_id"], row["source_uri"], equal, len(row["events"] or ()), tuple(causes), results, kept)


def _work(known: Mapping[str, Any]) -> _Work:
    try:
        spec = JobSpec.model_validate(known["spec"])
        recipe = spec.make_recipe()
    except ValidationError as error:
        raise JobError([f"run.json: {fault}" for fault in describe_faults(error)]) from error
    except SpecError as error:
        raise JobError([f"run.json: {fault}" for fault in error.faults]) from error
    planned = {model["id"]: model["sha256"] for model in known["models"] if model["sha256"] is not None}
    models = replace(spec.model_source(), planned=frozenset(planned))
    return _Work(known, spec, recipe, models, rundir.software(), planned, recipe.identity(planned))


def _rows(records: Records, items: Sequence[str]) -> list[dict[str, Any]]:
    """The live row of each item, in the order in which they are asked for. Raises SpecError with all that are not there."""
    found: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    for item in dict.fromkeys(items):
        rows: list[dict[str, Any]] = []
        # One by one: a condition on one column alone is what leaves out row groups.
        tests = [f"item_id = {literal(item)}", f"source_uri = {literal(item)}"]
        if _PREFIX <= len(item) < 32 and set(item) <= set("0123456789abcdef"):
            tests.append(f"starts_with(item_id, {literal(item)})")
        for test in tests:
            rows = rows or records.photographs(test)
        if not rows:
            faults.append(f"replay: the run has no photograph {item!r}")
        elif len(rows) > 1:
            names = ", ".join(row["item_id"] for row in rows[:_LISTED])
            faults.append(f"replay: {item!r} could be {len(rows)} photographs: {names}; name one by its item_id")
        else:
            found[rows[0]["item_id"]] = rows[0]
    if faults:
        raise SpecError(faults, hint="Items are item ids, beginnings of at least six digits of them, or source URIs.")
    return list(found.values())


def _causes(row: Mapping[str, Any], work: _Work, source: Store, here: ModelsHere) -> Iterator[Difference]:
    yield from _source(row, work, source)
    yield from stages_of(row, work.recipe)
    yield from here.differences(models_of(row))
    if work.recipe_id != row["recipe_id"]:
        yield Difference("recipe", "id", row["recipe_id"], work.recipe_id)
    yield from software_of(row, work.known, work.software)


def _source(row: Mapping[str, Any], work: _Work, source: Store) -> Iterator[Difference]:
    if row["source_sha256"] is None:
        return
    try:
        data = source.read_source(row["source_uri"], int(work.recipe.ingest.gigabytes * 1e9))
    except ItemError as error:
        yield Difference("source", row["source_uri"], row["source_sha256"], error.detail)
        return
    found = hashlib.sha256(data).hexdigest()
    if found != row["source_sha256"]:
        yield Difference("source", row["source_uri"], row["source_sha256"], found)


def _planned(row: Mapping[str, Any]) -> Record:
    """The record before its first event. Its bytes are known by their digest: the store's own tag may be another by now."""
    record = Record(row["item_no"], row["item_id"], row["source_uri"], row["source_bytes"])
    if row["status"] == Status.REFUSED and not row["events"]:
        # Refused while listing: no stage ever saw it.
        return replace(record, status=Status.REFUSED, reason=row["reason"], detail=row["detail"])
    return record


def _check_output(output: Path | None, run: str, spec: JobSpec) -> None:
    if output is None:
        return
    for what, place in (("run", run), ("source", spec.collection.source)):
        if contains(place, str(output)):
            raise SpecError(f"replay: {output} lies inside the {what} {place}; nothing is written there")


def _keep(output: Path | None, row: Mapping[str, Any], derived: Derived) -> str | None:
    if output is None or derived.output is None or derived.record.output_uri is None:
        return None
    store = Store(StoreOptions())
    image = join(str(output), derived.record.output_uri.rsplit("/", 1)[1])
    files = {image: derived.output}
    if derived.mask is not None:
        files[join(str(output), f"{row['item_id']}.mask.png")] = derived.mask
    for name, data in (("edits", derived.edits), ("invented", derived.invented)):
        if data is not None:
            files[join(str(output), f"{row['item_id']}.{name}.png")] = data
    for uri, data in files.items():
        try:
            if not store.create(uri, data) and store.read(uri) != data:
                raise JobError(f"{uri} is there already, with other bytes; choose another folder with --output")
        except OSError as error:
            raise JobError(f"{uri} cannot be written: {error}") from error
    return image


def as_json(done: Sequence[Replayed]) -> str:
    return json.dumps([asdict(one) for one in done], indent=2, ensure_ascii=False)

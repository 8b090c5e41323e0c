"""What is other now than when a photograph was restored, named: source, software, stages, parameters, models, results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import __version__
from pipeline.errors import ModelError
from pipeline.honesty.row import honesty_row
from pipeline.models.store import ModelStore
from pipeline.recipe import Recipe
from pipeline.record import Record
from pipeline.stage import Parameters
from pipeline.stages import STAGES
from pipeline.stages.deliver import Deliver
from pipeline.stages.ingest import Ingest

Row = Mapping[str, Any]
# Rows of versions before have no measures and no maps.
_MEASURED = 4
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Difference:
    """kind: `source`, `stage`, `parameter`, `model`, `software`, `recipe`, `event`, `output`, `mask`, `map`,
    `honesty`, `status`, `device`.
    what: which of them. recorded, found: then and now."""

    kind: str
    what: str
    recorded: str | None
    found: str | None

    def __str__(self) -> str:
        then, now = ("none" if value is None else value for value in (self.recorded, self.found))
        return f"{self.kind} {self.what}: the record says {then}, here it is {now}"


def stages_of(row: Row, recipe: Recipe) -> Iterator[Difference]:
    """Versions and parameters of the events against those that would be used now."""
    here: dict[str, tuple[str, Parameters]] = {
        "ingest": (Ingest.version, recipe.ingest),
        **{spec.name: (STAGES[spec.name].version, spec.parameters) for spec in recipe.stages},
        "deliver": (Deliver.version, recipe.deliver),
    }
    for event in row["events"] or ():
        name = event["stage"]
        if name not in here:
            yield Difference("stage", name, event["version"], None)
            continue
        version, parameters = here[name]
        if event["version"] != version:
            yield Difference("stage", name, f"version {event['version']}", f"version {version}")
        yield from _parameters(name, json.loads(event["parameters"]), parameters.model_dump(mode="json"))


def _parameters(stage: str, recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*recorded, *found}):
        then, now = recorded.get(name), found.get(name)
        if then != now or (name in recorded) != (name in found):
            yield Difference("parameter", f"{stage}.{name}", json.dumps(then), json.dumps(now))


class ModelsHere:
    """The models that are here, each looked at and hashed once, however many photographs it touched."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._known: dict[tuple[str, str | None], Difference | None] = {}

    def differences(self, wanted: Mapping[str, str | None]) -> Iterator[Difference]:
        """wanted: SHA-256 by id."""
        for key in sorted(wanted.items()):
            if key not in self._known:
                self._known[key] = self._look(*key)
            if (found := self._known[key]) is not None:
                yield found

    def _look(self, model_id: str, digest: str | None) -> Difference | None:
        try:
            found = self._store.card(model_id).sha256
            if found != digest:
                return Difference("model", model_id, digest, found)
            self._store.ensure(model_id)
        except ModelError as error:
            return Difference("model", model_id, digest, error.faults[0])
        return None


def models_of(row: Row) -> dict[str, str | None]:
    """SHA-256, by id, of the models that touched the photograph."""
    return {model["id"]: model["sha256"] for event in row["events"] or () for model in event["models"] or ()}


def software_of(row: Row, known: Mapping[str, Any], here: Mapping[str, str | None]) -> Iterator[Difference]:
    """Versions of packages, as run.json has them and as they are here."""
    if row["software"] != (found := f"albumen {__version__}"):
        yield Difference("software", "albumen", row["software"], found)
    for name, version in sorted(known.get("software", {}).items()):
        if name != "albumen" and here.get(name) != version:
            yield Difference("software", name, version, here.get(name))


def results_of(row: Row, derived: Record) -> Iterator[Difference]:
    """What came of it, in the order in which it came: the first is where the ways part."""
    yield from _events(row["events"] or [], derived)
    if (then := _ending(row["status"], row["reason"])) != (now := _ending(str(derived.status), derived.reason)):
        yield Difference("status", row["item_id"], then, now)
    if row["output_sha256"] != derived.output_sha256:
        yield Difference("output", row["item_id"], row["output_sha256"], derived.output_sha256)
    if row["mask_sha256"] != derived.mask_sha256:
        yield Difference("mask", row["item_id"], row["mask_sha256"], derived.mask_sha256)
    if row["schema_version"] >= _MEASURED:
        yield from _honesty(row, derived)


def _honesty(row: Row, derived: Record) -> Iterator[Difference]:
    for name in ("edits", "invented"):
        then, now = row[f"{name}_sha256"], getattr(derived, f"{name}_sha256")
        if then != now:
            yield Difference("map", name, then, now)
    measures, again = row["honesty"] or {}, honesty_row(derived.honesty) or {}
    for name in sorted({*measures, *again}):
        # Another processor may round the last digits otherwise.
        if not _close(measures.get(name), again.get(name)):
            yield Difference("honesty", name, str(measures.get(name)), str(again.get(name)))


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=_ROUNDING)


def _events(recorded: Sequence[Row], derived: Record) -> Iterator[Difference]:
    for number in range(max(len(recorded), len(derived.events))):
        if number >= len(recorded):
            yield Difference("event", f"{number + 1} {derived.events[number].stage}", None, "it happened")
            continue
        then = recorded[number]
        what = f"{number + 1} {then['stage']}"
        if number >= len(derived.events) or derived.events[number].stage != then["stage"]:
            yield Difference("event", what, "it happened", None)
            return
        now = derived.events[number]
        if then["device"] != now.device:
            yield Difference("device", what, then["device"], now.device)
        if then["outcome"] != now.outcome:
            yield Difference("event", what, then["outcome"], now.outcome)
        for side in ("input_sha256", "output_sha256"):
            if then[side] != getattr(now, side):
                yield Difference("event", f"{what}, {side.split('_')[0]}", then[side], getattr(now, side))


def _ending(status: str, reason: str | None) -> str:
    return status if reason is None else f"{status}, {reason}"

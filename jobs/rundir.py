"""The run's folder: run.json, and what a plan decides before the first photograph is read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jobs import lease, manifest
from jobs.spec import JobSpec, check_places, parse_spec
from pipeline import __version__, provenance
from pipeline.errors import JobError, ModelError, SpecError, StoreError
from pipeline.models.store import ModelStore
from pipeline.recipe import Recipe
from pipeline.selfdigest import json_with_digest
from pipeline.software import software as software
from pipeline.storage import Store, contains, join

# Of the run's folder: docs/run-directory.md.
LAYOUT = 3


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model of the recipe. sha256 is None for an optional one that is not installed: its stage records a skip."""

    id: str
    required: bool
    sha256: str | None
    licence: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that is ready to start or to go on."""

    spec: JobSpec
    recipe: Recipe
    recipe_id: str
    run_id: str
    models: tuple[ModelUse, ...]
    index: manifest.Index
    new: bool = True

    @property
    def run(self) -> str:
        return self.spec.output.uri

    @property
    def photographs(self) -> int:
        return self.index.photographs

    def stamp(self, term: int) -> provenance.Stamp:
        return provenance.Stamp(self.run_id, self.recipe_id, f"albumen {__version__}", term)


def prepare(spec: JobSpec) -> Plan:
    """Freeze the manifest, or find the frozen one. Nothing is written unless every check has passed.

    Raises SpecError with every fault at once, ModelError for required models, JobError where the output folder belongs to
    something else.
    """
    recipe = spec.make_recipe()
    store = Store(spec.output_options)
    known = _read_run(store, spec.output.uri)
    faults = [] if known is not None else check_places(spec)
    models, missing = resolve_models(spec, recipe)
    if faults or missing:
        hint = "\n".join(dict.fromkeys(error.hint for error in missing if error.hint))
        texts = [*faults, *(text for error in missing for text in error.faults)]
        raise (SpecError if faults else ModelError)(texts, hint=hint or None)
    recipe_id = recipe.identity({use.id: use.sha256 for use in models if use.sha256 is not None})
    run_id = hashlib.sha256(f"{spec.collection.name}\0{spec.output.uri}\0{recipe_id}".encode()).hexdigest()[:16]
    plan = partial(Plan, spec, recipe, recipe_id, run_id, models)
    if known is not None:
        return _continued(plan(manifest.sound_index(store, spec.output.uri), new=False), known)
    _check_empty(store, spec.output.uri)
    survey = manifest.survey(spec)
    check_apart(spec, survey)
    with lease.hold(store, spec.output.uri, "planning") as held:
        known = _read_run(store, spec.output.uri)
        if known is None:
            planned = plan(_freeze(store, spec, survey, held.term))
            held.check()
            _create_run(store, planned)
            return planned
    # Somebody else planned it while we looked.
    return _continued(plan(manifest.sound_index(store, spec.output.uri), new=False), known)


def _freeze(store: Store, spec: JobSpec, survey: manifest.Survey, term: int) -> manifest.Index:
    run = spec.output.uri
    ignored: Counter[str] = Counter()
    try:
        # A plan that was killed may have left an index; it has no photographs that anybody counts on.
        version = manifest.next_version(store, run)
        rows = manifest.tables(spec, survey, ignored)
        return manifest.write(store, run, manifest.Index(-1), version, rows, ignored, term)
    except OSError as error:
        raise StoreError(f"output.uri: {run} cannot be written: {error}") from error


def _create_run(store: Store, plan: Plan) -> None:
    """run.json comes last: its presence says that the manifest beside it is whole."""
    uri, facts = join(plan.run, "run.json"), _describe(plan)
    try:
        created = store.create(uri, json_with_digest(facts, indent=2, ascii_only=False))
    except OSError as error:
        raise StoreError(f"output.uri: {plan.run} cannot be written: {error}") from error
    if not created:
        raise JobError(
            f"{plan.run}: somebody else has planned a run there meanwhile", hint="Run the same command again."
        )


def resolve_models(spec: JobSpec, recipe: Recipe) -> tuple[tuple[ModelUse, ...], list[ModelError]]:
    """Verify every model that can be had without the public network; a required one that cannot is an error."""
    store = ModelStore(spec.model_source())
    uses: list[ModelUse] = []
    errors: list[ModelError] = []
    for need in recipe.needs():
        if need.instead_of is not None and any(use.id == need.instead_of and use.sha256 for use in uses):
            # It would not be used, so it decides nothing, and nobody has to have it.
            continue
        card = store.card(need.model_id)
        installed = None
        try:
            if need.required or store.obtainable(card.id):
                store.ensure(card.id)
                installed = card.sha256
        except ModelError as error:
            errors.append(error)
        except OSError as error:
            errors.append(ModelError(f"model {card.id}: cannot be looked for: {error}"))
        uses.append(ModelUse(card.id, need.required, installed, card.licence))
    return tuple(uses), errors


def load(run: str, endpoint: str | None = None) -> dict[str, Any]:
    """run.json of a run's folder. Raises JobError where there is none."""
    from pipeline.storage import StoreOptions

    known = _read_run(Store(StoreOptions(endpoint)), run)
    if known is None:
        raise JobError(f"{run} is no run of Albumen: there is no run.json in it")
    return known


def planned_spec(run: str, endpoint: str | None = None) -> JobSpec:
    """The job that a run was planned from, out of its folder. Raises JobError where there is none."""
    spec = parse_spec(load(run, endpoint)["spec"], Path("/"))
    output = spec.output.model_copy(update={"endpoint": spec.output.endpoint or endpoint})
    return spec.model_copy(update={"output": output})


def _read_run(store: Store, run: str) -> dict[str, Any] | None:
    try:
        text = store.read(join(run, "run.json"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{run} cannot be read: {error}") from error
    try:
        known: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise JobError(f"{join(run, 'run.json')} is damaged: {error}") from error
    if not isinstance(known, dict) or not {"run_id", "recipe_id", "spec"} <= set(known):
        raise JobError(f"{join(run, 'run.json')} was not written by Albumen; choose another [output] uri")
    if known.get("layout") != LAYOUT:
        raise JobError(
            f"{run} was written by another version of Albumen ({known.get('software', {}).get('albumen')}), whose folders have "
            f"layout {known.get('layout', 1)}; this one knows layout {LAYOUT}"
        )
    return known


def _continued(plan: Plan, known: dict[str, Any]) -> Plan:
    """The plan of a run that was planned before, where run.json says that it is the same. Raises JobError."""
    spec = plan.spec
    source = known["spec"]["collection"]["source"]
    if known["run_id"] != plan.run_id or source != spec.collection.source:
        changed = [
            text
            for differs, text in (
                (known["collection"] != spec.collection.name, f"the collection was {known['collection']!r}"),
                (source != spec.collection.source, f"its source was {source}"),
                (known["recipe_id"] != plan.recipe_id, _recipe_change(known, plan.models)),
            )
            if differs
        ]
        raise JobError(
            f"{spec.output.uri} holds a run of another job: {'; '.join(changed) or 'it was moved here'}",
            hint="Choose another [output] uri, or restore the job's old settings to go on with that run.",
        )
    return plan


def _recipe_change(known: dict[str, Any], models: tuple[ModelUse, ...]) -> str:
    before = {model["id"]: model["sha256"] for model in known["models"]}
    moved = [use.id for use in models if use.id in before and before[use.id] != use.sha256]
    if moved:
        return f"other models are installed now than when it was planned ({', '.join(moved)})"
    return "its recipe (stages, parameters, models, policy or format) was another"


def check_apart(spec: JobSpec, survey: manifest.Survey) -> None:
    """Raises SpecError. A manifest may name originals anywhere: the output must not lie among them, nor they in it."""
    for folder in sorted(survey.folders):
        if contains(folder, spec.output.uri) or contains(spec.output.uri, folder):
            raise SpecError(f"output.uri: {spec.output.uri} lies among the originals of {folder}, or they in it")


def _check_empty(store: Store, run: str) -> None:
    # A plan that was killed leaves its lease and parts of a manifest without run.json.
    for name in ("images", "masks", "edits", "invented", "provenance"):
        entry = next(iter(store.list_if_there(join(run, name))), None)
        if entry is not None:
            raise JobError(
                f"{run} is not empty and no run of Albumen: {entry.uri} is there; choose another [output] uri"
            )


def _describe(plan: Plan) -> dict[str, Any]:
    return {
        "run_id": plan.run_id,
        "recipe_id": plan.recipe_id,
        "collection": plan.spec.collection.name,
        "layout": LAYOUT,
        "manifest": plan.index.version,
        "models": [asdict(use) for use in plan.models],
        "spec": plan.spec.model_dump(mode="json"),
        "software": software(),
    }

"""The job spec: TOML (or JSON, as `submit` sends it) to frozen objects. An unknown key is an error; all faults at once."""

from __future__ import annotations

import copy
import json
import os
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator

from jobs.secrets import credential_faults
from pipeline.codecs import PagePolicy
from pipeline.confinement import refusal, target_refusal
from pipeline.errors import ModelError, SpecError, StoreError
from pipeline.models.adapters import OPENABLE
from pipeline.models.catalogue import CARDS, ModelCard
from pipeline.models.licences import Use, commercial_use
from pipeline.models.store import ModelSource, ModelStore, default_cache
from pipeline.recipe import DEFAULT_STAGES, Recipe, describe_faults, make_recipe
from pipeline.stages.deliver import DeliverParameters
from pipeline.stages.ingest import IngestParameters
from pipeline.storage import Store, StoreOptions, canonical, contains, is_local

# Stores that put atomically and that all workers see alike.
SCHEMES = ("s3", "s3a")
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".parquet")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Collection(_Section):
    """name: goes into every item id. source: folder, s3:// prefix, or manifest file with a source_uri column.
    roots: folders and prefixes below which every original has to lie; none stands for the source folder, or the folder that
    the manifest lies in. endpoint: S3 service other than the one AWS_ENDPOINT_URL names. Limits above which a photograph is
    refused. pages: of a file with several, restore the first, or refuse it."""

    name: str = Field(min_length=1)
    source: str = Field(min_length=1)
    roots: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    endpoint: str | None = None
    max_megapixels: float = Field(default=200.0, gt=0, allow_inf_nan=False)
    max_gigabytes: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    pages: PagePolicy = "first"

    @property
    def is_manifest(self) -> bool:
        return self.source.lower().endswith(MANIFEST_SUFFIXES)

    @property
    def allowed_roots(self) -> tuple[str, ...]:
        """What `pipeline.confinement` is asked about. Needs an absolute source."""
        if self.roots:
            return self.roots
        return (self.source.rsplit("/", 1)[0] or "/",) if self.is_manifest else (self.source,)


class Output(DeliverParameters):
    """What deliver is asked for, and where. uri: the run's own folder or prefix. compact_after: photographs whose
    commits are gathered at once; None for what fits the run's size."""

    uri: str = Field(min_length=1)
    endpoint: str | None = None
    compact_after: int | None = Field(default=None, ge=1)


class LocalModel(_Section):
    """A model of the user's own, beside the catalogue: same checks, same record."""

    id: str = Field(min_length=1)
    file: str = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    architecture: str
    task: str
    licence: str = Field(min_length=1)
    scale: int = Field(default=1, ge=1)


class Models(_Section):
    """mirror: folder or URI with the model files. cache: where they are kept. local: models beside the catalogue.
    licences: refuse every model that is not known to be free for commercial use, or none.
    accept: licences that the job accepts by name, for models that may not be used otherwise."""

    mirror: str | None = None
    cache: str | None = None
    endpoint: str | None = None
    local: tuple[LocalModel, ...] = ()
    licences: Literal["any", "commercial-safe"] = "any"
    accept: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class PoolBounds(_Section):
    """Actors of a pool, at least and at most. A cluster that grows and shrinks keeps `min` of them."""

    min: int = Field(default=1, ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max is {self.max}")
        return self


def _actors(value: object, _: object) -> int | PoolBounds:
    """A number or a table; one fault for what is neither, where a union would tell one for each."""
    if isinstance(value, PoolBounds):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError("a pool has at least one actor")
        return value
    if not isinstance(value, Mapping):
        raise ValueError("a number of actors, or a table with min and max")
    try:
        return PoolBounds.model_validate(dict(value))
    except ValidationError as error:
        texts = (text.removeprefix(": ").removeprefix("value error, ") for text in describe_faults(error))
        raise ValueError("; ".join(texts)) from error


class Price(_Section):
    """What is paid, for `albumen plan`. cpu_hour, gpu_hour: for one CPU, for one GPU. gigabyte: written, and kept for a month
    (10^9 bytes). thousand_requests: to the store. currency: as it is printed."""

    cpu_hour: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    gpu_hour: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    gigabyte: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    thousand_requests: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    currency: str = "EUR"


class Cluster(_Section):
    """address: None for an embedded Ray on this machine. cpus: of the embedded Ray. pools: actors of a stage's pool, a number
    or bounds. calibration: where `albumen calibrate` writes and `run` looks; None for beside the run's folder.
    deadline_seconds, deadline_seconds_per_megapixel: what one stage may take for one photograph."""

    address: str | None = None
    cpus: int | None = Field(default=None, ge=1)
    pools: Mapping[str, Annotated[int | PoolBounds, WrapValidator(_actors)]] = Field(default_factory=dict)
    calibration: str | None = None
    deadline_seconds: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    deadline_seconds_per_megapixel: float = Field(default=3600.0, ge=0, allow_inf_nan=False)


class RecipeSection(BaseModel):
    """stages, policy, and one table of parameters for each stage."""

    model_config = ConfigDict(frozen=True, extra="allow")
    stages: tuple[str, ...] = DEFAULT_STAGES
    policy: str = "conservation"

    def parameters(self) -> dict[str, Mapping[str, Any]]:
        return dict(self.model_extra or {})


class JobSpec(_Section):
    """One job as the user wrote it, paths made absolute."""

    collection: Collection
    output: Output
    recipe: RecipeSection = RecipeSection()
    models: Models = Models()
    cluster: Cluster = Cluster()
    price: Price | None = None

    def make_recipe(self) -> Recipe:
        """Raises SpecError."""
        tables = self.recipe.parameters()
        odd = [f"recipe.{name}: unknown key" for name, value in tables.items() if not isinstance(value, Mapping)]
        try:
            recipe = make_recipe(
                self.recipe.stages,
                {name: value for name, value in tables.items() if isinstance(value, Mapping)},
                self.recipe.policy,
                IngestParameters(
                    megapixels=self.collection.max_megapixels,
                    gigabytes=self.collection.max_gigabytes,
                    pages=self.collection.pages,
                ),
                DeliverParameters(**self.output.model_dump(include=set(DeliverParameters.model_fields))),
            )
        except SpecError as error:
            raise SpecError([*odd, *error.faults]) from error
        if odd:
            raise SpecError(odd)
        return recipe

    @property
    def source_options(self) -> StoreOptions:
        return StoreOptions(self.collection.endpoint)

    @property
    def output_options(self) -> StoreOptions:
        return StoreOptions(self.output.endpoint)

    def model_source(self) -> ModelSource:
        local = tuple(
            ModelCard(
                id=model.id,
                file=Path(model.file).name,
                bytes=None,
                sha256=model.sha256,
                url=model.file,
                licence=model.licence,
                architecture=model.architecture,
                task=model.task,
                scale=model.scale,
            )
            for model in self.models.local
        )
        return ModelSource(
            cache=self.models.cache or str(default_cache()),
            mirror=self.models.mirror,
            options=StoreOptions(self.models.endpoint),
            local=local,
            accepted=frozenset(self.models.accept),
        )

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)


def load_spec(path: Path) -> JobSpec:
    """Read, check and make absolute. Raises SpecError with every fault of the text at once."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text") from error
    try:
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise SpecError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise SpecError(f"{path} holds no JSON object")
    return parse_spec(data, path.resolve().parent)


def parse_spec(data: Mapping[str, Any], base: Path) -> JobSpec:
    """base: the folder that relative paths start from."""
    secrets = credential_faults(data)
    try:
        spec = JobSpec.model_validate(data)
    except ValidationError as error:
        faults = [*describe_faults(error), *_faults_beside(data, error, base)]
        others = [text for text in faults if text.partition(":")[0] not in secrets and text not in secrets.values()]
        raise SpecError([*secrets.values(), *others]) from error
    spec = _absolute(spec, base)
    faults = [*secrets.values(), *_recipe_faults(spec), *_place_faults(spec)]
    if faults:
        raise SpecError(faults)
    return spec


def _faults_beside(data: Mapping[str, Any], error: ValidationError, base: Path) -> list[str]:
    """Faults of meaning beside faults of form: what is wrong in form is left out, and the rest looked at."""
    rest = copy.deepcopy(dict(data))
    for fault in error.errors():
        *path, last = fault["loc"]
        place: Any = rest
        for part in path:
            place = place[part]
        if fault["type"] == "missing" or not isinstance(place, dict):
            return []
        place.pop(last, None)
    try:
        parse_spec(rest, base)
    except SpecError as found:
        return [text for text in found.faults if not text.endswith("field required")]
    return []


def check_places(spec: JobSpec) -> list[str]:
    """Faults that only a look at the stores shows: a source or a bucket that is not there. Writes nothing."""
    source, output = spec.collection.source, spec.output.uri
    faults: list[str | None] = []
    if spec.collection.is_manifest:
        if not Store(spec.source_options).exists(source):
            faults.append(f"collection.source: {source} is not there")
    else:
        faults.append(_named("collection.source", Store(spec.source_options).check_folder(source)))
    if not is_local(output):
        faults.append(_named("output.uri", Store(spec.output_options).check_folder(output)))
    return [fault for fault in faults if fault is not None]


def _named(key: str, fault: str | None) -> str | None:
    return None if fault is None else f"{key}: {fault}"


def _recipe_faults(spec: JobSpec) -> list[str]:
    try:
        recipe = spec.make_recipe()
    except SpecError as error:
        return list(error.faults)
    store = ModelStore(spec.model_source())
    faults = []
    for need in recipe.needs():
        try:
            card = store.card(need.model_id)
        except ModelError as error:
            faults.append(f"recipe: {error.faults[0]} (albumen models list shows those there are)")
            continue
        if card.task == need.task and card.architecture not in OPENABLE[need.task]:
            faults.append(
                f"recipe: model {card.id!r}: its architecture {card.architecture!r} cannot be opened here yet"
            )
        try:
            store.consented(card)
        except ModelError as error:
            faults.append(f"recipe: {error.faults[0]} ({error.hint})")
        if card.task != need.task:
            faults.append(f"recipe: model {card.id!r} is for {card.task!r} and cannot be used for {need.task!r}")
        if (fault := _licence_fault(spec, card)) is not None:
            faults.append(fault)
    return faults


def _licence_fault(spec: JobSpec, card: ModelCard) -> str | None:
    """Also of a model that is optional and not installed: the answer is the same on every machine."""
    if spec.models.licences == "any" or (use := commercial_use(card.licence)) is Use.ALLOWED:
        return None
    why = "does not allow commercial use" if use is Use.FORBIDDEN else "is not known to allow commercial use"
    return f"models.licences: the licence of {card.id!r}, {card.licence}, {why}; choose another model or leave its stage out"


def _place_faults(spec: JobSpec) -> list[str]:
    source, output = spec.collection.source, spec.output.uri
    faults = [
        f"{key}: {uri}: there is no store of this scheme"
        for key, uri in (("collection.source", source), ("output.uri", output))
        if not is_local(uri) and uri.split("://")[0] not in SCHEMES
    ]
    faults += [
        f"collection.roots: {root}: there is no store of this scheme"
        for root in spec.collection.roots
        if not is_local(root) and root.split("://")[0] not in SCHEMES
    ]
    if not spec.collection.is_manifest and (fault := _source_outside(spec.collection)) is not None:
        faults.append(fault)
    if contains(source, output):
        faults.append(f"output.uri: {output} lies inside the source {source}; originals are never written to")
    elif contains(output, source):
        faults.append(
            f"collection.source: {source} lies inside the output {output}; choose an output folder of its own"
        )
    stages = ("ingest", *spec.recipe.stages, "deliver")
    faults += [
        f"cluster.pools.{name}: no such stage in this recipe" for name in spec.cluster.pools if name not in stages
    ]
    taken = {card.id for card in CARDS}
    faults += [f"models.local: {m.id!r} is a name of the catalogue" for m in spec.models.local if m.id in taken]
    named = Counter(model.id for model in spec.models.local)
    faults += [f"models.local: {name!r} is named twice" for name, count in named.items() if count > 1]
    return faults


def _source_outside(collection: Collection) -> str | None:
    source, roots = collection.source, collection.allowed_roots
    outside = (target_refusal if is_local(source) else refusal)(source, roots) is not None
    return f"collection.roots: the source {source} lies below none of them" if outside else None


def _absolute(spec: JobSpec, base: Path) -> JobSpec:
    def place(uri: str, key: str = "models") -> str:
        try:
            return canonical(str(base / Path(uri).expanduser())) if "://" not in uri else canonical(uri)
        except (RuntimeError, StoreError) as error:
            raise SpecError(f"{key}: {error}") from error

    def root(uri: str) -> str:
        # Links stay: a manifest names its originals as its author sees them, and ingest follows links on both sides.
        if "://" in uri:
            return uri
        try:
            return os.path.abspath(base / Path(uri).expanduser())
        except RuntimeError as error:
            raise SpecError(f"collection.roots: {error}") from error

    models = spec.models
    local = tuple(model.model_copy(update={"file": place(model.file)}) for model in models.local)
    return spec.model_copy(
        update={
            "collection": spec.collection.model_copy(
                update={
                    "source": place(spec.collection.source, "collection.source"),
                    "roots": tuple(root(uri) for uri in spec.collection.roots),
                }
            ),
            "output": spec.output.model_copy(update={"uri": place(spec.output.uri, "output.uri")}),
            "cluster": spec.cluster.model_copy(
                update={
                    "calibration": None
                    if spec.cluster.calibration is None
                    else place(spec.cluster.calibration, "cluster.calibration")
                }
            ),
            "models": models.model_copy(
                update={
                    "mirror": None if models.mirror is None else place(models.mirror),
                    "cache": None if models.cache is None else place(models.cache),
                    "local": local,
                }
            ),
        }
    )

"""Recipe: everything that decides the bytes of an output, and nothing else.

Addresses, buckets, pool sizes and threads stay outside, so that moving a run to another cluster changes no identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.errors import SpecError
from pipeline.policy import POLICIES, Policy
from pipeline.stage import ModelNeed, Parameters
from pipeline.stages import STAGES
from pipeline.stages import deliver as delivery
from pipeline.stages import ingest as intake

if TYPE_CHECKING:
    from pipeline.models.store import ModelStore

DEFAULT_STAGES = ("analyse", "repair", "faces", "upscale", "compose", "colour")


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage of a recipe with its parameters, and the policy over it."""

    name: str
    parameters: Parameters
    policy: Policy

    def needs(self) -> tuple[ModelNeed, ...]:
        """The models that it may use under this policy."""
        needs = STAGES[self.name].needs(self.parameters)
        return tuple(need for need in needs if need.ceiling is None or getattr(self.policy, need.ceiling) > 0)

    def available(self, store: ModelStore) -> set[str]:
        """Ids of the models that it may use and the store has, or had when the run was planned."""
        return {need.model_id for need in self.needs() if store.available(need.model_id)}

    def holds_network(self, installed: Collection[str]) -> bool:
        """Whether it will work with models, of those that are installed, rather than without or not at all."""
        essential = [need.model_id for need in self.needs() if need.essential]
        return bool(essential) and set(installed).issuperset(essential)

    def opens(self, installed: Collection[str]) -> tuple[str, ...]:
        """Ids of the models that it will open, of those that are installed: where it holds no network, those that it cannot do
        without, which are small enough for a pool that it shares."""
        holds = self.holds_network(installed)
        wanted = (need.model_id for need in self.needs() if holds or need.required)
        return tuple(model for model in dict.fromkeys(wanted) if model in installed)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The ordered stages between ingest and deliver, the policy over them, and the limits and form of the ends."""

    stages: tuple[StageSpec, ...]
    policy: Policy
    ingest: intake.IngestParameters
    deliver: delivery.DeliverParameters

    def needs(self) -> tuple[ModelNeed, ...]:
        """Each model once; required wins over optional."""
        found: dict[str, ModelNeed] = {}
        for spec in self.stages:
            for need in spec.needs():
                known = found.get(need.model_id)
                if known is None or need.required:
                    found[need.model_id] = need
        return tuple(found.values())

    def weight_bytes(self, store: ModelStore, installed: Collection[str]) -> dict[str, int]:
        """Bytes of the weights that each stage keeps in memory, as 32-bit floats; only of stages that open a network."""
        opened = {spec.name: spec.opens(installed) for spec in self.stages}
        return {name: sum(map(store.weight_bytes, models)) for name, models in opened.items() if models}

    def identity(self, models: Mapping[str, str]) -> str:
        """The recipe id, 64 hex digits. models: id to SHA-256 of the installed models among `needs`."""
        wanted = {need.model_id for need in self.needs()}
        decides = {
            "ingest": [intake.Ingest.version, self.ingest.model_dump(mode="json")],
            "stages": [
                [spec.name, STAGES[spec.name].version, spec.parameters.model_dump(mode="json")] for spec in self.stages
            ],
            "deliver": [delivery.Deliver.version, self.deliver.decisive()],
            "policy": asdict(self.policy),
            "models": {model: digest for model, digest in sorted(models.items()) if model in wanted},
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def make_recipe(
    stages: tuple[str, ...],
    parameters: Mapping[str, Mapping[str, Any]],
    policy: str,
    ingest: intake.IngestParameters,
    deliver: delivery.DeliverParameters,
) -> Recipe:
    """Check names and parameters and freeze them. Raises SpecError with every fault at once."""
    faults: list[str] = []
    chosen: list[tuple[str, Parameters]] = []
    if policy not in POLICIES:
        faults.append(f"recipe.policy: there is no policy {policy!r}; choose {_choices(POLICIES)}")
    for name in stages:
        if name not in STAGES:
            faults.append(f"recipe.stages: there is no stage {name!r}; choose among {_choices(STAGES)}")
            continue
        try:
            found = STAGES[name].Parameters.model_validate(dict(parameters.get(name, {})))
            chosen.append((name, found))
        except ValidationError as error:
            faults += describe_faults(error, f"recipe.{name}")
    if len(set(stages)) != len(stages):
        faults.append("recipe.stages: a stage is named twice")
    order = [name for name in STAGES if name in stages]
    if not faults and list(stages) != order:
        faults.append(f"recipe.stages: the order must be {', '.join(order)}")
    for name in parameters:
        if name in STAGES and name not in stages:
            faults.append(f"recipe.{name}: parameters for a stage that recipe.stages leaves out")
        elif name not in STAGES:
            faults.append(f"recipe.{name}: unknown key")
    if faults:
        raise SpecError(faults)
    bounds = POLICIES[policy]
    return Recipe(tuple(StageSpec(name, found, bounds) for name, found in chosen), bounds, ingest, deliver)


def describe_faults(error: ValidationError, where: str = "") -> list[str]:
    """Pydantic's faults as sentences that name the key as the user wrote it."""
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join([where, *(str(part) for part in fault["loc"])]).strip(".")
        unknown = fault["type"] == "extra_forbidden"
        faults.append(f"{key}: unknown key" if unknown else f"{key}: {fault['msg'][:1].lower()}{fault['msg'][1:]}")
    return faults


def _choices(names: Mapping[str, object]) -> str:
    return ", ".join(names)

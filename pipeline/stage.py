"""The Stage protocol: what a method of restoration has to be, and all that it gets to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from pipeline.errors import ItemError
from pipeline.memory import Size
from pipeline.photograph import Photograph

if TYPE_CHECKING:
    from pipeline.models.store import ModelStore
    from pipeline.policy import Policy


class Outcome(StrEnum):
    APPLIED = "applied"
    SKIPPED = "skipped"


class Parameters(BaseModel):
    """A stage's parameters: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Device:
    """Where a stage computes. kind: `cpu` or `cuda`. threads: CPU threads that it may use."""

    kind: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """What one stage did to one photograph.

    reason: why it was skipped. models: ids of the models whose weights touched this photograph.
    precision: `fp32`, `bf16`, `fp16`, or None where no network ran. findings: JSON values worth recording.
    """

    photograph: Photograph
    outcome: Outcome = Outcome.APPLIED
    reason: str | None = None
    models: tuple[str, ...] = ()
    precision: str | None = None
    findings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """A model that a stage would use. Where it is not required and not installed, the stage records a skip.

    task: what the catalogue must say that it is for. essential: whether the stage can do nothing without it, and so gets a pool
    of its own with it; what is not essential it does without, and records that, or computes with in any pool. instead_of: a
    model beside which this one would not be used. ceiling: of the policy, that bounds what it is for: where it is 0, nobody
    needs the model.
    """

    model_id: str
    required: bool
    task: str
    essential: bool = True
    instead_of: str | None = None
    ceiling: str | None = None


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a stage takes of a machine beside its models. Every stage declares its own; measured figures go before it.

    working: bytes a pixel at its peak beyond the photograph it was given and the one it gives back, with a margin over what
    was measured (docs/large-scans.md). seconds: of one core for a megapixel of the source, roughly. network_seconds: that
    come on top where it computes with a model, of a stage that also works without. card_seconds: of a card instead, where it
    holds a model and there is one. card_bytes: that its arrays take on a card, weights not counted.
    """

    working: Callable[[Size], int]
    seconds: float
    network_seconds: float = 0.0
    card_seconds: float = 0.0
    card_bytes: int = 0


class Stage(Protocol):
    """One method of restoration. Knows no row, no URI and no Ray: it is tested with a plain call.

    version changes whenever the same input and parameters would give other bytes.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    Parameters: ClassVar[type[Parameters]]
    footprint: ClassVar[Footprint]

    def __init__(self, parameters: Any, policy: Policy) -> None: ...

    @classmethod
    def needs(cls, parameters: Any) -> tuple[ModelNeed, ...]:
        """The models that these parameters ask for. Called at plan, before anything is opened."""
        ...

    def open(self, models: ModelStore, device: Device) -> None:
        """Load what `restore` needs. Once per actor. Raises ModelError."""
        ...

    def restore(self, photographs: Sequence[Photograph]) -> Sequence[Step | ItemError]:
        """One answer for each photograph, in order. Never changes an array that it was given."""
        ...

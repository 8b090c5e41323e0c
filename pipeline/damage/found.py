"""What a detector of damage answers, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.damage.kinds import FOUND, Kind, Kinds, fraction_of

if TYPE_CHECKING:
    from pipeline.photograph import Photograph


@dataclass(frozen=True, slots=True)
class Found:
    """kinds: H x W codes, none of them REPAIRED. confidence: of each kind that was found, the mean score of its pixels,
    0..1, or None from a detector that gives none. note: why findings were held back, in a sentence."""

    kinds: Kinds
    confidence: Mapping[Kind, float | None]
    note: str | None = None

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Share of the pixels (0..1) and confidence of each kind that was found, as JSON values."""
        shares = {kind: fraction_of(self.kinds == kind) for kind in FOUND}
        return {
            kind.name.lower(): {"fraction": share, "confidence": self.confidence.get(kind)}
            for kind, share in shares.items()
            if share > 0
        }

    def findings(self) -> dict[str, Any]:
        """What a stage records of it."""
        return {"damage": self.summary()} | ({} if self.note is None else {"damage_note": self.note})


class Detector(Protocol):
    """Finds damage on a photograph of any size, 8 or 16 bits, grey or colour, in any space. model_id: of a network."""

    @property
    def model_id(self) -> str | None: ...

    def find(self, photograph: Photograph) -> Found: ...

"""How often and how strongly each effect comes: what a degradation is made of, frozen and validated."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Effect(BaseModel):
    """One effect of a degradation.

    chance: that a photograph has it, 0..1. strength: multiplies opacity or amplitude; 1 is what old prints usually show.
    count: least and most number of pieces on 256 x 256 pixels, for effects that come in pieces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chance: float = Field(ge=0, le=1)
    strength: float = Field(default=1.0, gt=0, le=2)
    count: tuple[int, int] = (1, 1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        least, most = self.count
        if not 1 <= least <= most <= 500:
            raise ValueError(f"count must rise within 1..500, not {self.count}")
        return self


def _effect(chance: float, least: int = 1, most: int = 1) -> Any:
    return Field(default=Effect(chance=chance, count=(least, most)))


class Degradation(BaseModel):
    """Chances and strengths of everything that befalls a photograph; the default is an old print, scanned.

    intact: chance of no local damage at all. neutral, toned: chances of a grey and of a toned print; the rest stay coloured.
    grey_scan: chance that a grey print is scanned without colour, so that its damage is grey too. real: chance that a piece
    takes its shape from the library, where the library has one of that class. white: chance that dust and scratches are
    lighter than the picture (they lay on the negative, or took the emulsion off) rather than darker.

    The effects are in docs/degradation.md, group by group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    intact: float = Field(default=0.15, ge=0, le=1)
    neutral: float = Field(default=0.40, ge=0, le=1)
    toned: float = Field(default=0.30, ge=0, le=1)
    grey_scan: float = Field(default=0.5, ge=0, le=1)
    real: float = Field(default=0.6, ge=0, le=1)
    white: float = Field(default=0.7, ge=0, le=1)

    # Of the whole print.
    contrast: Effect = _effect(0.6)
    fading: Effect = _effect(0.6)
    yellowing: Effect = _effect(0.6)
    unevenness: Effect = _effect(0.4)
    vignette: Effect = _effect(0.35)
    grain: Effect = _effect(0.65)
    paper: Effect = _effect(0.35)

    # Local, on the print.
    stains: Effect = _effect(0.30, 1, 3)
    mould: Effect = _effect(0.15, 1, 4)
    foxing: Effect = _effect(0.15, 2, 14)
    scratches: Effect = _effect(0.50, 1, 7)
    scuffs: Effect = _effect(0.20, 1, 2)
    creases: Effect = _effect(0.35, 1, 3)
    cracks: Effect = _effect(0.22, 1, 2)
    tears: Effect = _effect(0.15, 1, 2)
    hairs: Effect = _effect(0.25, 1, 4)
    dust: Effect = _effect(0.60, 3, 40)
    dirt: Effect = _effect(0.25, 1, 3)
    spots: Effect = _effect(0.30, 1, 6)
    corners: Effect = _effect(0.15, 1, 3)
    edges: Effect = _effect(0.10, 1, 2)
    holes: Effect = _effect(0.10, 1, 3)

    # On the scanner's glass.
    glass: Effect = _effect(0.30, 1, 12)

    # Of the scan and of what was done to it since.
    blur: Effect = _effect(0.6)
    resize: Effect = _effect(0.3)
    noise: Effect = _effect(0.6)
    jpeg: Effect = _effect(0.65)
    sharpen: Effect = _effect(0.2)
    again: Effect = _effect(0.25)

    @model_validator(mode="after")
    def _tones(self) -> Self:
        if self.neutral + self.toned > 1 + 1e-9:
            raise ValueError(
                f"neutral {self.neutral} and toned {self.toned} are chances of one draw: at most 1 together"
            )
        return self

    @classmethod
    def none(cls, **others: Any) -> Degradation:
        """Nothing happens, but for what `others` say."""
        quiet: dict[str, Any] = {name: Effect(chance=0) for name in EFFECTS}
        return cls(**(quiet | {"neutral": 0.0, "toned": 0.0} | others))

    def without(self, *names: str) -> Degradation:
        """The same with the chances of these effects at 0. Raises ValueError for a name that is no effect."""
        if unknown := sorted(set(names) - set(EFFECTS)):
            raise ValueError(f"no effects: {', '.join(unknown)}")
        return self.model_copy(update={name: getattr(self, name).model_copy(update={"chance": 0.0}) for name in names})

    def stronger(self, factor: float, *names: str) -> Degradation:
        """The same with the chances of these effects multiplied, up to 1."""
        if unknown := sorted(set(names) - set(EFFECTS)):
            raise ValueError(f"no effects: {', '.join(unknown)}")
        changed = {}
        for name in names:
            effect: Effect = getattr(self, name)
            changed[name] = effect.model_copy(update={"chance": min(1.0, effect.chance * factor)})
        return self.model_copy(update=changed)


WHOLE = ("contrast", "fading", "yellowing", "unevenness", "vignette", "grain", "paper")
LOCAL = (
    *(
        "stains",
        "mould",
        "foxing",
        "scratches",
        "scuffs",
        "creases",
        "cracks",
        "tears",
        "hairs",
        "dust",
        "dirt",
        "spots",
    ),
    *("corners", "edges", "holes", "glass"),
)
SCAN = ("blur", "resize", "noise", "jpeg", "sharpen", "again")
EFFECTS = (*WHOLE, *LOCAL, *SCAN)

_PRINT = Degradation()
PRESETS: Mapping[str, Degradation] = MappingProxyType(
    {
        "print": _PRINT,
        "heavy": _PRINT.stronger(2.0, *LOCAL).model_copy(update={"intact": 0.0}),
        "light": _PRINT.stronger(0.4, *LOCAL, *WHOLE),
        "damage-only": _PRINT.without(*WHOLE, *SCAN).model_copy(update={"neutral": 0.0, "toned": 0.0}),
        "ageing-only": _PRINT.without(*LOCAL),
    }
)

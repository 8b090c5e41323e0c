"""A clean photograph to a pair: the same print, aged and scanned, without damage and with it, and where the damage is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind, Kinds
from pipeline.degradation import breaks, lines, missing, spots, stains
from pipeline.degradation.ageing import aged
from pipeline.degradation.laying import Damaged, Sight
from pipeline.degradation.marks import Ground, Mark
from pipeline.degradation.scanning import as_image, draw_scan
from pipeline.degradation.settings import Degradation, Effect
from pipeline.degradation.shapes import Shapes
from pipeline.photograph import Tone

Image = NDArray[np.float32]

_Maker = Callable[[Ground, Effect, np.random.Generator], list[Mark]]
# In the order in which it comes: what lies over the picture is scratched with it, and what is torn off takes all of it along.
_MAKERS: Mapping[str, _Maker] = MappingProxyType(
    {
        "stains": stains.stains,
        "mould": spots.mould,
        "foxing": spots.foxing,
        "spots": spots.spots,
        "dirt": spots.dirt,
        "dust": spots.dust,
        "scuffs": lines.scuffs,
        "scratches": lines.scratches,
        "hairs": lines.hairs,
        "cracks": breaks.cracks,
        "creases": breaks.creases,
        "tears": breaks.tears,
        "corners": missing.corners,
        "edges": missing.edges,
        "holes": missing.holes,
        "glass": spots.glass,
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A photograph with known damage. All images are H x W x 3 float32 sRGB, 0..1.

    clean: as it was given. undamaged: aged and scanned, without any local damage. damaged: the same with it. kinds: H x W
    codes of `Kind`; where they are 0, damaged and undamaged differ only by what blur and JPEG carry over, which is nothing
    farther than `applied["reach"]` pixels from damage. applied: what was done, with numbers; JSON values.
    """

    clean: Image
    undamaged: Image
    damaged: Image
    kinds: Kinds
    applied: dict[str, Any]


def degrade(photograph: Image, settings: Degradation, shapes: Shapes, rng: np.random.Generator) -> Pair:
    """photograph: H x W x 3 float32 sRGB, 0..1; not changed. The same generator state gives the same bytes.

    Raises ValueError for an array that is no such photograph.
    """
    if photograph.ndim != 3 or photograph.shape[2] != 3 or photograph.dtype != np.float32 or photograph.size == 0:
        raise ValueError(f"photograph must be H x W x 3 float32, not {photograph.shape} {photograph.dtype}")
    print_ = aged(np.ascontiguousarray(np.moveaxis(photograph, 2, 0)), settings, rng)
    neutral = print_.tone is Tone.NEUTRAL
    grey_scan = neutral and bool(rng.random() < settings.grey_scan)
    scan = draw_scan(settings, print_.size, rng, colour=not neutral)
    damaged = Damaged(print_.planes, 1 if grey_scan else 3, Sight(scan.softness, math.hypot(print_.grain, scan.noise)))
    if rng.random() >= settings.intact:
        ground = Ground(print_.size, print_.paper, missing.behind(rng), shapes, settings.real, settings.white)
        for name, make in _MAKERS.items():
            effect: Effect = getattr(settings, name)
            if rng.random() < effect.chance:
                damaged.lay(make(ground, effect, rng))
    undamaged = as_image(scan.apply(print_.planes))
    kinds = damaged.kinds
    applied = {
        "ageing": print_.applied,
        "grey_scan": grey_scan,
        "damage": damaged.applied,
        "scan": scan.describe(),
        "reach": scan.reach,
        "pixels": {kind.name.lower(): int((kinds == kind).sum()) for kind in Kind if kind is not Kind.NONE},
    }
    result = as_image(scan.apply(damaged.planes)) if kinds.any() else undamaged.copy()
    return Pair(photograph, undamaged, result, kinds, applied)

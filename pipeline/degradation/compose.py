"""A clean photograph to a pair: the same print, aged and scanned, without damage and with it, and where the damage is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind, Kinds
from pipeline.degradation import lines, missing, spots, stains
from pipeline.degradation.ageing import Aged, aged
from pipeline.degradation.marks import Ground, Mark, Planes
from pipeline.degradation.scanning import as_image, draw_scan
from pipeline.degradation.settings import Degradation, Effect
from pipeline.degradation.shapes import Shapes
from pipeline.photograph import Mask, Tone

Image = NDArray[np.float32]
_Maker = Callable[[Ground, Effect, np.random.Generator], list[Mark]]

# Changes up to the first are nothing, from the second on they are all there; in between they fade in, so that the edge of
# what counts as damage is no edge in the picture.
_NOTHING = np.float32(2 / 255)
_WHOLE = np.float32(5 / 255)
_LEAST = np.float32(1 / 255)
# A mark that nowhere changes the picture by more than this, or than so many standard deviations of the grain, is not seen.
_SEEN = 8 / 255
_SEEN_STAIN = 6 / 255
# The same for the relief of the picture around.
_SEEN_IN_TEXTURE = 1.5
_SEEN_IN_GRAIN = 1.5

_STAINS: Mapping[str, _Maker] = MappingProxyType({"stains": stains.stains})
_MARKS: Mapping[str, _Maker] = MappingProxyType(
    {
        "mould": spots.mould,
        "foxing": spots.foxing,
        "spots": spots.spots,
        "dirt": spots.dirt,
        "dust": spots.dust,
        "scuffs": lines.scuffs,
        "scratches": lines.scratches,
        "hairs": lines.hairs,
        "cracks": lines.cracks,
        "creases": lines.creases,
        "tears": lines.tears,
    }
)
_MISSING = MappingProxyType({"corners": missing.corners, "edges": missing.edges, "holes": missing.holes})
_GLASS: Mapping[str, _Maker] = MappingProxyType({"glass": spots.glass})


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
    clean = np.ascontiguousarray(photograph)
    print_ = aged(np.ascontiguousarray(np.moveaxis(clean, 2, 0)), settings, rng)
    grey_scan = print_.tone is Tone.NEUTRAL and bool(rng.random() < settings.grey_scan)
    damaged, kinds, marks = _damaged(print_, settings, shapes, rng, 1 if grey_scan else 3)
    scan = draw_scan(settings, kinds.shape, print_.tone is not Tone.NEUTRAL, rng)
    applied = {
        "ageing": print_.applied,
        "grey_scan": grey_scan,
        "damage": marks,
        "scan": scan.describe(),
        "reach": scan.reach,
        "pixels": {kind.name.lower(): int((kinds == kind).sum()) for kind in Kind if kind is not Kind.NONE},
    }
    untouched = print_.planes if print_.applied.keys() > {"tone"} or scan.steps else None
    undamaged = clean.copy() if untouched is None else as_image(scan.apply(untouched))
    if not kinds.any():
        return Pair(clean, undamaged, undamaged.copy(), kinds, applied)
    return Pair(clean, undamaged, as_image(scan.apply(damaged)), kinds, applied)


def _damaged(
    print_: Aged, settings: Degradation, shapes: Shapes, rng: np.random.Generator, channels: int
) -> tuple[Planes, Kinds, list[dict[str, Any]]]:
    """The print with damage, before the scan; where it is; and what it is."""
    size = print_.planes.shape[1:]
    kinds = np.zeros(size, np.uint8)
    applied: list[dict[str, Any]] = []
    planes = print_.planes
    if rng.random() < settings.intact:
        return planes, kinds, applied
    ground = Ground((size[0], size[1]), print_.paper, shapes, settings.real, settings.white)
    planes = np.repeat(planes, channels, axis=0) if len(planes) == 1 and channels == 3 else planes.copy()
    back = missing.behind(rng)
    for makers in (_STAINS, _MARKS, _MISSING, _GLASS):
        for name, make in makers.items():
            effect: Effect = getattr(settings, name)
            if rng.random() >= effect.chance:
                continue
            made = make(ground, effect, rng, back) if name in _MISSING else make(ground, effect, rng)  # type: ignore[operator]
            made = [mark for mark in made if mark.patch.alpha.any()]
            applied += _lay(planes, kinds, made, print_.grain)
    return planes, kinds, applied


def _lay(planes: Planes, kinds: Kinds, marks: list[Mark], grain: float) -> list[dict[str, Any]]:
    """Marks of one effect over the picture, in place, as far as they can be seen."""
    described = []
    for kind in sorted({mark.kind for mark in marks}):
        alike = [mark for mark in marks if mark.kind is kind]
        window = _window(alike)
        before = planes[:, window[0], window[1]].copy()
        for mark in alike:
            mark.apply(planes)
        region = planes[:, window[0], window[1]]
        seen = _gone(alike, window, before, region) if kind is Kind.MISSING else _seen(before, region, kind, grain)
        np.copyto(region, before, where=~seen)
        codes = kinds[window]
        if kind is Kind.STAIN:
            codes[seen & (codes == Kind.NONE)] = kind
        else:
            codes[seen & (codes != Kind.MISSING)] = kind
        described.append(
            {
                "effect": alike[0].effect,
                "kind": kind.name,
                "marks": len(alike),
                "real": sum(m.real for m in alike),
                "pixels": int(seen.sum()),
            }
        )
    return described


def _window(marks: list[Mark]) -> tuple[slice, slice]:
    """The rectangle around all of them."""
    rows, columns = zip(*(mark.patch.window for mark in marks), strict=True)
    return (
        slice(min(r.start for r in rows), max(r.stop for r in rows)),
        slice(min(c.start for c in columns), max(c.stop for c in columns)),
    )


def _seen(before: Planes, after: Planes, kind: Kind, grain: float) -> Mask:
    """Where the change can be seen; fades out in `after`, in place, what is too little."""
    np.clip(after, 0, 1, out=after)
    difference = after - before
    change = np.abs(difference).max(axis=0)
    share = np.clip((change - _NOTHING) / (_WHOLE - _NOTHING), 0, 1)
    np.add(before, difference * share, out=after)
    seen = change * share >= _LEAST
    if kind is Kind.STAIN:
        return _whole_pieces(seen, change > _SEEN_STAIN)
    floor = np.maximum(max(_SEEN, _SEEN_IN_GRAIN * grain), _SEEN_IN_TEXTURE * _texture(before))
    return _whole_pieces(seen, change > floor)


def _texture(planes: Planes) -> NDArray[np.float32]:
    """Mean deviation of each pixel's surroundings from their own smooth course, H x W: leaves and bricks hide scratches."""
    plane = planes.mean(axis=0)
    detail: NDArray[np.float32] = cv2.blur(np.abs(plane - cv2.GaussianBlur(plane, (0, 0), 3.0)), (15, 15))
    return detail


def _gone(marks: list[Mark], window: tuple[slice, slice], before: Planes, after: Planes) -> Mask:
    """All of an area whose edge or ground can be seen, also where it happens to equal the picture."""
    covered = np.zeros(before.shape[1:], bool)
    for mark in marks:
        rows, columns = mark.patch.window
        part = covered[
            rows.start - window[0].start : rows.stop - window[0].start,
            columns.start - window[1].start : columns.stop - window[1].start,
        ]
        part |= mark.patch.alpha > _LEAST
    return _whole_pieces(covered, np.abs(after - before).max(axis=0) > _SEEN)


def _whole_pieces(weak: Mask, strong: Mask) -> Mask:
    """The connected pieces of `weak` that hold something of `strong`."""
    _, labels = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    held = np.zeros(int(labels.max()) + 1, bool)
    held[labels[strong & weak]] = True
    held[0] = False
    pieces: Mask = held[labels]
    return pieces

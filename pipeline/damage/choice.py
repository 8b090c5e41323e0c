"""Which of the damage found is filled from its surroundings, and which is left, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.damage.kinds import Kind, Kinds, fraction_of
from pipeline.photograph import Face, Mask


@dataclass(frozen=True, slots=True)
class Left:
    """Areas that stay as they are. fraction: of the photograph's pixels, 0..1. reason: one sentence."""

    areas: int
    fraction: float
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """fill: H x W, where new pixels are to come from around. holes: H x W, missing areas that stay: nothing may be filled from
    what lies there. left: by the names of kinds."""

    fill: Mask
    holes: Mask
    left: Mapping[str, Left]


def choose(kinds: Kinds, faces: Sequence[Face], missing_radius: float, no_filler: str) -> Choice:
    """Lines and spots are filled, but for specks in faces; of missing areas those whose inscribed circle has a radius below
    `missing_radius` pixels. no_filler: why larger ones are left, in a sentence."""
    thin = (kinds == Kind.LINE) | (kinds == Kind.SPOT)
    specks, count = _specks_in_faces(thin, faces)
    left: dict[str, Left] = {}
    if count:
        reason = "in a face, where catchlights and lashes look like dust"
        left["spot"] = Left(count, fraction_of(specks), reason)
    missing = kinds == Kind.MISSING
    holes, count = _wide_areas(missing, missing_radius)
    if count:
        left["missing"] = Left(count, fraction_of(holes), no_filler)
    return Choice((thin & ~specks) | (missing & ~holes), holes, left)


def areas_of(where: Mask) -> int:
    """Areas that do not touch one another, not even by a corner."""
    return int(cv2.connectedComponents(where.astype(np.uint8), connectivity=8)[0]) - 1


def _specks_in_faces(thin: Mask, faces: Sequence[Face]) -> tuple[Mask, int]:
    """Inside a face only lines that run across it are damage. The specks, and how many there are."""
    if not faces or not thin.any():
        return np.zeros_like(thin), 0
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(thin.astype(np.uint8), connectivity=8)
    longest = np.maximum(boxes[:, cv2.CC_STAT_WIDTH], boxes[:, cv2.CC_STAT_HEIGHT])
    speck = np.zeros(count, np.bool_)
    for face in faces:
        left, top, right, bottom = (max(0, round(side)) for side in face.box)
        inside = np.unique(labels[top:bottom, left:right])
        speck[inside] |= longest[inside] < (right - left) / 2
    speck[0] = False
    return speck[labels], int(speck.sum())


def _wide_areas(where: Mask, radius: float) -> tuple[Mask, int]:
    """Areas that hold a circle of that radius, pixels; beyond the photograph's border they count as going on."""
    if not where.any():
        return np.zeros_like(where), 0
    plane = where.astype(np.uint8)
    count, labels = cv2.connectedComponents(plane, connectivity=8)
    depth = cv2.distanceTransform(plane, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    wide = np.zeros(count, np.bool_)
    wide[labels[depth >= radius]] = True
    wide[0] = False
    return wide[labels], int(wide.sum())

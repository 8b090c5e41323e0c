"""Steps of lightness where tiles meet: what a stale, shifted or differently toned tile leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.colour_space import Floats
from pipeline.honesty.proof import Proof
from pipeline.stage import Outcome
from pipeline.tiles import cut

if TYPE_CHECKING:
    from pipeline.record import Event

# Pixels of the grid on either side whose means are compared.
_REACH = 6


def seam(residual: Floats, proof: Proof, events: Sequence[Event]) -> float | None:
    """The largest step of lightness (L*) along a border of tiles, less the largest of the same in the middle of tiles; 0
    where that is larger. None where no stage worked in tiles of `tile` and `halo`, or one tile holds the photograph.

    residual: h x w, the output's lightness less the expected one.
    """
    worst: float | None = None
    for tile, halo in _tilings(events):
        for axis, side in enumerate(proof.shape):
            plane = residual if axis == 1 else np.ascontiguousarray(residual.T)
            across = cut(proof.shape[1 - axis], tile, halo)
            found = _along(plane, cut(side, tile, halo), across, proof.step)
            if found is not None:
                worst = found if worst is None else max(worst, found)
    return worst


def _tilings(events: Sequence[Event]) -> Iterator[tuple[int, int]]:
    for event in events:
        parameters: dict[str, Any] = json.loads(event.parameters)
        if event.outcome == Outcome.APPLIED and {"tile", "halo"} <= parameters.keys():
            # A smaller tile is in the findings where memory forced one.
            yield json.loads(event.findings).get("tile", parameters["tile"]), parameters["halo"]


def _along(
    plane: Floats, along: Sequence[tuple[int, int]], across: Sequence[tuple[int, int]], step: int
) -> float | None:
    """Borders between the tiles of one side, as columns of `plane`. along, across: tiles of both sides, in pixels of the
    scan."""
    if len(along) < 2:
        return None
    overlaps = [(second[0], first[1]) for first, second in pairwise(along)]
    # Tiles are cross-faded over the middle half of what they share.
    fade = max((end - start) // 4 for start, end in overlaps) // step + 1
    borders = [(start + end) // 2 // step for start, end in overlaps]
    middles = [(start + end) // 2 // step for start, end in along]
    rows = [slice(start // step, max(start // step + 1, end // step)) for start, end in across]
    at_borders, elsewhere = (_step(plane, places, fade, rows) for places in (borders, middles))
    return None if at_borders is None else max(0.0, at_borders - (elsewhere or 0.0))


def _step(plane: Floats, places: Sequence[int], fade: int, rows: Sequence[slice]) -> float | None:
    """The largest difference between the means of what lies left and right of a column, over the rows of one tile."""
    found = []
    for place in places:
        left, right = (
            plane[:, max(0, place - fade - _REACH) : max(0, place - fade)],
            plane[:, place + fade :][:, :_REACH],
        )
        if left.shape[1] and right.shape[1]:
            step = right.mean(axis=1) - left.mean(axis=1)
            found += [abs(float(step[part].mean())) for part in rows if len(step[part])]
    return max(found, default=None)

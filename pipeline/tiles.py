"""Runs a network over a photograph of any size in tiles of one shape.

Sides are cut into as few tiles as the largest one allows, and tiles are then as small as that many may be, so that no more
is computed twice than the overlaps ask for. A tile never reaches over the photograph's border: the last one of a row is moved
back inside instead of being padded, so borders look exactly as they would without tiles. Neighbours overlap by two halos; the
outer parts of each overlap, where a network misses its surroundings, are thrown away and the middle is cross-faded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import is_out_of_memory

Array = NDArray[np.float32]
Network = Callable[[Array], Array]
Window = tuple[slice, slice]

# Smaller tiles would be mostly overlap.
_SMALLEST = 64
# Sides of tiles are multiples of it, so that photographs of many sizes have few shapes of tiles.
_GRAIN = 8


@dataclass(frozen=True, slots=True)
class Tiling:
    """tile: the longest side in pixels of the input. halo: half the overlap. batch: tiles in one call of the network."""

    tile: int = 192
    halo: int = 16
    batch: int = 4

    def smaller(self) -> Tiling | None:
        """The next one to try where memory is short: half the batch, then half the tile; None where neither can be halved."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.tile // 2 < max(_SMALLEST, 4 * self.halo):
            return None
        return replace(self, tile=self.tile // 2)

    def __post_init__(self) -> None:
        if self.halo < 0 or self.batch < 1 or self.tile <= 2 * self.halo:
            raise ValueError(f"a tile of {self.tile} cannot overlap by two halos of {self.halo}")


def spans(length: int, tile: int, halo: int) -> list[tuple[int, int]]:
    """Start and end of each tile along one side: equal lengths, inside 0..length, overlapping by >= 2 halo."""
    if length <= tile:
        return [(0, length)]
    count = -(-(length - 2 * halo) // (tile - 2 * halo))
    last = length - tile
    return [(start := round(i * last / (count - 1)), start + tile) for i in range(count)]


def cut(length: int, tile: int, halo: int) -> list[tuple[int, int]]:
    """`spans` of the shortest tiles of which as few are enough as of tiles of `tile`; a side is a multiple of 8, where `tile`
    allows it."""
    if length <= tile:
        return [(0, length)]
    count = -(-(length - 2 * halo) // (tile - 2 * halo))
    least = -(-(length + 2 * halo * (count - 1)) // count)
    return spans(length, min(tile, -(-least // _GRAIN) * _GRAIN), halo)


def windows(height: int, width: int, tile: int, halo: int) -> Iterator[tuple[Window, Window, Window]]:
    """For a network whose answer depends on at most `halo` pixels around: what it sees, what of its answer counts, and where
    that lies. The counted parts cover every pixel once, and start at multiples of tile - 2 halo."""
    step = tile - 2 * halo
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, columns = (_seen(start, step, halo, side) for start, side in ((top, height), (left, width)))
            yield (rows[0], columns[0]), (rows[1], columns[1]), (rows[2], columns[2])


def _seen(start: int, step: int, halo: int, side: int) -> tuple[slice, slice, slice]:
    end, before, after = min(start + step, side), max(0, start - halo), min(start + step + halo, side)
    return slice(before, after), slice(start - before, end - before), slice(start, end)


def ramps(windows: Sequence[tuple[int, int]], scale: int) -> list[Array]:
    """How much each output row (or column) of each tile counts; over all tiles the weights of a pixel sum to 1."""
    found = [_ramp(index, windows, scale) for index in range(len(windows))]
    total = np.zeros(windows[-1][1] * scale, np.float32)
    for (start, end), ramp in zip(windows, found, strict=True):
        total[start * scale : end * scale] += ramp
    # Only where three tiles meet does the sum differ from 1.
    return [ramp / total[start * scale : end * scale] for (start, end), ramp in zip(windows, found, strict=True)]


def _ramp(index: int, windows: Sequence[tuple[int, int]], scale: int) -> Array:
    start, end = windows[index]
    ramp = np.ones((end - start) * scale, np.float32)
    if index > 0:
        overlap = (windows[index - 1][1] - start) * scale
        ramp[:overlap] = _fade(overlap)
    if index < len(windows) - 1:
        overlap = (end - windows[index + 1][0]) * scale
        ramp[len(ramp) - overlap :] *= 1.0 - _fade(overlap)
    return ramp


def _fade(overlap: int) -> Array:
    """0 over the first three eighths of an overlap, a line through its middle quarter, 1 over the rest: the nearer to a tile's
    border, the further its answer is from the one without tiles."""
    outer = 3 * overlap // 8
    middle = overlap - 2 * outer
    line = (np.arange(middle, dtype=np.float32) + np.float32(0.5)) / np.float32(middle)
    return np.concatenate([np.zeros(outer, np.float32), line, np.ones(outer, np.float32)])


def run_in_memory(network: Network, image: Array, scale: int, tiling: Tiling) -> tuple[Array, Tiling]:
    """`run_tiled` with the first tiling that memory allows, and that tiling. What was computed with a larger one is thrown
    away, so that no photograph is made of two. Raises the network's own error where the smallest fails as well."""
    while True:
        try:
            return run_tiled(network, image, scale, tiling), tiling
        except (MemoryError, RuntimeError) as error:
            # torch.OutOfMemoryError is a RuntimeError, and on CPUs torch raises a plain one.
            smaller = tiling.smaller()
            if smaller is None or not is_out_of_memory(error):
                raise
            tiling = smaller


def run_tiled(network: Network, image: Array, scale: int, tiling: Tiling) -> Array:
    """image: H x W x 3 float32 in 0..1. Returns sH x sW x 3 float32, not clipped.

    network: N x 3 x h x w float32 to N x 3 x sh x sw float32. The same bytes for any batch size, as long as the network
    treats the members of a batch alike. Tiles are summed in reading order.
    """
    height, width = image.shape[:2]
    rows, columns = cut(height, tiling.tile, tiling.halo), cut(width, tiling.tile, tiling.halo)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    if len(rows) == len(columns) == 1:
        return np.ascontiguousarray(network(planes[None])[0].transpose(1, 2, 0))
    down, across = ramps(rows, scale), ramps(columns, scale)
    result = np.zeros((height * scale, width * scale, planes.shape[0]), np.float32)
    places = [(r, c) for r in range(len(rows)) for c in range(len(columns))]
    for group in _groups(places, tiling.batch):
        tiles = np.stack([planes[:, slice(*rows[r]), slice(*columns[c])] for r, c in group])
        for (r, c), tile in zip(group, network(tiles), strict=True):
            top, left = rows[r][0] * scale, columns[c][0] * scale
            patch = result[top : top + tile.shape[1], left : left + tile.shape[2]]
            _blend(patch, tile.transpose(1, 2, 0), down[r], across[c])
    return result


def _blend(patch: Array, tile: Array, down: Array, across: Array) -> None:
    """Adds a tile to where it belongs, in place. Most of it is nobody else's, or does not count: only the bands in which it is
    cross-faded are multiplied and added up."""
    rows, columns = _parts(down), _parts(across)
    for above, row in enumerate(rows):
        for beside, column in enumerate(columns):
            block = (row, column)
            if above == beside == _ALONE:
                patch[block] = tile[block]
            elif row.stop > row.start and column.stop > column.start:
                patch[block] += tile[block] * np.outer(down[row], across[column])[..., None]


# The place of what is one tile's alone among what `_parts` gives.
_ALONE = 1


def _parts(ramp: Array) -> tuple[slice, slice, slice]:
    """Of what counts: where it fades in, where it is all there is, where it fades out."""
    [counts] = np.nonzero(ramp)
    [whole] = np.nonzero(ramp == 1)
    first, last = int(counts[0]), int(counts[-1]) + 1
    start, end = (int(whole[0]), int(whole[-1]) + 1) if len(whole) else (last, last)
    if end - start != len(whole):
        # Three tiles meet in the middle of it.
        start = end = last
    return slice(first, start), slice(start, end), slice(end, last)


def _groups(places: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]

"""A field from its gradient: Poisson's equation on an area of any outline, by multigrid."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.photograph import Mask

Plane = NDArray[np.float32]

# At most so many V-cycles; fewer once the rest is this part of what it was. Mostly 5 to 10.
_CYCLES = 40
_REST = 1e-4
_SWEEPS = 2
_COARSEST_SWEEPS = 40
_COARSEST = 6
# Coarse cells count as inside where at least this part of them is.
_FEWEST = 0.75
_OVER, _COARSEST_OVER = np.float32(1.15), np.float32(1.5)


@dataclass(frozen=True, slots=True)
class _Level:
    """One grid. red, black: the cells to solve for, as on a chessboard; neighbours: how many lie in the picture."""

    free: Plane
    red: Plane
    black: Plane
    neighbours: Plane


def differences(plane: Plane) -> tuple[Plane, Plane]:
    """To the right and to the lower neighbour; 0 at the last column and row. H x W or H x W x C."""
    right, down = np.zeros_like(plane), np.zeros_like(plane)
    right[:, :-1] = plane[:, 1:] - plane[:, :-1]
    down[:-1] = plane[1:] - plane[:-1]
    return right, down


def field_of(right: Plane, down: Plane, free: Mask) -> Plane:
    """The field that is 0 where `free` is not set and whose differences come closest to those given (least squares).

    right, down: H x W float32 as `differences` gives them. Beyond the picture's border the field is free to end anywhere.
    """
    divergence = right + down
    divergence[:, 1:] -= right[:, :-1]
    divergence[1:] -= down[:-1]
    levels = _levels(free)
    padded = np.zeros((free.shape[0] + 2, free.shape[1] + 2), np.float32)
    aim = _REST * float(np.abs(divergence * levels[0].free).max())
    for _ in range(_CYCLES):
        _cycle(padded, divergence, levels)
        if np.abs(_rest(padded, divergence, levels[0])).max() <= aim:
            break
    return padded[1:-1, 1:-1].copy()


def _levels(free: Mask) -> list[_Level]:
    levels = []
    while True:
        height, width = free.shape
        odd = ((np.arange(height)[:, None] + np.arange(width)[None, :]) & 1).astype(bool)
        inside = np.pad(np.ones(free.shape, np.float32), 1)
        levels.append(
            _Level(
                free.astype(np.float32),
                (free & odd).astype(np.float32),
                (free & ~odd).astype(np.float32),
                np.maximum(_around(inside), 1),
            )
        )
        if min(height, width) <= _COARSEST:
            return levels
        # Cells over the lower and right border are judged by what of them lies in the picture.
        whole = _halved(np.ones(free.shape, np.float32))
        coarser = _halved(free.astype(np.float32)) >= _FEWEST * whole
        if not coarser.any():
            return levels
        free = coarser


def _around(padded: Plane) -> Plane:
    total: Plane = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return total


def _halved(plane: Plane) -> Plane:
    """Sums over 2 x 2 cells."""
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)))
    total: Plane = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).sum(axis=(1, 3))
    return total


def _rest(padded: Plane, divergence: Plane, level: _Level) -> Plane:
    """What is left of the equation, on the cells to solve for."""
    rest: Plane = (divergence - _around(padded) + level.neighbours * padded[1:-1, 1:-1]) * level.free
    return rest


def _relax(padded: Plane, divergence: Plane, level: _Level, sweeps: int, over: np.float32) -> None:
    """Gauss-Seidel with over-relaxation, one colour of the chessboard after the other, in place."""
    for _ in range(sweeps):
        for colour in (level.red, level.black):
            step = (_around(padded) - divergence) / level.neighbours - padded[1:-1, 1:-1]
            padded[1:-1, 1:-1] += over * step * colour


def _cycle(padded: Plane, divergence: Plane, levels: list[_Level]) -> None:
    level = levels[0]
    if len(levels) == 1:
        _relax(padded, divergence, level, _COARSEST_SWEEPS, _COARSEST_OVER)
        return
    _relax(padded, divergence, level, _SWEEPS, _OVER)
    rest = _rest(padded, divergence, level)
    height, width = levels[1].free.shape
    error = np.zeros((height + 2, width + 2), np.float32)
    _cycle(error, _halved(rest), levels[1:])
    finer = cv2.resize(error[1:-1, 1:-1], (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    step = np.pad(finer[: rest.shape[0], : rest.shape[1]] * level.free, 1)
    # As long a step as brings most: a coarse grid's answer fits ragged outlines badly, and may not lead away.
    bent = float((step[1:-1, 1:-1] * (_around(step) - level.neighbours * step[1:-1, 1:-1])).sum(dtype=np.float64))
    if bent < 0:
        padded += np.float32((step[1:-1, 1:-1] * rest).sum(dtype=np.float64) / bent) * step
    _relax(padded, divergence, level, _SWEEPS, _OVER)

"""Shapes of partial opacity, drawn with anti-aliasing: what damage is made of before it has a colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Points = NDArray[np.float32]

# Bits behind the point of OpenCV's fixed-point coordinates.
_SHIFT = 4
# Patches of up to this many pixels are drawn 4 times finer than they will be, larger ones 2 times.
_FINE = 1 << 19
# Noise is interpolated from its grid in one step up to twice as many pixels a cell.
_COARSE = 12
# Of lines thinner than this on the fine canvas a rounded width would be seen.
_THIN = 8.0


@dataclass(frozen=True, slots=True)
class Patch:
    """Opacity over a rectangle. alpha: h x w float32, 0..1. top, left: where its first pixel lies."""

    top: int
    left: int
    alpha: Plane

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def times(self, factor: Plane | float) -> Patch:
        """factor: a number, or a plane of the patch's own size; opacity stays in 0..1."""
        return Patch(self.top, self.left, np.clip(self.alpha * factor, 0, 1).astype(np.float32, copy=False))

    def softened(self, sigma: float) -> Patch:
        """Blurred by a Gaussian of `sigma` pixels, within its rectangle."""
        if sigma < 0.15 or self.alpha.size == 0:
            return self
        return Patch(self.top, self.left, cv2.GaussianBlur(self.alpha, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


class Sketch:
    """A canvas over a part of the photograph, finer than its pixels. Coordinates are the photograph's, x before y."""

    def __init__(self, shape: tuple[int, int], around: Points | None = None, margin: float = 2.0) -> None:
        """shape: height and width of the photograph. around: N x 2, what will be drawn; without, all of the photograph."""
        height, width = shape
        self.top, self.left, bottom, right = 0, 0, height, width
        if around is not None:
            low, high = np.floor(around.min(axis=0) - margin), np.ceil(around.max(axis=0) + margin)
            self.left, self.top = (int(min(max(v, 0), size)) for v, size in zip(low, (width, height), strict=True))
            right, bottom = (int(min(max(v, 0), size)) for v, size in zip(high, (width, height), strict=True))
        self.height, self.width = max(0, bottom - self.top), max(0, right - self.left)
        self.fineness = 4 if self.height * self.width <= _FINE else 2
        self._canvas = np.zeros((self.height * self.fineness, self.width * self.fineness), np.uint8)

    @property
    def empty(self) -> bool:
        return self._canvas.size == 0

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        # Pixel centres lie at whole numbers for OpenCV and at halves for an area.
        fine = (points - (self.left, self.top)) * self.fineness - 0.5
        fixed: NDArray[np.int32] = np.rint(np.clip(fine, -1e5, 1e5) * (1 << _SHIFT)).astype(np.int32)
        return fixed

    def stroke(self, points: Points, widths: Plane, opacities: Plane) -> None:
        """A line through N points, N widths in pixels, N opacities 0..1; each piece has those of its first point."""
        if self.empty:
            return
        fixed = self._fixed(points)
        thick, share = _thicknesses(widths * self.fineness)
        values = np.rint(share * np.clip(opacities, 0, 1) * 255).astype(int).tolist()
        corners = fixed.tolist()
        for start, end, thickness, value in zip(corners[:-1], corners[1:], thick, values, strict=False):
            if value:
                cv2.line(self._canvas, start, end, value, thickness, cv2.LINE_8, _SHIFT)

    def fill(self, points: Points, opacity: float = 1.0) -> None:
        """A polygon of N points."""
        if not self.empty:
            cv2.fillPoly(self._canvas, [self._fixed(points)], round(255 * min(1.0, opacity)), cv2.LINE_8, _SHIFT)

    def patch(self) -> Patch:
        if self.empty:
            return Patch(self.top, self.left, np.zeros((self.height, self.width), np.float32))
        small = cv2.resize(self._canvas, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return Patch(self.top, self.left, small.astype(np.float32) * np.float32(1 / 255))


def _thicknesses(widths: Plane) -> tuple[list[int], Plane]:
    """What to ask OpenCV for, and the opacity that makes up for what it draws instead.

    Between pixels it draws lines of an odd width only: one more than asked for, where that is even (measured).
    """
    halves = np.maximum(0, np.where(widths < _THIN, np.ceil((widths - 1) / 2), np.rint((widths - 1) / 2)))
    return np.maximum(1, 2 * halves).astype(int).tolist(), np.minimum(1, widths / (2 * halves + 1)).astype(np.float32)


def warped(mask: Plane, matrix: NDArray[np.float64], shape: tuple[int, int]) -> Patch:
    """A mask, h x w float32, laid over the photograph by a 2 x 3 matrix from its coordinates to the photograph's."""
    height, width = mask.shape
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    placed = (corners @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    frame = Sketch(shape, placed, 1.0)
    if frame.empty:
        return frame.patch()
    finer = 2
    local = matrix.copy()
    local[:, 2] -= (frame.left, frame.top)
    local *= finer
    # As above: from corners of pixels to their centres.
    local[:, 2] += local[:, :2] @ (0.5, 0.5) - 0.5
    size = (frame.width * finer, frame.height * finer)
    fine = cv2.warpAffine(mask, local, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    alpha = cv2.resize(fine, (frame.width, frame.height), interpolation=cv2.INTER_AREA)
    return Patch(frame.top, frame.left, np.clip(alpha, 0, 1))


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 1) -> Plane:
    """Smooth noise about 0, H x W float32, about -1..1: random values on a grid `cell` pixels wide, interpolated by cubics,
    each octave half as wide and half as strong (Perlin's fractal sum)."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        total += _octave(rng, shape, max(1.0, cell / 2**octave)) * np.float32(0.5**octave)
    return total


def _octave(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Plane:
    height, width = shape
    if cell > 2 * _COARSE:
        # What is that smooth is made smaller first.
        times = int(cell / _COARSE)
        small = _octave(rng, (-(-height // times), -(-width // times)), cell / times)
        large = (small.shape[1] * times, small.shape[0] * times)
        whole: Plane = cv2.resize(small, large, interpolation=cv2.INTER_CUBIC)
        return whole[:height, :width]
    grid = rng.uniform(-1, 1, (int(height / cell) + 3, int(width / cell) + 3)).astype(np.float32)
    wide = (round(grid.shape[1] * cell), round(grid.shape[0] * cell))
    # A cell is left over, so that the grid may lie anywhere.
    y, x = (int(v) for v in rng.uniform(0, cell, 2))
    drawn: Plane = cv2.resize(grid, wide, interpolation=cv2.INTER_CUBIC)
    return drawn[y : y + height, x : x + width]


def smooth_line(rng: np.random.Generator, count: int, knots: int) -> Plane:
    """Smooth noise in 0..1 along a line of `count` points, from `knots` random values."""
    knots = max(3, knots)
    values = rng.random(knots)
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, knots), values).astype(np.float32)


def walk(
    rng: np.random.Generator, start: Sequence[float], angle: float, length: float, wander: float, bend: float = 0.0
) -> Points:
    """A path of N x 2 points from `start`: heading `angle` (radians) that turns by `bend` over the whole length and is
    disturbed by `wander` radians a step. Steps are about 3 pixels."""
    count = int(min(400, max(4, length / 3)))
    turns = rng.normal(0, wander, count) + bend / count
    heading = angle + np.cumsum(turns)
    step = length / count
    moves = np.stack([np.cos(heading), np.sin(heading)], axis=1) * step
    return np.vstack([[start], np.asarray(start) + np.cumsum(moves, axis=0)]).astype(np.float32)


def rough_loop(rng: np.random.Generator, centre: Sequence[float], radius: float, points: int, rough: float) -> Points:
    """An irregular closed outline: a circle whose radius varies by the fraction `rough`, stretched and turned."""
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    phases = rng.uniform(0, 2 * np.pi, 5)
    waves = sum(np.sin(k * turn + phases[k - 1]) / k for k in range(1, 6))
    reach = radius * np.clip(1 + rough * (0.6 * waves + rng.normal(0, 0.5, points)), 0.15, 2.5)
    stretch, tilt = rng.uniform(0.55, 1.0), rng.uniform(0, np.pi)
    flat = np.stack([np.cos(turn) * reach, np.sin(turn) * reach * stretch], axis=1)
    rotation = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    outline: Points = (flat @ rotation.T + np.asarray(centre)).astype(np.float32)
    return outline

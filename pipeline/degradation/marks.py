"""One mark of damage: an opacity, a colour, and how they meet the picture. And what those who make marks have to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind
from pipeline.degradation.draw import Patch, Plane
from pipeline.degradation.shapes import Placing, Shape, Shapes
from pipeline.photograph import LUMA

# C x H x W float32, 0..1; C is 1 (grey) or 3 (RGB).
Planes = NDArray[np.float32]
Colour = tuple[float, float, float]

# Damage is drawn for photographs whose shorter side is this long; on larger ones it is larger, but less than they are.
_SIDE = 256.0
_GROWTH = 0.5


class How(StrEnum):
    """OVER: the colour lies over the picture. FILTER: the picture is seen through the colour."""

    OVER = "over"
    FILTER = "filter"


@dataclass(frozen=True, slots=True)
class Mark:
    """kind: what it is to a detector. effect: name of the setting that made it. real: its shape is from the library."""

    kind: Kind
    effect: str
    patch: Patch
    colour: Colour
    how: How = How.OVER
    real: bool = False

    def apply(self, planes: Planes) -> None:
        """Lay the mark over the picture, in place."""
        rows, columns = self.patch.window
        region, alpha = planes[:, rows, columns], self.patch.alpha
        for plane, value in zip(region, tint(self.colour, len(planes)), strict=True):
            if self.how is How.OVER:
                plane += alpha * (np.float32(value) - plane)
            else:
                plane *= 1 - alpha * np.float32(1 - value)


@dataclass(frozen=True, slots=True)
class Ground:
    """What damage falls on. size: height and width. paper: colour of the bare print. behind: of what lies behind it. shapes:
    the library. real, white: as in the settings."""

    size: tuple[int, int]
    paper: Colour
    behind: Colour
    shapes: Shapes
    real: float
    white: float

    @property
    def scale(self) -> float:
        """How much wider damage is than on 256 pixels."""
        return float(np.clip((min(self.size) / _SIDE) ** _GROWTH, 0.6, 3.0))

    @property
    def short(self) -> float:
        return float(min(self.size))

    def pieces(self, count: tuple[int, int], rng: np.random.Generator) -> int:
        """How many pieces: with the square root of the area, since larger pictures also have larger pieces."""
        height, width = self.size
        factor = float(np.clip((height * width) ** 0.5 / _SIDE, 0.25, 4.0))
        return max(1, round(int(rng.integers(count[0], count[1] + 1)) * factor))

    def point(self, rng: np.random.Generator) -> tuple[float, float]:
        """Anywhere on the picture: x, y."""
        return float(rng.uniform(0, self.size[1])), float(rng.uniform(0, self.size[0]))

    def shape(self, rng: np.random.Generator, names: Sequence[str]) -> tuple[str, Shape] | None:
        """A real shape of these classes, with its class, where chance and the library give one."""
        return self.shapes.pick(rng, names) if rng.random() < self.real else None

    def placed(self, shape: Shape, rng: np.random.Generator, longest: float) -> Patch:
        """A real shape anywhere, turned and mirrored at random, its longest side about this many pixels long."""
        placing = Placing(
            self.point(rng), longest / shape.longest, float(rng.uniform(0, 2 * np.pi)), bool(rng.random() < 0.5)
        )
        return shape.place(placing, self.size)


def tint(colour: Colour, channels: int) -> Iterator[float]:
    """The colour's values for RGB, or its luma for grey."""
    return iter(colour) if channels == 3 else iter((float(np.dot(colour, LUMA)),))


def bare_paper(ground: Ground, rng: np.random.Generator) -> Colour:
    """Where the emulsion is gone: paper, fresher than the picture's own white."""
    fresh = rng.uniform(0.2, 0.8)
    red, green, blue = (float(min(1.0, value + (0.98 - value) * fresh)) for value in ground.paper)
    return red, green, blue


def dark(rng: np.random.Generator) -> Colour:
    """Dirt and shadows: near black, a little warm."""
    level, warm = rng.uniform(0.03, 0.28), rng.uniform(0, 0.3)
    return float(level), float(level * (1 - 0.5 * warm)), float(level * (1 - warm))


def uneven(patch: Patch, noise: Plane, least: float) -> Patch:
    """Opacity that varies with noise (about -1..1) between `least` and 1."""
    return patch.times(least + (1 - least) * np.clip(0.5 + 0.7 * noise, 0, 1))

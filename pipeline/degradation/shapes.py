"""Real shapes of damage: outlines and masks that were traced from scans, as a library that can be split.

Layout of a folder: `masks/<class>/*.png`, 1-bit masks of one artefact or of a field of them, and `polygons/*.json.gz`, JSON
objects of `{"points": [{"x", "y"}], "label": {"name"}}`. It is that of the Film Damage Simulator (Ivanova et al., Simulating
analogue film damage to analyse and improve artefact restoration on high-resolution scans, Eurographics 2023).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.degradation.draw import Patch, Points, Sketch, warped
from pipeline.errors import JobError

# Blur that takes the stairs off a 1-bit mask before it is turned, in its own pixels, and what makes up for thin lines.
_SMOOTHING = 0.7
_GAIN = 1.5


@dataclass(frozen=True, slots=True)
class MaskShape:
    """A 1-bit mask. bits: packed along rows. size: height and width."""

    bits: NDArray[np.uint8]
    size: tuple[int, int]

    @property
    def longest(self) -> float:
        return float(max(self.size))

    def content(self) -> bytes:
        return repr(self.size).encode() + self.bits.tobytes()

    def place(self, placing: Placing, shape: tuple[int, int]) -> Patch:
        height, width = self.size
        mask = np.unpackbits(self.bits, axis=1, count=width).astype(np.float32)
        mask = cv2.copyMakeBorder(mask, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0)
        soft = np.minimum(np.float32(1), cv2.GaussianBlur(mask, (0, 0), _SMOOTHING) * np.float32(_GAIN))
        return warped(soft, placing.matrix((width + 4, height + 4)), shape)


@dataclass(frozen=True, slots=True)
class PolygonShape:
    """An outline. points: N x 2 float32, x before y, from 0."""

    points: Points

    @property
    def longest(self) -> float:
        return float(self.points.max())

    @property
    def thickness(self) -> float:
        """About how wide it is where it is long."""
        outline = self.points[:, None]
        return max(0.5, 2 * cv2.contourArea(outline) / cv2.arcLength(outline, closed=True))

    def content(self) -> bytes:
        return self.points.tobytes()

    def place(self, placing: Placing, shape: tuple[int, int]) -> Patch:
        outline = self.placed(placing)
        sketch = Sketch(shape, outline)
        sketch.fill(outline)
        return sketch.patch()

    def placed(self, placing: Placing) -> Points:
        """The outline's points on the photograph."""
        width, height = self.points.max(axis=0)
        matrix = placing.matrix((float(width), float(height)))
        return (_rounded(self.points) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


Shape = MaskShape | PolygonShape


def _rounded(points: Points) -> Points:
    """A closed outline with its corners cut twice (Chaikin, 1974): people trace round things with few points."""
    for _ in range(2):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)
    return points


@dataclass(frozen=True, slots=True)
class Placing:
    """Where and how a shape lies. centre: x, y in pixels. scale: its pixels to the photograph's. angle: radians."""

    centre: tuple[float, float]
    scale: float
    angle: float
    mirrored: bool

    def matrix(self, size: tuple[float, float]) -> NDArray[np.float64]:
        """2 x 3, from the coordinates of a shape of this width and height to the photograph's."""
        cos, sin = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        flip = -1.0 if self.mirrored else 1.0
        turn = np.array([[cos * flip, -sin], [sin * flip, cos]])
        moved = np.asarray(self.centre) - turn @ (np.asarray(size) / 2)
        return np.hstack([turn, moved[:, None]])


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """A library of shapes by class: the names of the folders of masks, and polygons as `polygon-<name>`. Read-only."""

    classes: Mapping[str, tuple[Shape, ...]]

    @classmethod
    def none(cls) -> Shapes:
        """No real shape: everything is drawn by procedure."""
        return cls({})

    @classmethod
    def load(cls, folder: str | Path, part: int = 0, of: int = 1) -> Shapes:
        """The shapes of a folder, or one of `of` disjoint parts of them, together all of them.

        Raises JobError where there is no shape, or one cannot be read.
        """
        if not 0 <= part < of:
            raise ValueError(f"part {part} of {of} is none")
        found: dict[str, list[Shape]] = {}
        for name, shape in _read(Path(folder)):
            if of == 1 or _number(shape, "parts") % of == part:
                found.setdefault(name, []).append(shape)
        if not found:
            raise JobError(f"{folder} holds no shapes: neither masks/<class>/*.png nor polygons/*.json.gz")
        return cls({name: tuple(shapes) for name, shapes in sorted(found.items())})

    def split(self, seed: int, share: float) -> tuple[Shapes, Shapes]:
        """Two disjoint libraries, the first with about `share` of the shapes. Which side a shape is on depends on its
        content and the seed alone, so equal shapes stay together, whatever else the folder holds."""
        if not 0 <= share <= 1:
            raise ValueError(f"share must be 0..1, not {share}")
        sides: tuple[dict[str, tuple[Shape, ...]], dict[str, tuple[Shape, ...]]] = ({}, {})
        for name, shapes in self.classes.items():
            first = [_number(shape, str(seed)) < share * 2**64 for shape in shapes]
            for side, wanted in zip(sides, (True, False), strict=True):
                kept = tuple(shape for shape, is_first in zip(shapes, first, strict=True) if is_first is wanted)
                if kept:
                    side[name] = kept
        return Shapes(sides[0]), Shapes(sides[1])

    def pick(self, rng: np.random.Generator, names: Sequence[str]) -> tuple[str, Shape] | None:
        """A class of these and one of its shapes, both at random; None where the library has none of them."""
        present = [name for name in names if name in self.classes]
        if not present:
            return None
        name = present[int(rng.integers(len(present)))]
        shapes = self.classes[name]
        return name, shapes[int(rng.integers(len(shapes)))]

    def __len__(self) -> int:
        return sum(len(shapes) for shapes in self.classes.values())

    def digests(self) -> frozenset[str]:
        """SHA-256 of every shape: two libraries are disjoint where these are."""
        return frozenset(
            hashlib.sha256(shape.content()).hexdigest() for shapes in self.classes.values() for shape in shapes
        )


def _number(shape: Shape, salt: str) -> int:
    digest = hashlib.sha256(f"{salt}\0".encode() + shape.content()).digest()
    return int.from_bytes(digest[:8], "big")


def _read(folder: Path) -> Iterable[tuple[str, Shape]]:
    try:
        for path in sorted(folder.glob("masks/*/*.png")):
            yield path.parent.name, _mask(path)
        for path in sorted(folder.glob("polygons/*.json.gz")):
            yield from _polygons(path)
    except OSError as error:
        raise JobError(f"the shapes in {folder} cannot be read: {error}") from error


def _mask(path: Path) -> MaskShape:
    """Without its empty margin."""
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None or not image.any():
        raise JobError(f"{path} is no mask: an image with something white on black is wanted")
    left, top, width, height = cv2.boundingRect(image)
    return MaskShape(np.packbits(image[top : top + height, left : left + width] > 127, axis=1), (height, width))


def _polygons(path: Path) -> Iterable[tuple[str, PolygonShape]]:
    try:
        marks: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
        for mark in marks.values():
            points = np.array([(point["x"], point["y"]) for point in mark["points"]], np.float32)
            if len(points) >= 3:
                name = "polygon-" + str(mark["label"]["name"]).lower().replace(" ", "-")
                yield name, PolygonShape(points - points.min(axis=0))
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise JobError(f"{path} does not hold annotated polygons: {error!r}") from error

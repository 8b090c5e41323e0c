"""Outputs with planted hallucinations: faces, textures, strokes, over-smoothing, seams, stale tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.faces.composition import Sheet, lay_in
from pipeline.honesty.proof import block_mean
from pipeline.models.faces import TEMPLATE, align, similarity
from pipeline.photograph import Decision, Face, Pixels, Tone, as_unit, to_depth
from pipeline.tiles import cut
from tests.planted import Subject, matched

Image = NDArray[np.float32]
# Of the tiles that seams and stale tiles are planted in, pixels of the scan.
TILE, HALO = 96, 16


@dataclass(frozen=True)
class Ground:
    """What something is planted in. output: H x W x 1|3 uint16 sRGB, `scale` times as wide as the scan. scan: its pixels.
    faces: of the scan. other: the output of another photograph, of any size. donors: faces of other photographs."""

    scan: Pixels
    output: Pixels
    scale: int
    faces: Sequence[Face]
    other: Pixels
    donors: Sequence[Subject]


Plant = Callable[[Ground, np.random.Generator], Pixels | None]


def other_face(ground: Ground, rng: np.random.Generator) -> Pixels | None:
    """Another person in the place of a face, laid in as the pipeline would."""
    if not ground.faces or not ground.donors:
        return None
    face = ground.faces[rng.integers(len(ground.faces))]
    scan = np.repeat(ground.scan, 3, axis=2) if ground.scan.shape[2] == 1 else ground.scan
    aligned = align(scan, face)
    if aligned is None:
        return None
    donor = ground.donors[rng.integers(len(ground.donors))].patch()
    patch = matched(donor, aligned[0], Tone.COLOURED)
    return _laid(ground, face, patch, aligned[1])


def made_up_face(ground: Ground, rng: np.random.Generator) -> Pixels | None:
    """A face where none was, its eyes a fiftieth to a twelfth of the shorter side apart."""
    if not ground.donors:
        return None
    height, width = ground.scan.shape[:2]
    size = min(height, width) * rng.uniform(0.02, 0.08) / (TEMPLATE[1, 0] - TEMPLATE[0, 0])
    middle = np.array([width, height]) * rng.uniform(0.25, 0.75, 2)
    points = (TEMPLATE - TEMPLATE.mean(axis=0)) * size + middle
    matrix = similarity(points, TEMPLATE)
    donor = ground.donors[rng.integers(len(ground.donors))]
    face = replace(donor.face, landmarks=tuple(float(v) for v in points.ravel()))
    return None if matrix is None else _laid(ground, face, donor.patch(), matrix)


def _laid(ground: Ground, face: Face, patch: Image, matrix: NDArray[np.float64]) -> Pixels:
    pixels = ground.output.copy()
    affine = tuple(float(v) for v in matrix.ravel())
    placed = replace(
        face,
        patch=to_depth(np.clip(patch, 0, 1), np.dtype(np.uint16)),  # type: ignore[arg-type]
        affine=affine,
        strength=1.0,
        decision=Decision.ACCEPTED,
        mask=None,
        mask_kind="square",
    )
    lay_in(Sheet.of(pixels, ground.scale), placed)
    return pixels


def texture(ground: Ground, rng: np.random.Generator) -> Pixels:
    """Another photograph's finer half laid over an ellipse, 2 to 8 % of the range strong."""
    unit, strange = as_unit(ground.output), _like(ground.other, ground.output)
    fine = strange - cv2.GaussianBlur(strange, (0, 0), 2.0 * ground.scale).reshape(strange.shape)
    fine *= rng.uniform(0.02, 0.08) / max(1e-3, float(fine.std()))
    return _stored(unit + fine * _ellipse(unit.shape, rng)[..., None])


def between_pixels(ground: Ground, rng: np.random.Generator) -> Pixels | None:
    """Texture over an ellipse that averages to nothing on the scan's pixels, 3 to 10 % of the range strong."""
    if ground.scale == 1:
        return None
    unit = as_unit(ground.output)
    noise = cv2.GaussianBlur(rng.normal(size=unit.shape[:2]).astype(np.float32), (0, 0), ground.scale / 4)
    mean = block_mean(noise, ground.scale)
    noise -= np.repeat(np.repeat(mean, ground.scale, axis=0), ground.scale, axis=1)
    noise *= rng.uniform(0.03, 0.10) / noise.std()
    return _stored(unit + (noise * _ellipse(unit.shape, rng))[..., None])


def strokes(ground: Ground, rng: np.random.Generator) -> Pixels:
    """Three to eight lines and arcs, one to two pixels of the scan wide, 8 to 30 % of the range lighter or darker."""
    unit = as_unit(ground.output)
    height, width = unit.shape[:2]
    drawn = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(3, 9)):
        middle = (rng.uniform(0.2, 0.8, 2) * (width, height)).astype(int)
        reach = (rng.uniform(0.03, 0.12, 2) * min(height, width)).astype(int) + 2
        start, turn = rng.uniform(0, 360, 2)
        wide = max(1, round(ground.scale * rng.uniform(1, 2)))
        end = start + rng.uniform(60, 200)
        cv2.ellipse(drawn, middle.tolist(), reach.tolist(), turn, start, end, 1.0, wide, cv2.LINE_AA)
    sign = 1 if unit.mean() < 0.5 else -1
    return _stored(unit + sign * rng.uniform(0.08, 0.30) * drawn[..., None])


def smoothing(ground: Ground, rng: np.random.Generator) -> Pixels:
    """A blur or an edge-preserving filter over all of it, or over an ellipse."""
    unit = as_unit(ground.output)
    if rng.random() < 0.5:
        soft = cv2.GaussianBlur(unit, (0, 0), rng.uniform(1.0, 2.0) * ground.scale)
    else:
        soft = cv2.bilateralFilter(unit, 0, rng.uniform(0.08, 0.2), 2.0 * ground.scale)
    where = _ellipse(unit.shape, rng, 0.3, 0.5)[..., None] if rng.random() < 0.5 else np.float32(1)
    return _stored(unit + (soft.reshape(unit.shape) - unit) * where)


def toned_tile(ground: Ground, rng: np.random.Generator) -> Pixels | None:
    """One tile lighter or darker by 1.2 to 5 % of the range, cross-faded as tiles are."""
    where = _tile(ground, rng)
    if where is None:
        return None
    return _stored(as_unit(ground.output) + rng.choice([-1, 1]) * rng.uniform(0.012, 0.05) * where[..., None])


def shifted_tile(ground: Ground, rng: np.random.Generator) -> Pixels | None:
    """One tile moved by one to four pixels of the scan."""
    where = _tile(ground, rng)
    if where is None:
        return None
    unit = as_unit(ground.output)
    by = [round(float(v)) for v in rng.choice([-1, 1], 2) * rng.uniform(1, 4, 2) * ground.scale]
    return _stored(unit + (np.roll(unit, by, axis=(0, 1)) - unit) * where[..., None])


def stale_tile(ground: Ground, rng: np.random.Generator) -> Pixels | None:
    """One tile of another photograph."""
    where = _tile(ground, rng)
    if where is None:
        return None
    unit = as_unit(ground.output)
    return _stored(unit + (_like(ground.other, ground.output) - unit) * where[..., None])


PLANTS: Mapping[str, Plant] = {
    "another face": other_face,
    "a face where none was": made_up_face,
    "texture": texture,
    "detail between pixels": between_pixels,
    "strokes": strokes,
    "over-smoothing": smoothing,
    "tile of another tone": toned_tile,
    "tile shifted": shifted_tile,
    "tile of another photograph": stale_tile,
}


def _tile(ground: Ground, rng: np.random.Generator) -> Image | None:
    """How much of one tile counts at each pixel of the output."""
    height, width = ground.scan.shape[:2]
    rows, columns = cut(height, TILE, HALO), cut(width, TILE, HALO)
    if len(rows) * len(columns) < 2:
        return None
    where = np.zeros((height, width), np.float32)
    (top, bottom), (left, right) = rows[rng.integers(len(rows))], columns[rng.integers(len(columns))]
    # Up to the middle of each overlap, faded over its middle half.
    inner = [
        side if side in (0, end) else side + by for side, end, by in _ends(top, bottom, left, right, height, width)
    ]
    where[inner[0] : inner[1], inner[2] : inner[3]] = 1
    where = cv2.blur(where, (HALO, HALO), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(where, ground.output.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _ends(top: int, bottom: int, left: int, right: int, height: int, width: int) -> list[tuple[int, int, int]]:
    return [(top, height, HALO), (bottom, height, -HALO), (left, width, HALO), (right, width, -HALO)]


def _ellipse(shape: tuple[int, ...], rng: np.random.Generator, least: float = 0.1, most: float = 0.25) -> Image:
    """1 in an ellipse whose half axes are a share of the shorter side, with a soft edge."""
    height, width = shape[:2]
    drawn = np.zeros((height, width), np.float32)
    middle = (rng.uniform(0.25, 0.75, 2) * (width, height)).astype(int)
    axes = (rng.uniform(least, most, 2) * min(height, width)).astype(int) + 1
    cv2.ellipse(drawn, middle.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), min(height, width) / 80), np.float32)


def _like(other: Pixels, output: Pixels) -> Image:
    """Another photograph in the output's size and channels."""
    found = cv2.resize(as_unit(other), output.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    found = found.reshape(*output.shape[:2], -1)
    if output.shape[2] == 1:
        found = found.mean(axis=2, keepdims=True)
    return np.asarray(np.broadcast_to(found, output.shape), np.float32)


def _stored(unit: Image) -> Pixels:
    return to_depth(unit.astype(np.float32), np.dtype(np.uint16))

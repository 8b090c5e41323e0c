"""Photographs with known damage, for tests and benchmarks of removal: small, seeded, and of the shared data's real outlines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Plane = NDArray[np.float32]

TONES = ("colour", "sepia", "grey-rgb", "grey")
THIN = ("scratches", "hair", "hair-short", "lint", "dirt", "spots", "dots")
# Densities of red, green and blue: three browns, soot, two inks, and one that bleaches.
_DYES = (
    (0.10, 0.22, 0.45),
    (0.06, 0.15, 0.40),
    (0.25, 0.32, 0.45),
    (0.28, 0.28, 0.28),
    (0.40, 0.25, 0.12),
    (0.15, 0.35, 0.20),
    (-0.18, -0.16, -0.12),
)


@dataclass(frozen=True)
class Case:
    """clean, damaged: H x W x 1|3. given: the mask as a detector would give it. truth: where the damage really is."""

    clean: Image
    damaged: Image
    given: Mask
    truth: Mask


def toned(colour: Image, tone: str, rng: np.random.Generator) -> Plane:
    """H x W x 3, 0..1: as it is, or as a grey or sepia print of it with grain."""
    unit = colour.astype(np.float32) / 255
    if tone == "colour":
        return unit
    grey = unit @ np.array([0.299, 0.587, 0.114], np.float32)
    grey = np.clip(grey + rng.normal(0, 0.008, grey.shape), 0, 1).astype(np.float32)
    if tone == "sepia":
        return np.stack([grey**0.85, 0.95 * grey, 0.85 * grey**1.25], axis=2)
    return np.repeat(grey[..., None], 3, axis=2)


def stained(colour: Image, tone: str, rng: np.random.Generator, outlines: list[Path]) -> Case:
    """A stain multiplies light: soft and uneven inside, with a darker edge. The given outline is up to 4 pixels off."""
    print_ = toned(colour, tone, rng)
    inside = _blot(rng, print_.shape[:2])
    if outlines and rng.random() < 0.5:
        inside = _real(rng, print_.shape[:2], outlines[rng.integers(len(outlines))])
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    tide = rng.uniform(0, 1) * np.exp(-np.square((depth - 3) / rng.uniform(1.5, 3)))
    uneven = np.clip(1 + 0.25 * _noise(rng, depth.shape, rng.uniform(15, 40)), 0.3, 2)
    amount = cv2.GaussianBlur((inside * (uneven + tide)).astype(np.float32), (0, 0), rng.uniform(0.7, 2.0))
    dye = np.array(_DYES[rng.integers(len(_DYES))]) * rng.uniform(0.5, 1.3) * np.log(10)
    if tone == "grey":
        dye = np.full(3, dye.mean())
    damaged = _encoded(_decoded(print_) * np.exp(-amount[..., None] * dye))
    given = inside.astype(np.uint8)
    wrong = int(rng.integers(-4, 5))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(wrong) + 1,) * 2)
    moved = cv2.dilate(given, disc) if wrong > 0 else cv2.erode(given, disc)
    channels = 1 if tone == "grey" else 3
    clean, after = (
        np.ascontiguousarray(np.rint(np.clip(v[..., :channels], 0, 1) * 255).astype(np.uint8))
        for v in (print_, damaged)
    )
    return Case(clean, after, (moved if moved.any() else given) > 0, amount > 0.05)


def scratched(colour: Image, outline: Path, rng: np.random.Generator) -> Case:
    """A real outline of thin damage, opaque, light or dark; the mask is one pixel wider than the outline."""
    height, width = colour.shape[:2]
    drawn = np.rot90(cv2.imread(str(outline), cv2.IMREAD_GRAYSCALE) > 0, rng.integers(4))
    rows, columns = (min(side, have) for side, have in zip((height, width), drawn.shape, strict=True))
    top, left = (int(rng.integers(have - used + 1)) for have, used in zip(drawn.shape, (rows, columns), strict=True))
    mask = np.zeros((height, width), np.uint8)
    mask[:rows, :columns] = drawn[top : top + rows, left : left + columns]
    if mask.sum() < 20:
        mask[height // 2 : height // 2 + 3, width // 4 : width // 2] = 1
    wider = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0
    damaged = colour.copy()
    damaged[wider] = 255 if rng.random() < 0.7 else 20
    return Case(colour, damaged, wider, wider)


def colour_error(one: NDArray[Any], other: NDArray[Any], where: Mask) -> float:
    """Mean dE00 (CIE 2001) over a mask."""
    first, second = (rgb2lab(np.repeat(v, 3, axis=2) if v.shape[2] == 1 else v) for v in (_unit(one), _unit(other)))
    return float(deltaE_ciede2000(first, second)[where].mean())


def texture_likeness(one: NDArray[Any], other: NDArray[Any], where: Mask) -> float:
    """Correlation of what a Gaussian of 3 pixels takes away, over a mask; mean over the channels."""
    pairs = zip(np.moveaxis(_unit(one), 2, 0), np.moveaxis(_unit(other), 2, 0), strict=True)
    return float(np.mean([np.corrcoef(_fine(a)[where], _fine(b)[where])[0, 1] for a, b in pairs]))


def psnr(one: NDArray[Any], other: NDArray[Any], where: Mask) -> float:
    """Peak signal to noise ratio over a mask, in dB."""
    return -10 * float(np.log10(max(np.square(_unit(one) - _unit(other))[where].mean(), 1e-12)))


def _unit(pixels: NDArray[Any]) -> Plane:
    unit: Plane = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return unit


def _fine(plane: Plane) -> Plane:
    fine: Plane = plane - cv2.GaussianBlur(np.ascontiguousarray(plane), (0, 0), 3)
    return fine


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Plane:
    smooth = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma)
    scaled: Plane = smooth / smooth.std()
    return scaled


def _blot(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    height, width = shape
    y, x = np.mgrid[:height, :width]
    radius = rng.uniform(0.15, 0.3) * min(shape)
    away = np.hypot(y - rng.uniform(0.25, 0.75) * height, x - rng.uniform(0.25, 0.75) * width) / radius
    blot: Mask = away + 0.35 * _noise(rng, shape, radius / 3) + 0.06 * _noise(rng, shape, 4) < 1
    return blot


def _real(rng: np.random.Generator, shape: tuple[int, ...], file: Path) -> Mask:
    drawn = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    rows, columns = np.nonzero(drawn)
    drawn = drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = rng.uniform(0.5, 0.9) * min(shape) / max(drawn.shape)
    drawn = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) > 127
    mask = np.zeros(shape, np.bool_)
    top, left = (int(rng.integers(have - side + 1)) for have, side in zip(shape, drawn.shape, strict=True))
    mask[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return mask


def _decoded(v: Plane) -> Plane:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _encoded(light: Plane) -> Plane:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)

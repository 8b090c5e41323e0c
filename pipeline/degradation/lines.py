"""Thin lines: scratches, scuffs, hairs. From 0.7 to 6 pixels wide, of an opacity that varies along them."""

from __future__ import annotations

import numpy as np

from pipeline.damage.kinds import Kind
from pipeline.degradation.draw import Patch, Plane, Sketch, smooth_line, value_noise, walk
from pipeline.degradation.marks import Ground, Mark, bare_paper, dark, uneven
from pipeline.degradation.settings import Effect
from pipeline.degradation.shapes import PolygonShape

_LINE = Kind.LINE
_NARROWEST, _WIDEST = 0.7, 6.0
# Few scratches were traced: most are drawn all the same.
_REAL_SCRATCH = 0.3
# Classes of real fibres, and how long they are drawn, as a fraction of how long they were traced: lint is thick.
_FIBRES = {"hair": 0.55, "hair-short": 0.6, "lint": 0.28, "polygon-long-hair": 0.9, "polygon-short-hair": 0.9}


def scratches(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Thin straight or curved lines, often several the same way; some from end to end, as rollers and transport leave them."""
    marks = []
    angle = float(rng.uniform(0, np.pi))
    parallel = rng.random() < 0.5
    for _ in range(ground.pieces(effect.count, rng)):
        turned = angle + float(rng.normal(0, 0.06)) if parallel else float(rng.uniform(0, np.pi))
        colour = bare_paper(ground, rng) if rng.random() < ground.white else dark(rng)
        picked = ground.shape(rng, ("polygon-scratch",)) if rng.random() < _REAL_SCRATCH else None
        if picked is not None and isinstance(picked[1], PolygonShape):
            patch = _traced(ground, picked[1], rng)
        else:
            patch = _scratch(ground, turned, rng)
        opacity = float(rng.uniform(0.45, 1.0)) * effect.strength
        marks.append(Mark(_LINE, "scratches", patch.times(opacity), colour, real=picked is not None))
    return marks


def _traced(ground: Ground, shape: PolygonShape, rng: np.random.Generator) -> Patch:
    """A real scratch, not thicker than scratches are."""
    width = float(rng.uniform(0.8, 2.5)) * ground.scale
    patch = ground.placed(shape, rng, min(ground.short, shape.longest * width / shape.thickness))
    return uneven(patch, value_noise(rng, patch.alpha.shape, 16 * ground.scale), 0.2)


def _scratch(ground: Ground, angle: float, rng: np.random.Generator) -> Patch:
    start = np.asarray(ground.point(rng))
    if rng.random() < 0.2:
        # Through the whole picture.
        length = 1.5 * max(ground.size)
        start = start - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    else:
        length = ground.short * float(rng.uniform(0.08, 0.9))
    bend = 0.0 if rng.random() < 0.6 else float(rng.normal(0, 0.7))
    points = walk(rng, start.tolist(), angle, length, float(rng.uniform(0.0, 0.03)), bend)
    count = len(points)
    width = float(np.clip(rng.lognormal(0.1, 0.45) * ground.scale, _NARROWEST, _WIDEST))
    widths = width * (0.6 + 0.7 * smooth_line(rng, count, count // 6)) * _tapered(count, rng)
    # Pressure comes and goes; where it is least, nothing is left.
    pressure = smooth_line(rng, count, count // 8) * float(rng.uniform(0.6, 1.6)) - float(rng.uniform(0.0, 0.2))
    sketch = Sketch(ground.size, points, width + 2)
    sketch.stroke(points, widths, pressure)
    return sketch.patch().softened(float(rng.uniform(0, 0.45)))


def _tapered(count: int, rng: np.random.Generator) -> Plane:
    """1 in the middle of a line, thinner towards its ends."""
    places = np.linspace(0, 1, count)
    ends = np.minimum(places, 1 - places) * rng.uniform(4, 14)
    return np.clip(0.35 + ends, 0.0, 1.0).astype(np.float32)


def scuffs(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """A patch of many fine scratches: the surface was rubbed."""
    marks = []
    for _ in range(ground.pieces(effect.count, rng)):
        colour = bare_paper(ground, rng) if rng.random() < ground.white else dark(rng)
        opacity = float(rng.uniform(0.25, 0.9)) * effect.strength
        picked = ground.shape(rng, ("scratches",))
        long = ground.short * float(rng.uniform(0.35, 1.1))
        patch = _scuff(ground, rng) if picked is None else ground.placed(picked[1], rng, long)
        patch = uneven(patch.softened(float(rng.uniform(0, 0.4))), value_noise(rng, patch.alpha.shape, 24), 0.2)
        marks.append(Mark(_LINE, "scuffs", patch.times(opacity), colour, real=picked is not None))
    return marks


def _scuff(ground: Ground, rng: np.random.Generator) -> Patch:
    centre, reach = np.asarray(ground.point(rng)), ground.short * float(rng.uniform(0.1, 0.3))
    sketch = Sketch(ground.size, np.array([centre - 2 * reach, centre + 2 * reach], np.float32))
    angle = float(rng.uniform(0, np.pi))
    for _ in range(int(rng.integers(12, 50))):
        start = centre + rng.normal(0, reach * 0.5, 2)
        length = max(3.0, float(rng.exponential(reach * 0.4)))
        points = walk(rng, start.tolist(), angle + float(rng.normal(0, 0.25)), length, 0.02)
        widths = np.full(len(points), rng.uniform(0.7, 1.4) * ground.scale, np.float32)
        sketch.stroke(points, widths, smooth_line(rng, len(points), 4))
    return sketch.patch()


def hairs(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Hairs, fibres and lint that lay on the negative or the print."""
    return [hair(ground, effect, rng, "hairs") for _ in range(ground.pieces(effect.count, rng))]


def hair(ground: Ground, effect: Effect, rng: np.random.Generator, name: str) -> Mark:
    """One hair; real where chance and the library give one."""
    colour = bare_paper(ground, rng) if rng.random() < ground.white else dark(rng)
    opacity = float(rng.uniform(0.4, 1.0)) * effect.strength
    picked = ground.shape(rng, tuple(_FIBRES))
    if picked is None:
        patch = _fibre(ground, rng)
    else:
        long = picked[1].longest * _FIBRES[picked[0]] * float(rng.uniform(0.5, 1.3))
        patch = ground.placed(picked[1], rng, min(max(8.0, long), 180.0) * ground.scale)
    soft = patch.softened(float(rng.uniform(0.1, 0.6)))
    return Mark(_LINE, name, soft.times(opacity), colour, real=picked is not None)


def _fibre(ground: Ground, rng: np.random.Generator) -> Patch:
    length = ground.scale * float(rng.uniform(18, 130))
    angle, wander = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.05, 0.22))
    points = walk(rng, ground.point(rng), angle, length, wander, float(rng.normal(0, 1.5)))
    width = float(rng.uniform(_NARROWEST, 2.2)) * ground.scale
    sketch = Sketch(ground.size, points, width + 2)
    count = len(points)
    widths = width * (0.75 + 0.5 * smooth_line(rng, count, count // 4))
    sketch.stroke(points, widths, 0.6 + 0.4 * smooth_line(rng, count, count // 4))
    return sketch.patch()

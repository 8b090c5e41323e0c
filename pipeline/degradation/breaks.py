"""Where the sheet or its emulsion broke: creases, cracks, tears. Bright cores of bare paper, here and there a shadow."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.damage.kinds import Kind
from pipeline.degradation.draw import Plane, Points, Sketch, smooth_line, value_noise, walk
from pipeline.degradation.marks import Colour, Ground, Mark, bare_paper, dark, uneven
from pipeline.degradation.settings import Effect

_LINE = Kind.LINE
_NARROWEST, _WIDEST = 0.7, 6.0
_SHADOW: Colour = (0.10, 0.09, 0.07)


def creases(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Folds: the emulsion broke along a line, frayed and flaked off in places; often several across one corner."""
    marks = []
    number = int(rng.integers(effect.count[0], effect.count[1] + 1))
    folds = [_fold(ground, rng) for _ in range(number)] if rng.random() < 0.7 else _dog_ear(ground, number + 1, rng)
    for points in folds:
        marks += _crease(ground, effect, rng, points)
    return marks


def _fold(ground: Ground, rng: np.random.Generator) -> Points:
    """Over the whole print, along its sides or not; sometimes only part of the way."""
    diagonal = float(np.hypot(*ground.size))
    upright = rng.random() < 0.4
    angle = float(rng.integers(2)) * np.pi / 2 + float(rng.normal(0, 0.06)) if upright else float(rng.uniform(0, np.pi))
    length = 1.5 * diagonal * (1.0 if rng.random() < 0.6 else float(rng.uniform(0.15, 0.5)))
    start = np.asarray(ground.point(rng)) - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    return _jagged(rng, walk(rng, start.tolist(), angle, length, 0.015, float(rng.normal(0, 0.15))), ground.scale)


def _dog_ear(ground: Ground, number: int, rng: np.random.Generator) -> list[Points]:
    """Folds across one corner that do not quite agree."""
    height, width = ground.size
    right, low = rng.random() < 0.5, rng.random() < 0.5
    a, b = ground.short * rng.uniform(0.12, 0.6, 2)
    folds = []
    for _ in range(number):
        across, down = a * rng.uniform(0.75, 1.3), b * rng.uniform(0.75, 1.3)
        start = (width - across if right else across, float(height) if low else 0.0)
        end = (float(width) if right else 0.0, height - down if low else down)
        length = float(np.hypot(across, down))
        angle = float(np.arctan2(end[1] - start[1], end[0] - start[0]))
        folds.append(_jagged(rng, walk(rng, start, angle, length, 0.02, float(rng.normal(0, 0.1))), ground.scale))
    return folds


def _jagged(rng: np.random.Generator, points: Points, amount: float) -> Points:
    """A path with every point moved by a fraction of `amount` pixels, and by more in long waves."""
    count = len(points)
    waves = np.stack([smooth_line(rng, count, count // 7) - 0.5 for _ in range(2)], axis=1) * 5
    moved: Points = (points + amount * (rng.normal(0, 0.3, (count, 2)) + waves)).astype(np.float32)
    return moved


def _crease(ground: Ground, effect: Effect, rng: np.random.Generator, points: Points) -> list[Mark]:
    width = float(np.clip(rng.lognormal(0.35, 0.55) * ground.scale, _NARROWEST, _WIDEST))
    strands = [(points, width)] + [
        (_strand(ground, rng, points), width * float(rng.uniform(0.3, 0.7))) for _ in range(int(rng.integers(0, 4)))
    ]
    core = Sketch(ground.size, np.vstack([line for line, _ in strands]), 4 * width + 4)
    broken = float(rng.uniform(0.1, 1.0))
    for line, wide in strands:
        count = len(line)
        slow, fast = smooth_line(rng, count, count // 9), rng.lognormal(0, 0.45, count).astype(np.float32)
        frayed = np.clip(wide * (0.3 + slow) * fast, 0.3, 1.6 * _WIDEST).astype(np.float32)
        opacity = np.clip((slow + np.float32(0.35) * smooth_line(rng, count, count) - np.float32(1 - broken)) * 3, 0, 1)
        core.stroke(line, frayed, opacity)
        _flake(core, rng, line, wide, opacity)
    patch = core.patch().softened(float(rng.uniform(0.1, 0.4)))
    patch = uneven(patch, value_noise(rng, patch.alpha.shape, 3.0 * ground.scale, 2), 0.5)
    marks = [
        Mark(_LINE, "creases", patch.times(float(rng.uniform(0.7, 1.1)) * effect.strength), bare_paper(ground, rng))
    ]
    if rng.random() < 0.4:
        marks.insert(0, _flank(ground, rng, points, width, effect))
    return marks


def _strand(ground: Ground, rng: np.random.Generator, points: Points) -> Points:
    """A thinner break that leaves a fold at a small angle and runs beside it."""
    at = int(rng.integers(1, len(points)))
    ahead = points[at] - points[at - 1]
    angle = float(np.arctan2(ahead[1], ahead[0])) + float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.8))
    length = ground.short * float(rng.uniform(0.04, 0.3))
    return _jagged(rng, walk(rng, points[at].tolist(), angle, length, 0.06, float(rng.normal(0, 0.3))), ground.scale)


def _flake(sketch: Sketch, rng: np.random.Generator, points: Points, width: float, opacity: Plane) -> None:
    """Crumbs of emulsion that fell off beside a break: small polygons that hang on the line."""
    places = np.flatnonzero(opacity > 0.3)
    if not len(places):
        return
    for place in rng.choice(places, size=int(rng.integers(1, 3 + len(places) // 6))):
        turn = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))))
        reach = width * rng.uniform(0.3, 1.6) * rng.uniform(0.4, 1.0, len(turn))
        centre = points[place] + rng.normal(0, width * 0.6, 2)
        outline = centre + np.stack([np.cos(turn), np.sin(turn)], axis=1) * reach[:, None]
        sketch.fill(outline.astype(np.float32))


def _flank(ground: Ground, rng: np.random.Generator, points: Points, width: float, effect: Effect) -> Mark:
    """One side of a bent sheet, in the shade or in the light of the scanner's lamp."""
    along = np.gradient(points, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.maximum(1e-3, np.linalg.norm(normal, axis=1, keepdims=True))
    moved = (points + float(rng.choice([-1, 1])) * width * float(rng.uniform(0.5, 1.1)) * normal).astype(np.float32)
    sketch = Sketch(ground.size, moved, 3 * width + 4)
    sketch.stroke(moved, np.full(len(points), 1.2 * width, np.float32), smooth_line(rng, len(points), len(points) // 8))
    light = rng.random() < 0.3
    patch = sketch.patch().softened(0.5 * width).times(float(rng.uniform(0.06, 0.28)) * effect.strength)
    return Mark(_LINE, "creases", patch, (1.0, 1.0, 1.0) if light else (0.0, 0.0, 0.0))


def cracks(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """The emulsion broke: a branching crack, or a network of them; a bright core with a dark side, or all dark with dirt."""
    marks = []
    for _ in range(int(rng.integers(effect.count[0], effect.count[1] + 1))):
        paths = _network(ground, rng) if rng.random() < 0.4 else _branches(ground, rng)
        width = float(np.clip(rng.lognormal(0.15, 0.4) * ground.scale, _NARROWEST, 4.0))
        around = np.vstack(paths)
        core, shade = Sketch(ground.size, around, width + 3), Sketch(ground.size, around, width + 3)
        lamp = float(rng.uniform(0, 2 * np.pi))
        offset = (0.6 * width * np.array([np.cos(lamp), np.sin(lamp)])).astype(np.float32)
        for depth, points in enumerate(paths):
            count = len(points)
            wide = width * (0.35 + 0.65 / (1 + 0.35 * depth))
            widths = wide * (0.4 + 0.9 * smooth_line(rng, count, count // 3))
            opacity = 0.35 + 0.9 * smooth_line(rng, count, count // 4)
            core.stroke(points, widths, opacity)
            shade.stroke(points + offset, widths, opacity)
        bright = (
            core.patch().softened(float(rng.uniform(0.0, 0.35))).times(float(rng.uniform(0.6, 1.0)) * effect.strength)
        )
        if rng.random() < ground.white:
            dim = shade.patch().softened(0.5).times(float(rng.uniform(0.15, 0.6)) * effect.strength)
            marks.append(Mark(_LINE, "cracks", dim, _SHADOW))
            marks.append(Mark(_LINE, "cracks", bright, bare_paper(ground, rng)))
        else:
            marks.append(Mark(_LINE, "cracks", bright, dark(rng)))
    return marks


def _branches(ground: Ground, rng: np.random.Generator) -> list[Points]:
    """A path with branches, and branches of those, each shorter; the stem first."""
    length = ground.short * float(rng.uniform(0.25, 1.1))
    angle = float(rng.uniform(0, 2 * np.pi))
    stem = _jagged(rng, walk(rng, ground.point(rng), angle, length, 0.12), 0.7 * ground.scale)
    paths, growing = [stem], [(stem, length)]
    while growing and len(paths) < 14:
        parent, long = growing.pop(0)
        for _ in range(int(rng.integers(0, 4))):
            at = int(rng.integers(1, len(parent)))
            ahead = parent[at] - parent[at - 1]
            turned = float(np.arctan2(ahead[1], ahead[0])) + float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.3))
            short = long * float(rng.uniform(0.15, 0.5))
            if short > 8:
                child = _jagged(rng, walk(rng, parent[at].tolist(), turned, short, 0.15), 0.5 * ground.scale)
                child[0] = parent[at]
                paths.append(child)
                growing.append((child, short))
    return paths


def _network(ground: Ground, rng: np.random.Generator) -> list[Points]:
    """Some of the edges of a Voronoi diagram within a blotch: crackle, as dried and bent gelatine shows it."""
    centre, reach = np.asarray(ground.point(rng)), ground.short * float(rng.uniform(0.15, 0.45))
    sites = (centre + rng.normal(0, reach * 0.6, (int(rng.integers(10, 40)), 2))).astype(np.float32)
    low, high = np.floor(sites.min(axis=0)) - 4, np.ceil(sites.max(axis=0)) + 4
    plan = cv2.Subdiv2D((int(low[0]), int(low[1]), int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1))
    plan.insert(sites.tolist())
    paths = []
    for facet in plan.getVoronoiFacetList([])[0]:
        for start, end in zip(facet, np.roll(facet, -1, axis=0), strict=True):
            inside = float(np.linalg.norm((start + end) / 2 - centre)) < reach
            # Every edge belongs to two cells and is taken from one of them.
            if inside and tuple(start) < tuple(end) and rng.random() < 0.7:
                paths += _edge(start, end, reach, 0.7 * ground.scale, rng)
    return paths or _branches(ground, rng)


def _edge(
    start: NDArray[np.float32], end: NDArray[np.float32], longest: float, amount: float, rng: np.random.Generator
) -> list[Points]:
    """A jagged line that keeps its ends; none where it would be too short or too long."""
    length = float(np.linalg.norm(end - start))
    if not 4 < length < longest:
        return []
    count = max(3, int(length / 4))
    moved = rng.normal(0, amount, (count, 2))
    moved[0] = moved[-1] = 0
    return [(start + (end - start) * np.linspace(0, 1, count)[:, None] + moved).astype(np.float32)]


def tears(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """From an edge inwards: torn white fibre, wide at the edge and closing to a point, with the shadow of one lip."""
    marks: list[Mark] = []
    for _ in range(int(rng.integers(effect.count[0], effect.count[1] + 1))):
        points = _inwards(ground, rng)
        count = len(points)
        width = float(np.clip(rng.uniform(1.5, 4.0) * ground.scale, 1.0, _WIDEST))
        closing = np.linspace(1.0, 0.15, count)
        widths = (width * closing * (0.5 + smooth_line(rng, count, count // 2))).astype(np.float32)
        fibre, lip = Sketch(ground.size, points, 2 * width + 4), Sketch(ground.size, points, 2 * width + 4)
        full = np.ones(count, np.float32)
        fibre.stroke(points, widths, full)
        beside = points + float(rng.choice([-0.5, 0.5])) * widths[:, None]
        lip.stroke(beside.astype(np.float32), np.maximum(0.5, widths * 0.3), full)
        core = fibre.patch().softened(0.3)
        core = uneven(core, value_noise(rng, core.alpha.shape, 2.5 * ground.scale, 2), 0.6)
        marks.append(Mark(_LINE, "tears", core.times(effect.strength), bare_paper(ground, rng)))
        shade = lip.patch().softened(0.4).times(float(rng.uniform(0.3, 0.9)) * effect.strength)
        marks.append(Mark(_LINE, "tears", shade, _SHADOW))
    return marks


def _inwards(ground: Ground, rng: np.random.Generator) -> Points:
    height, width = ground.size
    side, along = int(rng.integers(4)), float(rng.uniform(0.1, 0.9))
    starts = (
        (along * width, -1.0),
        (along * width, height + 1.0),
        (-1.0, along * height),
        (width + 1.0, along * height),
    )
    inward = (np.pi / 2, -np.pi / 2, 0.0, np.pi)[side] + float(rng.normal(0, 0.4))
    path = walk(rng, starts[side], inward, ground.short * float(rng.uniform(0.1, 0.55)), 0.14)
    return _jagged(rng, path, 0.7 * ground.scale)

"""Line damage: scratches, scuffs, creases, cracks, tears, hairs. Widths from 0.7 to 6 pixels, opacity that varies along."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.damage.kinds import Kind
from pipeline.degradation.draw import Patch, Plane, Points, Sketch, smooth_line, value_noise, walk
from pipeline.degradation.marks import Colour, Ground, How, Mark, bare_paper, dark, uneven
from pipeline.degradation.settings import Effect

_LINE = Kind.LINE
_WIDEST = 6.0


def scratches(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Thin straight or curved lines, often several the same way; some from end to end, as rollers and transport leave them."""
    marks = []
    angle = rng.uniform(0, np.pi)
    parallel = rng.random() < 0.5
    for _ in range(ground.pieces(effect.count, rng)):
        turned = angle + rng.normal(0, 0.06) if parallel else rng.uniform(0, np.pi)
        through = rng.random() < 0.2
        length = max(ground.size) * 1.5 if through else ground.short * rng.uniform(0.08, 0.9)
        start = np.asarray(ground.point(rng))
        if through:
            start = start - 0.75 * max(ground.size) * np.array([np.cos(turned), np.sin(turned)])
        bend = 0.0 if rng.random() < 0.6 else rng.normal(0, 0.7)
        points = walk(rng, start.tolist(), turned, length, rng.uniform(0.0, 0.03), bend)
        count = len(points)
        width = float(np.clip(rng.lognormal(0.0, 0.45) * 0.9 * ground.scale, 0.7, _WIDEST))
        widths = width * (0.6 + 0.7 * smooth_line(rng, count, max(3, count // 6))) * _tapered(count, rng)
        # Pressure comes and goes; where it is least, nothing is left.
        opacity = smooth_line(rng, count, max(3, count // 8)) * rng.uniform(0.6, 1.6) - rng.uniform(0.0, 0.2)
        sketch = Sketch(ground.size, points, width + 2)
        sketch.stroke(
            points, widths.astype(np.float32), np.clip(opacity, 0, 1) * rng.uniform(0.45, 1.0) * effect.strength
        )
        colour = bare_paper(ground, rng) if rng.random() < ground.white else dark(rng)
        marks.append(Mark(_LINE, "scratches", sketch.patch().softened(rng.uniform(0, 0.45)), colour))
    return marks


def scuffs(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """A patch of many fine scratches: the surface was rubbed."""
    marks = []
    for _ in range(ground.pieces(effect.count, rng)):
        colour = bare_paper(ground, rng) if rng.random() < ground.white else dark(rng)
        opacity = rng.uniform(0.25, 0.9) * effect.strength
        real = ground.shape(rng, ("scratches", "polygon-scratch"))
        if real is not None:
            patch = ground.placed(real, rng, ground.short * rng.uniform(0.35, 1.1))
        else:
            patch = _scuff(ground, rng)
        patch = uneven(patch.softened(rng.uniform(0, 0.4)), value_noise(rng, patch.alpha.shape, 24), 0.2)
        marks.append(Mark(_LINE, "scuffs", patch.times(opacity), colour, real=real is not None))
    return marks


def _scuff(ground: Ground, rng: np.random.Generator) -> Patch:
    centre, reach = np.asarray(ground.point(rng)), ground.short * rng.uniform(0.1, 0.3)
    sketch = Sketch(ground.size, np.array([centre - 2 * reach, centre + 2 * reach], np.float32))
    angle = rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(12, 50))):
        start = centre + rng.normal(0, reach * 0.5, 2)
        length = max(3.0, rng.exponential(reach * 0.4))
        points = walk(rng, start.tolist(), angle + rng.normal(0, 0.25), length, 0.02)
        widths = np.full(len(points), rng.uniform(0.5, 1.1) * ground.scale, np.float32)
        sketch.stroke(points, widths, smooth_line(rng, len(points), 4))
    return sketch.patch()


def hairs(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Hairs, fibres and lint that lay on the negative or the print."""
    marks = []
    for _ in range(ground.pieces(effect.count, rng)):
        marks.append(hair(ground, effect, rng, "hairs"))
    return marks


def hair(ground: Ground, effect: Effect, rng: np.random.Generator, name: str) -> Mark:
    """One hair; real where chance and the library give one."""
    colour = bare_paper(ground, rng) if rng.random() < ground.white else dark(rng)
    opacity = rng.uniform(0.4, 1.0) * effect.strength
    real = ground.shape(rng, ("hair", "hair-short", "lint", "polygon-long-hair", "polygon-short-hair"))
    if real is not None:
        # Traced fibres are 1 to 3 % as wide as long, and stay between hair's width and lint's.
        patch = ground.placed(real, rng, float(np.clip(real.longest * rng.uniform(0.3, 0.8), 12, 160)) * ground.scale)
    else:
        length = ground.scale * rng.uniform(18, 130)
        points = walk(
            rng, ground.point(rng), rng.uniform(0, 2 * np.pi), length, rng.uniform(0.05, 0.22), rng.normal(0, 1.5)
        )
        width = rng.uniform(0.7, 1.8) * ground.scale
        sketch = Sketch(ground.size, points, width + 2)
        widths = width * (0.75 + 0.5 * smooth_line(rng, len(points), 5))
        sketch.stroke(points, widths.astype(np.float32), 0.6 + 0.4 * smooth_line(rng, len(points), 5))
        patch = sketch.patch()
    return Mark(_LINE, name, patch.softened(rng.uniform(0.1, 0.6)).times(opacity), colour, real=real is not None)


def creases(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """Folds: the emulsion broke along a line from edge to edge, flaked off in places, and catches light on one side."""
    marks = []
    for _ in range(
        ground.pieces(effect.count, rng)
        if ground.short > 400
        else int(rng.integers(effect.count[0], effect.count[1] + 1))
    ):
        marks += _crease(ground, effect, rng, _fold(ground, rng))
    return marks


def _fold(ground: Ground, rng: np.random.Generator) -> Points:
    height, width = ground.size
    angle = rng.uniform(0, np.pi) if rng.random() < 0.6 else rng.choice([0, np.pi / 2]) + rng.normal(0, 0.08)
    middle = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    # Most folds run over the whole print, some only across a corner or part of the way.
    length = 1.5 * float(np.hypot(height, width)) * (1.0 if rng.random() < 0.6 else rng.uniform(0.15, 0.5))
    start = middle - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    return jagged(rng, walk(rng, start.tolist(), angle, length, 0.008, rng.normal(0, 0.12)), 0.9 * ground.scale)


def jagged(rng: np.random.Generator, points: Points, amount: float) -> Points:
    """A path with every point moved by about `amount` pixels, and by more in long waves."""
    count = len(points)
    waves = (smooth_line(rng, count, max(3, count // 8)) - 0.5) * 4 * amount
    moved = rng.normal(0, amount * 0.5, (count, 2)) + waves[:, None]
    return (points + moved).astype(np.float32)


def _crease(ground: Ground, effect: Effect, rng: np.random.Generator, points: Points) -> list[Mark]:
    count = len(points)
    width = float(np.clip(rng.lognormal(0.35, 0.5) * ground.scale, 0.8, _WIDEST))
    broken = rng.uniform(0.1, 1.0)
    body = smooth_line(rng, count, max(4, count // 5)) * 0.7 + smooth_line(rng, count, max(4, count)) * 0.5
    widths = (width * (0.25 + 1.1 * body)).astype(np.float32)
    opacities = np.clip((body - (1 - broken) * 0.8) * 4, 0, 1).astype(np.float32)
    core = Sketch(ground.size, points, 4 * width + 4)
    core.stroke(points, widths, opacities)
    _flakes(core, rng, points, width, opacities)
    colour = bare_paper(ground, rng)
    patch = core.patch().softened(rng.uniform(0.1, 0.4))
    marks = _relief(ground, rng, points, width, effect)
    patch = uneven(patch, value_noise(rng, patch.alpha.shape, 3.0 * ground.scale, 2), 0.45)
    return [*marks, Mark(_LINE, "creases", patch.times(rng.uniform(0.7, 1.1) * effect.strength), colour)]


def _flakes(sketch: Sketch, rng: np.random.Generator, points: Points, width: float, opacities: Plane) -> None:
    """Crumbs of emulsion that fell off beside a fold or crack: small polygons hanging on the line."""
    places = np.flatnonzero(opacities > 0.3)
    if not len(places):
        return
    for place in rng.choice(places, size=min(len(places), int(rng.integers(1, 3 + len(places) // 3)))):
        radius = width * rng.uniform(0.3, 1.3)
        turn = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))))
        reach = radius * rng.uniform(0.4, 1.0, len(turn))
        centre = points[place] + rng.normal(0, width * 0.5, 2)
        sketch.fill((centre + np.stack([np.cos(turn), np.sin(turn)], axis=1) * reach[:, None]).astype(np.float32))


def _relief(ground: Ground, rng: np.random.Generator, points: Points, width: float, effect: Effect) -> list[Mark]:
    """The bright and the dark flank of a bent sheet under a lamp that stands on one side."""
    shift = width * rng.uniform(0.5, 1.1)
    along = np.gradient(points, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.maximum(1e-3, np.linalg.norm(normal, axis=1, keepdims=True))
    marks = []
    for side, colour, most in ((1.0, (0.0, 0.0, 0.0), 0.35), (-1.0, (1.0, 1.0, 1.0), 0.18)):
        moved = (points + side * shift * normal).astype(np.float32)
        sketch = Sketch(ground.size, moved, 3 * width + 4)
        widths = np.full(len(points), 1.1 * width, np.float32)
        sketch.stroke(moved, widths, smooth_line(rng, len(points), 6))
        patch = sketch.patch().softened(0.5 * width).times(rng.uniform(0.05, most) * effect.strength)
        marks.append(Mark(_LINE, "creases", patch, colour))
    return marks


def cracks(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """The emulsion broke: a branching crack, or a network of them; a bright core with a dark side."""
    marks = []
    for _ in range(max(1, int(rng.integers(effect.count[0], effect.count[1] + 1)))):
        paths = _network(ground, rng) if rng.random() < 0.4 else _branches(ground, rng)
        width = float(np.clip(rng.lognormal(0.0, 0.4) * ground.scale, 0.7, 4.0))
        around = np.vstack(paths)
        bright, shade = Sketch(ground.size, around, width + 3), Sketch(ground.size, around, width + 3)
        lamp = rng.uniform(0, 2 * np.pi)
        offset = (0.6 * width * np.array([np.cos(lamp), np.sin(lamp)])).astype(np.float32)
        for depth, points in enumerate(paths):
            thin = width * (0.35 + 0.65 / (1 + 0.35 * depth))
            widths = (thin * (0.4 + 0.9 * smooth_line(rng, len(points), max(3, len(points) // 3)))).astype(np.float32)
            opacities = np.clip(0.35 + 0.9 * smooth_line(rng, len(points), max(3, len(points) // 4)), 0, 1)
            bright.stroke(points, widths, opacities)
            shade.stroke(points + offset, widths, opacities)
        light = rng.random() < max(0.5, ground.white)
        dim = shade.patch().softened(0.5).times(rng.uniform(0.15, 0.6) * effect.strength)
        core = bright.patch().softened(rng.uniform(0.0, 0.35)).times(rng.uniform(0.6, 1.0) * effect.strength)
        marks.append(Mark(_LINE, "cracks", dim, (0.12, 0.1, 0.08), How.OVER))
        marks.append(Mark(_LINE, "cracks", core, bare_paper(ground, rng) if light else dark(rng)))
    return marks


def _branches(ground: Ground, rng: np.random.Generator) -> list[Points]:
    """A path with branches, and branches of those, each shorter; the stem first."""
    length = ground.short * rng.uniform(0.25, 1.1)
    stem = jagged(rng, walk(rng, ground.point(rng), rng.uniform(0, 2 * np.pi), length, 0.12), 0.8 * ground.scale)
    paths, open_paths = [stem], [(stem, length)]
    while open_paths and len(paths) < 14:
        parent, long = open_paths.pop(0)
        for _ in range(int(rng.integers(0, 4))):
            at = int(rng.integers(1, len(parent)))
            ahead = parent[at] - parent[at - 1]
            angle = float(np.arctan2(ahead[1], ahead[0])) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.3)
            short = long * rng.uniform(0.15, 0.5)
            if short > 8:
                child = jagged(rng, walk(rng, parent[at].tolist(), angle, short, 0.15), 0.6 * ground.scale)
                child[0] = parent[at]
                paths.append(child)
                open_paths.append((child, short))
    return paths


def _network(ground: Ground, rng: np.random.Generator) -> list[Points]:
    """Some of the edges of a Voronoi diagram within a blotch: crackle, as dried and bent gelatine shows it."""
    centre, reach = np.asarray(ground.point(rng)), ground.short * rng.uniform(0.15, 0.45)
    sites = (centre + rng.normal(0, reach * 0.6, (int(rng.integers(10, 40)), 2))).astype(np.float32)
    low, high = np.floor(sites.min(axis=0)) - 4, np.ceil(sites.max(axis=0)) + 4
    plan = cv2.Subdiv2D((int(low[0]), int(low[1]), int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1))
    plan.insert(sites.tolist())
    facets, _ = plan.getVoronoiFacetList([])
    paths: list[Points] = []
    for facet in facets:
        for start, end in zip(facet, np.roll(facet, -1, axis=0), strict=True):
            length = float(np.linalg.norm(end - start))
            # Every edge belongs to two cells and is taken from one of them.
            inside = np.linalg.norm((start + end) / 2 - centre) < reach
            if tuple(start) < tuple(end) and inside and 4 < length < reach and rng.random() < 0.7:
                count = max(3, int(length / 4))
                straight = start + (end - start) * np.linspace(0, 1, count)[:, None]
                moved = rng.normal(0, 0.7 * ground.scale, (count, 2))
                moved[0] = moved[-1] = 0
                paths.append((straight + moved).astype(np.float32))
    return paths or _branches(ground, rng)


def tears(ground: Ground, effect: Effect, rng: np.random.Generator) -> list[Mark]:
    """From an edge inwards: torn white fibre, wide at the edge and closing to a point, with the shadow of one lip."""
    marks: list[Mark] = []
    for _ in range(int(rng.integers(effect.count[0], effect.count[1] + 1))):
        points = _inwards(ground, rng)
        count = len(points)
        width = float(np.clip(rng.uniform(1.5, 4.0) * ground.scale, 1.0, _WIDEST))
        closing = np.linspace(1.0, 0.15, count)
        widths = (width * closing * (0.5 + smooth_line(rng, count, max(4, count // 2)))).astype(np.float32)
        fibre, lip = Sketch(ground.size, points, 2 * width + 4), Sketch(ground.size, points, 2 * width + 4)
        fibre.stroke(points, widths, np.ones(count, np.float32))
        side = rng.choice([-1.0, 1.0]) * np.array([[0.5, 0.5]]) * widths[:, None]
        lip.stroke((points + side).astype(np.float32), np.maximum(0.5, widths * 0.3), np.ones(count, np.float32))
        core = fibre.patch().softened(0.3)
        core = uneven(core, value_noise(rng, core.alpha.shape, 2.5 * ground.scale, 2), 0.6)
        colour: Colour = bare_paper(ground, rng)
        marks.append(Mark(_LINE, "tears", core.times(effect.strength), colour))
        shade = lip.patch().softened(0.4).times(rng.uniform(0.3, 0.9) * effect.strength)
        marks.append(Mark(_LINE, "tears", shade, (0.07, 0.06, 0.05)))
    return marks


def _inwards(ground: Ground, rng: np.random.Generator) -> Points:
    height, width = ground.size
    side = int(rng.integers(4))
    along = rng.uniform(0.1, 0.9)
    starts = (
        (along * width, -1.0),
        (along * width, height + 1.0),
        (-1.0, along * height),
        (width + 1.0, along * height),
    )
    inward = (np.pi / 2, -np.pi / 2, 0.0, np.pi)[side]
    length = ground.short * rng.uniform(0.1, 0.55)
    path = walk(rng, starts[side], inward + rng.normal(0, 0.4), length, 0.14)
    return jagged(rng, path, 0.8 * ground.scale)


def _tapered(count: int, rng: np.random.Generator) -> Plane:
    """1 in the middle of a line, thinner towards its ends."""
    places = np.linspace(0, 1, count)
    ends = np.minimum(places, 1 - places) * rng.uniform(4, 14)
    return np.clip(0.35 + ends, 0.0, 1.0).astype(np.float32)
